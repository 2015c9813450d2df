"""
More bad records of one user, or one item, than its state keeps: on a real Kafka, by the commands.
"""

import uuid
from collections.abc import Iterator

import pytest

from streams.core.item import DEAD_LETTERS_MAX as OF_ITEM_MAX
from streams.core.user import DEAD_LETTERS_MAX
from streams.kafka.local import LocalKafka
from tests.dead_letters_scene import Scene
from tests.making import age, content, notice, objection

MORE = 20
UNREADABLE = "UNREADABLE_INPUT"


@pytest.fixture(scope="module")
def scene(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Return a prefix with a worker."""
    prefix = f"{uuid.uuid4().hex}."
    with Scene.open(kafka, prefix, tmp_path_factory.mktemp("many")) as made:
        yield made


def flood(scene: Scene, topic: str, record: object, number: int) -> list[str]:
    """Send a bad record so often, and return the places."""
    for _ in range(number):
        scene.inputs.queue(topic, record)
    places = [sent.place for sent in scene.inputs.flush()]
    scene.catch_up()
    return places


def test_a_users_are_dismissed_together(scene: Scene) -> None:
    """
    All of them are listed as open; the first that is kept stands for those before it.  It is
    refused by itself, each mended one counts but frees nobody, and all together free the user.
    """
    scene.grant("many")
    places = flood(
        scene, "objections", objection(user_id="many", action="?"), DEAD_LETTERS_MAX + MORE
    )
    (other,) = flood(scene, "account-ages", age(user_id="many", observed_at="?"), 1)
    first = places[MORE]
    listed = {each["place"]: each for each in scene.listed("--user", "many")}
    metric = scene.open_metric()
    alone = scene.run("dismiss", first, "--yes")
    forgotten = scene.run("dismiss", places[0], "--yes")
    # As if the first had been mended, which says nothing of those it stands for.
    scene.inputs.queue(
        "notices", notice(user_id="many"), headers=[("dlq_resolves", first.encode())]
    )
    scene.inputs.flush()
    scene.catch_up()
    left = scene.places("--user", "many")
    some = scene.run("dismiss", "--user", "many", "--topic", "objections", "--yes")
    scene.catch_up()
    still = scene.decision("many")
    rest = scene.run("dismiss", "--user", "many", "--yes")
    scene.catch_up()

    assert set(listed) == {*places, other}
    assert [first] == [place for place, each in listed.items() if "stands_for_more" in each]
    assert metric["objections"] == DEAD_LETTERS_MAX
    assert alone.exit_code == 1
    assert f"{MORE} of them would be dismissed unchosen" in alone.stderr
    assert forgotten.exit_code == 0
    # What is known to be dismissed is so, though its restriction has merged with others.
    assert set(left) == {*places[1:], other}
    assert some.exit_code == 0, some.output
    assert f"and {DEAD_LETTERS_MAX + MORE - 2} before it: dismissed by" in some.stdout
    assert still["reasons"] == [UNREADABLE]
    assert rest.exit_code == 0, rest.output
    assert scene.decision("many")["eligible"]
    assert scene.places("--user", "many") == []
    assert scene.open_metric()["objections"] == 0

    (later,) = flood(scene, "objections", objection(user_id="many", action="?"), 1)
    assert scene.decision("many")["reasons"] == [UNREADABLE]
    assert scene.places("--user", "many") == [later]
    assert scene.run("dismiss", later, "--yes").exit_code == 0
    scene.catch_up()
    assert scene.decision("many")["eligible"]


def test_an_items_are_dismissed_together(scene: Scene) -> None:
    """
    The same holds for an item, whose answer follows; a good record of it frees it at once.
    """
    scene.grant("fan")
    bad = content(user_id="fan", content_id="fan.c", product="?")
    places = flood(scene, "content", bad, OF_ITEM_MAX + MORE)
    before = scene.allowed("fan.c")
    listed = {each["place"]: each for each in scene.listed("--user", "fan")}
    metric = scene.open_metric()["content"]
    alone = scene.run("dismiss", places[MORE], "--yes")
    done = scene.run("dismiss", "--user", "fan", "--yes")
    scene.catch_up()
    dismissed = scene.allowed("fan.c")
    flood(scene, "content", bad, OF_ITEM_MAX + MORE)
    again = scene.allowed("fan.c")
    scene.inputs.send(("content", content(user_id="fan", content_id="fan.c", revision=2)))
    scene.catch_up()

    assert not before
    assert set(listed) == set(places)
    assert [places[MORE]] == [place for place, each in listed.items() if "stands_for_more" in each]
    assert metric == OF_ITEM_MAX
    assert alone.exit_code == 1
    assert done.exit_code == 0, done.output
    assert dismissed
    assert not again
    assert scene.allowed("fan.c")
    assert scene.places("--user", "fan") == []
    assert scene.open_metric()["content"] == 0

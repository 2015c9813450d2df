"""
`objections dead-letters` on a real Kafka: what is listed, what mends and what dismisses.
"""

import json
import random
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_END, TopicPartition

from streams.core.times import from_ms
from streams.dead_letters.letter import INPUTS
from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.worker.intake import DEAD_LETTER_BYTES_MAX
from tests.dead_letters_scene import MIB, Scene
from tests.making import age, content, grown_up, notice, objection, to_bytes
from tests.worker_settings import PARTITIONS, new_prefix, settings_of

UNREADABLE = "UNREADABLE_INPUT"


@pytest.fixture(scope="module")
def scene(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Return a worker on a prefix that the tests of this module share, each with its own users."""
    prefix = new_prefix()
    with Scene.open(kafka, prefix, tmp_path_factory.mktemp("dead-letters")) as opened:
        yield opened


@pytest.fixture
def user() -> str:
    """Return a user that no other test has."""
    return f"u{uuid.uuid4().hex[:8]}"


def file_of(folder: Path, record: object) -> Path:
    """Return a file with *record* in it."""
    path = folder / "mended.json"
    path.write_bytes(record if isinstance(record, bytes) else json.dumps(record).encode())
    return path


def test_a_list_is_chosen_from(scene: Scene, user: str) -> None:
    """
    By topic, error, user, time and place; open ones alone, or all; the oldest first.
    """
    shouted = scene.bad("objections", objection(user_id=user, action="shout"))
    timeless = scene.bad("account-ages", age(user_id=user, observed_at="2026-01-01T00:00:00"))
    noticed = scene.bad("notices", notice(user_id=user, delivered_at=7))
    of_item = scene.bad("content", content(user_id=user, content_id=f"{user}.c", product="x"))
    all_of_them = [shouted.place, timeless.place, noticed.place, of_item.place]
    later = from_ms(of_item.timestamp_ms).isoformat()
    topic = f"{scene.prefix}account-ages"

    assert all_of_them == scene.places("--user", user)
    assert [timeless.place] == scene.places("--user", user, "--topic", "account-ages")
    assert [timeless.place] == scene.places("--user", user, "--topic", topic)
    assert [timeless.place] == scene.places("--user", user, "--error", "time_without_offset")
    assert [of_item.place] == scene.places("--user", user, "--since", later)
    assert all_of_them[:3] == scene.places("--user", user, "--until", later)
    assert all_of_them == scene.places("--user", user, "--since", "1h")
    assert [] == scene.places("--user", user, "--until", "1h")
    assert [noticed.place] == scene.places(noticed.place)
    assert [noticed.place] == scene.places(noticed.place.removeprefix(scene.prefix))

    scene.run("dismiss", shouted.place, "--yes")
    assert all_of_them[1:] == scene.places("--user", user)
    assert all_of_them == scene.places("--user", user, "--all")
    assert [shouted.place] == scene.places(shouted.place)


def test_what_is_listed(scene: Scene, user: str) -> None:
    """
    For machines a JSON object a line, for people a table; neither moves the cursor.
    """
    sent = scene.bad("content", content(user_id=user, content_id=f"{user}.c", product="x"))
    keyless = scene.bad("objections", objection(user_id=user), None)
    scene.bad("objections", b"{", f"{user}\r\x1b[2J\n")
    found = {each["place"]: each for each in scene.listed()}
    text = scene.run("list").output

    assert found[sent.place] == {
        "place": sent.place,
        "topic": sent.topic,
        "partition": sent.partition,
        "offset": sent.offset,
        "time": from_ms(sent.timestamp_ms).isoformat(timespec="milliseconds")[:-6] + "Z",
        "error": "field_value",
        "detail": "product: expected one of facebook, instagram, whatsapp, messenger",
        "key": user,
        "user_id": user,
        "content_id": f"{user}.c",
        "restricts": "item",
        "truncated": False,
        "kept": True,
        "open": True,
    }
    assert found[keyless.place]["user_id"] is None
    assert found[keyless.place]["restricts"] is None
    assert f"{sent.place} " in text
    assert "product: expected one of facebook, instagram, whatsapp, messenger" in text
    assert " open, of which " in text
    assert f"{user}\\r\\x1b[2J\\n " in text
    assert "\r" not in text


def test_a_mended_record_ends_a_restriction(scene: Scene, user: str, tmp_path: Path) -> None:
    """
    What is bad still is refused and nothing sent; what is good counts and resolves, in a new epoch;
    once resolved there is nothing to send.
    """
    scene.grant(user)
    scene.catch_up()
    before = scene.decision(user)
    bad = scene.bad("account-ages", grown_up(user_id=user, country="Deutschland"))
    between, metric = scene.decision(user), scene.open_metric()
    still_bad = file_of(tmp_path, grown_up(user_id=user, country="De"))
    refused = scene.run("replay", bad.place, "--file", still_bad)
    other = scene.run("replay", bad.place, "--file", "-", typed=to_bytes(grown_up()).decode())
    as_it_is = scene.run("replay", bad.place)
    left = scene.places("--user", user)
    mended = file_of(tmp_path, grown_up(user_id=user, country="AT"))
    done = scene.run("replay", bad.place, "--file", mended)
    at_once = scene.places("--user", user)
    scene.catch_up()
    after = scene.decision(user)
    again = scene.run("replay", bad.place, "--file", mended)
    scene.catch_up()

    assert before["eligible"]
    assert between["reasons"] == [UNREADABLE]
    assert refused.exit_code == 1
    assert "still bad, not sent: field_value: country: expected text matching" in refused.stderr
    assert other.exit_code == 1
    assert "key_differs: key: expected the value's user_id" in other.stderr
    assert as_it_is.exit_code == 1
    assert left == [bad.place]
    assert done.exit_code == 0
    assert f"{bad.place}: sent as {bad.topic}/{bad.partition}/" in done.stdout
    assert at_once == []
    assert after["eligible"]
    assert after["epoch"] > between["epoch"] > before["epoch"]
    assert scene.allowed(f"{user}.c")
    assert scene.open_metric()["account-ages"] == metric["account-ages"] - 1
    assert again.exit_code == 0
    assert "resolved already" in again.stdout
    assert scene.decision(user) == after


def test_an_editor_mends_a_record(scene: Scene, user: str) -> None:
    """
    `--edit` opens the value in $EDITOR; what comes out of it is judged like any other.
    """
    bad = scene.bad("objections", objection(user_id=user, action="file"))
    untouched = scene.run("replay", bad.place, "--edit", EDITOR="true")
    worse = scene.run("replay", bad.place, "--edit", EDITOR="sed -i s/file/shout/")
    broken = scene.run("replay", bad.place, "--edit", EDITOR="false")
    done = scene.run("replay", bad.place, "--edit", EDITOR="sed -i s/file/filed/")
    scene.catch_up()

    assert (untouched.exit_code, worse.exit_code, broken.exit_code) == (1, 1, 1)
    assert "nothing was changed" in untouched.stderr
    assert "field_value: action: expected one of filed, withdrawn" in worse.stderr
    assert done.exit_code == 0, done.output
    assert "OBJECTION" in scene.decision(user)["reasons"]
    assert UNREADABLE not in scene.decision(user)["reasons"]


def test_a_lost_objection_without_a_key_is_found(scene: Scene, user: str) -> None:
    """
    A record without a valid key restricts nobody, cannot be dismissed, and may be replayed as it
    is: its user_id becomes the key, in whatever partition that is.
    """
    scene.grant(user)
    bad = [scene.bad("objections", objection(user_id=user, objection_id="o2"), None)]
    bad.append(scene.bad("objections", objection(user_id=user), b"\xff"))
    dismissed = scene.run("dismiss", bad[0].place, "--yes")
    before = scene.decision(user)
    done = scene.run("replay", bad[0].place)
    declined = scene.run("replay", "--error", "key_not_utf8", "--topic", "objections", typed="n\n")
    nobody = scene.run("replay", "--error", "key_not_utf8", "--topic", "objections")
    many = scene.run("replay", "--error", "key_not_utf8", "--topic", "objections", typed="y\n")
    at_once = [scene.listed(each.place)[0]["open"] for each in bad]
    scene.catch_up()

    assert dismissed.exit_code == 0
    assert "its key is no valid user id" in dismissed.stdout
    assert before["eligible"]
    assert done.exit_code == 0
    assert f"its key was no user id; it is {user}" in done.stdout
    assert (declined.exit_code, nobody.exit_code) == (1, 2)
    assert "give --yes" in nobody.stderr
    assert many.exit_code == 0, many.output
    assert "sent and acknowledged" in many.stdout
    assert at_once == [False, False]
    assert [False, False] == [scene.listed(each.place)[0]["open"] for each in bad]
    assert scene.decision(user)["reasons"] == ["OBJECTION"]


def test_many_are_replayed_and_the_bad_ones_named(scene: Scene, user: str) -> None:
    """
    By filter: the good are sent, what is bad still is not, and the exit status says so.
    """
    good = scene.bad("notices", notice(user_id=user), f"{user}x" * 40)
    bad = scene.bad("notices", notice(user_id=user, delivered_at=7))
    result = scene.run("replay", "--topic", "notices", "--since", "1m", "--yes")

    assert result.exit_code == 1
    assert f"{good.place}: sent as " in result.stdout
    assert f"{bad.place}: still bad, not sent: field_type" in result.stderr
    assert "were not sent (" in result.stderr
    assert scene.places(good.place, "--all") == [good.place]
    assert not scene.listed(good.place)[0]["open"]


def test_an_item_is_mended(scene: Scene, user: str, tmp_path: Path) -> None:
    """
    By a mended record of it, but not of another; also by any good record of it behind the bad one.
    """
    scene.grant(user)
    item = {"user_id": user, "content_id": f"{user}.c"}
    first = scene.bad("content", content(**item, revision=2, product="x"))
    between, restricted = scene.decision(user), not scene.allowed(f"{user}.c")
    other = file_of(tmp_path, content(user_id=user, content_id="another"))
    refused = scene.run("replay", first.place, "--file", other)
    done = scene.run(
        "replay", first.place, "--file", file_of(tmp_path, content(**item, revision=2))
    )
    scene.catch_up()
    mended, after = scene.allowed(f"{user}.c"), scene.decision(user)
    second = scene.bad("content", content(**item, revision=3, product="x"))
    open_again = scene.places("--user", user)
    scene.inputs.send(("content", content(**item, revision=4)))
    at_once = scene.places("--user", user)
    scene.catch_up()

    assert restricted
    assert refused.exit_code == 1
    assert "content_id_differs" in refused.stderr
    assert done.exit_code == 0, done.output
    assert mended
    assert after["epoch"] > between["epoch"]
    assert open_again == [second.place]
    assert at_once == scene.places("--user", user) == []
    assert scene.allowed(f"{user}.c")
    assert "resolved already" in scene.run("replay", second.place).stdout


def test_a_dismissal_lifts(scene: Scene, user: str) -> None:
    """
    After a question that says what is lifted; a second one is skipped.
    """
    scene.grant(user)
    item = content(user_id=user, content_id=f"{user}.d", created_at="yesterday")
    bad, of_item = scene.bad("objections", b"{", user), scene.bad("content", item)
    before, metric = scene.decision(user), scene.open_metric()
    declined = scene.run("dismiss", bad.place, typed="n\n")
    left = scene.places("--user", user)
    nothing = scene.run("dismiss", "--yes")
    done = scene.run("dismiss", bad.place, typed="y\n")
    scene.catch_up()
    after = scene.decision(user)
    again = scene.run("dismiss", bad.place)
    many = scene.run("dismiss", "--user", user, "--yes", "--topic", "content")
    scene.catch_up()

    assert before["reasons"] == [UNREADABLE]
    assert f"lifts {UNREADABLE} from user {user}, for all products" in declined.stdout
    assert declined.exit_code == 1
    assert left == [bad.place, of_item.place]
    assert nothing.exit_code == 2
    assert done.exit_code == 0
    assert after["eligible"]
    assert after["epoch"] > before["epoch"]
    assert again.exit_code == 0
    assert "resolved already" in again.stdout
    assert many.exit_code == 0
    assert f"from item {user}.d of user {user}" in many.stdout
    assert scene.places("--user", user) == []
    for topic in ("objections", "content"):
        assert scene.open_metric()[topic] == metric[topic] - 1


def test_a_record_in_a_partition_not_its_keys(scene: Scene, user: str, tmp_path: Path) -> None:
    """
    What restricts in a partition that its sender chose wrongly is told of, and dismissed there.
    """
    (home,) = scene.inputs.send(("notices", notice(user_id=user)))
    elsewhere = (home.partition + 1) % PARTITIONS
    scene.inputs.queue("objections", b"{", user, partition=elsewhere)
    (bad,) = scene.inputs.flush()
    scene.catch_up()
    mended = scene.run("replay", bad.place, "--file", file_of(tmp_path, objection(user_id=user)))
    still_open = scene.places("--user", user)
    dismissed = scene.run("dismiss", bad.place, "--yes")

    assert bad.partition == elsewhere
    assert mended.exit_code == 0
    assert f"{bad.place}: sent as {bad.topic}/{home.partition}/" in mended.stdout
    assert "its partition was not that of its key" in mended.stderr
    assert still_open == [bad.place]
    assert f"dismissed by {bad.topic}/{elsewhere}/" in dismissed.stdout
    assert scene.places("--user", user) == []


def test_a_cut_dead_letter(scene: Scene, user: str) -> None:
    """
    Its own bytes are never sent: the record is taken from where it lay, or from a file.
    """
    scene.grant(user)
    padded = {"padding": "x" * (9 * MIB), **objection(user_id=user, products=["facebook"])}
    bad = scene.bad("objections", padded)
    cut = scene.listed(bad.place)[0]
    as_it_is = scene.run("replay", bad.place)
    done = scene.run("replay", bad.place, "--edit", EDITOR=r"sed -E -i s/.padding.:.x+.,//")
    scene.catch_up()

    assert cut["truncated"]
    assert as_it_is.exit_code == 1
    assert "value_too_large" in as_it_is.stderr
    assert done.exit_code == 0, done.output
    assert scene.decision(user)["products"]["facebook"] == ["OBJECTION"]
    assert scene.decision(user)["products"]["instagram"] == []


@pytest.mark.parametrize("key_bytes", [9, 5 * MIB])
def test_the_largest_dead_letters_fit(scene: Scene, key_bytes: int) -> None:
    """
    Up to the limit nothing is cut and beyond it no more than has to be, also where the bytes that
    came in compressed cannot be compressed by the worker; none of them stops it.
    """
    user = f"u{uuid.uuid4().hex[:8]}"  # 9 bytes
    key = user + "k" * (key_bytes - len(user))
    room = DEAD_LETTER_BYTES_MAX - min(key_bytes, DEAD_LETTER_BYTES_MAX // 2)
    far_repeats = random.Random(7).randbytes(200 * 1024) * 42  # beyond the window of lz4
    fits = scene.bad("objections", far_repeats[:room], key)
    cut = scene.bad("objections", far_repeats[: room + 1], key)
    letters = {
        each.header("dlq_offset"): each
        for each in scene.watch.outputs()["dead-letters"]
        if each.header("dlq_topic") == fits.topic.encode() and each.partition == fits.partition
    }
    whole, shorter = (letters[b"%d" % each.offset] for each in (fits, cut))
    key_fits = key_bytes <= DEAD_LETTER_BYTES_MAX // 2

    for letter in (whole, shorter):
        assert letter.value == far_repeats[:room]
        assert letter.key == key.encode()[: DEAD_LETTER_BYTES_MAX // 2]
    assert (whole.header("dlq_truncated") is None) == key_fits
    assert shorter.header("dlq_truncated") is not None


@pytest.mark.parametrize(
    "arguments,exit_status,said",
    [
        (["list", "objections/3"], 2, "is no place, expected topic/partition/offset as in"),
        (["list", "eligibility/0/1"], 2, "'eligibility' is no input, expected one of"),
        (["list", "objections/99/1"], 2, "there is no dead letter of a record at this place"),
        (["replay", "objections/0/999999"], 2, "there is no dead letter of a record at this place"),
        (["dismiss", "content/0/999999"], 2, "there is no dead letter of a record at this place"),
        (["list", "--since", "yesterday"], 2, "expected a time as in"),
        (["list", "--since", "2026-01-01T00:00:00"], 2, "with an offset from UTC"),
        (["list", "--topic", "eligibility"], 2, "is no input"),
        (["list", "objections/0/1", "--user", "u1"], 2, "expected one of them"),
        (["replay", "--edit", "--user", "u1"], 2, "expected its PLACE"),
        (["replay", "objections/0/1", "--edit", "--file", "-"], 2, "expected one of them"),
        (["replay", "objections/0/1", "--file", "/no/such/file"], 2, "No such file"),
    ],
)
def test_what_cannot_be(scene: Scene, arguments: list[str], exit_status: int, said: str) -> None:
    """
    A wrong place, option or Kafka is refused with what was expected.
    """
    result = scene.run(*arguments)

    assert exit_status == result.exit_code, result.output
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize("command", ["list", "replay", "dismiss"])
def test_a_kafka_that_is_not_there(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """
    It is named, with exit status 3.
    """
    monkeypatch.setattr("streams.dead_letters.log.LOOK_TIMEOUT_S", 0.5)

    result = scene.run(command, "objections/0/1", "--bootstrap", "127.0.0.1:1")

    assert result.exit_code == 3
    assert "Kafka at 127.0.0.1:1 cannot be reached" in result.stderr


def test_topics_that_are_not_there(scene: Scene) -> None:
    """
    A wrong prefix is named as such.
    """
    result = scene.run("list", OBJECTIONS_TOPIC_PREFIX="nowhere.")

    assert result.exit_code == 2
    assert "has no topic nowhere.objections" in result.stderr


def test_the_open_count_outlives_the_worker(scene: Scene, user: str, tmp_path: Path) -> None:
    """
    The metric is what `list` shows to stand, also right after a restart or a new state; what is
    sent while no worker runs counts at once in the list, and in the metric when one does.
    """
    good = {"user_id": user, "content_id": f"{user}.c"}
    bad = [scene.bad("objections", objection(user_id=user, objection_id=7), user)]
    bad.append(scene.bad("content", content(**good, revision=-1)))
    bad.append(scene.bad("content", content(**good, revision=-2)))
    bad.append(scene.bad("content", content(user_id=user, content_id=f"{user}.d", revision=-1)))
    bad.append(scene.bad("objections", objection(user_id=user), None))
    bad.append(scene.bad("notices", {"user_id": user}))
    running = standing(scene)
    scene.worker.terminate()
    scene.run("dismiss", bad[0].place, "--yes")
    scene.inputs.send(("content", content(**good)))
    mended = file_of(tmp_path, content(user_id=user, content_id=f"{user}.d"))
    scene.run("replay", bad[3].place, "--file", mended)
    scene.run("replay", bad[4].place)
    at_once = standing(scene)
    left_open = [each.place for each in bad if scene.listed(each.place)[0]["open"]]
    twice = scene.run("replay", bad[3].place, "--file", mended)
    scene.worker.start()
    scene.worker.wait_ready()
    scene.catch_up()
    restarted = scene.open_metric()
    scene.worker.kill9()
    shutil.rmtree(scene.worker.state_dir)
    scene.worker.start()
    scene.worker.wait_ready()
    anew = scene.open_metric()

    assert running["notices"] == 0
    assert at_once == {
        **running,
        "objections": running["objections"] - 1,
        "content": running["content"] - 3,
    }
    assert left_open == [bad[5].place]
    assert "resolved already" in twice.stdout
    assert restarted == anew == at_once


def standing(scene: Scene) -> dict[str, float]:
    """Return what `list` shows to stand, by topic; and that the metric agrees, while it is told."""
    counts = dict.fromkeys(INPUTS, 0.0)
    for letter in scene.listed():
        if letter["restricts"] is not None:
            counts[letter["topic"].removeprefix(scene.prefix)] += 1
    if scene.worker.running:
        assert scene.open_metric() == counts
    return counts


def test_what_stands_longer_than_its_dead_letter(scene: Scene, user: str) -> None:
    """
    A restriction does not end with the retention of `dead-letters`: it is listed by what the state
    knows, and the record is taken from where it lay while it is there.
    """
    scene.grant(user)
    lost = scene.bad("objections", objection(user_id=user, action="file"))
    of_item = scene.bad("content", content(user_id=user, content_id=f"{user}.d", product="x"))
    scene.bad("notices", {"user_id": user})
    cut_log(scene, "dead-letters", "content")
    found = {each["place"]: each for each in scene.listed("--user", user)}
    gone = scene.run("replay", of_item.place)
    done = scene.run("replay", lost.place, "--edit", EDITOR="sed -i s/file/filed/")
    dismissed = scene.run("dismiss", of_item.place, "--yes")
    scene.catch_up()

    assert set(found) == {lost.place, of_item.place}
    for letter in found.values():
        assert not letter["kept"]
        assert letter["open"]
        assert letter["error"] is None
    assert found[of_item.place]["content_id"] == f"{user}.d"
    assert gone.exit_code == 1
    assert "the record itself is no longer at its place" in gone.stderr
    assert done.exit_code == 0, done.output
    assert dismissed.exit_code == 0, dismissed.output
    assert scene.decision(user)["reasons"] == ["OBJECTION"]
    assert scene.places("--user", user) == []


def cut_log(scene: Scene, *names: str) -> None:
    """Let all records of topics be as if their retention had ended."""
    settings = settings_of(scene.kafka, scene.prefix)
    places = [
        TopicPartition(settings.topic(name), number, OFFSET_END)
        for name in names
        for number in range(PARTITIONS)
    ]
    client = admin.connect(settings)  # kept until it has answered: what it promised ends with it
    for future in client.delete_records(places).values():
        future.result()

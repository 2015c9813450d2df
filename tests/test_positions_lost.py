"""
Changelogs and outputs are lost, whole or in part: the state is rebuilt from what is left.

Every test ends in the proof: outputs are what the inputs say, and no key's (epoch, revision) fell.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer, TopicPartition

from streams import proof
from streams.kafka.local import LocalKafka
from streams.proof import Record, compacted
from streams.state import rows
from streams.worker.damage import Damage
from tests.restore_scene import Outputs, Scene, epoch_of
from tests.worker_process import PARTITIONS, Inputs, apply_topics
from tests.worker_settings import new_prefix

USERS_CHANGELOG = "objections-users-changelog"
CONTENT_CHANGELOG = "objections-content-changelog"
CHANGELOGS = (USERS_CHANGELOG, CONTENT_CHANGELOG)
DECISIONS = ("eligibility", "training-users", "training-content")
LONG_AGO = "2026-01-01T00:00:00Z"
STEADY = [f"steady{number}" for number in range(8)]  # allowed; nothing ever changes for them
GONE = "gone"  # a deleted account
ITEMS = 3  # of each


@pytest.fixture(scope="module")
def played() -> list[Scene]:
    """Return the scene of the last test, where it left one."""
    return []


@pytest.fixture
def scene(
    kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory, played: list[Scene]
) -> Iterator[Scene]:
    """Return a worker that has handled some records and was stopped."""
    found = played.pop() if played else _play(kafka, new_prefix(), tmp_path_factory)
    found.begin()
    try:
        yield found
        if found.worker.running:
            found.stop()
        if not found.spoilt:
            played.append(found)
    except BaseException as error:
        error.add_note(found.worker.log_tail())
        raise
    finally:
        found.worker.kill9()


def _play(kafka: LocalKafka, prefix: str, folders: pytest.TempPathFactory) -> Scene:
    scene = Scene(kafka, prefix, folders.mktemp("positions"))
    apply_topics(kafka, prefix)
    with Inputs(kafka, prefix) as inputs:
        for user_id in (*STEADY, GONE):
            inputs.send(*_allowed(user_id))
        inputs.send(("account-ages", _age(GONE) | {"account": "deleted"}))
    scene.play()
    return scene


def _age(user_id: str) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "observed_at": LONG_AGO,
        "birth_date": "1980-01-01",
        "country": "DE",
    }


def _allowed(user_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the records of a user who may be used, with some items; and one that was hidden."""
    yield "account-ages", _age(user_id)
    notice = {"user_id": user_id, "notice_id": "n", "delivered_at": LONG_AGO}
    yield "notices", notice
    for number in range(ITEMS):
        for revision, visibility in ((1, "public"), (2, "friends"), (3, "public")):
            if number == 0 or revision == 1:
                yield "content", _item(user_id, number, revision, visibility)
    yield "content", _item(user_id, ITEMS, 1, "public")
    yield "content", _item(user_id, ITEMS, 2, "friends")


def _item(user_id: str, number: int, revision: int, visibility: str) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "content_id": f"c-{user_id}-{number}",
        "revision": revision,
        "product": "instagram",
        "kind": "post",
        "visibility": visibility,
        "modality": "text",
        "language": "de",
        "created_at": LONG_AGO,
    }


def _since(before: Outputs, after: Outputs) -> list[Record]:
    """Return what was published since *before*."""
    known = {each.place for each in chain(*before.values())}
    return [each for each in chain(*after.values()) if each.place not in known]


def _values(records: list[Record], topic: str, user_id: str) -> list[Any]:
    """Return the values published on *topic* about *user_id*."""
    return [
        None if each.value is None else msgspec.json.decode(each.value)
        for each in records
        if each.topic.endswith(topic) and each.header("ce_subject") == user_id.encode()
    ]


def test_a_lost_users_changelog_is_rebuilt(scene: Scene) -> None:
    """
    Users get the epochs that were published as floors; who is allowed is not purged in between.

    An objection filed while nobody ran restricts; a deleted account stays deleted.
    """
    scene.recreate(USERS_CHANGELOG)
    objector, *steady = STEADY
    scene.object([objector])

    after = scene.restart()

    said = scene.said()
    assert "HAS LOST EVERYTHING" in said
    assert "objections-content-changelog" not in said
    assert PARTITIONS == said.count("rebuilt: ")
    news = _since(scene.before, after)
    for user_id in steady:
        assert epoch_of(scene.before, user_id) + 1 == epoch_of(after, user_id)
        assert None not in _values(news, "training-users", user_id)
        assert ITEMS == sum(
            value is not None for value in _values(news, "training-content", user_id)
        )
    assert {None} == set(_values(news, "training-users", objector))
    assert {None} == set(_values(news, "training-content", objector))
    assert ["ACCOUNT_DELETED"] == _last(after, GONE)["reasons"]
    assert not any(_values(news, "training-content", GONE))


def test_a_lost_content_changelog_is_rebuilt(scene: Scene) -> None:
    """
    What stood is known again, and is purged when its user objects.

    Answers to revisions that are read again do not fall behind those published before.
    """
    victim = STEADY[1]
    scene.recreate(CONTENT_CHANGELOG)

    after = scene.restart()

    assert "objections-content-changelog" in scene.said()
    news = _since(scene.before, after)
    assert None not in _values(news, "training-users", victim)
    scene.object([victim])
    purged = _since(after, scene.caught_up())
    assert [None] * ITEMS == _values(purged, "training-content", victim)


def test_everything_but_the_outputs_is_lost_and_a_rebuild_was_cut_off(scene: Scene) -> None:
    """
    With neither changelogs nor offsets, outputs alone show that there was a state.

    In one partition a rebuild had begun and written little more than its first row: that row alone
    tells that there is more to be done.
    """
    scene.recreate(*CHANGELOGS)
    scene.forget_offsets()
    begun = rows.encode_number(Damage.USERS | Damage.ITEMS)
    _produce(scene, USERS_CHANGELOG, [(0, rows.REBUILD_KEY, begun)])
    nothing = rows.position_key("content"), rows.encode_number(0)
    _produce(scene, CONTENT_CHANGELOG, [(0, *nothing)])

    after = scene.restart()

    assert "a rebuild of its state was begun and not ended" in scene.said()
    assert PARTITIONS == scene.said().count("rebuilt: ")
    user_id = STEADY[2]
    assert epoch_of(scene.before, user_id) < epoch_of(after, user_id)
    assert None not in _values(_since(scene.before, after), "training-users", user_id)
    assert ["ACCOUNT_DELETED"] == _last(after, GONE)["reasons"]


def test_changelogs_that_lost_their_ends_get_floors(scene: Scene) -> None:
    """The last third of both changelogs is gone: epochs go on above those published."""
    kept: list[tuple[str, list[tuple[int, bytes, bytes | None]]]] = []
    for name, found in proof.read(scene.settings, CHANGELOGS).items():
        found.sort(key=lambda each: each.offset)
        kept.append((name, [(each.partition, each.key or b"", each.value) for each in found]))
    scene.recreate(*CHANGELOGS)
    for name, log in kept:
        _produce(scene, name, log[: len(log) * 2 // 3])

    after = scene.restart()

    assert "HAS LOST ITS END" in scene.said()
    lower = [
        key
        for key in compacted(after["eligibility"])
        if epoch_of(scene.before, key) > epoch_of(after, key)
    ]
    assert [] == lower


def test_outputs_made_anew_are_filled_again(scene: Scene) -> None:
    """The outputs were deleted and made again: all that stands is published into the new ones."""
    stood = _standing(scene.before)
    epochs = {key: epoch_of(scene.before, key) for key in compacted(scene.before["eligibility"])}
    scene.recreate(*DECISIONS)

    after = scene.restart()

    assert "IT WAS MADE ANEW" in scene.said()
    assert stood == _standing(after)
    assert all(epoch < epoch_of(after, key) for key, epoch in epochs.items())


def test_whom_no_record_restores_is_purged(scene: Scene) -> None:
    """The users changelog is lost and all notices have expired: nobody is allowed any more."""
    scene.spoilt = True
    assert any(product for product, _ in _standing(scene.before))
    client = scene.admin()
    ends = [
        TopicPartition(scene.settings.topic("notices"), number, -1) for number in range(PARTITIONS)
    ]
    for future in client.delete_records(ends).values():
        future.result()
    scene.recreate(USERS_CHANGELOG)

    after = scene.restart()

    assert "IT WAS MADE ANEW" not in scene.said()  # as in the test before
    assert set() == _standing(after)
    assert "NOTICE_PENDING" in _last(after, STEADY[3])["reasons"]
    scene.stop()
    said = len(scene.worker.log())
    scene.recreate(USERS_CHANGELOG, "eligibility")
    scene.worker.start()
    assert 1 == scene.worker.wait_end()
    last_line = scene.worker.log()[said:].splitlines()[-1]
    assert "the state is lost" in last_line
    assert scene.settings.topic(USERS_CHANGELOG) in last_line


def _last(outputs: Outputs, user_id: str) -> Any:
    return msgspec.json.decode(compacted(outputs["eligibility"])[user_id].value or b"")


def _standing(outputs: Outputs) -> set[tuple[str, str]]:
    """Return topic and key of all that may be used."""
    return {
        (name, key)
        for name in ("training-users", "training-content")
        for key, record in compacted(outputs[name]).items()
        if record.value is not None
    }


def _produce(scene: Scene, topic: str, log: list[tuple[int, bytes, bytes | None]]) -> None:
    """Write (partition, key, value) to a topic."""
    producer = Producer(scene.settings.kafka(acks="all"))
    for partition, key, value in log:
        producer.produce(scene.settings.topic(topic), value, key, partition)
        producer.poll(0)
    assert 0 == producer.flush(30)

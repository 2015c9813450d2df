"""
Local stores are lost, stale, broken or of another cluster; offsets are lost or reset.

Whatever happens, the changelogs are the truth: the final outputs stay what they were.
"""

import shutil
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from streams.kafka.local import LocalKafka
from streams.proof import INPUTS
from streams.state.store import Reached, Store
from tests.restore_scene import Scene, counts, eligible_user, epoch_of, standing
from tests.test_positions_store import cut, flip, forget, lose
from tests.worker_process import PARTITIONS, wait_for
from tests.worker_settings import new_prefix

USERS_CHANGELOG = "objections-users-changelog"
LONG_AGO_MS = 1_600_000_000_000
THROWN_AWAY = "the local store is thrown away"


@pytest.fixture(scope="module")
def played() -> list[Scene]:
    """Return the scene of the last test, where it left one."""
    return []


@pytest.fixture
def scene(
    kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory, played: list[Scene]
) -> Iterator[Scene]:
    """Return a worker that has handled some records and was stopped; proven, if used before."""
    folder = tmp_path_factory.mktemp("restore")
    found = played.pop() if played else Scene(kafka, new_prefix(), folder)
    if not found.before:
        found.play()
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


def test_wiped_state_is_restored_from_the_changelogs(scene: Scene) -> None:
    """
    The state folder is removed: the next start restores it from the changelogs.

    Nothing is published for what has not changed, and a user's epochs go on where they were.
    """
    shutil.rmtree(scene.worker.state_dir)

    after = scene.restart()

    assert counts(scene.before) == counts(after)
    user_id = eligible_user(scene.before)
    scene.object([user_id])
    assert epoch_of(scene.before, user_id) < epoch_of(scene.caught_up(), user_id)


def test_a_store_that_lags_behind_catches_up(scene: Scene, tmp_path: Path) -> None:
    """
    An older copy of the state folder is put in place: what it lacks is read from the changelogs.
    """
    copy = tmp_path / "copy"
    shutil.copytree(scene.worker.state_dir, copy)
    scene.restart()
    scene.object(f"u{number}" for number in range(50))
    before = scene.caught_up()
    scene.stop()
    shutil.rmtree(scene.worker.state_dir)
    copy.rename(scene.worker.state_dir)

    after = scene.restart()

    assert counts(before) == counts(after)
    assert THROWN_AWAY not in scene.said()


def of_another_topic(store: Store) -> None:
    """Make a store one of a topic of the same name that was deleted since."""
    store.write([], {USERS_CHANGELOG: Reached("another-id", 5)})


def ahead(store: Store) -> None:
    """Make a store one that has got further than its changelog goes."""
    found = store.reached(USERS_CHANGELOG)
    assert found is not None
    store.write([], {USERS_CHANGELOG: Reached(found.topic_id, found.offset + 1_000)})


def long_unused(store: Store) -> None:
    """Make a store one that was not used for years."""
    store.mark_used(LONG_AGO_MS)


@pytest.mark.parametrize("spoil", [of_another_topic, ahead, long_unused])
def test_a_store_that_may_miss_something_is_thrown_away(
    scene: Scene, spoil: Callable[[Store], None]
) -> None:
    """
    A store of another topic, ahead of its changelog or unused for too long is begun anew.

    It is said loudly, for each partition, and the outputs stay as they were.
    """
    with scene.stores() as stores:
        for store in stores:
            store.write([(b"unonsense", b"\x63")], {})  # would end the worker if it was read
            spoil(store)

    after = scene.restart()

    assert PARTITIONS == scene.said().count(THROWN_AWAY), scene.worker.log_tail()
    assert counts(scene.before) == counts(after)


def test_a_worker_heals_its_stores(scene: Scene) -> None:
    """
    Each partition's store is damaged in another way; the worker ends up serving, nothing changes.

    Damage that shows only when a row is read may end the process once, with the remedy.
    """
    with scene.stores() as stores:
        for store in stores:
            store._db.flush()
    for number, damage in enumerate((flip, cut, lose, forget)):
        damage(scene.store_path(number))

    scene.worker.start()
    wait_for(lambda: _ready(scene) or not scene.worker.running, scene.worker.log_tail())
    if scene.worker.running:
        scene.stop()
    else:
        assert "Start the worker again" in scene.said().splitlines()[-1]
    after = scene.restart()

    assert counts(scene.before) == counts(after)
    # A flipped byte shows once its block is read, and nothing may have asked for that one yet.
    assert PARTITIONS - 1 <= scene.said().count(THROWN_AWAY) <= PARTITIONS


def _ready(scene: Scene) -> bool:
    return scene.worker.get("/readyz").status == HTTPStatus.OK


def test_a_cut_log_of_writes_is_an_earlier_state(scene: Scene) -> None:
    """A power cut took the end of a store's log of writes: the changelog has what it lacks."""
    for number in range(PARTITIONS):
        for log in scene.store_path(number).glob("*.log"):
            data = log.read_bytes()
            log.write_bytes(data[: len(data) // 2])

    assert counts(scene.before) == counts(scene.restart())


def test_offsets_reset_to_the_beginning_change_nothing(scene: Scene) -> None:
    """All input is read again: what stands of each key is the same after it, users' epochs too."""
    _reset_offsets(scene)

    after = scene.restart()

    assert standing(scene.before) == standing(after)
    assert counts(scene.before) != counts(after)  # every content record was answered again
    assert "read from the lower" in scene.said()


def test_lost_offsets_are_taken_from_the_state(scene: Scene) -> None:
    """The group's offsets have expired: reading goes on from where the state has got to."""
    scene.forget_offsets()

    after = scene.restart()

    assert counts(scene.before) == counts(after)
    assert "the group has no offset" in scene.said()
    user_id = eligible_user(scene.before)
    scene.object([user_id])
    assert epoch_of(scene.before, user_id) < epoch_of(scene.caught_up(), user_id)


def test_lost_offsets_and_lost_stores_are_both_made_good(scene: Scene) -> None:
    """With neither offsets nor stores the changelogs alone say where to go on."""
    scene.forget_offsets()
    shutil.rmtree(scene.worker.state_dir)

    assert counts(scene.before) == counts(scene.restart())


def _reset_offsets(scene: Scene) -> None:
    """Set the group back to the beginning of all inputs."""
    places = [
        TopicPartition(scene.settings.topic(name), number, 0)
        for name in INPUTS
        for number in range(PARTITIONS)
    ]
    wanted = [ConsumerGroupTopicPartitions(scene.settings.group, places)]
    client = scene.admin()  # kept until it has answered
    done = client.alter_consumer_group_offsets(wanted)[scene.settings.group].result()
    assert not any(place.error for place in done.topic_partitions)

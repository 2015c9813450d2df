"""
Local stores are lost, stale, broken or of another cluster; offsets are lost or reset.

Whatever happens, the changelogs are the truth: the final outputs stay what they were.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.proof import INPUTS, OUTPUTS, Record, compacted
from streams.state.store import Memory, Reached, Store
from tests.fault_load import Load, assert_faultless
from tests.worker_process import (
    PARTITIONS,
    Inputs,
    Worker,
    apply_topics,
    assert_proven,
    settings_of,
    wait_for,
    wait_until_caught_up,
)

RECORDS = 1_500
CHANGELOGS = ("objections-users-changelog", "objections-content-changelog")
USERS_CHANGELOG = CHANGELOGS[0]
LONG_AGO_MS = 1_600_000_000_000
NEWCOMER = "newcomer"
THROWN_AWAY = "the local store is thrown away"

Outputs = dict[str, list[Record]]


class Scene:
    """A prefix with some thousand outputs and one worker, which is stopped."""

    def __init__(self, kafka: LocalKafka, prefix: str, folder: Path) -> None:
        self.kafka = kafka
        self.prefix = prefix
        self.settings = settings_of(kafka, prefix)
        self.worker = Worker(kafka, prefix, folder / "state")
        self.before: Outputs = {}
        self._restarts = 0

    def store_path(self, number: int) -> Path:
        """Return the folder of a partition's local store."""
        return self.worker.state_dir / self.settings.group / str(number)

    @contextmanager
    def stores(self) -> Iterator[list[Store]]:
        """Open the local stores of all partitions while the worker is down."""
        memory = Memory(1024 * 1024)
        opened = [Store(self.store_path(number), memory) for number in range(PARTITIONS)]
        try:
            yield opened
        finally:
            for store in opened:
                store.close()

    def admin(self) -> AdminClient:
        """Return a client for the group's offsets."""
        return admin.connect(self.settings)

    def restart(self) -> Outputs:
        """
        Run the worker until nothing is left to do; return the outputs there are then.

        A newcomer objects in each partition, so that whatever the worker does before that is
        done; what is published on newcomers is left out.
        """
        self.worker.start()
        self.worker.wait_ready()
        with Inputs(self.kafka, self.prefix) as inputs:
            for number in range(PARTITIONS):
                value = objection(f"{NEWCOMER}{number}-{self._restarts}", "o")
                inputs.queue("objections", value, partition=number)
            inputs.flush()
        self._restarts += 1
        wait_until_caught_up(self.kafka, self.prefix, workers=[self.worker])
        outputs = assert_proven(self.kafka, self.prefix, once=False)
        return {
            name: [each for each in records if not each.key_text.startswith(NEWCOMER)]
            for name, records in outputs.items()
        }

    def stop(self) -> None:
        """Let the worker leave."""
        assert self.worker.terminate() == 0, self.worker.log_tail()

    def object(self, user_id: str, objection_id: str) -> None:
        """File an objection."""
        with Inputs(self.kafka, self.prefix) as inputs:
            inputs.send(("objections", objection(user_id, objection_id)))


def objection(user_id: str, objection_id: str) -> dict[str, str]:
    """Return the record of an objection to everything."""
    return {"user_id": user_id, "objection_id": objection_id, "action": "filed"}


@pytest.fixture
def scene(kafka: LocalKafka, prefix: str, tmp_path: Path) -> Iterator[Scene]:
    """Return a worker that has handled some records and was stopped."""
    apply_topics(kafka, prefix)
    made = Scene(kafka, prefix, tmp_path)
    with made.worker as worker:
        with Load(kafka, prefix, seed=41, rate_per_s=1_000, plain=True) as load:
            worker.wait_ready()
            wait_for(lambda: load.sent > RECORDS, "the load")
        wait_until_caught_up(kafka, prefix, workers=[worker])
        made.stop()
        made.before = assert_faultless(kafka, prefix)
        yield made


def counts(outputs: Outputs) -> dict[str, int]:
    """Return how many records each output has."""
    return {name: len(records) for name, records in outputs.items()}


def last_words(outputs: Outputs) -> dict[tuple[str, str], object]:
    """Return what stands of each key: value, epoch and revision."""
    return {
        (name, key): (
            record.value,
            record.header("objections_epoch"),
            record.header("objections_revision"),
        )
        for name in OUTPUTS
        for key, record in compacted(outputs[name]).items()
    }


def epoch_of(outputs: Outputs, user_id: str) -> int:
    """Return the epoch of a user's last decision."""
    return int(compacted(outputs["eligibility"])[user_id].header("objections_epoch") or b"0")


def test_wiped_state_is_restored_from_the_changelogs(scene: Scene) -> None:
    """
    The state folder is removed: the next start restores it from the changelogs.

    Nothing is published for what has not changed, and a user's epochs go on where they were.
    """
    shutil.rmtree(scene.worker.state_dir)

    after = scene.restart()

    assert counts(scene.before) == counts(after)
    scene.object("u7", "o-new")
    wait_until_caught_up(scene.kafka, scene.prefix, workers=[scene.worker])
    after = assert_faultless(scene.kafka, scene.prefix)
    assert epoch_of(scene.before, "u7") < epoch_of(after, "u7")


def test_a_store_that_lags_behind_catches_up(scene: Scene, tmp_path: Path) -> None:
    """
    An older copy of the state folder is put in place: what it lacks is read from the changelogs.
    """
    copy = tmp_path / "copy"
    shutil.copytree(scene.worker.state_dir, copy)
    scene.restart()
    for number in range(50):
        scene.object(f"u{number}", "o-late")
    scene.stop()
    before = scene.restart()
    scene.stop()
    shutil.rmtree(scene.worker.state_dir)
    copy.rename(scene.worker.state_dir)

    after = scene.restart()

    assert counts(before) == counts(after)
    assert THROWN_AWAY not in scene.worker.log()


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

    assert PARTITIONS == scene.worker.log().count(THROWN_AWAY), scene.worker.log_tail()
    assert counts(scene.before) == counts(after)


def test_a_broken_store_is_refused_with_its_path(scene: Scene) -> None:
    """A store that RocksDB cannot open ends the worker, which names it; without it all is well."""
    broken = scene.store_path(2)
    next(broken.glob("MANIFEST-*")).write_bytes(b"nonsense")

    scene.worker.start()
    status = scene.worker.wait_end()

    assert 0 != status
    assert str(broken) in scene.worker.log().splitlines()[-1], scene.worker.log_tail()
    shutil.rmtree(broken)
    assert counts(scene.before) == counts(scene.restart())


def test_a_cut_log_of_writes_is_an_earlier_state(scene: Scene) -> None:
    """A power cut took the end of a store's log of writes: the changelog has what it lacks."""
    for number in range(PARTITIONS):
        for log in scene.store_path(number).glob("*.log"):
            data = log.read_bytes()
            log.write_bytes(data[: len(data) // 2])

    assert counts(scene.before) == counts(scene.restart())


def test_offsets_reset_to_the_beginning_change_nothing(scene: Scene) -> None:
    """All input is read again: what stands of each key, epochs included, is the same after it."""
    _reset_offsets(scene)

    after = scene.restart()

    assert last_words(scene.before) == last_words(after)
    assert counts(scene.before) != counts(after)  # every content record was answered again
    assert "read from the lower" in scene.worker.log()


def test_lost_offsets_are_taken_from_the_state(scene: Scene) -> None:
    """The group's offsets have expired: reading goes on from where the state has got to."""
    scene.admin().delete_consumer_groups([scene.settings.group])[scene.settings.group].result()

    after = scene.restart()

    assert counts(scene.before) == counts(after)
    assert "the group has no offset" in scene.worker.log()
    scene.object("u7", "o-new")
    wait_until_caught_up(scene.kafka, scene.prefix, workers=[scene.worker])
    assert epoch_of(scene.before, "u7") < epoch_of(
        assert_faultless(scene.kafka, scene.prefix), "u7"
    )


def test_lost_offsets_and_lost_stores_are_both_made_good(scene: Scene) -> None:
    """With neither offsets nor stores the changelogs alone say where to go on."""
    scene.admin().delete_consumer_groups([scene.settings.group])[scene.settings.group].result()
    shutil.rmtree(scene.worker.state_dir)

    assert counts(scene.before) == counts(scene.restart())


def test_changelogs_made_anew_do_not_let_epochs_fall(scene: Scene) -> None:
    """
    The changelogs were deleted and made again: stores of the old ones are thrown away.

    All input is read again, and epochs stay above what was published before, or stores that
    remember the highest pair would drop every later purge.
    """
    client = scene.admin()
    names = [scene.settings.topic(name) for name in CHANGELOGS]
    for future in client.delete_topics(names).values():
        future.result()
    wait_for(lambda: _are_gone(scene, client), "the changelogs are gone")
    apply_topics(scene.kafka, scene.prefix)

    after = scene.restart()

    assert PARTITIONS == scene.worker.log().count(THROWN_AWAY), scene.worker.log_tail()
    assert "read from the lower" in scene.worker.log()
    assert epoch_of(scene.before, "u7") <= epoch_of(after, "u7")


def _are_gone(scene: Scene, client: AdminClient) -> bool:
    known = client.list_topics(timeout=5).topics
    return not any(scene.settings.topic(name) in known for name in CHANGELOGS)


def _reset_offsets(scene: Scene) -> None:
    """Set the group back to the beginning of all inputs."""
    places = [
        TopicPartition(scene.settings.topic(name), number, 0)
        for name in INPUTS
        for number in range(PARTITIONS)
    ]
    wanted = [ConsumerGroupTopicPartitions(scene.settings.group, places)]
    done = scene.admin().alter_consumer_group_offsets(wanted)[scene.settings.group].result()
    assert not any(place.error for place in done.topic_partitions)

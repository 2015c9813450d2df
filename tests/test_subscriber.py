"""
The subscriber on a real Kafka, with a store in SQLite: filling, following, and what it says.
"""

import sqlite3
import time
from pathlib import Path

import pytest

from streams.errors import Busy, Halt, Unreachable
from streams.kafka.local import LocalKafka
from streams.sinks.sink import Batch, Place
from streams.sinks.sqlite import SqliteSink
from tests.subscribing import STORE, Outputs, Running, Said, SqliteScene
from tests.worker_settings import wait_for


@pytest.fixture
def outputs(kafka: LocalKafka, prefix: str) -> Outputs:
    """Return new topics."""
    return Outputs(kafka, prefix)


@pytest.fixture
def scene(outputs: Outputs, tmp_path: Path) -> SqliteScene:
    """Return an empty store on new topics."""
    return SqliteScene(outputs, tmp_path / "store.sqlite")


def write_some(outputs: Outputs, users: int = 6, items: int = 4, epoch: int = 1) -> None:
    """Allow some users and their items."""
    for user in range(users):
        outputs.log.user(f"u{user}", epoch)
        for item in range(items):
            outputs.log.item(f"u{user}-c{item}", f"u{user}", epoch, 1)
    outputs.send()


def test_a_new_store_is_filled(outputs: Outputs, scene: SqliteScene) -> None:
    """
    `once` leaves a store that holds all there was, and said so up to the logs' very ends.
    """
    write_some(outputs)
    outputs.log.item("u1-c1", "u1", 2, 1, allowed=False)
    outputs.log.user("u2", 2, allowed=False)
    outputs.send()
    outputs.log.item("u3-c1", "u3", 9, 1, allowed=False)
    outputs.send(commit=False)

    scene.once()

    assert outputs.usable() == scene.usable()
    assert 6 * 4 - 1 - 4 == len(scene.usable())
    assert outputs.ends() == outputs.acknowledged("hidden") == outputs.acknowledged("erased")


def test_it_goes_on_where_it_was(outputs: Outputs, scene: SqliteScene) -> None:
    """
    Started again, a store gets what is new and nothing else; no word of it goes back.
    """
    write_some(outputs)
    first = scene.once()
    outputs.log.item("u1-c1", "u1", 2, 1, allowed=False)
    outputs.send()

    assert 30 == first
    assert 1 == scene.once()
    assert 0 == scene.once()
    assert outputs.usable() == scene.usable()
    for place in outputs.ends():
        for phase in ("hidden", "erased"):
            words = [e.offset for e in outputs.said() if (e.place, e.phase) == (place, phase)]
            assert words == sorted(words)


def test_it_follows_and_acknowledges(outputs: Outputs, scene: SqliteScene) -> None:
    """
    While it runs a purge is applied, and acknowledged as hidden at once, as erased after `erase`.
    """
    write_some(outputs)
    with Running(outputs, scene.sink(erase_every_s=3.0)) as running:
        running.wait_ready()
        assert outputs.usable() == scene.usable()
        wait_for(lambda: outputs.ends() == outputs.acknowledged("erased"), "the first erasure")
        outputs.log.user("u1", 2, allowed=False)
        outputs.send()
        scene.wait_until_equal()
        wait_for(lambda: outputs.ends() == outputs.acknowledged("hidden"), "hidden")
        assert outputs.ends() != outputs.acknowledged("erased")
        wait_for(lambda: outputs.ends() == outputs.acknowledged("erased"), "erased")


def test_not_ready_before_the_end(outputs: Outputs, scene: SqliteScene) -> None:
    """
    A new store is ready, and acknowledges, only once it has reached the end seen at its start.
    """
    write_some(outputs, users=40, items=20)
    early: list[tuple[bool, int]] = []

    def look(_: Batch) -> None:
        early.append((running.subscriber.ready, len(scene.usable())))

    with Running(outputs, scene.sink(), applied=look, batch_records=50) as running:
        running.wait_ready()

        assert 800 == len(scene.usable())
        assert [False] * (len(early) - 3) == [ready for ready, _ in early][:-3]
        assert early[0][1] < 800
        wait_for(lambda: outputs.ends() == outputs.acknowledged("hidden"), "acknowledgements")
        ends = outputs.ends()
        assert {0} == {e.offset for e in outputs.said() if e.offset < ends[e.place]}


def test_back_to_a_backup(outputs: Outputs, scene: SqliteScene, tmp_path: Path) -> None:
    """
    A store restored from a backup says so first, then ends like one that never went back.
    """
    write_some(outputs)
    scene.once()
    backup = scene.path.read_bytes()
    before = outputs.ends()
    outputs.log.item("u1-c1", "u1", 2, 1, allowed=False)
    outputs.log.user("u2", 2, allowed=False)
    outputs.send()
    scene.once()
    assert outputs.usable() == scene.usable()
    number = len(outputs.said())
    for path in tmp_path.glob("store.sqlite*"):
        path.unlink()
    scene.path.write_bytes(backup)
    plant(scene, "planted", partition=0)
    assert 25 == len(scene.usable())

    scene.once()

    assert outputs.usable() == scene.usable()
    ends, news = outputs.ends(), outputs.said()[number:]
    moved = [place for place in ends if ends[place] > before[place]]
    assert moved
    for place in moved:
        for phase in ("hidden", "erased"):
            words = [each.offset for each in news if (each.place, each.phase) == (place, phase)]
            assert [before[place], ends[place]] == words


@pytest.mark.parametrize("away", [True, False])
def test_away_too_long(kafka: LocalKafka, prefix: str, tmp_path: Path, away: bool) -> None:
    """
    After more than half of delete.retention.ms a store is compared with all of the log.
    """
    outputs = Outputs(kafka, prefix, retention_ms=6_000 if away else 600_000)
    scene = SqliteScene(outputs, tmp_path / "store.sqlite")
    write_some(outputs)
    scene.once()
    plant(scene, "planted", partition=1)  # as if its tombstone had come and gone
    if away:
        time.sleep(3.1)

    scene.once()

    assert away == ("planted" not in scene.usable())
    assert outputs.usable().items() <= scene.usable().items()
    assert outputs.ends() == outputs.acknowledged("hidden") == outputs.acknowledged("erased")
    for each in outputs.said():
        assert each.offset in {0, outputs.ends()[each.place]}, "what was applied was taken back"


def test_lost_position(outputs: Outputs, scene: SqliteScene) -> None:
    """
    A store without its positions is filled anew: what it holds and the log has not goes.
    """
    write_some(outputs)
    scene.once()
    plant(scene, "planted", partition=0)
    change(scene, "DELETE FROM positions")

    scene.once()

    assert outputs.usable() == scene.usable()
    assert 0 in {each.offset for each in outputs.said()[8:]}


def test_topic_made_anew(outputs: Outputs, scene: SqliteScene) -> None:
    """
    When a topic was made anew its offsets mean nothing: the store takes back its word and resyncs.
    """
    write_some(outputs)
    scene.once()
    number = len(outputs.said())
    change(scene, "UPDATE positions SET topic_id = 'another', next_offset = next_offset + 100")
    plant(scene, "planted", partition=1)

    scene.once()

    assert outputs.usable() == scene.usable()
    for place, end in outputs.ends().items():
        words = [
            e.offset for e in outputs.said()[number:] if (e.place, e.phase) == (place, "hidden")
        ]
        assert [0, end] == words


def test_two_share_the_partitions(outputs: Outputs, scene: SqliteScene) -> None:
    """
    Two subscribers of a store each follow equal numbers of both topics; one takes over the other's.
    """
    write_some(outputs)
    with Running(outputs, scene.sink()) as left:
        left.wait_ready()
        with Running(outputs, scene.sink()) as right:
            wait_for(
                lambda: len(left.subscriber.places) == len(right.subscriber.places) == 2,
                "each to have a partition of both topics",
            )
            assert numbers(left) | numbers(right) == {0, 1}
            write_some(outputs, epoch=2)
            scene.wait_until_equal()
        outputs.log.user("u0", 3, allowed=False)
        outputs.log.user("u1", 3, allowed=False)
        outputs.log.user("u4", 3, allowed=False)
        outputs.send()
        scene.wait_until_equal()
        wait_for(lambda: outputs.ends() == outputs.acknowledged("hidden"), "acknowledgements")
    assert all(each.offset == 0 or each.offset > 1 for each in outputs.said())
    assert_never_back(outputs.said())


class Unwell(SqliteSink):
    """A store that is busy, or away, every now and then."""

    failures: tuple[Exception, ...] = ()
    opened = 0

    def open(self) -> None:
        self.opened += 1
        super().open()

    def apply(self, batch: Batch) -> None:
        if self.failures:
            failure, *rest = self.failures
            self.failures = tuple(rest)
            raise failure
        super().apply(batch)


def test_a_store_that_is_busy_or_away(outputs: Outputs, scene: SqliteScene) -> None:
    """
    A store that asks for a pause, or is away for a moment, is called again; nothing is left out.
    """
    write_some(outputs)
    sink = Unwell(scene.path, erase_every_s=0)
    sink.failures = Busy("wait", 0.05), Unreachable("away"), Busy("wait", 0.05)
    with Running(outputs, sink) as running:
        running.wait_ready()
        assert outputs.usable() == scene.usable()
        assert 2 == sink.opened
        assert not sink.failures
        sink.failures = (Unreachable("away"),)
        change(scene, "UPDATE positions SET next_offset = 0")  # it comes back as a backup
        change(scene, "UPDATE items SET allowed = NULL")
        write_some(outputs, epoch=2)
        scene.wait_until_equal()
        assert 3 == sink.opened


def test_anything_else_ends_it(outputs: Outputs, scene: SqliteScene) -> None:
    """
    Another error of the store ends the subscriber, with nothing acknowledged beyond what holds.
    """
    write_some(outputs)
    sink = Unwell(scene.path, erase_every_s=0)
    sink.failures = (RuntimeError("broken"),)
    running = Running(outputs, sink)

    with pytest.raises(RuntimeError, match="broken"), running:
        running.wait_ready()

    assert [] == [each for each in outputs.said() if each.offset > 0]


def test_a_record_of_somebody_else(outputs: Outputs, scene: SqliteScene) -> None:
    """
    A record without the service's headers ends the subscriber, naming it.
    """
    from confluent_kafka import Producer

    producer = Producer(outputs.settings.kafka())
    producer.produce(outputs.settings.topic("training-content"), b"{}", b"c1", partition=1)
    producer.flush()

    with pytest.raises(Halt, match=r"training-content/1/0 is no record of the service"):
        scene.once()


def plant(scene: SqliteScene, content_id: str, partition: int) -> None:
    """Put an item into the store that the log does not have."""
    change(
        scene,
        "INSERT INTO items SELECT ?, user_id, product, kind, modality, language, created_at, "
        "1, 1, 1, ?, 2 FROM items WHERE content_id = 'u0-c0'",
        content_id,
        partition,
    )


def change(scene: SqliteScene, statement: str, *values: object) -> None:
    """Change the store behind the sink's back."""
    connection = sqlite3.connect(scene.path, timeout=30)
    with connection:
        connection.execute(statement, values)
    connection.close()


def numbers(running: Running) -> set[int]:
    """Return the partitions it follows, of all its topics."""
    places = running.subscriber.places
    found = {place.partition for place in places}
    assert places == {
        Place(topic, n) for topic in ("training-users", "training-content") for n in found
    }
    return found


def assert_never_back(said: list[Said]) -> None:
    """No acknowledgement is lower than one before."""
    last: dict[tuple[Place, str], int] = {}
    for each in said:
        assert each.offset >= last.get((each.place, each.phase), 0), f"{each} of {STORE} went back"
        last[each.place, each.phase] = each.offset

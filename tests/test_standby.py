"""
Warm copies of the partitions of others: kept up, given up in time, and what is done with bad ones.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams.core.changes import Cause, UserRow
from streams.core.policy import Policy
from streams.core.user import NOBODY
from streams.core.verdict import decide
from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Memory, Reached, Store
from streams.worker import standby
from streams.worker.names import USERS_CHANGELOG
from streams.worker.run import identify
from streams.worker.standby import Standby
from tests.fault_load import Load, assert_faultless
from tests.standing_by import SERVING, is_warm, share
from tests.worker_process import (
    PARTITIONS,
    Worker,
    apply_topics,
    settings_of,
    wait_for,
    wait_until_caught_up,
)

RECORDS = 3_000
BEHIND = 400  # rows: what is written within a fetch or two
RESTORED = "objections_restored_rows_total"
FINISHED = 'objections_restores_total{outcome="finished"}'
MEMORY_BYTES = 8 * 1024 * 1024


def test_a_worker_takes_over_from_its_warm_copies(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Two workers keep copies of each other's partitions; one is killed, and comes back.

    The other takes over without reading the changelogs again, and keeps a copy anew once the
    partitions have gone back.
    """
    apply_topics(kafka, prefix)
    one, other = (Worker(kafka, prefix, tmp_path / name, STANDBY="on") for name in ("one", "other"))
    with one, other:
        with Load(kafka, prefix, seed=52, rate_per_s=500, plain=True) as load:
            wait_for(lambda: share(one, other), "both workers serve")
            wait_for(lambda: load.sent > RECORDS, "the load")
            wait_for(lambda: is_warm(one, BEHIND) and is_warm(other, BEHIND), "the copies are warm")
            before = other.metrics()
            one.kill9()
            wait_for(lambda: PARTITIONS == other.metrics()[SERVING], "the other serves all")
            wait_for(lambda: other.metrics()[FINISHED] > before[FINISHED], "the restore has ended")
            read_again = other.metrics()[RESTORED] - before[RESTORED]
            one.start()
            wait_for(lambda: share(one, other), "both workers serve again")
        wait_until_caught_up(kafka, prefix, workers=[one, other])
        wait_for(
            lambda: is_warm(one, BEHIND) and is_warm(other, BEHIND), "the copies are warm again"
        )

    assert read_again <= 2 * BEHIND, f"{read_again:.0f} rows that the copies held were read again"
    assert_faultless(kafka, prefix)


@pytest.fixture
def settings(kafka: LocalKafka, prefix: str, tmp_path: Path) -> Settings:
    """Return the settings of a worker on topics of its own."""
    apply_topics(kafka, prefix)
    return replace(settings_of(kafka, prefix), state_dir=tmp_path)


@pytest.fixture
def copies(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standby]:
    """Return a standby of all partitions, which has not begun."""
    monkeypatch.setattr(standby, "MEASURE_S", 0.05)
    monkeypatch.setattr(standby, "AGAIN_S", 0.05)
    failures: list[BaseException] = []
    client = admin.connect(settings)
    changelogs = identify(client, settings, admin.look(client, settings))
    found = Standby(settings, Memory(MEMORY_BYTES), changelogs, failures.append)
    found.leave(())
    yield found
    found.stop()
    assert not failures


def test_a_copy_outside_of_its_changelog_is_begun_anew(
    settings: Settings, copies: Standby, caplog: pytest.LogCaptureFixture
) -> None:
    """A store has got further than its changelog goes, as Kafka was restored from a backup."""
    write(settings, 0, "u1", user_row())
    path = settings.state_dir / settings.group / "0"
    store = Store(path, Memory(MEMORY_BYTES))
    topic_id = copies._copies._changelogs.topic_ids[USERS_CHANGELOG]
    store.write([(rows.user_key("u2"), user_row())], {USERS_CHANGELOG: Reached(topic_id, 4_711)})
    store.close()

    copies.start()
    wait_for(lambda: copies.lag() == dict.fromkeys(range(PARTITIONS), 0), "warm copies")
    copies.leave(range(PARTITIONS))

    assert "outside of its changelog" in caplog.text
    assert ["u1"] == users(settings, 0)


def test_what_a_newer_version_has_written_stops_one_copy_alone(
    settings: Settings, copies: Standby, caplog: pytest.LogCaptureFixture
) -> None:
    """The copy of a partition that a newer worker owns is not kept; the others are."""
    row = user_row()
    write(settings, 0, "u1", bytes([row[0] + 1]) + row[1:])
    write(settings, 1, "u2", row)

    copies.start()
    warm = dict.fromkeys(range(1, PARTITIONS), 0)
    wait_for(lambda: copies.lag() == warm, "the copies that can be kept")
    wait_for(lambda: caplog.text.count("no warm copy of partition 0") > 1, "another try")
    copies.leave(range(PARTITIONS))

    assert [] == users(settings, 0)
    assert ["u2"] == users(settings, 1)


def test_a_copy_is_closed_before_its_partition_is_opened(
    settings: Settings, copies: Standby
) -> None:
    """However early or late a partition is given to this worker, its store is free then."""
    copies.start()
    for turn in range(50):
        mine = {number for number in range(PARTITIONS) if (turn >> number) & 1}
        copies.leave(mine)
        for number in mine:
            path = settings.state_dir / settings.group / str(number)
            Store(path, Memory(MEMORY_BYTES)).close()


def user_row() -> bytes:
    """Return the row of a user of whom nothing is known."""
    decision, next_change_ms = decide(NOBODY, Policy(), 0)
    cause = Cause("objections", 0, 0, "o1")
    version = Policy().version
    return rows.encode_user(UserRow(NOBODY, 1, decision, next_change_ms, version, 0, cause))


def write(settings: Settings, number: int, user_id: str, row: bytes) -> None:
    """Write a row to the users' changelog."""
    producer = Producer(settings.kafka())
    topic = settings.topic(USERS_CHANGELOG)
    producer.produce(topic, row, rows.user_key(user_id), number)
    assert producer.flush(10) == 0


def users(settings: Settings, number: int) -> list[str]:
    """Return whose rows a copy holds that is closed."""
    store = Store(settings.state_dir / settings.group / str(number), Memory(MEMORY_BYTES))
    try:
        return [rows.user_of(key) for key, _ in store.scan(rows.USER)]
    finally:
        store.close()

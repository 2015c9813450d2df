"""
Workers join and leave under load: partitions move whole, one owner each, and nothing is lost.
"""

import fcntl
import os
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from streams.core.item import Item
from streams.kafka.local import LocalKafka
from streams.state import rows
from streams.worker.names import WITH_LINKS
from tests.fault_load import Load, assert_faultless, wait_until_served
from tests.worker_process import (
    PARTITIONS,
    Inputs,
    Watch,
    Worker,
    apply_topics,
    wait_for,
)

CONTENT_CHANGELOG = "objections-content-changelog"
LOOK_AGAIN_S = 0.02
VISITS = ("terminate", "kill9", "terminate", "kill9")
LOCK = struct.Struct("hhqqi4x")  # struct flock of Linux: type, whence, start, length, pid

SHORT_MS = 1_500  # of session and rebalance, shorter than the restore below
BULK_ROWS = 220_000  # of each partition
VALUE_BYTES = 150


def test_partitions_move_between_workers_that_join_and_leave(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    A second worker joins under load and leaves again, in order or killed with -9, several times.

    While both serve each has half of the partitions; a store that was given up is closed, and
    never do two workers hold the same partition.
    """
    apply_topics(kafka, prefix)
    one, other = Worker(kafka, prefix, tmp_path / "one"), Worker(kafka, prefix, tmp_path / "other")
    with ExitStack() as stack:
        stack.push(other)
        stack.enter_context(one)
        watch = stack.enter_context(Watch(kafka, prefix))
        doubles = stack.enter_context(_watching_owners(one, other))
        with Load(kafka, prefix, seed=31):
            one.wait_ready()
            for leave in VISITS:
                other.start()
                wait_until_served(one, other)

                assert {0, 1, 2, 3} == owned(one) | owned(other)
                assert PARTITIONS // 2 == len(owned(one)) == len(owned(other))
                wait_for(lambda: _tell_all_once(one, other), "each partition told of by one")

                getattr(other, leave)()
                wait_until_served(one)
                assert {0, 1, 2, 3} == owned(one)
                assert set() == owned(other)
        watch.wait_until_caught_up(workers=[one])
    assert not doubles
    assert_faultless(kafka, prefix)


def test_a_restore_longer_than_a_rebalance_may_take_ends(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Two workers take over so much state that restoring takes longer than a rebalance may.

    The second joins in the middle of the first one's restore.  Neither is expelled for it: they
    get ready, half of the partitions each, in as many rebalances as there were reasons for, and
    decide correctly on what arrived meanwhile.
    """
    apply_topics(kafka, prefix)
    _fill_changelog(kafka, prefix)
    short = {"session_timeout_ms": SHORT_MS, "REBALANCE_TIMEOUT_MS": SHORT_MS}
    one = Worker(kafka, prefix, tmp_path / "one", **short)
    other = Worker(kafka, prefix, tmp_path / "other", **short)
    with ExitStack() as stack:
        stack.push(other)
        stack.enter_context(one)
        watch = stack.enter_context(Watch(kafka, prefix))
        with Load(kafka, prefix, seed=32, rate_per_s=100, users=20):
            wait_for(lambda: "assigned: partitions [0, 1, 2, 3]" in one.log(), "one is restoring")
            other.start()
            wait_until_served(one, other)
        watch.wait_until_caught_up(workers=[one, other])
        longest_s = max(_restores_s(one) + _restores_s(other))
        assignments = one.log().count("assigned: partitions")
    assert longest_s > SHORT_MS / 1000, "the restore was too short to prove anything"
    assert assignments <= 3, one.log()
    assert_faultless(kafka, prefix)


def _tell_all_once(one: Worker, other: Worker) -> bool:
    """Whether the metrics of both together tell of every input and partition, none twice."""
    names = ("objections_consumer_lag_records", "objections_oldest_unpropagated_seconds")
    for name in names:
        told = [each for x in (one, other) for each in x.metrics() if each.startswith(name)]
        if not len(told) == len(set(told)) == len(WITH_LINKS.all) * PARTITIONS:
            return False
    return True


def owned(worker: Worker) -> set[int]:
    """Return the partitions whose local stores are open in *worker*: RocksDB locks a file."""
    found = set()
    for number in range(PARTITIONS):
        for path in worker.state_dir.glob(f"*/{number}/LOCK"):
            with path.open("rb") as lock:
                asked = LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
                kind, *_ = LOCK.unpack(fcntl.fcntl(lock, fcntl.F_GETLK, asked))
            if kind != fcntl.F_UNLCK:
                found.add(number)
    return found


@contextmanager
def _watching_owners(one: Worker, other: Worker) -> Iterator[list[str]]:
    """Look again and again whose the partitions are; return where one is two workers'."""
    doubles: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_AGAIN_S):
            # Asked one after the other, a partition may have moved in between; so three times.
            of_both = owned(one) & owned(other) & owned(one)
            if of_both:
                doubles.append(f"{sorted(of_both)}")

    thread = threading.Thread(target=look, name="owners", daemon=True)
    thread.start()
    try:
        yield doubles
    finally:
        ended.set()
        thread.join()


def _fill_changelog(kafka: LocalKafka, prefix: str) -> None:
    """Write the rows of many items, of users that never object, as a worker would have."""
    row = rows.encode_item(Item(revision=1, value=bytes(VALUE_BYTES)))
    with Inputs(
        kafka, prefix, linger_ms=50, batch_size=1_000_000, compression_type="lz4"
    ) as inputs:
        topic = f"{prefix}{CONTENT_CHANGELOG}"
        for partition in range(PARTITIONS):
            for number in range(BULK_ROWS):
                key = rows.item_key(f"bulk{partition}-{number % 1000}", f"b{number}")
                while True:
                    try:
                        inputs.producer.produce(topic, row, key, partition)
                    except BufferError:
                        inputs.producer.poll(0.1)
                    else:
                        break
        assert not inputs.producer.flush(60)


def _restores_s(worker: Worker) -> list[float]:
    """Return how long each restore of *worker* took."""
    return [float(each) for each in re.findall(r"restored \d+ rows in ([\d.]+) s", worker.log())]

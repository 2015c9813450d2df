"""
Workers and Kafka itself are killed under load; what was published is proven afterwards.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.kafka.local import LocalKafka
from tests.fault_load import Load, assert_faultless, bring_back, commits, freeze, rollbacks
from tests.worker_process import Worker, apply_topics, wait_for, wait_until_caught_up
from tests.worker_settings import BY_LIBRDKAFKA

KILLS = 10
LIFE_S = (0.2, 3.0)  # of a worker until it is killed: some die while they start or restore
# Longer than Kafka is away: a transaction that Kafka is aborting when it dies may hang as well.
LONG_TIMEOUT_MS = 10_000
DELIVERY_TIMEOUT_MS = 500
STANDSTILL_S = 1.5
ROLLBACKS = 3
TRIES = 10  # at hitting an open transaction
RECORDS = 500  # between the faults
REBALANCE_TIMEOUT_MS = 60_000  # longer than Kafka is away: the group is not left for it
OUTAGE_S = 2.0


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    """
    Return a Kafka of the test's own, as it is not fit for others afterwards.

    It looks for transactions that have timed out every 10 s, not 0.2 s: one that it ends in its
    first second hangs for ever as well (see `LocalKafka.kill`).
    """
    with LocalKafka(tmp_path / "kafka") as local:
        yield local


def test_a_worker_killed_ten_times_under_load_loses_and_doubles_nothing(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    A worker is killed with -9 at random moments, in start and restore as well, and restarted.

    Each time it goes on from its local stores; in the end every output is what the core computes
    from the inputs, none was committed twice, and (epoch, revision) never fell.
    """
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    chance = random.Random(seed)
    apply_topics(kafka, prefix)
    with Worker(kafka, prefix, tmp_path / "state") as worker:
        with Load(kafka, prefix, seed):
            worker.wait_ready()
            for _ in range(KILLS):
                time.sleep(chance.uniform(*LIFE_S))
                worker.kill9()
                worker.start()
            worker.wait_ready()
        wait_until_caught_up(kafka, prefix, workers=[worker])
    assert_faultless(kafka, prefix)


def test_a_worker_goes_on_when_kafka_was_restarted_and_killed(
    own_kafka: LocalKafka, tmp_path: Path
) -> None:
    """
    Kafka is stopped in order under load, in the middle of a transaction, and comes back later;
    then it is killed with -9.

    The transaction in hand is finished or rolled back and read again, and nothing is lost or
    committed twice; a worker that was refused for good has ended with the reason instead.
    """
    prefix = "own."
    apply_topics(own_kafka, prefix)
    worker = Worker(
        own_kafka,
        prefix,
        tmp_path / "state",
        session_timeout_ms=LONG_TIMEOUT_MS,
        REBALANCE_TIMEOUT_MS=REBALANCE_TIMEOUT_MS,
    )
    with worker:
        with Load(own_kafka, prefix, seed=11) as load:
            worker.wait_ready()
            for take_away in (own_kafka.stop, own_kafka.kill):
                _wait_for_records(load)
                # A commit that Kafka has agreed to but not carried out when it dies may hang for
                # ever (see `LocalKafka.kill`), so the worker stands still while it dies.
                frozen = freeze(own_kafka, prefix, worker, in_transaction=True)
                take_away()
                worker.thaw()
                _assert_grows_older(worker, OUTAGE_S)
                own_kafka.start()
                print(bring_back(worker, frozen))
            _wait_for_records(load)
        wait_until_caught_up(own_kafka, prefix, workers=[worker])
        wait_for(lambda: _oldest_s(worker) == 0, "nothing is left to publish")
    assert_faultless(own_kafka, prefix)


def test_what_kafka_does_not_take_in_time_is_rolled_back_and_read_again(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Kafka stands still for longer than librdkafka lets a delivery take: transactions are aborted.

    The worker rolls each of them back, reads its records again and goes on by itself, without
    leaving the group; nothing is lost, skipped or committed twice.  (Transactions of our own wait
    for Kafka, for as long as it keeps them open.)
    """
    apply_topics(kafka, prefix)
    variables: dict[str, Any] = {"KAFKA_MESSAGE_TIMEOUT_MS": DELIVERY_TIMEOUT_MS, **BY_LIBRDKAFKA}
    state = tmp_path / "state"
    worker = Worker(kafka, prefix, state, session_timeout_ms=LONG_TIMEOUT_MS, **variables)
    with worker:
        with Load(kafka, prefix, seed=13) as load:
            worker.wait_ready()
            for _ in range(ROLLBACKS):
                _wait_for_records(load)
                _freeze_until_rolled_back(kafka, worker)
            _wait_for_records(load)
        wait_until_caught_up(kafka, prefix, workers=[worker])
        assert 1 == worker.log().count("assigned: partitions"), "it left the group"
    assert_faultless(kafka, prefix)


def _freeze_until_rolled_back(kafka: LocalKafka, worker: Worker) -> None:
    """Let *kafka* stand still, again and again, until a transaction was open when it did."""
    before = rollbacks(worker)
    for _ in range(TRIES):
        os.kill(kafka.pid, signal.SIGSTOP)
        time.sleep(STANDSTILL_S)
        os.kill(kafka.pid, signal.SIGCONT)
        done = commits(worker)
        wait_for(lambda: commits(worker) > done, f"a commit; {worker.log_tail()}")  # noqa: B023
        if rollbacks(worker) > before:
            return
    raise AssertionError(f"no transaction was rolled back; {worker.log_tail()}")


def _assert_grows_older(worker: Worker, seconds: float) -> None:
    """
    While Kafka is away what was on its way waits, and the worker says for how long.

    It may first read a last answer of Kafka's, and have published that: so it has two tries.
    """
    for _ in range(2):
        before_s, begun_s = _oldest_s(worker), time.monotonic()
        time.sleep(seconds)
        passed_s = time.monotonic() - begun_s
        older_s = _oldest_s(worker) - before_s
        assert before_s > 0, "a transaction was open"
        if older_s > 0.9 * passed_s:
            return
    raise AssertionError(f"{older_s} s older after {passed_s} s")


def _oldest_s(worker: Worker) -> float:
    name = "objections_oldest_unpropagated_seconds{"
    return max(age_s for series, age_s in worker.metrics().items() if series.startswith(name))


def _wait_for_records(load: Load) -> None:
    begun = load.sent
    wait_for(lambda: load.sent > begun + RECORDS, f"{RECORDS} more records")

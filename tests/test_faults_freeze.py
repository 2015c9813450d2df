"""
Workers are frozen in the middle of a transaction, until their partitions or only that are lost.
"""

import time
from contextlib import ExitStack
from pathlib import Path

from streams.kafka.local import LocalKafka
from tests.fault_load import (
    Load,
    assert_faultless,
    bring_back,
    freeze,
    wait_until_served,
)
from tests.worker_process import (
    Watch,
    Worker,
    apply_topics,
    wait_until_caught_up,
)

FREEZES = 2
MOMENTS = (True, False)  # whether a transaction is open
SESSION_MS = 5_000
LONG_SESSION_MS = 10_000
SHORT_TRANSACTION_MS = 2_000
FREEZE_S = 3.5  # longer than a transaction, shorter than a session


def test_a_frozen_worker_cannot_commit_once_its_partitions_have_moved(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    A worker is stopped with SIGSTOP under load, and woken when another serves all its partitions.

    What it had in hand must not count, whether its transaction was open or about to begin.  It
    rolls back and rejoins, or ends with the reason and rejoins when it is started again; then
    the other one is left alone, and frozen.
    """
    apply_topics(kafka, prefix)
    # Long enough for some tries at freezing it in the right moment.
    one, other = (
        Worker(kafka, prefix, tmp_path / name, session_timeout_ms=SESSION_MS)
        for name in ("one", "other")
    )
    with ExitStack() as stack:
        stack.push(other)
        stack.enter_context(one)
        watch = stack.enter_context(Watch(kafka, prefix))
        with Load(kafka, prefix, seed=21):
            for in_transaction in MOMENTS:
                wait_until_served(one)
                frozen = freeze(kafka, prefix, one, in_transaction=in_transaction)
                other.start()
                wait_until_served(other)
                one.thaw()
                print(in_transaction, bring_back(one, frozen))
                wait_until_served(one, other)
                one.terminate()
                one, other = other, one
        watch.wait_until_caught_up(workers=[one])
        assert_faultless(kafka, prefix)


def test_a_worker_whose_transaction_timed_out_reads_it_again(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    A worker is frozen for longer than its transaction may last, but keeps its partitions.

    Kafka has aborted the transaction meanwhile: the worker rolls back and reads again what it
    had read, or ends with the reason; nothing is lost or committed twice.
    """
    apply_topics(kafka, prefix)
    worker = Worker(
        kafka,
        prefix,
        tmp_path / "state",
        session_timeout_ms=LONG_SESSION_MS,
        TRANSACTION_TIMEOUT_MS=SHORT_TRANSACTION_MS,
    )
    with worker:
        with Load(kafka, prefix, seed=22):
            worker.wait_ready()
            for _ in range(FREEZES):
                frozen = freeze(kafka, prefix, worker, in_transaction=True)
                time.sleep(FREEZE_S)
                worker.thaw()
                print(bring_back(worker, frozen))
        wait_until_caught_up(kafka, prefix, workers=[worker])
    assert_faultless(kafka, prefix)

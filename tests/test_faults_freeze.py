"""
Workers are frozen in the middle of a transaction, until their partitions or only that are lost.
"""

import time
from pathlib import Path

from streams.kafka.local import LocalKafka
from tests.fault_load import Load, assert_faultless, bring_back, freeze_in_transaction, watching
from tests.worker_process import PARTITIONS, Worker, apply_topics, wait_for, wait_until_caught_up

FREEZES = 3
SERVES_ALL = f"serving {PARTITIONS} partitions"
LONG_SESSION_MS = 10_000
SHORT_TRANSACTION_MS = 1_000
FREEZE_S = 2.5  # longer than a transaction, shorter than a session


def test_a_frozen_worker_cannot_commit_once_its_partitions_have_moved(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    A worker is stopped with SIGSTOP under load, and woken when another serves all its partitions.

    What it had in hand must not count.  It rolls back and rejoins, or ends with the reason and
    rejoins when it is started again; then the other one is left alone, and frozen.
    """
    apply_topics(kafka, prefix)
    one = Worker(kafka, prefix, tmp_path / "one")
    other = Worker(kafka, prefix, tmp_path / "other")
    with one, Load(kafka, prefix, seed=21), watching(kafka, prefix) as watch:
        for _ in range(FREEZES):
            one.wait_ready()
            said = freeze_in_transaction(watch, one)
            other.start()
            wait_for(lambda: SERVES_ALL in other.get("/readyz").text, "all partitions moved")
            one.thaw()
            print(bring_back(one, said))
            wait_for(lambda: serving(one) + serving(other) == PARTITIONS, "both serve")
            one.terminate()
            one, other = other, one
    with one:
        one.wait_ready()
        wait_until_caught_up(kafka, prefix, workers=[one])
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
        with Load(kafka, prefix, seed=22), watching(kafka, prefix) as watch:
            worker.wait_ready()
            for _ in range(FREEZES):
                said = freeze_in_transaction(watch, worker)
                time.sleep(FREEZE_S)
                worker.thaw()
                print(bring_back(worker, said))
        wait_until_caught_up(kafka, prefix, workers=[worker])
    assert_faultless(kafka, prefix)


def serving(worker: Worker) -> int:
    """Return how many partitions *worker* serves, 0 while not all it has are ready."""
    answer = worker.get("/readyz").text
    return int(answer.split()[1]) if answer.startswith("serving") else 0

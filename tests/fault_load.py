"""
The steady load of the fault suite for tests that take workers and Kafka away, and its final check.
"""

import random
import re
import time
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from streams.bench.faults import check, load
from streams.kafka.local import LocalKafka
from streams.proof import INPUTS, Record, read
from tests.transaction_log import Moment, TransactionLog
from tests.uncommitted import assert_uncommitted_ends_alike
from tests.worker_process import (
    PARTITIONS,
    WAIT_S,
    Worker,
    assert_proven,
    settings_of,
    wait_for,
)

# What a worker says when it has lost its partitions, and in the end when Kafka refuses it.
GIVEN_UP: Final = "partitions given up"
REFUSED: Final = "Kafka refused this worker for good"
ENDED: Final = "objections: "  # and the reason


class Load(load.Load):
    """`streams.bench.faults.load.Load` on a test's prefix; it has the arguments."""

    def __init__(self, kafka: LocalKafka, prefix: str, seed: int, **options: Any) -> None:
        super().__init__(settings_of(kafka, prefix), seed, **options)


class Frozen(NamedTuple):
    """A worker's words, commits and rollbacks up to the moment it was frozen."""

    said: int
    commits: float
    rollbacks: float


def freeze(kafka: LocalKafka, prefix: str, worker: Worker, *, in_transaction: bool) -> Frozen:
    """
    Freeze the only *worker* of its group while it has a transaction open, or none.

    It is let go on and frozen again until that is so; where it was refused meanwhile it is
    started again.  Returns what `bring_back` wants to know.
    """
    wanted = Moment.OPEN if in_transaction else Moment.NONE
    deadline_s = time.monotonic() + WAIT_S
    with TransactionLog(kafka, prefix) as transactions:
        while True:
            if not worker.running:
                _start_again(worker)
            frozen = Frozen(len(worker.log()), commits(worker), rollbacks(worker))
            worker.freeze()
            if transactions.settled() == wanted:
                return frozen
            worker.thaw()
            assert time.monotonic() < deadline_s, f"the moment never came; {worker.log_tail()}"
            time.sleep(random.uniform(0, 0.05))


def bring_back(worker: Worker, frozen: Frozen) -> str:
    """
    Wait until a woken *worker* is past what it had in hand when it was frozen, and serves.

    Returns what it has done: "rolled back", "rejoined", "went on", or "restarted": where it has
    ended with the reason it is started again, as a supervisor would.
    """

    def found() -> str:
        if not worker.running:
            return "restarted"
        if rollbacks(worker) > frozen.rollbacks:
            return "rolled back"
        if GIVEN_UP in worker.log()[frozen.said :]:
            return "rejoined"
        return "went on" if commits(worker) > frozen.commits + 1 else ""

    def settled() -> bool:
        return not worker.running or worker.get("/readyz").status == HTTPStatus.OK

    wait_for(lambda: bool(found()), f"a rollback, a commit or an end; {worker.log_tail()}")
    wait_for(settled, f"to serve again or end; {worker.log_tail()}")
    if worker.running:
        return found()
    assert worker.wait_end() == 1, worker.log_tail()
    assert REFUSED in worker.log()[frozen.said :].splitlines()[-1], worker.log_tail()
    _start_again(worker)
    return "restarted"


def _start_again(worker: Worker) -> None:
    """Start a *worker* that has ended with a reason, as a supervisor would."""
    assert worker.wait_end() == 1, worker.log_tail()
    assert ENDED in worker.log().splitlines()[-1], worker.log_tail()
    worker.start()
    worker.wait_ready()


def commits(worker: Worker) -> float:
    """Return how many transactions *worker* has committed; 0 when it does not answer."""
    return _transactions(worker, "committed")


def rollbacks(worker: Worker) -> float:
    """Return how many transactions *worker* has rolled back; 0 when it does not answer."""
    return _transactions(worker, "aborted|fenced")


def _transactions(worker: Worker, outcomes: str) -> float:
    found = re.findall(
        rf'^objections_transactions_total{{outcome="(?:{outcomes})"}} (\S+)$',
        worker.get("/metrics").text,
        re.MULTILINE,
    )
    return sum(map(float, found))


def wait_until_served(*workers: Worker) -> None:
    """Return when *workers* together serve all partitions, and each some."""

    def serving(worker: Worker) -> int:
        answer = worker.get("/readyz").text
        return int(answer.split()[1]) if answer.startswith("serving") else 0

    names = ", ".join(str(worker.log_path) for worker in workers)
    wait_for(lambda: _is_whole([serving(each) for each in workers]), f"all is served: {names}")


def _is_whole(shares: list[int]) -> bool:
    return sum(shares) == PARTITIONS and all(shares)


def assert_faultless(kafka: LocalKafka, prefix: str) -> dict[str, list[Record]]:
    """
    Prove what a `Load` has come to, and that nothing was committed twice; returns the outputs.

    Readers of uncommitted data must have come to the same.
    """
    outputs = assert_proven(kafka, prefix, once=False)
    twice = list(map(str, check.twice(read(settings_of(kafka, prefix), INPUTS), outputs)))
    assert_uncommitted_ends_alike(kafka, prefix)
    assert not twice, "committed twice:\n" + "\n".join(twice[:40])
    allowed = sum(record.value is not None for record in outputs["training-content"])
    purged = len(outputs["training-content"]) - allowed
    assert min(allowed, purged) > 0, f"proves nothing: {allowed} allowed, {purged} purged"
    return outputs

"""
Looks at a prefix from outside: what is left to do, what was published, and whether it is right.

It asks Kafka alone and no worker, so it holds over any number of them, killed ones included.
"""

import json
import time
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from streams import proof
from streams.audit.trail import verify
from streams.bench.faults import watch
from streams.core.policy import Policy
from streams.core.subjects import PLAIN, Subjects
from streams.kafka.local import LocalKafka
from streams.proof import INPUTS, OUTPUTS, Record
from tests.worker_settings import POLL_PAUSE_S, WAIT_S, settings_of

if TYPE_CHECKING:
    from tests.worker_process import Worker


class Watch(watch.Watch):
    """`streams.bench.faults.watch.Watch` at a test's prefix, and waiting with it."""

    def __init__(self, kafka: LocalKafka, prefix: str) -> None:
        super().__init__(settings_of(kafka, prefix))

    def wait_until_caught_up(
        self,
        *,
        clock_offset_s: float = 0.0,
        timeout_s: float = WAIT_S,
        workers: "Iterable[Worker]" = (),
    ) -> None:
        """Return when all input is processed and nothing is owed; see the function below."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            left = self.left(int((time.time() + clock_offset_s) * 1000))
            if not left:
                return
            ended = [each for each in workers if not each.running]
            if ended or time.monotonic() > deadline_s:
                logs = "\n".join(each.log_tail() for each in workers)
                raise AssertionError(f"not caught up, left are {left[:20]}\n{logs}")
            time.sleep(POLL_PAUSE_S)


def wait_until_caught_up(
    kafka: LocalKafka,
    prefix: str,
    *,
    clock_offset_s: float = 0.0,
    timeout_s: float = WAIT_S,
    workers: "Iterable[Worker]" = (),
) -> None:
    """
    Return when all input is processed and nothing is owed, by what Kafka holds committed.

    That is: the group's offsets are at the ends of the inputs (control and aborted records aside),
    no fan-out is under way, no decision is due and no transaction is open.  It asks no worker, so
    it holds over any number of them; *workers* are only looked at for the log of a failure.
    """
    with Watch(kafka, prefix) as watch:
        watch.wait_until_caught_up(
            clock_offset_s=clock_offset_s, timeout_s=timeout_s, workers=workers
        )


def read_outputs(kafka: LocalKafka, prefix: str) -> dict[str, list[Record]]:
    """Return all committed records of the three outputs and `dead-letters`, by their names."""
    with Watch(kafka, prefix) as watch:
        return watch.outputs()


def read_receipts(kafka: LocalKafka, prefix: str) -> dict[str, dict[str, Any]]:
    """Return the last record of each receipt, by its key."""
    records = proof.read(settings_of(kafka, prefix), ["receipts"])["receipts"]
    return {key: json.loads(last.value or b"") for key, last in proof.compacted(records).items()}


def assert_proven(
    kafka: LocalKafka,
    prefix: str,
    *,
    clock_offset_s: float = 0.0,
    policy: Policy | None = None,
    once: bool = True,
    subjects: Subjects = PLAIN,
) -> dict[str, list[Record]]:
    """
    Prove everything on *prefix* from its inputs, and return the outputs as they were read.

    The final outputs are what the pure core computes, the logs keep their promises, each bad
    record has its dead letter, the audit trail is whole, and (*once*) it proves all that stands,
    and nothing was published twice on `training-users` and `training-content`.  For that last one
    no `content` record may arrive in vain.
    (On `eligibility` a record that is read while grants are held repeats the decision that stands.)
    subjects: how the outputs name users.
    """
    settings = settings_of(kafka, prefix)
    inputs = proof.read(settings, INPUTS)
    outputs = read_outputs(kafka, prefix)
    now_ms = int((time.time() + clock_offset_s) * 1000)
    truth = proof.expected(inputs, policy or Policy(), now_ms, subjects)
    log = list(chain.from_iterable(outputs[name] for name in OUTPUTS))
    wrong = proof.differences(truth, *(proof.compacted(outputs[name]) for name in OUTPUTS))
    wrong += proof.log_violations(log)
    wrong += proof.dead_letter_differences(truth, outputs["dead-letters"])
    if once:
        wrong += proof.repetitions([*outputs["training-users"], *outputs["training-content"]])
    for each in verify(settings, lambda _: None, eligibility=once):
        wrong += [f"audit trail: {found}" for found in (each.broken, *each.differences) if found]

    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:40])
    return outputs

"""
Objections that lag while a worker runs, on a real Kafka: content waits, tombstones do not.

A worker that fetches little at a time, and takes small rounds, stands for one that cannot keep up:
of a topic with many records it gets a part, and all there is of the others.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from streams.kafka.local import LocalKafka
from streams.proof import Record
from tests.making import content, grown_up, notice, objection
from tests.worker_process import (
    Inputs,
    Watch,
    Worker,
    apply_topics,
    assert_proven,
    wait_for,
    wait_until_caught_up,
)

BURST: Final = 4_000
BACKLOG: Final = 2_000  # objections that are never all read
SLOW: Final = {"BATCH_RECORDS": 100, "KAFKA_MAX_PARTITION_FETCH_BYTES": 10_000}
LATE: Final = tuple(f"late{number}" for number in range(20))


def allow(inputs: Inputs, *users: str) -> None:
    """Queue what makes users eligible, and an item of each."""
    for user in users:
        inputs.queue("account-ages", grown_up(user_id=user))
        inputs.queue("notices", notice(user_id=user))
        inputs.queue("content", content(user_id=user, content_id=f"{user}.first"))


def test_a_burst_of_objections_is_read_before_what_it_may_forbid(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Thousands of objections come at once; behind them those of users of whom nothing was known.

    What would make these users eligible comes after, and so does their content: not one grant.
    An item of somebody else waits with them, while the account that objected first is purged.
    """
    apply_topics(kafka, prefix, partitions=1)
    with (
        Inputs(kafka, prefix) as inputs,
        Worker(kafka, prefix, tmp_path / "state", **SLOW) as worker,
    ):
        allow(inputs, "stays", "leaves")
        inputs.flush()
        wait_until_caught_up(kafka, prefix, workers=[worker])
        inputs.queue("objections", objection(user_id="leaves"))
        for number in range(BURST):
            inputs.queue("objections", objection(user_id=f"other{number}"))
        for user in LATE:
            inputs.queue("objections", objection(user_id=user))
        inputs.flush()
        inputs.queue("content", content(user_id="stays", content_id="stays.second"))
        allow(inputs, *LATE)
        inputs.flush()
        wait_until_caught_up(kafka, prefix, workers=[worker])
    outputs = assert_proven(kafka, prefix)

    items = outputs["training-content"]
    (second,) = (each for each in items if each.key_text == "stays.second")
    (purge,) = (each for each in items if each.key_text == "leaves.first" and each.value is None)
    decided = next(each for each in outputs["eligibility"] if _has_objected(each, LATE[-1]))
    assert {_user(each) for each in _grants(outputs)} == {"stays", "leaves"}
    assert second.value is not None
    assert purge.timestamp_ms < decided.timestamp_ms <= second.timestamp_ms


def test_objections_that_never_stop_do_not_stop_everything(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    More objections come than the worker can take, without an end.

    An item, and a user who becomes eligible, are held up, and are allowed all the same once the
    objections older than they are have been read.
    """
    apply_topics(kafka, prefix, partitions=1)
    with (
        Inputs(kafka, prefix) as inputs,
        Watch(kafka, prefix) as watch,
        Worker(kafka, prefix, tmp_path / "state", **SLOW) as worker,
    ):
        allow(inputs, "stays")
        inputs.flush()
        wait_until_caught_up(kafka, prefix, workers=[worker])
        with flood(kafka, prefix, worker) as lags:
            wait_for(lambda: bool(lags), "objections that lag")
            inputs.queue("content", content(user_id="stays", content_id="stays.second"))
            allow(inputs, "comes")
            inputs.flush()
            wanted = {"facebook/comes", "comes.first", "stays.second"}
            wait_for(lambda: wanted <= {each.key_text for each in _grants(watch.outputs())}, "them")
        worker.kill9()

    assert min(lags) > 0


@contextmanager
def flood(kafka: LocalKafka, prefix: str, worker: Worker) -> Iterator[list[float]]:
    """Send objections so that there is always a backlog, until left; yields how large it is."""
    ended = threading.Event()
    lags: list[float] = []

    def send() -> None:
        number = 0
        with Inputs(kafka, prefix) as inputs:
            while not ended.is_set():
                lag = _lag(worker)
                if lag > BACKLOG or lags:
                    lags.append(lag)
                for _ in range(BACKLOG if lag < 4 * BACKLOG else 0):
                    inputs.queue("objections", objection(user_id=f"flood{number}"))
                    number += 1
                inputs.flush()
                ended.wait(0.1)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield lags
    finally:
        ended.set()
        thread.join()


def _lag(worker: Worker) -> float:
    series = worker.metrics().items()
    name = "objections_consumer_lag_records"
    return sum(n for each, n in series if each.startswith(name) and 'objections"' in each)


def _grants(outputs: dict[str, list[Record]]) -> list[Record]:
    topics = ("training-users", "training-content")
    return [each for topic in topics for each in outputs[topic] if each.value is not None]


def _user(record: Record) -> str:
    return (record.header("ce_subject") or b"").decode()


def _has_objected(decision: Record, user_id: str) -> bool:
    value: dict[str, Any] = json.loads(decision.value or b"")
    return value["user_id"] == user_id and "OBJECTION" in value["reasons"]

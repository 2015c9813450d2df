"""
Older beside newer: producers that say more than we know, and rows of a newer worker, on a real
Kafka.
"""

import json
from pathlib import Path

from confluent_kafka import Producer

from streams import proof
from streams.kafka.local import LocalKafka
from streams.state import rows
from streams.state.store import Memory, Store
from tests.making import content, grown_up, notice, objection
from tests.worker_process import (
    Inputs,
    Watch,
    Worker,
    apply_topics,
    assert_proven,
    settings_of,
    wait_until_caught_up,
)

NEWS = {"added_later": {"deep": [1, None, "x"]}, "flag": True}  # fields that no version knows yet
REMEDY = (
    "a newer worker has written it, and what it knows more would be lost here; run that version"
)


def newer(value: bytes) -> bytes:
    """Return a row as the next version would write it."""
    return bytes([rows.USER_VERSION + 1]) + value[1:] + b"\x01"


def test_unknown_fields_are_taken_and_newer_rows_are_refused(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Records with unknown fields decide as without them.  A worker that meets a newer worker's row,
    in its local store or in a changelog, ends with status 1, names the place and the remedy,
    publishes nothing and leaves the records that brought it there unread.
    """
    apply_topics(kafka, prefix, partitions=1)
    settings = settings_of(kafka, prefix)
    worker = Worker(kafka, prefix, tmp_path / "state")
    path = worker.state_dir / settings.group / "0"
    with worker, Inputs(kafka, prefix) as inputs, Watch(kafka, prefix) as watch:
        inputs.send(
            ("account-ages", {**grown_up(), **NEWS}),
            ("notices", {**notice(), **NEWS}),
            ("objections", {**objection(user_id="u2"), **NEWS}),
            ("content", {**content(), **NEWS}),
        )
        wait_until_caught_up(kafka, prefix, workers=[worker])
        before = assert_proven(kafka, prefix)
        worker.leave()
        stands = proof.compacted(before["eligibility"])
        committed = watch.committed()
        key = rows.user_key("u1")

        # A newer worker has run on this state folder.
        store = Store(path, Memory(1024 * 1024))
        ours = store.get(key)
        assert ours is not None
        store.write([(key, newer(ours))], {})
        store.close()
        inputs.send(("objections", objection()))
        worker.start()
        in_store = worker.wait_end(), worker.log()

        # A newer worker has owned the partition, here or elsewhere.
        producer = Producer(settings.kafka())
        producer.produce(settings.topic("objections-users-changelog"), newer(ours), key, 0)
        assert producer.flush(10) == 0
        worker.start()
        in_changelog = worker.wait_end(), worker.log()[len(in_store[1]) :]
        after = watch.outputs()

        assert json.loads(stands["u1"].value or b"")["eligible"]
        assert json.loads(stands["u2"].value or b"")["products"]["messenger"][0] == "AGE_UNKNOWN"
        assert "OBJECTION" in json.loads(stands["u2"].value or b"")["reasons"]
        assert 1 == len(before["training-content"])
        for status, said in (in_store, in_changelog):
            assert 1 == status, said
            assert f"version {rows.USER_VERSION + 1}, this program reads versions up to" in said
            assert REMEDY in said
            assert "Traceback" not in said
        assert f"{path}: a user's row in the state has version" in in_store[1]
        assert f"{settings.topic('objections-users-changelog')}/0/" in in_changelog[1]
        assert before == after
        assert committed == watch.committed()

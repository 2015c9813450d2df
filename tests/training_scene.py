"""
Outputs as a worker writes them, on a real Kafka, and manifests: for the tests of filtering.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from streams.kafka import admin
from streams.settings import Settings

PARTITIONS = 3


class Outputs:
    """
    `training-users` and `training-content` of one prefix, written in transactions.

    A user's partition is the last digit of the name, for want of murmur2: the same in both topics.
    """

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.settings = Settings(bootstrap=bootstrap, topic_prefix=prefix)
        admin.apply(admin.connect(self.settings), self.settings, PARTITIONS)
        self.producer = Producer(
            self.settings.kafka(transactional_id=f"{prefix}outputs", linger_ms=0)
        )
        self.producer.init_transactions(30)

    def begin(self) -> None:
        """Begin a transaction, for a test that wants it open or aborted."""
        self.producer.begin_transaction()

    def commit(self, records: Iterable[tuple[str, str, str, Any]]) -> None:
        """Write (topic, user, key, value) records in one transaction; None is a tombstone."""
        self.begin()
        self.produce(records)
        self.producer.commit_transaction(30)

    def produce(self, records: Iterable[tuple[str, str, str, Any]]) -> None:
        """Write records in the open transaction, and wait until they are in the log."""
        for topic, user, key, value in records:
            data = None if value is None else json.dumps(value).encode()
            partition = int(user[-1]) % PARTITIONS
            self.producer.produce(self.settings.topic(topic), data, key, partition)
        assert self.producer.flush(30) == 0


def user(user_id: str, product: str = "facebook", *, stands: bool = True) -> tuple[Any, ...]:
    """Return a record, or the tombstone, of an account."""
    value = {"user_id": user_id, "product": product, "epoch": 1} if stands else None
    return "training-users", user_id, f"{product}/{user_id}", value


def item(
    content_id: str, user_id: str, product: str = "facebook", *, stands: bool = True
) -> tuple[Any, ...]:
    """Return a record, or the tombstone, of an item."""
    value = {
        "content_id": content_id,
        "user_id": user_id,
        "revision": 1,
        "product": product,
        "kind": "post",
        "modality": "text",
        "language": None,
        "created_at": "2026-04-15T09:00:00Z",
        "epoch": 1,
    }
    return "training-content", user_id, content_id, value if stands else None


def jsonl(path: Path, ids: Sequence[Any]) -> Path:
    """Write a manifest of rows that each know their number."""
    lines = [json.dumps({"content_id": each, "row": row}) for row, each in enumerate(ids)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def ids_in(path: Path) -> list[str]:
    """Return the ids in a JSONL file."""
    return [json.loads(line)["content_id"] for line in path.read_text("utf-8").splitlines()]

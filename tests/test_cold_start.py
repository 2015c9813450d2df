"""
A cold start over very much content, with an objection at the very end of `objections`.

What is checked is every record that was ever committed, not what stands in the end.
50,000 records; with HYPOTHESIS_PROFILE=nightly a million.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from streams.core.reasons import PRODUCTS
from streams.kafka.local import LocalKafka
from tests.making import content, grown_up, notice, objection
from tests.worker_process import (
    PARTITIONS,
    Inputs,
    Worker,
    apply_topics,
    settings_of,
    wait_until_caught_up,
)

NIGHTLY: Final = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
ITEMS: Final = 1_000_000 if NIGHTLY else 50_000
OBJECTIONS: Final = 200_000 if NIGHTLY else 10_000  # before the one that counts
USERS: Final = tuple(f"user{number}" for number in range(8))
OBJECTOR: Final = USERS[0]
BATCH_BYTES: Final = 5_000  # a batch is fetched whole
FETCH_BYTES: Final = 100_000 if NIGHTLY else 10_000
CHUNK: Final = 20_000  # records sent at a time
WAIT_S: Final = 1_200.0 if NIGHTLY else 120.0


def test_a_cold_start_never_allows_who_objected_last(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Of a few users all is known that makes them eligible, and each has thousands of items.

    One of them objects in the last record of `objections`.  Not one of that user's products or
    items is ever allowed; of the others all are.
    """
    apply_topics(kafka, prefix)
    with Inputs(kafka, prefix, batch_size=BATCH_BYTES) as inputs:
        for user in USERS:
            inputs.queue("account-ages", grown_up(user_id=user))
            inputs.queue("notices", notice(user_id=user))
        for number in range(ITEMS):
            user = USERS[number % len(USERS)]
            inputs.queue("content", content(user_id=user, content_id=f"{user}.{number}"))
            if number % CHUNK == 0:
                inputs.flush()
        for number in range(OBJECTIONS):
            inputs.queue("objections", objection(user_id=f"other{number}"))
            if number % CHUNK == 0:
                inputs.flush()
        inputs.flush()
        inputs.send(("objections", objection(user_id=OBJECTOR)))
    begun_s = time.monotonic()
    # Little is fetched of a partition at a time: content would soon be ahead of the objections.
    with Worker(
        kafka, prefix, tmp_path / "state", KAFKA_MAX_PARTITION_FETCH_BYTES=FETCH_BYTES
    ) as worker:
        wait_until_caught_up(kafka, prefix, timeout_s=WAIT_S, workers=[worker])
        took_s = time.monotonic() - begun_s
        published = sum(
            number
            for series, number in worker.metrics().items()
            if series.startswith("objections_published_total{") and "receipts" not in series
        )
    allowed, purged = Counter[str](), Counter[str]()
    for message in every_record(kafka, prefix, "training-users", "training-content"):
        key, counts = message.key(), purged if message.value() is None else allowed
        assert isinstance(key, bytes)
        counts[key.decode().rpartition("/")[2].partition(".")[0]] += 1
    decisions = sum(1 for _ in every_record(kafka, prefix, "eligibility"))
    each = ITEMS // len(USERS)
    print(f"{ITEMS} items and {OBJECTIONS} objections: {took_s:.1f} s from a cold start")

    assert allowed == {user: each + len(PRODUCTS) for user in USERS[1:]}
    assert purged == {OBJECTOR: each}
    assert published == allowed.total() + purged.total() + decisions  # nothing was compacted away


def every_record(kafka: LocalKafka, prefix: str, *topics: str) -> Iterator[Message]:
    """Yield all committed records of *topics*, one by one."""
    settings = settings_of(kafka, prefix)
    reader = Consumer(
        settings.kafka(
            group_id=f"{settings.group}.reader",
            isolation_level="read_committed",
            enable_auto_commit=False,
            enable_partition_eof=True,
        )
    )
    left = {(settings.topic(topic), number) for topic in topics for number in range(PARTITIONS)}
    reader.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in left])
    while left:
        for message in reader.consume(10_000, 0.2):
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard((message.topic() or "", message.partition() or 0))
    reader.close()

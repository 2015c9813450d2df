"""
The clients that read the inputs, and how they fetch.

Each has connections and a queue of its own: no objection is behind fetched content.
"""

from typing import Final

from confluent_kafka import Consumer

from streams.kafka.client_log import CLIENT_LOGGER
from streams.settings import Settings

FETCH_WAIT_MS: Final = 15  # the broker collects content for so long,
FETCH_BYTES: Final = 100_000  # unless there is so much
# Objections are told at once, not to be behind later content: 15 us an event at full load.
USERS_BYTES: Final = 1
QUEUED_RECORDS: Final = 1_000  # of a partition: below, more is fetched,
PARTITION_FETCH: Final = "max.partition.fetch.bytes"
PARTITION_FETCH_BYTES: Final = 128 * 1024  # so much at a time
METADATA_EVERY: Final = "topic.metadata.refresh.interval.ms"
METADATA_MS: Final = 10_000  # how late partitions that somebody has added are noticed


def consumer_of_users(settings: Settings, client_id: str) -> Consumer:
    """Return a consumer for objections, ages and notices, which come as soon as they are there."""
    return _consumer(settings, client_id, USERS_BYTES)


def consumer_of_content(settings: Settings, client_id: str) -> Consumer:
    """Return a consumer for content, which comes in large fetches."""
    return _consumer(settings, client_id, FETCH_BYTES)


def _consumer(settings: Settings, client_id: str, fetch_bytes: int) -> Consumer:
    options = dict(settings.kafka_options)
    config = settings.kafka(
        **{
            "client.id": client_id,
            METADATA_EVERY: options.get(METADATA_EVERY, METADATA_MS),
            "group.id": settings.group,
            "session.timeout.ms": settings.session_timeout_ms,
            "heartbeat.interval.ms": max(settings.session_timeout_ms // 5, 100),
            "max.poll.interval.ms": settings.rebalance_timeout_ms,
            "partition.assignment.strategy": "range",  # equal numbers stay together
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            # A fetch for each item that arrives keeps the broker busier than all else does.
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "fetch.min.bytes": fetch_bytes,
            "socket.nagle.disable": True,
            "fetch.queue.backoff.ms": 2,
            "queued.min.messages": QUEUED_RECORDS,
            PARTITION_FETCH: options.get(PARTITION_FETCH, PARTITION_FETCH_BYTES),
            "queued.max.messages.kbytes": 32 * 1024,
        }
    )
    return Consumer(config, logger=CLIENT_LOGGER)

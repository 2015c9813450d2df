"""
Rolls back the transactions that dead workers have left open.

Kafka holds a group's offsets back while a transaction with some of them is open, and a take-over
waits for them.  Of a killed worker's it does so until the transaction's timeout, and until it next
looks for overdue ones (every 10 s by default).  Whoever begins to use its transactional id ends it
at once; and also shuts out a worker that has lost its partitions while it was frozen, as the
timeout would have.  Whose transactions they are is told by the offsets' metadata; a worker that is
still in the group is left alone: its transaction is on its way.  (One that has been started again
and is not in the group yet may be shut out as well: it ends, and wants to be started once more.)
"""

import logging
from collections.abc import Iterable
from typing import Final

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.kafka.client_log import CLIENT_LOGGER
from streams.kafka.group_members import members_of
from streams.kafka.reader import reader
from streams.settings import Settings
from streams.worker.names import WITH_LINKS

logger = logging.getLogger(__name__)

ASK_S: Final = 1.0
ROLL_BACK_S: Final = 5.0
CLIENT_ID: Final = "client.id"


def transactional_id(settings: Settings, instance: str) -> str:
    """Return what Kafka knows the transactions of a worker by."""
    return f"{settings.group}-{instance}"


def client_id(settings: Settings, instance: str) -> str:
    """Return what Kafka and its tools call a worker as a member of the group."""
    return dict(settings.kafka_options).get(CLIENT_ID, f"objections-{instance}")


def roll_back(settings: Settings, partitions: Iterable[int]) -> list[str]:
    """
    Roll back what workers that are no members any more may have left open in *partitions*.

    Returns their transactional ids.  Raises KafkaException where Kafka does not do it now.
    """
    if CLIENT_ID in dict(settings.kafka_options):
        return []  # then it does not tell one worker from another
    owners = _last_owners(settings, partitions)
    members = _members(settings) if owners else set()
    gone = sorted(
        each for each in owners if client_id(settings, _instance(settings, each)) not in members
    )
    for each in gone:
        logger.warning("%s is gone and may have a transaction open: it is rolled back", each)
        producer = Producer(settings.kafka(transactional_id=each), logger=CLIENT_LOGGER)
        producer.init_transactions(ROLL_BACK_S)
    return gone


def _instance(settings: Settings, known_by: str) -> str:
    return known_by.removeprefix(transactional_id(settings, ""))


def _last_owners(settings: Settings, partitions: Iterable[int]) -> set[str]:
    """Return whose transactions were the last to move the group's offsets."""
    topics = [settings.topic(topic) for topic in WITH_LINKS.all]  # of one that is not, none is told
    places = [TopicPartition(topic, number) for number in partitions for topic in topics]
    # To a reader of uncommitted data the coordinator tells the last ones that count, at once.
    consumer = reader(settings, isolation="read_uncommitted")
    try:
        found = consumer.committed(places, ASK_S)
    finally:
        consumer.close()
    return {owner for each in found if (owner := _owner(each)) is not None}


def _owner(offset: TopicPartition) -> str | None:
    try:
        return offset.metadata or None
    except UnicodeDecodeError:  # written by librdkafka, read without its end
        return None


def _members(settings: Settings) -> set[str]:
    """Return the client ids of the group's members."""
    client = AdminClient(settings.kafka(), logger=CLIENT_LOGGER)
    return {str(each.client_id) for each in members_of(client, settings.group, ASK_S)}

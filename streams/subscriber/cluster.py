"""
What a subscriber asks Kafka about the topics it follows.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition

from streams.errors import Unreachable, UsageProblem
from streams.kafka import admin
from streams.kafka.denied import perhaps_hidden
from streams.kafka.reader import extent
from streams.settings import Settings
from streams.sinks.sink import Place, Position
from streams.subscriber.places import Committed

ANSWER_TIMEOUT_S: Final = 15.0
TRIES_S: Final = 10.0  # Kafka may be starting just now.
PAUSE_S: Final = 0.5


class Topic(NamedTuple):
    """A topic followed: its id, and how long compaction leaves a tombstone in it."""

    topic_id: str
    delete_retention_ms: int


class Log(NamedTuple):
    """A place's log, as offsets; *committed* by the group, if it has."""

    start: int
    end: int
    committed: Committed | None


def topics_of(settings: Settings, names: Iterable[str]) -> Mapping[str, Topic]:
    """
    Return the topics *names*, as the contract names them.

    Raises Unreachable, after a few tries, and UsageProblem where one does not exist.
    """
    client = admin.connect(settings)
    deadline_s = time.monotonic() + TRIES_S
    while True:
        try:
            found = admin.look(client, settings)
            break
        except Unreachable:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(PAUSE_S)
    wanted = [*names, "purge-acks"]
    missing = [settings.topic(name) for name in wanted if name not in found.topics]
    if missing:
        message = (
            f"Kafka at {settings.bootstrap} has no topic {', '.join(missing)}. Remedy: "
            "`objections topics apply`, or set OBJECTIONS_TOPIC_PREFIX to that of the service."
            f"{perhaps_hidden(settings)}"
        )
        raise UsageProblem(message)
    full = {settings.topic(name): name for name in wanted}
    described = client.describe_topics(TopicCollection(list(full)))
    return {
        full[topic]: Topic(
            str(future.result(ANSWER_TIMEOUT_S).topic_id),
            int(found.topics[full[topic]].config["delete.retention.ms"]),
        )
        for topic, future in described.items()
    }


def logs_of(consumer: Consumer, settings: Settings, places: Iterable[Place]) -> dict[Place, Log]:
    """Return the logs of *places*; raises Unreachable when Kafka does not answer."""
    asked = {
        place: TopicPartition(settings.topic(place.topic), place.partition) for place in places
    }
    try:
        committed = consumer.committed(list(asked.values()), timeout=ANSWER_TIMEOUT_S)
        found = {}
        for place, each in zip(asked, committed, strict=True):
            start, end = extent(consumer, (each.topic, each.partition), ANSWER_TIMEOUT_S)
            found[place] = Log(start, end, _committed(each))
    except KafkaException as error:
        message = f"Kafka at {settings.bootstrap} does not answer: {error.args[0].str()}"
        raise Unreachable(message) from error
    return found


def offset_to_commit(settings: Settings, place: Place, position: Position) -> TopicPartition:
    """Return what `Consumer.commit` takes; the generation goes along."""
    return TopicPartition(
        settings.topic(place.topic),
        place.partition,
        position.offset,
        metadata=f"generation={position.generation}",
    )


def _committed(found: TopicPartition) -> Committed | None:
    if found.offset < 0:
        return None
    name, _, generation = (found.metadata or "").partition("=")
    known = name == "generation" and generation.isdecimal()
    return Committed(found.offset, int(generation) if known else None)

"""
Reads `training-users` and `training-content`: from positions to positions, read_committed.

No consumer group is joined and nothing is written.  An end is the log's own, not the last stable
offset: behind an open transaction there may be committed purges, so reading waits until it ends.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import numpy as np
from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined] # they are public
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from streams.errors import CheckFailed, Unreachable, UsageProblem
from streams.kafka import admin
from streams.kafka.reader import fetch, reader
from streams.settings import Settings
from streams.training.index import TRAINING_CONTENT, TRAINING_USERS
from streams.training.positions import Positions, TopicPosition

FOLLOWED: Final = (TRAINING_USERS, TRAINING_CONTENT)
READ_RECORDS: Final = 20_000
POLL_S: Final = 0.2
ASK_TIMEOUT_S: Final = 5.0  # as all commands wait for an answer
ASK_AGAIN_S: Final = 0.1
PATIENCE_S: Final = 30.0  # with a Kafka that answers, but not yet for all of it
# Without a record or an end; far longer than a transaction of a dead worker holds readers up.
SILENCE_MAX_S: Final = 60.0

Put = Callable[[str, list[bytes | None], list[bytes | None]], None]
Take = Callable[[str, list[Message]], None]
Progress = Callable[[str, int, int], None]  # topic, offsets read, offsets to read


def ends(settings: Settings) -> Positions:
    """
    Return where both topics end now.

    Raises Unreachable; UsageProblem when a topic is missing.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        # A client that has once seen a partition without a leader goes on saying so.
        client = admin.connect(settings)
        try:
            return _ask(client, settings)
        except KafkaException as error:
            client.poll(0)  # Its callbacks run here: time-outs do not say why.
            no_connection = getattr(client, "last_error", "")
            reason: KafkaError = error.args[0]
            passing = not no_connection and reason.code() in _PASSING
            if not passing or time.monotonic() > deadline_s:
                raise _unreachable(settings, no_connection or reason.str()) from error
        time.sleep(ASK_AGAIN_S)


def _ask(client: Any, settings: Settings) -> Positions:
    noted_ms = time.time_ns() // 1_000_000  # before the ends: later records are younger than it
    names = {settings.topic(name): name for name in FOLLOWED}
    described = client.describe_topics(TopicCollection(list(names)), request_timeout=ASK_TIMEOUT_S)
    found = {full: _described(future) for full, future in described.items()}
    missing = [full for full in names if found[full] is None]
    if missing:
        raise UsageProblem(_missing(settings, missing))
    cluster_id = client.describe_cluster(request_timeout=ASK_TIMEOUT_S).result().cluster_id
    retentions_ms = _retentions_ms(client, list(names))
    topics = {
        name: TopicPosition(
            name=full,
            topic_id=str(found[full].topic_id),
            offsets=_ends(client, full, len(found[full].partitions)),
            delete_retention_ms=retentions_ms[full],
        )
        for full, name in names.items()
    }
    return Positions(cluster_id=str(cluster_id), noted_ms=noted_ms, topics=topics)


def _described(future: Any) -> Any:
    """Return what Kafka says of a topic; None where there is none."""
    try:
        return future.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise


def _missing(settings: Settings, full_names: list[str]) -> str:
    return (
        f"Kafka at {settings.bootstrap} has no topic {' and no topic '.join(full_names)}: what may "
        "be used is read there. Remedy: name the right cluster (--bootstrap) and prefix "
        "(OBJECTIONS_TOPIC_PREFIX), or make the topics: `objections topics apply`."
    )


def _retentions_ms(client: Any, full_names: list[str]) -> dict[str, int]:
    """Return how long tombstones are kept; 0 where this user may not ask: then all is read."""
    asked = [ConfigResource(ResourceType.TOPIC, full) for full in full_names]
    found = dict.fromkeys(full_names, 0)
    for resource, future in client.describe_configs(asked, request_timeout=ASK_TIMEOUT_S).items():
        try:
            found[resource.name] = int(future.result()["delete.retention.ms"].value)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise
    return found


def _ends(client: Any, full_name: str, partitions: int) -> list[int]:
    end: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = {TopicPartition(full_name, each): end for each in range(partitions)}
    found = client.list_offsets(
        asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=ASK_TIMEOUT_S
    )
    offsets = [0] * partitions
    for place, future in found.items():
        offsets[place.partition] = future.result().offset
    return offsets


def read(
    settings: Settings,
    begin: Positions | None,
    end: Positions,
    put: Put,
    progress: Progress = lambda _topic, _done, _all: None,
) -> int:
    """
    Hand keys and values from *begin* (None: the first) up to *end* to *put*; return their number.

    Raises as `read_messages` does.
    """

    def take(name: str, records: list[Message]) -> None:
        put(name, [each.key() for each in records], [each.value() for each in records])

    return read_messages(settings, begin, end, take, progress)


def read_messages(
    settings: Settings,
    begin: Positions | None,
    end: Positions,
    take: Take,
    progress: Progress = lambda _topic, _done, _all: None,
) -> int:
    """
    Hand all records from *begin* (None: the first) up to *end* to *take*; return their number.

    Records of a partition are in the log's order; partitions mix.  Raises Unreachable, and
    CheckFailed when a topic was made anew meanwhile or has lost the records asked for.
    """
    count = 0
    for name, topic in end.topics.items():
        first = [0] * len(topic.offsets) if begin is None else begin.topics[name].offsets
        if first != topic.offsets:
            reading = _Reading(settings, topic, first, from_the_first=begin is None)
            try:
                count += reading.run(partial(take, name), partial(progress, name))
            except KafkaException as error:
                raise _unreachable(settings, str(error)) from error
            finally:
                reading.close()
    if begin is None or begin.offsets() != end.offsets():
        _same_topics(settings, end)
    return count


def _same_topics(settings: Settings, noted: Positions) -> None:
    """Raise CheckFailed when what was read may be another topic than the one that was noted."""
    again = ends(settings)
    if again.topic_ids() != noted.topic_ids():
        message = (
            "a topic was made anew while it was being read, so what was read says nothing. "
            "Remedy: run this again once the topics are as they should be."
        )
        raise CheckFailed(message)


class _Reading:
    """One topic, from offsets to offsets."""

    def __init__(
        self, settings: Settings, topic: TopicPosition, first: list[int], *, from_the_first: bool
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._ends = np.array(topic.offsets, np.int64)
        self._reached = np.array(first, np.int64)
        self._total = int((self._ends - self._reached).sum())
        self._consumer = reader(
            settings,
            group=f"{settings.topic_prefix}objections-filter",  # not the workers': nothing is asked
            # The beginning of a log may have been cut off; a position may not.
            auto_offset_reset="earliest" if from_the_first else "error",
            fetch_wait_max_ms=50,
            fetch_queue_backoff_ms=2,
            queued_max_messages_kbytes=64 * 1024,
        )

    def close(self) -> None:
        self._consumer.close()

    def run(
        self,
        take: Callable[[list[Message]], None],
        progress: Callable[[int, int], None],
    ) -> int:
        """Read to the end; return the number of records handed on."""
        count = 0
        with suppress(KafkaException):  # It need not wait to learn who leads; else it asks again.
            self._consumer.list_topics(self._topic.name, timeout=ASK_TIMEOUT_S)
        self._consumer.assign(
            [
                TopicPartition(self._topic.name, number, int(self._reached[number]))
                for number in np.flatnonzero(self._reached < self._ends).tolist()
            ]
        )
        heard_s = time.monotonic()
        while (self._reached < self._ends).any():
            messages = fetch(self._consumer, POLL_S, READ_RECORDS)
            if time.monotonic() - heard_s > SILENCE_MAX_S:
                raise _unreachable(self._settings, self._waiting())
            if not messages:
                continue
            reached = int(self._reached.sum())
            records = self._records(messages)
            if records:
                take(records)
                count += len(records)
            if reached < int(self._reached.sum()):
                heard_s = time.monotonic()
            left = int((self._ends - self._reached).clip(0).sum())
            progress(self._total - left, self._total)
        return count

    def _records(self, messages: list[Message]) -> list[Message]:
        """Return the records among *messages* that lie before the end; note how far we are."""
        if any(each.error() is not None for each in messages):
            records = [each for each in messages if not self._noted(each)]
        else:
            records = messages
        if not records:
            return []
        numbers = np.fromiter((each.partition() for each in records), np.int64, len(records))
        offsets = np.fromiter((each.offset() for each in records), np.int64, len(records))
        before = offsets < self._ends[numbers]
        np.maximum.at(self._reached, numbers, offsets + 1)
        if before.all():
            return records
        return [each for each, wanted in zip(records, before.tolist(), strict=True) if wanted]

    def _noted(self, message: Message) -> bool:
        """Whether *message* is no record but word of an end, or of trouble that may pass."""
        error = message.error()
        if error is None:
            return False
        number, offset = message.partition(), message.offset()
        if error.code() == KafkaError._PARTITION_EOF and number is not None and offset is not None:
            self._reached[number] = max(int(self._reached[number]), offset)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            text = (
                f"{self._topic.name}/{number} no longer has the records from the stored position "
                "on, so what was purged since cannot be known from there. Remedy: filter the "
                "manifest again; a --cache is made anew when its folder is emptied."
            )
            raise CheckFailed(text)
        elif error.fatal() or error.code() in _HOPELESS:
            raise KafkaException(error)
        return True

    def _waiting(self) -> str:
        left = np.flatnonzero(self._reached < self._ends).tolist()
        return f"nothing heard for {SILENCE_MAX_S:.0f} s of {self._topic.name}, partitions {left}"


_PASSING: Final = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_TOPIC_OR_PART,  # A topic is described before all know of its making.
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
    }
)
_HOPELESS: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._AUTHENTICATION,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
    }
)


def _unreachable(settings: Settings, why: str) -> Unreachable:
    return Unreachable(
        f"Kafka at {settings.bootstrap} did not let its topics be read to their ends ({why}). "
        "Remedy: see that it is up and this machine may read it: `objections topics check`."
    )

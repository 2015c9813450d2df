"""
Reads what one partition's topics hold of one user: no group is joined, nothing is written.

Order matters.  The group's offsets are asked first (the broker holds the answer back while a
transaction with offsets is pending), then the ends of state and outputs, last those of the inputs:
so what the state has taken in is among the inputs that are read.  A second `look` reads on from
there, as a transaction becomes visible in one topic a moment before it does in another.
"""

import time
import uuid
from collections.abc import Callable
from typing import Final, Self

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streams.errors import CheckFailed, Unreachable
from streams.explain.evidence import CONTENT_CHANGELOG, USERS_CHANGELOG, Evidence
from streams.explain.passage import PURGE_ACKS, RECEIPTS
from streams.kafka import admin
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import committed, extent, fetch, reader
from streams.proof.records import Record, record_of
from streams.settings import Settings
from streams.state.rows import NewerRow
from streams.worker.names import CONTENT, DEAD_LETTERS, DECISIONS, WITH_LINKS, followed

# In the order in which they are read: what is asked of a later one depends on the earlier.
OF_USERS: Final = (
    USERS_CHANGELOG,
    "eligibility",
    "training-users",
    DEAD_LETTERS,
    *WITH_LINKS.users,
    RECEIPTS,
)
OF_ITEMS: Final = (CONTENT_CHANGELOG, "training-content", CONTENT)
assert set(DECISIONS) < {*OF_USERS, *OF_ITEMS}

ANSWER_S: Final = 5.0
SILENCE_S: Final = 30.0  # without a word from Kafka, reading ends
READ_S: Final = 0.2  # of one read: how late Ctrl-C may be noticed
READ_RECORDS: Final = 10_000
TOLD_S: Final = 0.2  # between two lines of progress

Say = Callable[[str], None]


class Reading:
    """
    Looks at the user *user_id*; *say* is told of progress, with items only where wanted.

    content_id: an item whose whole history is kept.  steps: of how many decisions, the latest, it
    is told what *stores* have made of them.  Raises Unreachable where Kafka does not answer and
    CheckFailed, naming them, where topics are missing or their counts of partitions differ.
    """

    def __init__(
        self,
        settings: Settings,
        user_id: str,
        say: Say,
        *,
        items: bool = True,
        content_id: str | None = None,
        steps: int = 0,
        stores: bool = True,
    ) -> None:
        self._settings = settings
        self._say = say
        self._steps = steps
        self._stores = stores
        counted = admin.count_present(
            settings,
            (*OF_USERS, *OF_ITEMS),
            timeout_s=ANSWER_S,
            otherwise=", so nobody can tell which partition is the user's",
        )
        number = partition_of(user_id.encode(), counted.partitions_n)
        self._inputs = followed(counted.present).all
        skipped = set(WITH_LINKS.all).difference(self._inputs)
        wanted = (*OF_USERS, *OF_ITEMS) if items else OF_USERS
        self._topics = tuple(topic for topic in wanted if topic not in skipped)
        self.evidence = Evidence(
            user_id, number, settings.topic_prefix, content_id, settings.subjects()
        )
        self._positions = dict.fromkeys(self._topics, 0)
        self._consumer = reader(
            settings,
            client_id=f"explain-{uuid.uuid4().hex[:8]}",
            fetch_wait_max_ms=20,  # or each topic's end is waited for
            queued_min_messages=READ_RECORDS,
            queued_max_messages_kbytes=16 * 1024,
            fetch_queue_backoff_ms=2,  # or a full queue stands still for a second
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def look(self) -> Evidence:
        """Read on to the ends that the topics have now, and return all that was found."""
        try:
            self._ask_offsets()
            ends = {topic: self._end(topic) for topic in self._topics}
            self.evidence.ends = {topic: ends[topic] for topic in self._inputs if topic in ends}
            for topic, end in ends.items():
                self._read(topic, end)
            if self._stores:
                self._read_acks()
        except KafkaException as error:
            raise self._unreachable(error) from error
        self._say("")
        self.evidence.check_naming()
        return self.evidence

    def _ask_offsets(self) -> None:
        number = self.evidence.number
        names = {self._settings.topic(name): name for name in self._inputs}
        found = committed(self._consumer, [(full, number) for full in names], SILENCE_S)
        for (full, _), offset in found.items():
            self.evidence.committed[names[full]] = offset

    def _read_acks(self) -> None:
        """
        Read what stores have said since the first output that is told was published.

        All stores say it in one partition, often: so from there, and not from the beginning.
        """
        if PURGE_ACKS not in self._positions:
            decisions = self.evidence.decisions
            told = decisions[max(len(decisions) - self._steps, 0) :]
            times_ms = [each.published_ms for each in told]
            times_ms += [outputs.published_ms for outputs, _ in self.evidence.item_answers]
            if not times_ms:
                return
            since = TopicPartition(self._settings.topic(PURGE_ACKS), 0, min(times_ms))
            (found,) = self._consumer.offsets_for_times([since], timeout=SILENCE_S)
            if found.error is not None:
                raise KafkaException(found.error)
            # Behind the end, as it is where nothing was said since, there is nothing to read.
            self._positions[PURGE_ACKS] = (
                found.offset if found.offset >= 0 else self._end(PURGE_ACKS)
            )
        self._read(PURGE_ACKS, self._end(PURGE_ACKS))

    def _number_of(self, topic: str) -> int:
        return 0 if topic == PURGE_ACKS else self.evidence.number

    def _end(self, topic: str) -> int:
        place = self._settings.topic(topic), self._number_of(topic)
        return extent(self._consumer, place, SILENCE_S)[1]

    def _read(self, topic: str, end: int) -> None:
        """Offer the records of *topic* up to *end* to the evidence."""
        begin = self._positions[topic]
        if begin >= end:
            return
        full_name = self._settings.topic(topic)
        self._consumer.list_topics(full_name, timeout=ANSWER_S)  # or it learns of the leader late
        number = self._number_of(topic)
        self._consumer.assign([TopicPartition(full_name, number, begin)])
        heard_s, told_s = time.monotonic(), 0.0
        while self._positions[topic] < end:
            messages = fetch(self._consumer, READ_S, READ_RECORDS)
            now_s = time.monotonic()
            if messages:
                heard_s = now_s
                self._take(topic, messages, end)
            elif now_s - heard_s > SILENCE_S:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            if now_s - told_s > TOLD_S:
                told_s = now_s
                at = min(self._positions[topic], end)
                self._say(f"reading {full_name}/{number}: {at:,} of {end:,}")
        self._consumer.unassign()

    def _take(self, topic: str, messages: list[Message], end: int) -> None:
        evidence, full_name = self.evidence, self._settings.topic(topic)
        at = self._positions[topic]
        for message in messages:
            if message.topic() != full_name:
                continue  # the tail of one that was read before
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                at = max(at, end)
                continue
            offset = message.offset() or 0
            if offset >= end:
                at = end
                break
            key = message.key()
            if evidence.wants(topic, key if isinstance(key, bytes) else None):
                _offer(evidence, topic, record_of(message))
            at = offset + 1
        self._positions[topic] = at

    def _unreachable(self, error: KafkaException) -> Unreachable:
        reason: KafkaError = error.args[0]
        return Unreachable(
            f"Kafka at {self._settings.bootstrap} did not let the topics of partition "
            f"{self.evidence.number} be read to their ends ({reason.str()}). Remedy: see that it "
            "is up and lets this user read them: `objections topics check`."
        )


def _offer(evidence: Evidence, topic: str, record: Record) -> None:
    try:
        evidence.take(topic, record)
    except NewerRow as error:
        raise CheckFailed(f"{record.place}: {error}") from error

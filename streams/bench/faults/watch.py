"""
Looks at a prefix from outside: what is left to do, and what was published.

It asks Kafka alone and no worker, so it holds over any number of them, killed ones included.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Self

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # public

import topics
from streams.errors import Unreachable
from streams.proof import INPUTS, OUTPUTS, Record
from streams.proof.truth import TELLS
from streams.settings import Settings
from streams.state import rows

CHANGELOG: Final = "objections-users-changelog"
ANSWER_S: Final = 5.0  # of one request
READ_S: Final = 60.0  # of all there is

# librdkafka's own lines: brokers and workers are taken from under clients on purpose.
QUIET: Final = logging.getLogger(f"{__name__}.kafka")
QUIET.disabled = True


class Watch:
    """
    Looks at a prefix from outside: the group's offsets, what the state owes, what was published.

    It remembers what it has read, so that looking again and again is quick.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = AdminClient(settings.kafka(), logger=QUIET)
        self._reader = Consumer(
            settings.kafka(
                group_id=settings.group,  # for its offsets; it is never joined
                isolation_level="read_committed",
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="earliest",
                fetch_wait_max_ms=10,
            ),
            logger=QUIET,
        )
        known = self._client.list_topics(timeout=ANSWER_S).topics
        self._partitions = {
            name: sorted(known[settings.topic(name)].partitions)
            for name in (*INPUTS, *OUTPUTS, "dead-letters", *topics.names("internal"))
        }
        self._positions = {(CHANGELOG, number): 0 for number in self._partitions[CHANGELOG]}
        self._read = {
            (name, number): 0
            for name in (*OUTPUTS, "dead-letters")
            for number in self._partitions[name]
        }
        self._outputs: dict[str, list[Record]] = {name: [] for name in (*OUTPUTS, "dead-letters")}
        self._jobs: set[bytes] = set()
        self._due_ms: dict[bytes, int] = {}

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def left(self, now_ms: int) -> list[str]:
        """Return what is not done yet; none means that all input is processed, nothing is owed."""
        try:
            # In this order: what the offsets cover is in the state, once nothing is open; and what
            # owners tell each other is there to be read by then.
            left = self.unread() or self.open_transactions()
            return left or self.owed(now_ms) or self.open_transactions() or self.unread()
        except (
            KafkaException,
            Unreachable,
        ) as error:  # such as a coordinator that is just being loaded
            with suppress(KafkaException):
                self._client.list_topics(timeout=ANSWER_S)  # or a lost leader stays lost for it
            return [str(error)]

    def outputs(self) -> dict[str, list[Record]]:
        """Return all committed records of the three outputs and `dead-letters`, by their names."""
        for message in self._read_to_end(self._read):
            place, offset = self._place_of(message), message.offset() or 0
            headers: Any = message.headers() or ()
            record = Record(
                self._settings.topic(place[0]),
                place[1],
                offset,
                message.timestamp()[1],
                message.key(),
                message.value(),
                tuple(headers),
            )
            self._outputs[place[0]].append(record)
            self._read[place] = offset + 1
        return self._outputs

    def committed(self) -> dict[tuple[str, int], int]:
        """Return the group's offsets of all inputs; 0 where it has none."""
        places = [(name, number) for name in INPUTS for number in self._partitions[name]]
        asked = [TopicPartition(self._settings.topic(name), number) for name, number in places]
        # Not by the admin client: librdkafka 2.16 crashes there when the coordinator has moved.
        found = self._reader.committed(asked, ANSWER_S)
        for tp in found:
            if tp.error is not None:
                raise KafkaException(tp.error)
        return {
            (tp.topic.removeprefix(self._settings.topic_prefix), tp.partition): max(tp.offset, 0)
            for tp in found
        }

    def unread(self) -> list[str]:
        """Return the inputs that the group has not committed to their ends."""
        ends = self._ends(INPUTS, IsolationLevel.READ_COMMITTED)
        committed = self.committed()
        behind = {place: at for place, at in committed.items() if at < ends[place]}
        # Behind the last record there may be control records, and records of aborted transactions.
        left = {self._place_of(message) for message in self._read_to_end(behind)}
        return [f"{name}/{number} from {behind[name, number]} on" for name, number in left]

    def open_transactions(self) -> list[str]:
        """Return the partitions of outputs and state that hold records not yet committed."""
        return [f"open at {place}" for place in self.open_places()]

    def open_places(self) -> list[tuple[str, int]]:
        """Return the same by topic and number."""
        names = [name for name in self._partitions if name not in INPUTS or name == TELLS]
        stable = self._ends(names, IsolationLevel.READ_COMMITTED)
        log = self._ends(names, IsolationLevel.READ_UNCOMMITTED)
        return [place for place, end in log.items() if stable[place] < end]

    def owed(self, now_ms: int) -> list[str]:
        """Return the fan-outs under way and the decisions due, by the committed state."""
        for message in self._read_to_end(self._positions):
            self._learn(message)
        due = [key for key, due_ms in self._due_ms.items() if due_ms <= now_ms]
        return [f"fan-out of {key[1:]!r}" for key in self._jobs] + [f"due: {key!r}" for key in due]

    def _learn(self, message: Message) -> None:
        key, value = message.key(), message.value()
        self._positions[self._place_of(message)] = (message.offset() or 0) + 1
        if not isinstance(key, bytes):
            return
        if key[:1] == rows.JOB:
            (self._jobs.discard if value is None else self._jobs.add)(key)
        elif key == rows.UNANSWERED_KEY:
            place = b"%s of %d" % (key, message.partition() or 0)
            (self._jobs.discard if value is None else self._jobs.add)(place)
        elif key[:1] == rows.USER and isinstance(value, bytes):
            self._due_ms[key] = rows.next_change_ms(value)

    def _read_to_end(self, positions: Mapping[tuple[str, int], int]) -> list[Message]:
        """Return what a read_committed reader sees from *positions* on."""
        found: list[Message] = []
        left = set(positions)
        self._reader.assign(
            [TopicPartition(self._settings.topic(t), p, at) for (t, p), at in positions.items()]
        )
        deadline_s = time.monotonic() + READ_S
        while left:
            if time.monotonic() > deadline_s:
                raise Unreachable(f"{sorted(left)} could not be read to their ends")
            for message in self._reader.consume(5_000, 0.02):
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(self._place_of(message))
        self._reader.unassign()
        return found

    def _place_of(self, message: Message) -> tuple[str, int]:
        topic, partition = message.topic(), message.partition()
        assert topic is not None
        assert partition is not None
        return topic.removeprefix(self._settings.topic_prefix), partition

    def _ends(self, names: Iterable[str], level: IsolationLevel) -> dict[tuple[str, int], int]:
        places = [(name, number) for name in names for number in self._partitions[name]]
        wanted = {
            TopicPartition(self._settings.topic(name), number): OffsetSpec.latest()
            for name, number in places
        }
        futures = self._client.list_offsets(wanted, isolation_level=level, request_timeout=ANSWER_S)
        found = {(tp.topic, tp.partition): each.result().offset for tp, each in futures.items()}
        return {(name, no): found[self._settings.topic(name), no] for name, no in places}

"""
Finds what aborted transactions have left at the ends of a partition's outputs, at take-over.

They lie behind the last committed record: whoever owned the partition wrote one transaction after
the other, and one that aborted in between was answered, or is known from the state (`unanswered`).
"""

import threading
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, TopicPartition

from streams.errors import Halt
from streams.kafka.denied import denied, is_denied
from streams.kafka.reader import fetch, reader
from streams.settings import Settings
from streams.worker import takeover
from streams.worker.names import DECISIONS
from streams.worker.takeover import Cancelled
from streams.worker.unanswered import Key, Said, read

if TYPE_CHECKING:
    from confluent_kafka import Message

LOOK_BACK_RECORDS: Final = 64  # for the last committed record, and 16 times as far without one
READ_TIMEOUT_S: Final = 0.2  # of one read: how late a cancellation may be noticed

Place = tuple[str, int]  # an output by its name in the contract, and a partition


def find(
    settings: Settings, log_ends: dict[int, dict[str, int]], cancelled: threading.Event
) -> dict[int, dict[Key, Said]]:
    """
    Return what aborted records behind the last committed ones say, by partition.

    log_ends: of the outputs, open transactions included: waits until those have ended.
    """
    found: dict[int, dict[Key, Said]] = {number: {} for number in log_ends}
    left = {
        (output, number): ends[output]
        for number, ends in log_ends.items()
        for output in DECISIONS
        if ends[output]
    }
    readers = [_Reader(settings, level, cancelled) for level in ("committed", "uncommitted")]
    look_back = LOOK_BACK_RECORDS
    try:
        while left:
            begin = {place: max(end - look_back, 0) for place, end in left.items()}
            committed, everything = (each.read(begin, left) for each in readers)
            for place, messages in everything.items():
                last = max((each.offset() or 0 for each in committed[place]), default=-1)
                if last < 0 < begin[place]:
                    continue
                for message in messages:
                    if (message.offset() or 0) > last:
                        _learn(found[place[1]], place[0], message)
                del left[place]
            look_back *= 16
    finally:
        for each in readers:
            each.close()
    return found


def _learn(found: dict[Key, Said], output: str, message: "Message") -> None:
    key, value = message.key(), message.value()
    if isinstance(key, bytes) and (value is None or isinstance(value, bytes)):
        said = read(value, message.headers() or ())  # type: ignore[arg-type]  # a list of pairs
        if said is not None and (
            (known := found.get((output, key))) is None or said.outranks(known)
        ):
            found[output, key] = said


class _Reader:
    def __init__(self, settings: Settings, level: str, cancelled: threading.Event) -> None:
        self._settings = settings
        self._cancelled = cancelled
        self._consumer = reader(settings, isolation=f"read_{level}", fetch_wait_max_ms=50)
        for output in DECISIONS:
            takeover.know(self._consumer, settings.topic(output))

    def close(self) -> None:
        self._consumer.close()

    def read(self, begin: dict[Place, int], ends: dict[Place, int]) -> dict[Place, "list[Message]"]:
        """Return the records from *begin* to *ends*."""
        topic = self._settings.topic
        names = {topic(output): output for output, _ in begin}
        self._consumer.assign([TopicPartition(topic(o), p, at) for (o, p), at in begin.items()])
        found: dict[Place, list[Message]] = {place: [] for place in begin}
        left = dict(ends)
        while left:
            if self._cancelled.is_set():
                raise Cancelled
            for message in fetch(self._consumer, READ_TIMEOUT_S):
                error, name = message.error(), message.topic()
                number, offset = message.partition(), message.offset()
                if error is not None:
                    self._judge(error, name)
                if name not in names or number is None or offset is None:
                    continue
                place = names[name], number
                if error is None:
                    if offset < ends[place]:
                        found[place].append(message)
                    offset += 1
                elif error.code() != KafkaError._PARTITION_EOF:
                    continue
                if offset >= ends[place]:
                    left.pop(place, None)
        self._consumer.unassign()
        return found

    def _judge(self, error: KafkaError, name: str | None) -> None:
        """Raise Halt for an error that does not pass."""
        if is_denied(error):
            raise Halt(denied(self._settings, error, f"reading {name}"))
        if error.fatal():
            raise Halt(f"reading what transactions have left: {error.str()}")

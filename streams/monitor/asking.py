"""
Asks Kafka: where the group is, where partitions end, when the oldest record was written that waits.

That is the first record at or behind an offset.  There may be none, but control records and records
of aborted transactions, which nobody waits for.  An answer is kept until the offset moves on, so a
quiet or stalled partition is read once.
"""

import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka.reader import committed, ends, fetch, reader
from streams.monitor.sight import Place
from streams.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import Message

POLL_S: Final = 0.05
ASK_S: Final = 2.0
READ_S: Final = 5.0  # for the first records of all that is asked at once
BATCH_RECORDS: Final = 500
FETCH_BYTES: Final = 32 * 1024  # of a partition: one record is wanted

Question = tuple[Place, int]  # where, from which offset on


class Answer(NamedTuple):
    """
    The first record's offset and broker time stamp; -1 and 0 where there is none.

    clear_upto: there is no record from the offset asked for up to here.
    """

    offset: int
    at_ms: int
    clear_upto: int

    @property
    def found(self) -> bool:
        """Whether there is a record."""
        return self.offset >= 0


class Asking:
    """
    Asks as a reader of *isolation*, which is librdkafka's isolation.level.

    With `read_committed` partitions end where transactions are not decided yet.  All methods raise
    KafkaException where Kafka does not answer.
    """

    def __init__(self, settings: Settings, isolation: str) -> None:
        self._connect = partial(
            reader,
            settings,
            isolation=isolation,
            fetch_wait_max_ms=20,
            max_partition_fetch_bytes=FETCH_BYTES,
            queued_min_messages=1,
            fetch_queue_backoff_ms=5,  # or whoever has his one record reads on a second late
        )
        self._consumer = self._connect()
        self._known: dict[Place, dict[int, Answer]] = {}

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()

    def renew(self) -> None:
        """Go on with a new client."""
        self._consumer.close()
        self._consumer = self._connect()

    def committed(self, places: Iterable[Place]) -> dict[Place, int]:
        """
        Return the group's offsets; 0 where it has none.

        To `read_committed` the broker tells none while a transaction with offsets is open.
        """
        places = list(places)
        return dict.fromkeys(places, 0) | committed(self._consumer, places, ASK_S)

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the offsets behind the last record."""
        return ends(self._consumer, places, ASK_S)

    def first_records(
        self, questions: Iterable[Question], ends: Mapping[Place, int]
    ) -> dict[Question, Answer]:
        """
        Return an answer to each question, as far as Kafka gives one.

        ends: what lies at or behind them is not looked at.
        """
        asked = set(questions)
        known = {place: dict(found) for place, found in self._known.items()}
        answers: dict[Question, Answer] = {}
        open_questions: list[Question] = []
        for question in sorted(asked):
            place, begin = question
            answer = _from_known(known.get(place, {}), begin)
            if answer.found or answer.clear_upto >= ends.get(place, begin):
                answers[question] = answer
            else:
                open_questions.append(question)
        deadline_s = time.monotonic() + READ_S
        while open_questions:
            # A place can be read from one offset at a time.
            turn = dict(reversed(open_questions))
            starts = {
                place: _from_known(known.get(place, {}), begin).clear_upto
                for place, begin in turn.items()
            }
            found = self._read(starts, deadline_s)
            answers.update({(place, turn[place]): answer for place, answer in found.items()})
            open_questions = [each for each in open_questions if turn[each[0]] != each[1]]
        self._known = {}
        for (place, begin), answer in answers.items():
            self._known.setdefault(place, {})[begin] = answer
        return answers

    def _read(self, starts: Mapping[Place, int], deadline_s: float) -> dict[Place, Answer]:
        """Return the first records of places from offsets on."""
        found: dict[Place, Answer] = {}
        self._consumer.assign([TopicPartition(*place, at) for place, at in starts.items()])
        try:
            while len(found) < len(starts) and time.monotonic() < deadline_s:
                for message in fetch(self._consumer, POLL_S, BATCH_RECORDS):
                    place = message.topic() or "", message.partition() or 0
                    if place in starts and place not in found:
                        answer = _answer(message, starts[place])
                        if answer is not None:
                            found[place] = answer
        finally:
            self._consumer.unassign()
        return found


def _from_known(known: Mapping[int, Answer], begin: int) -> Answer:
    """Return what is known of a place from *begin* on: an answer, or up to where it is clear."""
    clear_upto = begin
    for asked, answer in known.items():
        if asked <= begin <= answer.clear_upto:
            if answer.found:
                return answer
            clear_upto = max(clear_upto, answer.clear_upto)
    return Answer(-1, 0, clear_upto)


def _answer(message: "Message", start: int) -> Answer | None:
    offset, error = message.offset() or 0, message.error()
    if error is not None:
        if error.code() == KafkaError._PARTITION_EOF and offset >= start:
            return Answer(-1, 0, offset)
        if error.fatal() or error.code() in (
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
        ):
            raise KafkaException(error)
        return None
    return Answer(offset, message.timestamp()[1], offset) if offset >= start else None

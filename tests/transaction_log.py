"""
Reads Kafka's own log of transactions: whether a worker has one open, as the coordinator has it.

Partitions alone do not tell an open transaction from one whose end is agreed and not carried out.
"""

import struct
import time
from enum import Enum
from typing import Final, Self

from confluent_kafka import Consumer, TopicPartition

from streams.kafka.local import LocalKafka
from streams.kafka.reader import read_to_ends, reader
from tests.worker_settings import WAIT_S, settings_of

TOPIC: Final = "__transaction_state"
POLL_S: Final = 0.05
SETTLED_S: Final = 0.15  # what a frozen worker had asked for has been written down by then

# Source: Kafka's TransactionLogKey.json, TransactionLogValue.json and TransactionState.java.
_KEY: Final = struct.Struct(">hh")  # version, length of the transactional id
_VALUE: Final = struct.Struct(">hqhib")  # version, producer id and epoch, timeout, status
_ONGOING: Final = 1
_ENDING: Final = (2, 3)  # a commit or an abort is prepared


class Moment(Enum):
    """Where a transaction is."""

    NONE = "none"
    OPEN = "open"
    ENDING = "ending"


class TransactionLog:
    """The transactions of *prefix*'s workers on *kafka*; a context manager."""

    def __init__(self, kafka: LocalKafka, prefix: str) -> None:
        self._prefix = prefix
        self._consumer: Consumer = reader(settings_of(kafka, prefix), isolation="read_uncommitted")
        partitions = self._consumer.list_topics(TOPIC, timeout=WAIT_S).topics[TOPIC].partitions
        self._positions = dict.fromkeys(partitions, 0)
        self._moments: dict[str, Moment] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def moment(self) -> Moment:
        """Return where the transactions of all workers were when last read, the worst of them."""
        known = set(self._moments.values())
        return next((each for each in (Moment.ENDING, Moment.OPEN) if each in known), Moment.NONE)

    def settled(self) -> Moment:
        """Return where they are once nothing has changed for a while, as workers stand still."""
        before = self._read_on()
        while True:
            time.sleep(SETTLED_S)
            if (after := self._read_on()) == before and self.moment() != Moment.ENDING:
                return self.moment()
            before = after

    def _read_on(self) -> dict[int, int]:
        """Read to the ends, and return how far they are."""
        places = [TopicPartition(TOPIC, number, at) for number, at in self._positions.items()]
        self._consumer.assign(places)
        asked = [(TOPIC, number) for number in self._positions]
        for batch in read_to_ends(self._consumer, asked, wait_s=POLL_S, silence_s=WAIT_S):
            for message in batch:
                self._positions[message.partition() or 0] = (message.offset() or 0) + 1
                self._learn(message.key(), message.value())
        return dict(self._positions)

    def _learn(self, key: str | bytes | None, value: str | bytes | None) -> None:
        assert isinstance(key, bytes)
        _, length = _KEY.unpack_from(key)
        name = key[_KEY.size : _KEY.size + length].decode()
        if not name.startswith(self._prefix):
            return
        status = _VALUE.unpack_from(value)[-1] if isinstance(value, bytes) else None
        self._moments[name] = (
            Moment.OPEN
            if status == _ONGOING
            else Moment.ENDING
            if status in _ENDING
            else Moment.NONE
        )

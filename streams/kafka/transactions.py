"""
Transactions that write to all partitions of a broker in one request.

librdkafka 2.16 sends a request for each partition (its issue 1700).  Kafka answers those of one
connection in turn, and asks the transaction's coordinator about each: 22 ms for 240 records in 24
partitions, which take 10 in one request (medians, `tests/bench/transactions.py`).

A transaction is one sequence of steps, each of which can be repeated: what Kafka has taken before
it takes again as the same.  Rolling back begins the producer's next epoch (KIP-360), which also
refuses what of the old one may still be on its way.
Source: Kafka's protocol guide; KIP-98, 360 and 447.
"""

import asyncio
import struct
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, NamedTuple

from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
)
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.core.outputs import Header
from streams.kafka.batches import Batches
from streams.kafka.brokers import BUSY_PAUSE_S, GROUP, PAUSE_S, TRANSACTION, Brokers
from streams.kafka.reader import Place
from streams.kafka.transaction_requests import InitProducerIdRequest, TxnOffsetCommitRequest

REQUEST_BYTES_MAX: Final = 32 * 1024 * 1024  # a third of what a broker takes by default
REQUEST_TIMEOUT_MIN_MS: Final = 3_000
ACKS_ALL: Final = -1
NOBODY: Final = (-1, -1)

_GROUP_METADATA: Final = b"CGMDv2:"  # as librdkafka writes it

# Of a partition: to be asked again, with the same batch.
_AGAIN: Final = frozenset(
    {
        KafkaError.INVALID_MSG,  # damaged on its way
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
# What a request of this version is told while the coordinator is busy, too.
_BUSY: Final = KafkaError.NOT_ENOUGH_REPLICAS


class Member(NamedTuple):
    """Who commits offsets: a member of a generation of a group."""

    group: str
    generation: int
    member: str
    instance: str | None

    @classmethod
    def of(cls, metadata: bytes) -> "Member":
        """Return whom librdkafka's *metadata* of a consumer's group tell of."""
        if not metadata.startswith(_GROUP_METADATA):
            raise ValueError(f"metadata of a group begin with {metadata[:7]!r}")
        (generation,) = struct.unpack_from("=i", metadata, len(_GROUP_METADATA))
        group, member, rest = metadata[len(_GROUP_METADATA) + 4 :].split(b"\0", 2)
        instance = None if rest[:1] == b"\1" else rest[1:].split(b"\0")[0].decode()
        return cls(group.decode(), generation, member.decode(), instance)


class Transactions:
    """
    The transactions of one producer, one after the other, for one thread at a time.

    ends: by place, the offset behind the last record that the transaction has written.
    Each call that waits raises KafkaException: `retriable` when its time is over, and it goes on
    with the next call of the same name; `fatal` when another has taken the transactional id;
    else the transaction is to be rolled back.
    """

    def __init__(self, options: Mapping[str, Any], transactional_id: str, timeout_ms: int) -> None:
        self.ends: dict[Place, int] = {}
        self._id = transactional_id
        self._timeout_ms = timeout_ms
        self._loop = asyncio.new_event_loop()
        self._brokers = Brokers(options, max(timeout_ms, REQUEST_TIMEOUT_MIN_MS))
        self._steps: tuple[str, asyncio.Task[None]] | None = None  # under way
        self._producer = NOBODY  # id and epoch
        self._sequences: dict[Place, int] = {}  # of the next record in the epoch
        self._batches = Batches(0)
        self._offsets: tuple[list[TopicPartition], Member] | None = None

    def init(self, timeout_s: float) -> None:
        """Become the producer of the id; what an earlier one has left open is rolled back."""
        self._wait("init", self._init, timeout_s)

    def begin(self) -> None:
        """Begin a transaction."""
        self.ends.clear()
        self._batches = Batches(int(time.time() * 1000))
        self._offsets = None

    def send_offsets(
        self, offsets: list[TopicPartition], group_metadata: Any, _timeout_s: float
    ) -> None:
        """Let the transaction move a group's *offsets*; they are sent before any record is."""
        self._offsets = offsets, Member.of(group_metadata)

    def put(
        self, place: Place, key: bytes | None, value: bytes | None, headers: Iterable[Header]
    ) -> None:
        """Add a record; it is sent with the commit."""
        self._batches.put(place, key, value, headers)

    def commit(self, timeout_s: float) -> None:
        """Send all, and commit."""
        self._wait("commit", self._commit, timeout_s)

    def abort(self, timeout_s: float) -> None:
        """Roll the transaction back."""
        self._wait("abort", self._init, timeout_s)

    def close(self) -> None:
        """Let go of all connections."""
        self._loop.run_until_complete(self._close())
        self._loop.close()

    def _wait(self, what: str, steps: Callable[[], Coroutine[Any, Any, None]], s: float) -> None:
        self._loop.run_until_complete(self._wait_for(what, steps, s))

    async def _wait_for(
        self, what: str, steps: Callable[[], Coroutine[Any, Any, None]], timeout_s: float
    ) -> None:
        """Take *steps*, or go on with them, for a time."""
        if self._steps is not None and self._steps[0] != what:
            await self._cancel()
        if self._steps is None:
            self._steps = what, asyncio.ensure_future(steps())
        _, task = self._steps
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            why = self._brokers.trouble or "no answer yet"
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, why, retriable=True))
        self._steps = None
        self._brokers.trouble = ""
        task.result()

    async def _cancel(self) -> None:
        if self._steps is not None:
            _, task = self._steps
            self._steps = None
            task.cancel()
            await asyncio.wait({task})

    async def _close(self) -> None:
        await self._cancel()
        await self._brokers.close()

    async def _init(self) -> None:
        while True:
            request = InitProducerIdRequest(self._id, self._timeout_ms, *self._producer)
            try:
                answer = await self._brokers.ask(TRANSACTION, self._id, request)
            except KafkaException as error:
                failed: KafkaError = error.args[0]
                if failed.code() == KafkaError.INVALID_PRODUCER_ID_MAPPING:
                    self._producer = NOBODY  # unused for so long that Kafka has forgotten it
                    continue
                raise KafkaException(KafkaError(failed.code(), failed.str(), fatal=True)) from error
            break
        self._producer = answer.producer_id, answer.producer_epoch
        self._sequences.clear()

    async def _commit(self) -> None:
        # Before anything is written: who is no member any more is refused here, and what would
        # have been in the log by then the next owner, having looked at its end, would not answer.
        await _all(self._add_offsets(), self._add_partitions())
        await self._write()
        await self._ask_own(EndTxnRequest(self._id, *self._producer, True))

    async def _add_offsets(self) -> None:
        if self._offsets is None:
            return
        offsets, member = self._offsets
        await self._ask_own(AddOffsetsToTxnRequest(self._id, *self._producer, member.group))
        topics: dict[str, list[tuple[Any, ...]]] = {}
        for each in offsets:
            # librdkafka 2.16 hands metadata on without an end (since its pull request 4876).
            metadata = f"{each.metadata}\0" if each.metadata else ""
            place: tuple[Any, ...] = (each.partition, each.offset, -1, metadata, {})
            topics.setdefault(each.topic, []).append(place)
        request = TxnOffsetCommitRequest(
            self._id,
            member.group,
            *self._producer,
            member.generation,
            member.member,
            member.instance,
            [(topic, places, {}) for topic, places in topics.items()],
        )
        await self._brokers.ask(GROUP, member.group, request)

    async def _add_partitions(self) -> None:
        places = self._batches.places()
        if places:
            request = AddPartitionsToTxnRequest(self._id, *self._producer, list(places.items()))
            await self._brokers.ask(TRANSACTION, self._id, request)

    async def _ask_own(self, request: Any) -> None:
        await self._brokers.ask(TRANSACTION, self._id, request)

    async def _write(self) -> None:
        """Write all batches: of each partition one at a time, so that their order is kept."""
        left = self._batches.sealed(self._producer, self._sequences)
        while left:
            found = await self._brokers.leaders(left)
            wrote = await _all(
                *(self._write_to(node, places, left) for node, places in found.items())
            )
            if not all(wrote) or not found:
                await self._brokers.look_again()
                await asyncio.sleep(PAUSE_S)

    async def _write_to(self, node: int, places: list[Place], left: dict[Place, Any]) -> bool:
        """Write a batch of each of *places* to the broker that leads them; return if all went."""
        size, topics = 0, dict[str, list[tuple[int, bytes]]]()
        for topic, number in places:
            batch, _ = left[topic, number][0]
            size += len(batch)
            if size > REQUEST_BYTES_MAX and topics:
                break  # the rest goes with the next
            topics.setdefault(topic, []).append((number, batch))
        request = ProduceRequest(self._id, ACKS_ALL, self._timeout_ms, list(topics.items()))
        answer = await self._brokers.send(node, request)
        if answer is None:
            return False
        went, busy = True, False
        for topic, numbers in answer.topics:
            for number, code, offset, *_ in numbers:
                if code == KafkaError.NO_ERROR:
                    batches = left[topic, number]
                    _, records_n = batches.popleft()
                    self.ends[topic, number] = offset + records_n
                    if not batches:
                        del left[topic, number]
                    continue
                self._brokers.trouble = f"{topic} [{number}]: {KafkaError(code).name()}"
                if code not in _AGAIN | {_BUSY}:
                    raise KafkaException(KafkaError(code, self._brokers.trouble))
                busy |= code == _BUSY
                went &= code == _BUSY
        if busy:
            await asyncio.sleep(BUSY_PAUSE_S)
        return went


async def _all(*steps: Coroutine[Any, Any, Any]) -> list[Any]:
    """Take *steps* at the same time; when all have ended raise what one of them has."""
    found = await asyncio.gather(*steps, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return found

"""
A Faust transport over confluent-kafka: Faust's consumer, fed by our fetch thread.

Faust gets one event for each topic of a round instead of one for each record, so that its cost
is paid by the batch.  It keeps what it is good at: agents, streams, flow control, rebalancing,
the lifecycle of services.  Offsets are committed in our transactions, and seeking and pausing
are the fetch thread's: what Faust asks for of these has nothing to do.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, ClassVar, Final, NamedTuple

import faust
from faust.transport import base
from faust.transport.consumer import Consumer, Fetcher
from faust.types import TP, ConsumerMessage, Message

from streams.settings import Settings
from streams.worker.cycle import Decoded
from streams.worker.intake import Fetched
from streams.worker.rounds import Round

# For what Faust and mode say of the lifecycle of our services.
FAUST_LOGGER: Final = logging.getLogger("faust.objections")

LOG_APPEND_TIME: Final = 2  # Kafka's own number


class Batch(NamedTuple):
    """One topic's part of a round: what an agent gets as one event."""

    fetched: list[Fetched]
    decoded: Decoded


class BatchSchema(faust.Schema[None, Any]):
    """Lets a `Batch` through as it is: it was never bytes."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> None:
        """Return no key: a batch has none."""

    def loads_value(self, app: Any, message: Any, **_: Any) -> Batch:
        """Return the batch."""
        batch: Batch = message.value
        return batch


class RoundConsumer(Consumer):
    """
    Faust's consumer.  `deliver` hands it rounds; `subscribed` is set once Faust is ready.

    Rebalances reach Faust by `faust_assigned` and `faust_revoked`.
    """

    logger = FAUST_LOGGER

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.subscribed = asyncio.Event()
        self._rounds: asyncio.Queue[tuple[Round, Decoded]] = asyncio.Queue()
        self._events_n = 0
        self._assigned: set[TP] = set()

    def deliver(self, taken: Round, decoded: Decoded) -> None:
        """Queue a round for the agents; bounded by the fetch thread's limit."""
        self._rounds.put_nowait((taken, decoded))

    async def faust_assigned(self, assigned: set[TP], generation: int) -> None:
        """Tell Faust of its partitions, as its drivers do."""
        if not self.app.rebalancing:
            self.app.on_rebalance_start()
        self.app.consumer_generation_id = generation
        self._assigned = assigned
        await self.on_partitions_assigned(assigned, generation)

    async def faust_revoked(self) -> None:
        """Tell Faust that it has no partitions, as its drivers do."""
        revoked, self._assigned = self._assigned, set()
        self.app.on_rebalance_start()
        await self.on_partitions_revoked(revoked)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Yield an event for each topic of the next round."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        try:
            taken, decoded = await asyncio.wait_for(self._rounds.get(), timeout)
        except TimeoutError:
            return
        settings: Settings = self.app.settings_of_service  # type: ignore[attr-defined] # app.App
        for topic, fetched in taken.batches.items():
            tp = TP(settings.topic(topic), fetched[0].partition)
            # Not Kafka's offset: Faust drops an event whose offset is below one it has seen, and
            # after a rollback or a rebalance records are read again.
            self._events_n += 1
            generation_id = self.app.consumer_generation_id
            yield tp, _message(tp, Batch(fetched, decoded), self._events_n, generation_id)

    def ack(self, message: Message) -> bool:
        """Note that a batch is finished: its transaction is committed."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Note that Faust is ready; the fetch thread subscribes to the inputs itself."""
        self.subscribed.set()

    def assignment(self) -> set[TP]:
        """Return what Faust was told it has."""
        return set(self._assigned)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Do nothing: offsets are committed with what they caused."""
        return True

    async def perform_seek(self) -> None:
        """Do nothing: a partition is read from where its state says."""

    async def wait_empty(self) -> None:
        """Do nothing: the cycle waits for its transaction itself."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: batches are acknowledged in order, and skip the offsets within them."""

    async def verify_all_partitions_active(self) -> None:
        """Do nothing: what is late shows in `objections_oldest_unpropagated_seconds`."""

    def highwater(self, tp: TP) -> int:
        """Return nothing known: lag is measured by the fetch thread."""
        return 0

    def close(self) -> None:
        """Do nothing: the fetch thread closes its consumer."""

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        raise NotImplementedError

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        raise NotImplementedError

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        return True

    async def _seek(self, partition: TP, offset: int) -> None:
        return

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Return nothing: see `perform_seek`."""
        return {}

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Do nothing: see `perform_seek`."""

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: topics are made by `objections topics apply`."""

    async def position(self, tp: TP) -> int | None:
        """Return nothing known."""
        return None

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Return nothing: there are no Faust tables."""
        return {}

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Return nothing: there are no Faust tables."""
        return {}

    def topic_partitions(self, topic: str) -> int | None:
        """Return nothing known."""
        return None

    def key_partition(
        self, topic: str, key: bytes | None, partition: int | None = None
    ) -> int | None:
        """Return the partition asked for."""
        return partition

    def verify_recovery_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: there are no Faust tables."""


class NoProducer(base.Producer):
    """Faust sends nothing here: all outputs go through the transactions."""

    logger = FAUST_LOGGER

    async def flush(self) -> None:
        """Do nothing."""


class Transport(base.Transport):
    """What Faust makes its consumer and producer from."""

    Consumer: ClassVar[Any] = RoundConsumer
    Producer: ClassVar[Any] = NoProducer
    Fetcher: ClassVar[Any] = Fetcher
    driver_version = "objection-streams"
    default_port = 9092


def _message(tp: TP, batch: Batch, number: int, generation_id: int) -> ConsumerMessage:
    last = batch.fetched[0].messages[-1]
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        number,
        last.timestamp()[1] / 1000,
        LOG_APPEND_TIME,
        [],
        None,
        batch,  # type: ignore[arg-type] # `BatchSchema` knows that it is no bytes
        None,
        0,
        0,
        tp,
        generation_id=generation_id,  # without it Faust drops the event silently
    )

"""
What the data stores of this worker's partitions owe: acknowledgements to receipts and metrics.

Runs in the event loop.  Without stores it does nothing, and nothing is read of them.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping

from streams.core.levels import Ack
from streams.core.receipts import FOLLOWED, Phase
from streams.core.unacknowledged import Unacknowledged
from streams.metrics import Metrics
from streams.settings import Settings
from streams.worker.acknowledgements import Acknowledgements, Followed
from streams.worker.folded import Folded
from streams.worker.partition import Partition
from streams.worker.receipt_notes import Following
from streams.worker.tails import Found

logger = logging.getLogger(__name__)

Outputs = tuple[Unacknowledged, ...]  # by topic's index in FOLLOWED


class Stores:
    """
    The stores as this worker sees them.  Implements `acknowledgements.Listener`.

    in_loop: lets a call be made in the event loop.
    fail: ends the worker.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        partitions_n: int,
        in_loop: Callable[..., object],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.partitions: Mapping[int, Partition] = {}
        self._metrics = metrics
        self._partitions_n = partitions_n
        self._in_loop = in_loop
        self._fail = fail
        self._stores = {each.name: Following.of(each) for each in settings.stores}
        self._reader: Acknowledgements | None = None
        if settings.stores:
            self._reader = Acknowledgements(settings, self, partitions_n)
        self._outputs: dict[int, Outputs] = {}  # of partitions taken over
        self._followed: set[int] = set()
        self._assignment = -1
        self._counted: dict[tuple[int, str, int, Phase], int] = {}  # purges up to here
        self._looking_again: set[int] = set()  # partitions of which a store has gone back

    def start(self) -> None:
        """Begin to read what stores acknowledge."""
        if self._reader is not None:
            self._reader.start()

    def stop(self) -> None:
        """Read no more."""
        if self._reader is not None:
            self._reader.stop()
            if self._reader.is_alive():
                self._reader.join()

    def taken_over(self, number: int, assignment: int) -> None:
        """Follow a partition from now on."""
        if self._reader is not None:
            self._assignment = assignment
            self._outputs[number] = tuple(Unacknowledged() for _ in FOLLOWED)
            self._reader.follow(number, assignment)

    def given_up(self) -> None:
        """Follow no partition any more."""
        self._assignment = -1
        self._outputs.clear()
        self._followed.clear()
        self._looking_again.clear()
        self._counted.clear()

    # Called in the reader's thread.

    def on_caught_up(self, acks: list[Ack]) -> None:
        """Wait for the partitions asked for: each brings what there is of it."""

    def on_followed(self, assignment: int, followed: Followed) -> None:
        """Pass on that a partition is followed."""
        self._in_loop(self._follow, assignment, followed)

    def on_acks(self, accepted: list[Ack], refused: list[Ack]) -> None:
        """Pass acknowledgements on."""
        self._in_loop(self._acknowledge, accepted, refused)

    def on_failed(self, error: BaseException) -> None:
        """Pass a failure on."""
        self._in_loop(self._fail, error)

    # Called in the event loop.

    def _follow(self, assignment: int, followed: Followed) -> None:
        number = followed.number
        partition = self.partitions.get(number)
        if assignment != self._assignment or partition is None:
            return
        older = tuple(map(_outputs_found, followed.tail.found))
        for outputs, live in zip(older, self._outputs[number], strict=True):
            outputs.extend(live)
        self._outputs[number] = older
        self._followed.add(number)
        self._looking_again.discard(number)
        receipts = partition.receipts
        receipts.follow(followed.tail.ends, followed.acks_end)
        for ack in (each for each in followed.refused if each.position >= receipts.heard_upto):
            self._refuse(ack)
        for ack in (each for each in followed.acks if not receipts.is_heard(each)):
            self._accept(partition, ack)
        self._count_from_here(number)

    def _count_from_here(self, number: int) -> None:
        """Count no purge twice, and none that was acknowledged when nobody was there to see it."""
        levels = self.partitions[number].receipts.levels
        for store in self._stores.values():
            for topic in store.topics:
                level = levels.get(store.name, topic)
                for phase in store.phases:
                    place = number, store.name, topic, phase
                    self._counted[place] = max(level.offset(phase), self._counted.get(place, 0))
                self._drop(number, topic)

    def _acknowledge(self, accepted: list[Ack], refused: list[Ack]) -> None:
        for ack in refused:
            # Of a partition that there is not, whoever has the first one tells.
            if (ack.partition if ack.partition < self._partitions_n else 0) in self._followed:
                self._refuse(ack)
        for ack in accepted:
            partition = self.partitions.get(ack.partition)
            if ack.partition not in self._followed or partition is None:
                continue
            self._accept(partition, ack)
            store = self._stores.get(ack.store)
            if store is not None and ack.topic in store.topics:
                for phase in store.phases:
                    self._observe(partition, ack, phase)
                self._drop(ack.partition, ack.topic)

    def _refuse(self, ack: Ack) -> None:
        partition = self.partitions.get(ack.partition)
        if partition is not None:
            partition.receipts.refuse(ack)
        if ack.store in self._stores:
            self._metrics.acknowledgement_refused(ack.store)

    def _accept(self, partition: Partition, ack: Ack) -> None:
        before = partition.receipts.acknowledge(ack)
        if before is None or ack.store not in self._stores:
            return
        after = partition.receipts.levels.get(ack.store, ack.topic)
        if after.offset(ack.phase) < before.offset(ack.phase):
            self._metrics.store_regression(ack.store)
            logger.warning(
                "store %s has gone back to %d of %s/%d (%s): what lies above is open again",
                ack.store,
                ack.offset,
                FOLLOWED[ack.topic],
                ack.partition,
                ack.phase,
            )
            self._look_again(ack.partition)

    def _look_again(self, number: int) -> None:
        """Have the outputs read that a store owes again: they were forgotten once acknowledged."""
        if self._reader is not None and number not in self._looking_again:
            self._looking_again.add(number)
            self._reader.follow(number, self._assignment)

    def _observe(self, partition: Partition, ack: Ack, phase: Phase) -> None:
        """Count how long purges have taken that *ack* is the first to cover."""
        place = ack.partition, ack.store, ack.topic, phase
        level = partition.receipts.levels.get(ack.store, ack.topic)
        counted, reached = self._counted.get(place, 0), level.offset(phase)
        if reached > counted:
            purges = self._outputs[ack.partition][ack.topic].purges(counted, reached)
            self._metrics.store_propagation(ack.store, phase, purges, ack.at_ms)
            self._counted[place] = reached

    def _drop(self, number: int, topic: int) -> None:
        """Forget outputs that all stores have applied, in all phases."""
        levels = self.partitions[number].receipts.levels
        self._outputs[number][topic].drop(
            min(
                min(levels.get(store.name, topic).offset(phase) for phase in store.phases)
                for store in self._stores.values()
                if topic in store.topics
            )
        )

    def committed(self, part: Folded) -> None:
        """Note what a cycle has published."""
        outputs = self._outputs.get(part.partition.number)
        if outputs is None:
            return
        for index, topic in enumerate(FOLLOWED):
            end = part.delivered.ends.get(topic)
            if end is not None and any(index in each.topics for each in self._stores.values()):
                purges_ms = part.purges_ms.get(topic, ())
                outputs[index].add(end, part.delivered.at_ms, purges_ms)

    def oldest_unacknowledged(self) -> Mapping[tuple[str, str], float]:
        """Return the age in seconds of the oldest output each store has still to acknowledge."""
        now_ms = time.time() * 1000
        ages: dict[tuple[str, str], float] = {}
        for store in self._stores.values():
            for phase in store.phases:
                ages[store.name, phase] = 0.0
                for number, outputs in self._outputs.items():
                    partition = self.partitions.get(number)
                    if partition is None:
                        continue
                    for topic in store.topics:
                        level = partition.receipts.levels.get(store.name, topic).offset(phase)
                        oldest_ms = outputs[topic].oldest_ms(level)
                        if oldest_ms is not None:
                            age_s = max(now_ms - oldest_ms, 0.0) / 1000
                            ages[store.name, phase] = max(ages[store.name, phase], age_s)
        return ages


def _outputs_found(found: Iterable[Found]) -> Unacknowledged:
    outputs = Unacknowledged()
    for each in found:
        outputs.add(
            each.end, each.appended_ms, () if each.received_ms is None else [each.received_ms]
        )
    return outputs

"""
What a worker can tell of itself: how late it is, how far restores and fan-outs have got.

Fed by the cycle's milestones; read by /metrics, /readyz and the status page.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime

import streams
from streams.core.changes import CAUSED_BY_TIME
from streams.core.outputs import Output
from streams.last_hour import CountsOfHour, LatenciesOfHour
from streams.metric_table import Labels, Metric
from streams.metrics import Metrics
from streams.settings import Settings
from streams.worker.fetch import Fetch
from streams.worker.folded import Fanned, Folded
from streams.worker.names import DEAD_LETTERS, TELLS, Followed
from streams.worker.page import Page, RestoreLine, make_page
from streams.worker.partition import Partition
from streams.worker.rounds import Place, Round
from streams.worker.stores import Stores


class WorkerStatus:
    """
    Implements `cycle.Watch`, `metrics.Gauges` and `http.Status`.

    partitions: those that are restored and serving, shared with the cycle.
    peaks: the most items of fan-outs that were pending since none was, by partition.
    standby_lag: asks the warm copies how many rows they are behind.
    restored_rows: asks a restore under way how many rows it has read; None where there is none.
    """

    def __init__(
        self,
        settings: Settings,
        fetch: Fetch,
        metrics: Metrics,
        stores: Stores,
        instance: str,
        followed: Followed,
    ) -> None:
        self._followed = followed
        self.instance = instance
        self._settings = settings
        self._fetch = fetch
        self._metrics = metrics
        self._stores = stores
        self.partitions: Mapping[int, Partition] = {}
        self.restored_rows: Callable[[], int] | None = None
        self.standby_lag: Callable[[], Mapping[int, int]] = dict
        self._assigned: dict[int, float] = {}  # partition -> since when, by time.time()
        self._member = False
        self._serving: set[int] = set()
        # place -> (broker time stamp of a batch's first record, next offset), oldest first
        self._under_way: dict[Place, deque[tuple[int, int]]] = {}
        # place -> the same of the oldest batch that is read again
        self._again: dict[Place, tuple[int, int]] = {}
        # fan-outs whose last slice is not committed yet
        self._finishing: list[tuple[int, Fanned]] = []
        self._latencies = LatenciesOfHour[tuple[Metric, Labels]](time.monotonic())
        self._codes = CountsOfHour[tuple[str, str]]()  # of dead letters, by full topic
        self.peaks: dict[int, int] = {}

    def assigned(self, partitions: frozenset[int], *, member: bool) -> None:
        """Note the partitions the group has given us: none of them is serving yet."""
        self._member = member
        self._assigned = dict.fromkeys(partitions, time.time())
        self._serving.clear()
        self.rolled_back()
        self._again.clear()

    def serves(self, partition: int) -> None:
        """Note that a partition is serving."""
        self._serving.add(partition)

    def taken(self, taken: Round) -> None:
        """Note a round that is now on its way."""
        for topic, batches in taken.batches.items():
            for fetched in batches:
                first, last = fetched.messages[0], fetched.messages[-1]
                under_way = self._under_way.setdefault((topic, fetched.partition), deque())
                under_way.append((first.timestamp()[1], (last.offset() or 0) + 1))

    def rolled_back(self) -> None:
        """Note that all that was on its way is read again."""
        for place, under_way in self._under_way.items():
            if under_way:
                self._again.setdefault(place, under_way[0])
        self._under_way.clear()
        self._finishing.clear()

    def on_folded(self, cycle: list[Folded]) -> None:
        """Count the records a cycle has decided on."""
        now_ms = _wall_clock_ms()
        for part in cycle:
            self._finishing += [(part.partition.number, fanned) for fanned in part.fanned]
            for handled in part.handled:
                topic = self._settings.topic(handled.topic)
                self._metrics.decided(topic, handled.received_ms, now_ms)

    def on_committed(self, cycle: list[Folded]) -> None:
        """Count what a cycle has published."""
        now_ms = _wall_clock_ms()
        for part in cycle:
            self._count_outputs(part)
            delayed = [(each.topic, each.received_ms) for each in part.delayed]
            for handled in part.handled:
                topic = self._settings.topic(handled.topic)
                self._metrics.events(topic, handled.applied, handled.unchanged, handled.dead_letter)
                published = handled.received_ms
                if delayed:
                    waits = {received_ms for name, received_ms in delayed if name == topic}
                    published = [each for each in published if each not in waits]
                self._metrics.published(topic, published, now_ms)
            for fanned in part.fanned:
                if fanned.topic not in CAUSED_BY_TIME:
                    self._metrics.published(fanned.topic, [fanned.received_ms], now_ms)
            self._finished(part)
            self._arrived(part)
            self._stores.committed(part)

    def ready(self) -> tuple[bool, str]:
        """Return whether every assigned partition, at least one, is serving; and what is not."""
        if not self._member:
            return False, "not a member of the group"
        if not self._assigned:
            return False, "no partition assigned"
        serving, assigned = len(self._serving), len(self._assigned)
        if serving < assigned:
            return False, f"restoring: {serving} of {assigned} partitions are serving"
        return True, f"serving {assigned} partitions"

    def look(self) -> None:
        """Note how it stands, for what the page tells of the last hour; every few seconds."""
        self._latencies.note(time.monotonic(), self._metrics.latencies())

    def page(self) -> Page:
        """Return what the status page shows."""
        now_s, restored_rows = time.monotonic(), self.restored_rows
        covered_s, spreads = self._latencies.over(now_s, self._metrics.latencies())
        began_s = min(self._assigned.values(), default=time.time())
        return make_page(
            worker=self.instance,
            group=self._settings.group,
            version=streams.__version__,
            states={
                partition: "serving" if partition in self._serving else "restoring"
                for partition in self._assigned
            },
            gauges=self,
            transactions=self._metrics.transactions(),
            spreads=spreads,
            peaks=self.peaks,
            codes=self._codes.over(now_s),
            restore=None
            if restored_rows is None
            else RestoreLine(rows=restored_rows(), seconds=time.time() - began_s),
            at=datetime.now(UTC).strftime("%H:%M:%S UTC"),
            covered_s=covered_s,
        )

    def oldest_unpropagated(self) -> Mapping[tuple[str, int], float]:
        """Return the age in seconds of the oldest record of each input not wholly published."""
        now_s = time.time()
        lag, unread_since_s = self._fetch.lag(), self._fetch.unread_since_s()
        ages: dict[tuple[str, int], float] = {}
        for partition, assigned_s in self._assigned.items():
            for name in self._followed.all:
                place, since_s = (name, partition), assigned_s
                if partition in self._serving:
                    unread_s = unread_since_s.get(place, assigned_s) if lag.get(place) else now_s
                    since_s = self._since_s(place, unread_s)
                ages[self._settings.topic(name), partition] = max(now_s - since_s, 0.0)
        for number, fanned in [*self._fanning_out(), *self._finishing]:
            place = fanned.topic, number
            if place in ages:
                ages[place] = max(ages[place], now_s - fanned.received_ms / 1000)
        return ages

    def _fanning_out(self) -> Iterator[tuple[int, Fanned]]:
        for number, partition in self.partitions.items():
            for job in partition.view.jobs.values():
                yield number, Fanned(job.topic, job.received_ms, job.traceparent)

    def lag(self) -> Mapping[tuple[str, int], int]:
        """Return end offset minus position of each input."""
        return {
            (self._settings.topic(topic), partition): records
            for (topic, partition), records in self._fetch.lag().items()
        }

    def fanout_pending(self) -> Mapping[int, int]:
        """Return the items of fan-outs still to be walked, by partition."""
        found = {
            number: partition.fanouts.pending_items()
            for number, partition in list(self.partitions.items())
        }
        self.peaks = {
            number: max(self.peaks.get(number, 0), items)
            for number, items in found.items()
            if items
        }
        return found

    def clock_overdue(self) -> Mapping[int, float]:
        """Return by how many seconds the oldest due timer is late, by partition."""
        now_ms = int((time.time() + self._settings.clock_offset_s) * 1000)
        return {
            number: partition.overdue_ms(now_ms) / 1000
            for number, partition in list(self.partitions.items())
        }

    def policy_pending(self) -> Mapping[int, int]:
        """Return the users still to be decided again by a new policy, by partition."""
        return {
            number: partition.sweep.pending_users()
            for number, partition in list(self.partitions.items())
        }

    def grants_held(self) -> Mapping[int, int]:
        """Return the users whose grants the breaker on re-inclusion holds, by partition."""
        return {
            number: partition.held_users() for number, partition in list(self.partitions.items())
        }

    def oldest_unacknowledged(self) -> Mapping[tuple[str, str], float]:
        """Return the age in seconds of the oldest output not acknowledged, by store and phase."""
        return self._stores.oldest_unacknowledged()

    def dead_letters_open(self) -> Mapping[str, int]:
        """Return the dead letters that stand against a user or an item, by topic."""
        inputs = (topic for topic in self._followed.all if topic != TELLS)
        counts = dict.fromkeys(map(self._settings.topic, inputs), 0)
        for partition in list(self.partitions.values()):
            for topic, number in partition.letters.counts().items():
                counts[topic] = counts.get(topic, 0) + number
        return counts

    def partition_states(self) -> Mapping[str, int]:
        """Return how many of the assigned partitions serve, and how many are being restored."""
        serving = len(self._serving)
        return {"serving": serving, "restoring": len(self._assigned) - serving}

    def _since_s(self, place: Place, unread_since_s: float) -> float:
        """
        Return since when something of *place* is not published.

        Of records not fetched yet only a bound is known, *unread_since_s*.
        """
        batches = [self._again[place]] if place in self._again else []
        if under_way := self._under_way.get(place):
            batches.append(under_way[0])
        return min((first_ms / 1000 for first_ms, _ in batches), default=unread_since_s)

    def _count_outputs(self, part: Folded) -> None:
        records: dict[str, int] = {}
        tombstones: dict[str, int] = {}
        for output in part.outputs:
            is_tombstone = output.value is None and output.topic != DEAD_LETTERS
            counts = tombstones if is_tombstone else records
            counts[output.topic] = counts.get(output.topic, 0) + 1
            if output.topic == DEAD_LETTERS:
                self._codes.add(time.monotonic(), _code(output))
        for topic in {*records, *tombstones}:
            self._metrics.outputs(
                self._settings.topic(topic), records.get(topic, 0), tombstones.get(topic, 0)
            )

    def _finished(self, part: Folded) -> None:
        """Note the fan-outs whose last slice is committed."""
        for fanned in part.fanned:
            # Given up while its transaction was under way, a partition is forgotten already.
            with suppress(ValueError):
                self._finishing.remove((part.partition.number, fanned))

    def _arrived(self, part: Folded) -> None:
        number = part.partition.number
        for topic, position in part.positions.items():
            under_way = self._under_way.get((topic, number))
            while under_way and under_way[0][1] <= position:
                under_way.popleft()
            if self._again.get((topic, number), (0, position + 1))[1] <= position:
                del self._again[topic, number]


def _code(letter: Output) -> tuple[str, str]:
    """Return the full name of the topic a dead letter came from, and its code."""
    said = {
        name: value.decode() if isinstance(value, bytes) else value or ""
        for name, value in letter.headers
    }
    return said["dlq_topic"], said["dlq_error"]


def _wall_clock_ms() -> int:
    """Return the time without the offset for rehearsals: latencies are real."""
    return int(time.time() * 1000)

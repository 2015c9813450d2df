"""
The spans of outputs whose `traceparent` says that the trace is recorded, in a store.

    process training-content     from the broker's time stamp until the store has it
      poll training-content      until it was fetched
      apply                      from there
      hidden                     of tombstones: from there until it is acknowledged
      erased                     the same

Outputs of one batch and partition with the same `traceparent`, as a fan-out has, share spans.
A place that is compared with all of its log, as a new store's, has none: that tells of the store.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from streams.core.receipts import ERASED, HIDDEN, Phase
from streams.core.trace_context import TraceContext, trace_context
from streams.settings import Settings
from streams.sinks.sink import Batch, Place
from streams.subscriber.following import Followed
from streams.subscriber.places import is_settled
from streams.tracing import Kind, OpenSpan, Spans
from streams.tracing.messaging import header_of, messaging, tracestate_of
from streams.tracing.rate import Rate
from streams.tracing.spans import MS

if TYPE_CHECKING:
    from confluent_kafka import Message

GROUPS_MAX: Final = 1_000  # whose acknowledgements are awaited


class _Group:
    """Outputs of a batch that share spans; *purges*: how many of them are tombstones."""

    def __init__(self, parent: TraceContext, message: "Message") -> None:
        self.parent = parent
        self.tracestate = tracestate_of(message)
        self.published_ms = message.timestamp()[1]
        self.first = self.last = message.offset() or 0
        self.outputs = self.purges = 0

    def add(self, message: "Message") -> None:
        self.last = message.offset() or 0
        self.outputs += 1
        self.purges += message.value() is None


class _Purge:
    """Tombstones below *end* that a store has applied; *said*: the phases it has acknowledged."""

    def __init__(self, end: int, span: OpenSpan, applied_ns: int) -> None:
        self.end = end
        self.span = span
        self.applied_ns = applied_ns
        self.said: set[Phase] = set()


class StoreSpans:
    """
    Told by a subscriber of *store* what it has `read`, `applied` and `acknowledged`.

    group: its consumer group.
    """

    def __init__(self, settings: Settings, spans: Spans, store: str, group: str) -> None:
        self._settings = settings
        self._spans = spans
        self._group = group
        self._store = {"objections.store": store}
        self._read: dict[tuple[Place, bytes], _Group] = {}
        self._rate = Rate()
        self._fetched_ns = 0
        self._purges: dict[Place, list[_Purge]] = {}

    def read(self, messages: "list[Message]", followed: Mapping[Place, Followed]) -> None:
        """Note the outputs in *messages*; those of a batch that was not applied come again."""
        self._fetched_ns = time.time_ns()
        self._read.clear()
        topics = {self._settings.topic(place.topic): place.topic for place in followed}
        for message in messages:
            if message.error() is not None or message.headers() is None:
                continue
            traceparent = header_of(message, "traceparent")
            parent = trace_context(traceparent)
            place = Place(topics.get(message.topic() or "", ""), message.partition() or 0)
            each = followed.get(place)
            if traceparent is None or parent is None or not parent.sampled or each is None:
                continue
            if not is_settled(each.position) or (message.offset() or 0) < each.position.offset:
                continue
            key = place, traceparent
            if key not in self._read:
                if not self._rate.take(self._fetched_ns):
                    continue
                self._read[key] = _Group(parent, message)
            self._read[key].add(message)

    def applied(self, batch: Batch) -> None:
        """Tell the spans of what the store now has."""
        applied_ns = time.time_ns()
        for (place, _), group in self._read.items():
            if place in batch.reached:
                self._tell(place, group, applied_ns)
        self._read.clear()

    def acknowledged(self, place: Place, phase: Phase, offset: int) -> None:
        """Tell the spans of tombstones below *offset*, which the store has hidden or erased."""
        waiting = self._purges.get(place)
        if not waiting:
            return
        now_ns = time.time_ns()
        phases: tuple[Phase, ...] = (HIDDEN,) if phase == HIDDEN else (HIDDEN, ERASED)  # implied
        for purge in waiting:
            for each in phases:
                if purge.end <= offset and each not in purge.said:
                    purge.said.add(each)
                    said = {**self._store, **messaging(each, "settle", *self._named(place))}
                    purge.span.child(each, Kind.INTERNAL, purge.applied_ns, now_ns, said)
        self._purges[place] = [purge for purge in waiting if ERASED not in purge.said]

    def forget(self) -> None:
        """Forget what was on its way: the places are others'."""
        self._read.clear()
        self._purges.clear()

    def _tell(self, place: Place, group: _Group, applied_ns: int) -> None:
        topic, fetched_ns = self._settings.topic(place.topic), self._fetched_ns
        published_ns = min(group.published_ms * MS, fetched_ns)
        of_record = messaging("process", "process", *self._named(place))
        if group.outputs > 1:
            of_record["messaging.batch.message_count"] = group.outputs
        else:
            of_record["messaging.kafka.offset"] = group.first
        if group.purges == group.outputs:
            of_record["messaging.kafka.message.tombstone"] = True
        of_record["messaging.consumer.group.name"] = self._group
        span = self._spans.begin(
            f"process {topic}",
            Kind.CONSUMER,
            group.parent,
            published_ns,
            {**self._store, **of_record},
            group.tracestate,
        )
        if span is None:
            return
        poll = messaging("poll", "receive", *self._named(place))
        span.child(f"poll {topic}", Kind.CLIENT, published_ns, fetched_ns, poll)
        span.child("apply", Kind.INTERNAL, fetched_ns, applied_ns, self._store)
        span.end(applied_ns)
        if group.purges and sum(map(len, self._purges.values())) < GROUPS_MAX:
            purge = _Purge(group.last + 1, span, applied_ns)
            self._purges.setdefault(place, []).append(purge)

    def _named(self, place: Place) -> tuple[str, int]:
        return self._settings.topic(place.topic), place.partition

"""
The spans of input records whose `traceparent` says that the caller records the trace.

    process objections          the caller's child: from the broker's time stamp to the commit
      poll objections           until it was fetched
      decide                    decoded and folded, with all that came with it
      send                      its outputs, which carry this span as their `traceparent`
        fan out                 from there to its last item, where they are many
      commit objections         the transaction

A span is told when it is over, by the cycle's milestones; what is rolled back leaves none.  Names
and kinds are those of OpenTelemetry's semantic conventions for messaging.  For the event loop's
thread; a worker without tracing has no `RecordSpans` at all.
"""

import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from streams.core.trace_context import trace_context
from streams.settings import Settings
from streams.tracing import Kind, OpenSpan, Spans
from streams.tracing.messaging import header_of, messaging, tracestate_of
from streams.tracing.rate import TRACED_PER_S, Rate
from streams.tracing.spans import MS
from streams.worker.folded import Folded
from streams.worker.intake import Entry, Intake
from streams.worker.names import CONTENT
from streams.worker.rounds import Place, Round

if TYPE_CHECKING:
    from confluent_kafka import Message

    from streams.worker.cycle import Watch

OPEN_MAX: Final = 2_000  # records on their way that have spans; others are traced by nobody
FANNING_MAX: Final = 2_000  # the same of fan-outs


class _Record:
    """
    A record on its way.

    traceparent: of its outputs; span_id: of the span that sends them.
    error: why it became a dead letter.
    """

    def __init__(self, offset: int, received_ns: int, fetched_ns: int, span: OpenSpan) -> None:
        self.offset = offset
        self.received_ns = received_ns
        self.fetched_ns = fetched_ns
        self.decided_ns = 0
        self.span = span
        self.span_id = 0
        self.traceparent = b""
        self.error: str | None = None


class RecordSpans:
    """Implements `cycle.Watch`; the worker tells besides what was `taken` and `decoded`."""

    def __init__(self, settings: Settings, spans: Spans) -> None:
        self._settings = settings
        self._spans = spans
        self._rate = Rate()
        # By place, in the order of offsets: those on their way, and those decided.
        self._open: dict[Place, deque[_Record]] = {}
        self._open_n = 0
        # Since when fan-outs go on beyond their cycle, by partition and traceparent.
        self._fanning: dict[tuple[int, bytes], int] = {}

    def taken(self, taken: Round, fetched_ns: int) -> None:
        """Begin the spans of a round's records, which were fetched at *fetched_ns*."""
        for topic, batches in taken.batches.items():
            for fetched in batches:
                for message in fetched.messages:
                    if message.headers() is not None:
                        self._begin((topic, fetched.partition), message, fetched_ns)

    def decoded(self, intake: Intake) -> Intake:
        """Return *intake* with records that cause outputs under the spans that send them."""
        records = {each.offset: each for each in self._open.get(_place(intake), ())}
        if not records:
            return intake
        errors = _errors(intake) if intake.dead_letters else {}
        entries = []
        for entry in intake.entries:
            record = records.get(entry.origin.offset)
            if record is not None:
                record.error = errors.get(record.offset)
            entries.append(entry if record is None else _under(entry, record.traceparent))
        return intake._replace(entries=entries)

    def on_folded(self, cycle: list[Folded]) -> None:
        """Note which records a cycle has decided on."""
        now_ns = time.time_ns()
        for part in cycle:
            for handled in part.handled:
                end = part.positions[handled.topic]
                for record in self._open.get((handled.topic, part.partition.number), ()):
                    if record.offset < end and not record.decided_ns:
                        record.decided_ns = now_ns

    def on_committed(self, cycle: list[Folded]) -> None:
        """Tell the spans of what is committed."""
        for part in cycle:
            number = part.partition.number
            counts: Mapping[bytes, int] | None = None
            for handled in part.handled:
                end, place = part.positions[handled.topic], (handled.topic, number)
                records = self._open.get(place)
                while records and records[0].offset < end:
                    record = records.popleft()
                    self._open_n -= 1
                    if counts is None:
                        counts = _counts(part)
                    self._end(place, record, part, counts.get(record.traceparent, 0))
            self._fan_out(part)

    def rolled_back(self) -> None:
        """Forget what was on its way: it is read again."""
        self._open.clear()
        self._open_n = 0

    def _begin(self, place: Place, message: "Message", fetched_ns: int) -> None:
        parent = trace_context(header_of(message, "traceparent"))
        offset = message.offset()
        if parent is None or not parent.sampled or offset is None or self._open_n >= OPEN_MAX:
            return
        leave = TRACED_PER_S // 2 if place[0] == CONTENT else 0  # for objections, ages and notices
        if not self._rate.take(fetched_ns, leave=leave):
            return
        topic, number = self._settings.topic(place[0]), place[1]
        received_ns = min(message.timestamp()[1] * MS, fetched_ns)
        span = self._spans.begin(
            f"process {topic}",
            Kind.CONSUMER,
            parent,
            received_ns,
            {
                **messaging("process", "process", topic, number, offset),
                "messaging.consumer.group.name": self._settings.group,
            },
            tracestate_of(message),
        )
        if span is None:
            return
        record = _Record(offset, received_ns, fetched_ns, span)
        record.span_id = self._spans.new_span_id()
        record.traceparent = span.context._replace(span_id=record.span_id).traceparent
        records = self._open.setdefault(place, deque())
        while records and records[-1].offset >= offset:  # read again
            records.pop()
            self._open_n -= 1
        records.append(record)
        self._open_n += 1

    def _end(self, place: Place, record: _Record, part: Folded, outputs_n: int) -> None:
        topic, number = self._settings.topic(place[0]), place[1]
        began_ns, committed_ns = part.delivered.began_ns, part.delivered.at_ms * MS
        decided_ns = record.decided_ns or began_ns
        record.span.child(
            f"poll {topic}",
            Kind.CLIENT,
            record.received_ns,
            record.fetched_ns,
            messaging("poll", "receive", topic, number, record.offset),
        )
        record.span.child("decide", Kind.INTERNAL, record.fetched_ns, decided_ns, {})
        send = messaging("send", "send", partition=number)
        send["messaging.batch.message_count"] = outputs_n
        record.span.child("send", Kind.PRODUCER, decided_ns, committed_ns, send, record.span_id)
        record.span.child(
            f"commit {topic}",
            Kind.CLIENT,
            began_ns,
            committed_ns,
            messaging("commit", "settle", topic, number, record.offset),
        )
        record.span.end(committed_ns, record.error)

    def _fan_out(self, part: Folded) -> None:
        number, committed_ns = part.partition.number, part.delivered.at_ms * MS
        for fanned in part.delayed:
            if fanned.traceparent is not None:
                self._fanning.setdefault((number, fanned.traceparent), committed_ns)
        for fanned in part.fanned:
            parent = trace_context(fanned.traceparent)
            if parent is None or fanned.traceparent is None:
                continue
            # One that a restarted worker goes on with is told from there.
            since_ns = self._fanning.pop((number, fanned.traceparent), part.delivered.began_ns)
            attributes = messaging("send", "send", partition=number)
            if parent.sampled and (
                span := self._spans.begin("fan out", Kind.INTERNAL, parent, since_ns, attributes)
            ):
                span.end(committed_ns)
        while len(self._fanning) > FANNING_MAX:  # replaced by others, and never told as done
            del self._fanning[next(iter(self._fanning))]


class WatchedBySpans:
    """Implements `cycle.Watch` for a *watch* and for spans."""

    def __init__(self, watch: "Watch", spans: RecordSpans) -> None:
        self._watch = watch
        self._spans = spans

    def on_folded(self, cycle: list[Folded]) -> None:
        """Pass it on."""
        self._watch.on_folded(cycle)
        self._spans.on_folded(cycle)

    def on_committed(self, cycle: list[Folded]) -> None:
        """Pass it on."""
        self._watch.on_committed(cycle)
        self._spans.on_committed(cycle)

    def rolled_back(self) -> None:
        """Pass it on."""
        self._watch.rolled_back()
        self._spans.rolled_back()


def _place(intake: Intake) -> Place:
    return intake.topic, intake.partition


def _under(entry: Entry, traceparent: bytes) -> Entry:
    return replace(entry, origin=replace(entry.origin, traceparent=traceparent))


def _errors(intake: Intake) -> dict[int, str]:
    """Return the codes of bad records by their offsets."""
    found = {}
    for letter in intake.dead_letters:
        said = dict(letter.headers)
        found[int(said["dlq_offset"] or -1)] = str(said["dlq_error"], "ascii")  # type: ignore[arg-type]
    return found


def _counts(part: Folded) -> Mapping[bytes, int]:
    """Return how many outputs carry each `traceparent`."""
    return Counter(
        value
        for output in part.outputs
        for name, value in output.headers
        if name == "traceparent" and isinstance(value, bytes)
    )

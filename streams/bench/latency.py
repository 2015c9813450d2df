"""
One latency run: records offered at a rate, and how long each waits for its answer.

A latency is the time of receipt by a read_committed consumer minus the time just before the record
was handed to the producer, both by the clock of this machine, in three processes: who offers, who
is measured, who reads.  It so holds everything: both ways through Kafka, batching, the commit.
Content records are matched by content_id, objections by the id of the cause in `eligibility`; an
objection that changes nothing, or is overtaken by a newer decision, has no decision of its own.
"""

import time
from array import array
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final, NamedTuple

import msgspec

from streams.bench.activity import account, objection
from streams.bench.peers import Place
from streams.bench.produce import Make, PacedProducer, preload
from streams.bench.run import (
    START_TIMEOUT_S,
    Offsets,
    Say,
    differences,
    is_quiet,
    wait_for_answers,
)
from streams.bench.systems import System
from streams.bench.watch import Seen, Watcher
from streams.bench.workload import Allowed, Record, answered_ids, make, probes
from streams.errors import CommandError

LOOK_S: Final = 0.1
ACCOUNT: Final = "account"  # the one that objects in the middle
KNOWN_PER_S: Final = 300.0  # so many records even a slow system has to answer
GROWTH_MS: Final = 500.0  # by which the last quarter may wait longer than the first: noise
DRAIN_FACTOR: Final = 3.0  # of the time of offering: so long a system that lags may take,
DRAIN_S: Final = 30.0  # and so much longer


class Spread(msgspec.Struct, frozen=True):
    """A distribution of latencies in milliseconds; all are None where nothing was matched."""

    count: int
    p50_ms: float | None
    p99_ms: float | None
    worst_ms: float | None
    p999_ms: float | None = None


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one run measured.

    rate, offered_per_s: events per second asked for, and really offered.
    growth_ms: how much longer, at the median, the last quarter waited than the first.
    unanswered_at_end: content records that waited when the last record was offered.
    finished: whether all were answered in the end; if not, latencies are those of the answered.
    kept_up: finished, and no longer waits at the end than at the beginning.
    stolen_share: of the machine's processor time, while records were offered (see `Usage`).
    account_items, account_purged_s: of the account that objects in the middle, if there is one, the
    items and the time from its objection to the receipt of the last one's tombstone.
    """

    system: str
    rate: float
    offered_per_s: float
    records: int
    kept_up: bool
    growth_ms: float
    unanswered_at_end: int
    finished: bool
    answers: Spread
    objections: Spread
    account_items: int
    account_purged_s: float | None
    cpu_us_per_event: float
    resident_mib: float
    stolen_share: float
    differences: tuple[str, ...]


class Load(NamedTuple):
    """
    What is offered: the workload that *make* makes of *seed*, *warmup_s* of it not measured.

    account_items: of an account that is known beforehand and objects in the middle; 0 for none.
    """

    records: Sequence[Record]
    seed: int
    rate: float
    warmup_s: float
    make: Make = make
    account_items: int = 0

    @property
    def known(self) -> list[Record]:
        """What is answered before the first record is offered."""
        return [*probes(), *(account(self.account_items, ACCOUNT) if self.account_items else ())]

    @property
    def everything(self) -> list[Record]:
        """All that has been written in the end."""
        objections = [objection(ACCOUNT)] if self.account_items else []
        return [*self.known, *self.records, *objections]


def measure(name: str, place: Place, load: Load, allowed: Allowed, say: Say) -> Latency:
    """Run system *name* at *place*; *allowed* is what must stand in the end."""
    first = load.known
    before = len(answered_ids(first))
    wanted = len(answered_ids(load.records)) + before
    with (
        Watcher(place.bootstrap, place.prefix, place.partitions, ACCOUNT) as watcher,
        PacedProducer(
            place.bootstrap, place.prefix, len(load.records), load.seed, load.rate, load.make
        ) as producer,
        System(name, place) as system,
    ):
        say(f"{name}: starting")
        preload(place.bootstrap, place.prefix, first, lambda _done: None)
        wait_for_answers(system, watcher, before, _known_timeout_s(before))
        begun = system.usage()
        producer.tell("begin")
        objected_ns = _follow(system, place, producer, load, say)
        unanswered = wanted - watcher.answered
        ended = system.usage()
        sent_ns = producer.finish()
        say(f"{name}: waiting for the last answers")
        finished = _drain(system, place, watcher, wanted, len(load.records) / load.rate)
        seen = watcher.finish()
    purged = objected_ns and len(seen.purged) == load.account_items
    measured = [
        (record, at_ns)
        for record, at_ns in zip(load.records, sent_ns, strict=True)
        if at_ns >= sent_ns[0] + load.warmup_s * 1e9
    ]
    answers_ms = list(_answers_ms(measured, seen))
    growth_ms = growth(answers_ms)
    return Latency(
        system=name,
        rate=load.rate,
        offered_per_s=_offered_per_s(sent_ns),
        records=len(load.records),
        kept_up=finished and growth_ms <= GROWTH_MS,
        growth_ms=growth_ms,
        unanswered_at_end=unanswered,
        finished=finished,
        answers=spread(answers_ms),
        objections=spread(_decisions_ms(measured, seen)),
        account_items=load.account_items,
        account_purged_s=(seen.purged_ns - objected_ns) / 1e9 if purged else None,
        cpu_us_per_event=(ended.cpu_s - begun.cpu_s) / len(load.records) * 1e6,
        resident_mib=ended.resident_bytes / 2**20,
        stolen_share=ended.stolen_since(begun),
        differences=tuple(differences(seen, allowed)) if finished else (),
    )


def spread(latencies_ms: Iterable[float]) -> Spread:
    """Return the distribution of *latencies_ms*; percentiles are values that occurred."""
    ordered = sorted(latencies_ms)
    if not ordered:
        return Spread(0, None, None, None)
    last = len(ordered) - 1
    p50_ms, p99_ms, p999_ms = (ordered[round(last * share)] for share in (0.5, 0.99, 0.999))
    return Spread(len(ordered), p50_ms, p99_ms, ordered[last], p999_ms)


def growth(latencies_ms: Sequence[float]) -> float:
    """Return by how much the median of the last quarter exceeds that of the first."""
    quarter = len(latencies_ms) // 4
    if not quarter:
        return 0.0
    return median(latencies_ms[-quarter:]) - median(latencies_ms[:quarter])


def _known_timeout_s(records: int) -> float:
    return START_TIMEOUT_S + records / KNOWN_PER_S


def _follow(system: System, place: Place, producer: PacedProducer, load: Load, say: Say) -> int:
    """Wait for the end of offering; return when the account objected, 0 if there is none."""
    objected_ns = 0
    middle = (load.warmup_s * load.rate + len(load.records)) / 2
    while not producer.has_answered():
        system.check()
        if load.account_items and not objected_ns and producer.sent >= middle:
            objected_ns = time.time_ns()
            preload(place.bootstrap, place.prefix, [objection(ACCOUNT)], lambda _done: None)
        say(
            f"{system.name} at {load.rate:,.0f}/s: "
            f"{producer.sent:,} of {len(load.records):,} offered"
        )
        time.sleep(LOOK_S)
    return objected_ns


def _drain(system: System, place: Place, watcher: Watcher, wanted: int, offering_s: float) -> bool:
    """Return whether the system answers all, and commits its inputs, in time."""
    deadline_s = time.monotonic() + offering_s * DRAIN_FACTOR + DRAIN_S
    offsets = Offsets(place, system.group)
    try:
        while time.monotonic() < deadline_s:
            system.check()
            if watcher.answered >= wanted and is_quiet(watcher):
                found = offsets.committed()
                if found.done >= found.all:
                    return True
            time.sleep(LOOK_S)
    finally:
        offsets.close()
    return False


def _offered_per_s(sent_ns: "array[int]") -> float:
    if len(sent_ns) < 2:
        raise CommandError("too few records to measure a rate: raise --seconds or --rates")
    return (len(sent_ns) - 1) / (sent_ns[-1] - sent_ns[0]) * 1e9


def _answers_ms(measured: list[tuple[Record, int]], seen: Seen) -> Iterable[float]:
    for record, at_ns in measured:
        if record.topic == "content" and record.id in seen.answered_ns:
            yield (seen.answered_ns[record.id] - at_ns) / 1e6


def _decisions_ms(measured: list[tuple[Record, int]], seen: Seen) -> Iterable[float]:
    for record, at_ns in measured:
        if record.topic == "objections" and record.id in seen.decided_ns:
            yield (seen.decided_ns[record.id] - at_ns) / 1e6

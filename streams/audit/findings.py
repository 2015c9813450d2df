"""
What an audit found, for people and machines.  Pure.

A store's operator has no right to reasons, ages or causes: a finding says what stands in the
topic, what in the store, and no more.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from streams.audit.judge import FAILS, Kind
from streams.core.times import rfc3339

MEANINGS: Final[Mapping[Kind, str]] = {
    Kind.FORBIDDEN: "found in the store, purged in the topics",
    Kind.UNKNOWN: "found in the store, never in the topics",
    Kind.OUTDATED: "found with other fields than the topic's",
    Kind.MISSING: "allowed in the topics, not found in the store",
    Kind.MEMORY: "remembered by the store with another pair than the topic's",
}


class Finding(Struct, frozen=True, kw_only=True):
    """
    A key that is wrong.

    kind: name of a `Kind`, in small letters.
    key: as in the topic; `blake2b:…` where the store keeps no more of it.
    partition: of its record; where there is none, that of the user it is said to be of, or None.
    in_topic, in_store: what stands there; None for nothing.
    """

    kind: str
    topic: str
    partition: int | None
    key: str
    in_topic: dict[str, Any] | None
    in_store: dict[str, Any] | None


class Lag(Struct, frozen=True):
    """A place of which the store has not said that it has applied all."""

    topic: str
    partition: int
    records: int


class Unerased(Struct, frozen=True):
    """A place where purges since then are hidden and, past the store's schedule, not erased."""

    topic: str
    partition: int
    since: str


class Report(Struct, kw_only=True):
    """
    What an audit found.

    counts, mended: by kind; findings: the first of each.
    late: items found that must not be, by tombstones the store has not yet acknowledged.
    on_their_way: items not yet in the store, for the same reason.
    items_allowed: by the topics; items_found: in the store.
    """

    sink: str
    store: str | None
    audited_at: str
    items_allowed: int
    items_found: int
    counts: dict[str, int]
    mended: dict[str, int] | None = None
    findings: list[Finding]
    late: int
    on_their_way: int
    lag: list[Lag]
    unerased: list[Unerased]
    notes: list[str]
    took_s: float = 0.0

    @property
    def failed(self) -> int:
        """How many keys were there that must not be."""
        return sum(self.counts.get(name_of(kind), 0) for kind in FAILS)

    @property
    def found(self) -> int:
        """How many keys were wrong."""
        return sum(self.counts.values())


def name_of(kind: Kind) -> str:
    """Return the name of *kind* for reports."""
    return kind.name.lower()


def lines_of(report: Report) -> Iterator[str]:
    """Return the report for people, but for its last line."""
    for kind, meaning in MEANINGS.items():
        count = report.counts.get(name_of(kind), 0)
        if not count:
            continue
        yield f"{name_of(kind)}: {count:,} {meaning}"
        shown = [each for each in report.findings if each.kind == name_of(kind)]
        yield from (f"  {_line(each)}" for each in shown)
        if count > len(shown):
            yield f"  … and {count - len(shown):,} more (--limit)"
    if report.late:
        yield (
            f"late: {report.late:,} items found that the topics have purged beyond what the store "
            "has acknowledged"
        )
    if report.on_their_way:
        yield f"on their way: {report.on_their_way:,} items, beyond what the store has acknowledged"
    if report.lag:
        behind = sum(each.records for each in report.lag)
        worst = max(report.lag, key=lambda each: each.records)
        yield (
            f"lag: {behind:,} records behind in {len(report.lag)} partitions, most in "
            f"{worst.topic}/{worst.partition} with {worst.records:,}"
        )
    for each in report.unerased:
        yield f"not erased: {each.topic}/{each.partition}, purges since {each.since}"
    yield from (f"note: {text}" for text in report.notes)


def last_line(report: Report) -> str:
    """Return what it comes to."""
    counted = ", ".join(f"{count:,} {name}" for name, count in report.counts.items() if count)
    scope = (
        f"{report.items_found:,} items in the store, {report.items_allowed:,} allowed by the "
        f"topics, {report.took_s:.1f} s"
    )
    if not report.found:
        late = f", but {report.late:,} items are late" if report.late else ""
        return f"Nothing is wrong{late}: {scope}."
    if report.mended is None:
        return f"Found {counted}: {scope}."
    mended = sum(report.mended.values())
    left = report.found - mended
    end = "all mended" if not left else f"{mended:,} mended, {left:,} NOT mended"
    return f"Found {counted}; {end}: {scope}."


def _line(finding: Finding) -> str:
    place = finding.topic if finding.partition is None else f"{finding.topic}/{finding.partition}"
    return (
        f"{place} {finding.key}: topic {_text(finding.in_topic)}; store {_text(finding.in_store)}"
    )


def _text(fields: Mapping[str, Any] | None) -> str:
    if fields is None:
        return "has nothing"
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def at_text(instant_ms: int) -> str:
    """Return an instant as reports have it."""
    return rfc3339(instant_ms)

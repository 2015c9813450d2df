"""
The figures of the report on objections: counts, delays, and what is overdue.  Pure.

A delay counts from the broker time stamp of the objection to what its receipt says.  Of a set of
delays p50 and p99 are the smallest that at least so many per cent do not exceed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import Final, NamedTuple

from msgspec import Struct

from streams.core.receipts import Receipt
from streams.core.times import read_rfc3339

UNKNOWN: Final = "unknown"
CHANNELS: Final = ("in_app", "email", "web", "mail", "import", UNKNOWN)
# Published within so many seconds; what is slower, and what is not published yet, have their own.
WITHIN_S: Final = (1, 5, 60, 3_600)
PUBLISHED: Final = "published"


class Filed(NamedTuple):
    """
    An objection, or a withdrawal, of the period, and its receipt where there is one.

    hide_only: stores that never tell of erasing.
    """

    objection_id: str
    action: str
    channel: str
    country: str
    received_ms: int
    receipt: Receipt | None
    hide_only: frozenset[str] = frozenset()


class Delays(Struct, frozen=True):
    """What it took to one stage, in seconds; None where nothing got there."""

    stage: str
    reached: int
    open: int
    p50_s: float | None
    p99_s: float | None
    worst_s: float | None


class Group(Struct, frozen=True):
    """The objections of one channel or country, by how soon they were published."""

    name: str
    objections: int
    within: tuple[int, ...]  # by WITHIN_S, each without those before
    later: int
    unpublished: int


class Overdue(Struct, frozen=True):
    """An objection of which something is open for too long, and what; without its user."""

    objection_id: str
    action: str
    received_ms: int
    open: tuple[str, ...]


class Figures(Struct, frozen=True, kw_only=True):
    """The whole report; *dead_letters* counts them by topic and code."""

    since_ms: int
    until_ms: int
    made_ms: int
    overdue_after_s: float
    objections: int
    withdrawals: int
    channels: tuple[Group, ...]
    countries: tuple[Group, ...]
    delays: tuple[Delays, ...]
    overdue: tuple[Overdue, ...]
    dead_letters: tuple[tuple[str, str, int], ...]


class Period(NamedTuple):
    """From *since_ms* to before *until_ms*, by broker time stamps; looked at at *made_ms*."""

    since_ms: int
    until_ms: int
    made_ms: int


def figures(
    period: Period,
    filed: Iterable[Filed],
    dead_letters: Mapping[tuple[str, str], int],
    overdue_after_s: float,
) -> Figures:
    """Return the figures of what was *filed* in *period*."""
    everything = sorted(filed, key=lambda each: (each.received_ms, each.objection_id))
    objections = [each for each in everything if each.action == "filed"]
    late_before_ms = period.made_ms - 1_000 * overdue_after_s
    late = [each for each in everything if each.received_ms < late_before_ms]
    return Figures(
        since_ms=period.since_ms,
        until_ms=period.until_ms,
        made_ms=period.made_ms,
        overdue_after_s=overdue_after_s,
        objections=len(objections),
        withdrawals=len(everything) - len(objections),
        channels=_groups(objections, lambda each: each.channel, CHANNELS),
        countries=_groups(objections, lambda each: each.country, ()),
        delays=tuple(_delays(objections)),
        overdue=tuple(
            Overdue(each.objection_id, each.action, each.received_ms, found)
            for each in late
            if (found := _open(each))
        ),
        dead_letters=tuple((*key, count) for key, count in sorted(dead_letters.items())),
    )


def stages(each: Filed) -> dict[str, int | None]:
    """Return when each stage of an objection was reached, None for not yet; by the stage's name."""
    receipt = each.receipt
    if receipt is None:
        return {PUBLISHED: None}
    found = {PUBLISHED: _ms(receipt.published_at)}
    for name, progress in sorted(receipt.stores.items()):
        found[f"hidden in {name}"] = _ms(progress.hidden_at)
        if name not in each.hide_only:
            found[f"erased in {name}"] = _ms(progress.erased_at)
    return found


def _open(each: Filed) -> tuple[str, ...]:
    """Return the stages that are open."""
    if each.receipt is not None and each.receipt.completed_at is not None:
        return ()  # whatever its stores are called now
    return tuple(name for name, at_ms in stages(each).items() if at_ms is None)


def _delays(objections: Iterable[Filed]) -> Iterable[Delays]:
    reached: dict[str, list[float]] = {PUBLISHED: []}
    missing: Counter[str] = Counter()
    for each in objections:
        still_open = _open(each)
        for name, at_ms in stages(each).items():
            times = reached.setdefault(name, [])
            if at_ms is not None:
                times.append((at_ms - each.received_ms) / 1_000)
            elif name in still_open:
                missing[name] += 1
    for name, times in reached.items():
        times.sort()
        yield Delays(
            name,
            len(times),
            missing[name],
            _percentile(times, 50),
            _percentile(times, 99),
            times[-1] if times else None,
        )


def _percentile(ordered: list[float], per_cent: int) -> float | None:
    return ordered[ceil(len(ordered) * per_cent / 100) - 1] if ordered else None


def _groups(
    objections: Iterable[Filed], name_of: Callable[[Filed], str], always: tuple[str, ...]
) -> tuple[Group, ...]:
    found: dict[str, list[Filed]] = {name: [] for name in always}
    for each in objections:
        found.setdefault(name_of(each), []).append(each)
    names = [*always, *sorted(found.keys() - set(always))]
    return tuple(_group(name, found[name]) for name in names)


def _group(name: str, objections: list[Filed]) -> Group:
    within = [0] * len(WITHIN_S)
    later = unpublished = 0
    for each in objections:
        at_ms = stages(each)[PUBLISHED]
        if at_ms is None:
            unpublished += 1
            continue
        delay_s = (at_ms - each.received_ms) / 1_000
        for index, limit_s in enumerate(WITHIN_S):
            if delay_s <= limit_s:
                within[index] += 1
                break
        else:
            later += 1
    return Group(name, len(objections), tuple(within), later, unpublished)


def _ms(text: str | None) -> int | None:
    return None if text is None else read_rfc3339(text)

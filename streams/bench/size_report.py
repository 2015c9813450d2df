"""
Measured bytes -> what a service of a given size needs, with the formula; for people and as JSON.
"""

from typing import Any

import msgspec

from streams.bench.size import Bytes, Measured, needed

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is asked for.

    events_per_s: content records of new items, at the busiest.
    """

    accounts: int
    items_per_account: float
    partitions: int
    workers: int
    events_per_s: float


def as_json(measured: Measured, wanted: Wanted) -> dict[str, Any]:
    """Return what was measured and what is needed, in bytes."""
    total = _total(measured, wanted)
    return {
        "measurement": "size",
        "wanted": msgspec.to_builtins(wanted),
        "measured": msgspec.to_builtins(measured),
        "total": msgspec.to_builtins(total),
        "per_worker_store": total.store / wanted.workers,
        "per_partition_store": total.store / wanted.partitions,
        "changelog_bytes_per_s": measured.per_record.changelogs * wanted.events_per_s,
        "output_bytes_per_s": measured.per_record.outputs * wanted.events_per_s,
    }


def table(measured: Measured, wanted: Wanted) -> list[str]:
    """Return lines for people."""
    total = _total(measured, wanted)
    rows = [("", "local stores", "changelogs", "outputs"), *_measured_rows(measured)]
    items = wanted.accounts * wanted.items_per_account
    rows += [
        (f"{wanted.accounts:,} accounts, {items:,.0f} items", *_shown(total)),
        (f"a worker of {wanted.workers}", shown(total.store / wanted.workers), "", ""),
        (f"a partition of {wanted.partitions}", *_shown(total.times(1 / wanted.partitions))),
        (
            f"written at {wanted.events_per_s:,.0f} new items/s",
            "",
            f"{shown(measured.per_record.changelogs * wanted.events_per_s)}/s",
            f"{shown(measured.per_record.outputs * wanted.events_per_s)}/s",
        ),
    ]
    width = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:<{width}}" + "".join(f"{each:>15}" for each in row[1:]) for row in rows]
    return [
        *lines,
        "",
        "needed = accounts x (bytes of an account) + items x (bytes of an item): one copy of each;",
        "times the replication factor for topics, and a local store once more for each standby.",
        f"measured with {measured.accounts:,} accounts of {measured.items_per_account} items, ids "
        f"of {measured.id_bytes} bytes, after compaction; what is written a second is before it.",
        "Leave half of a disk free: compaction writes a file anew before it removes the old ones.",
    ]


def shown(number: float) -> str:
    """Return *number* of bytes for people."""
    unit = 0
    while number >= 1_000 and unit + 1 < len(_UNITS):
        number /= 1_000
        unit += 1
    return f"{number:.0f} {_UNITS[unit]}" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"


def _total(measured: Measured, wanted: Wanted) -> Bytes:
    return needed(measured, wanted.accounts, round(wanted.accounts * wanted.items_per_account))


def _measured_rows(measured: Measured) -> list[tuple[str, ...]]:
    return [
        ("an account", *_shown(measured.per_account)),
        ("an item", *_shown(measured.per_item)),
    ]


def _shown(found: Bytes) -> tuple[str, ...]:
    return shown(found.store), shown(found.changelogs), shown(found.outputs)

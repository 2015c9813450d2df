"""
The figures of a run: counts, and how long objections took to reach each place.

Times are those of the receipts, which the worker publishes from its own outputs and from what the
stores acknowledge: from the broker's time stamp of the objection on.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from streams.core.receipts import Receipt
from streams.core.times import read_rfc3339
from streams.proof import Record


class Latency(NamedTuple):
    """Nearest-rank percentiles of the times of so many *objections*."""

    objections: int
    p50_ms: int
    p99_ms: int
    worst_ms: int


@dataclass(slots=True)
class Figures:
    """
    What the tables show; `latencies` by the place reached, in the order of the table.

    receipt: of the largest account's objection, as `objections receipt` prints it.
    """

    prefix: str = ""
    seconds: float = 0.0
    users_known: int = 0
    users_eligible_before: int = 0
    users_eligible: int = 0
    items_known: int = 0
    items_allowed_before: int = 0
    items_allowed: int = 0
    items_purged: int = 0
    largest_account_items_purged: int = 0
    objections_filed: int = 0
    objections_partial: int = 0
    objections_withdrawn: int = 0
    objections_purging: int = 0
    under_age: int = 0
    late_items: int = 0
    hidden_items: int = 0
    latencies: dict[str, Latency] = field(default_factory=dict)
    receipt: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return all of it for machines."""
        found = asdict(self)
        found["latencies"] = {name: each._asdict() for name, each in self.latencies.items()}
        found["ok"] = not self.differences
        return found


def percentiles(times_ms: Iterable[int]) -> Latency:
    """Return the percentiles of *times_ms*, of which there is at least one."""
    ordered = sorted(times_ms)

    def rank(share: float) -> int:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return Latency(len(ordered), rank(0.5), rank(0.99), ordered[-1])


def purged_items(content: Iterable[Record]) -> dict[str, str]:
    """Return the items that stood once and are purged now, with their users."""
    stood: set[bytes | None] = set()
    purged: dict[str, str] = {}
    for record in content:
        if record.value is not None:
            stood.add(record.key)
            purged.pop(record.key_text, None)
        elif record.key in stood:
            purged[record.key_text] = (record.header("ce_subject") or b"").decode()
    return purged


def latencies(receipts: Iterable[Receipt]) -> dict[str, Latency]:
    """Return how long the objections that had items to purge took to get where *receipts* tell."""
    times: dict[str, list[int]] = defaultdict(list)
    for receipt in receipts:
        if receipt.action != "filed" or not receipt.items:
            continue
        ends = {"decided": receipt.decided_at, "published": receipt.published_at}
        for name, progress in receipt.stores.items():
            ends[f"hidden in {name}"] = progress.hidden_at
            ends[f"erased from {name}"] = progress.erased_at
        for place, at in ends.items():
            if at is not None:
                times[place].append(read_rfc3339(at) - read_rfc3339(receipt.received_at))
    return {place: percentiles(found) for place, found in times.items()}

"""
The figures of a run: counts, and how long objections took to reach each place.

Times begin with the broker's time stamp of the objection.  Until a tombstone they end with the
broker's time stamp of it, until a store with the wall clock after the store's commit: the same
clock where Kafka runs on this machine.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import msgspec

from streams.proof import Record


class Latency(NamedTuple):
    """Nearest-rank percentiles of the times of so many *objections*."""

    objections: int
    p50_ms: int
    p99_ms: int
    worst_ms: int


@dataclass(slots=True)
class Figures:
    """What the table shows; `latencies` by the place reached, in the order of the table."""

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


def latencies(
    objections: Iterable[Record],
    objection_ids: set[str],
    users: Iterable[Record],
    content: Iterable[Record],
    stores: Mapping[str, Mapping[str, int]],
) -> dict[str, Latency]:
    """
    Return how long it took from each of the objections filed with *objection_ids*.

    users, content: records of `training-users` and `training-content`.
    stores: by name, when a tombstone (by its place) had been applied for good.
    """
    accounts, items = _tombstones(users), _tombstones(content)
    names = ["account's tombstone", "last item's tombstone"]
    names += [f"{what} {name}" for name in stores for what in ("hidden in", "removed from")]
    times: dict[str, list[int]] = {name: [] for name in names}
    for objection in objections:
        if not _is_filed(objection, objection_ids):
            continue
        cause = (objection.key_text, objection.timestamp_ms)
        of_account, of_items = accounts.get(cause, []), items.get(cause, [])
        ends = {
            "account's tombstone": [each.timestamp_ms for each in of_account],
            "last item's tombstone": [each.timestamp_ms for each in of_items],
        }
        for name, purged_ms in stores.items():
            ends[f"hidden in {name}"] = _applied(of_account, purged_ms)
            ends[f"removed from {name}"] = _applied(of_items, purged_ms)
        for name, found_ms in ends.items():
            if found_ms:
                times[name].append(max(found_ms) - objection.timestamp_ms)
    return {name: percentiles(found) for name, found in times.items() if found}


def _tombstones(records: Iterable[Record]) -> dict[tuple[str, int], list[Record]]:
    """Return the tombstones by what caused them: the user, and the broker time stamp."""
    found: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in records:
        if record.value is None:
            headers = dict(record.headers)
            user_id = (headers["ce_subject"] or b"").decode()
            found[user_id, int(headers["objections_received_at"] or 0)].append(record)
    return found


def _applied(tombstones: list[Record], purged_ms: Mapping[str, int]) -> list[int]:
    """Return when a store had applied *tombstones*; nothing while one of them is missing."""
    found = [purged_ms[each.place] for each in tombstones if each.place in purged_ms]
    return found if len(found) == len(tombstones) else []


def _is_filed(objection: Record, objection_ids: set[str]) -> bool:
    try:
        value = msgspec.json.decode(objection.value or b"null")
    except msgspec.DecodeError:
        return False
    return (
        isinstance(value, dict)
        and value.get("objection_id") in objection_ids
        and value.get("action") == "filed"
    )

"""
What the last hour was like, from numbers that only grow: histograms of latencies, and counts.

A snapshot is kept for every minute, so an hour is an hour and at most a minute.  No clock here.
"""

from collections import Counter, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from streams.latencies import BOUNDS_MS

HOUR_S: Final = 3600.0
MINUTE_S: Final = 60.0

Key = TypeVar("Key", bound=Hashable)
Counts = Sequence[int]  # how many took no longer than each of BOUNDS_MS, then how many there are


@dataclass(frozen=True, slots=True)
class Spread:
    """
    Latencies of an hour, as far as buckets tell.

    p50_s, p99_s: the least bound in seconds that so many kept; infinite above the greatest bound,
    None where there is nothing.
    """

    count: int
    p50_s: float | None
    p99_s: float | None


def spread(counts: Counts) -> Spread:
    """Return the spread of a histogram."""
    count = counts[-1]
    return Spread(count, _bound_s(counts, 50), _bound_s(counts, 99))


class LatenciesOfHour(Generic[Key]):
    """Histograms that only grow, by any key, as they were every minute; began_s: of the first."""

    def __init__(self, began_s: float) -> None:
        self._snapshots: deque[tuple[float, Mapping[Key, Counts]]] = deque([(began_s, {})])

    def note(self, now_s: float, histograms: Mapping[Key, Counts]) -> None:
        """Keep how *histograms* stand, unless that was done within the last minute."""
        if now_s - self._snapshots[-1][0] >= MINUTE_S:
            self._snapshots.append((now_s, dict(histograms)))
        while len(self._snapshots) > 1 and now_s - self._snapshots[1][0] >= HOUR_S:
            self._snapshots.popleft()

    def over(
        self, now_s: float, histograms: Mapping[Key, Counts]
    ) -> tuple[float, dict[Key, Spread]]:
        """Return how many seconds are covered, and the spreads in them; *histograms* are of now."""
        since_s, then = self._snapshots[0]
        spreads = {}
        for key, counts in histograms.items():
            before = then.get(key, (0,) * len(counts))
            spreads[key] = spread([now - was for now, was in zip(counts, before, strict=True)])
        return now_s - since_s, spreads


class CountsOfHour(Generic[Key]):
    """How often each key came in the last hour."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[float, Counter[Key]]] = deque()

    def add(self, now_s: float, key: Key) -> None:
        """Count *key* once."""
        if not self._minutes or now_s - self._minutes[-1][0] >= MINUTE_S:
            self._minutes.append((now_s, Counter()))
        self._minutes[-1][1][key] += 1

    def over(self, now_s: float) -> Counter[Key]:
        """Return the counts of the last hour, and forget those before it."""
        while self._minutes and now_s - self._minutes[0][0] >= HOUR_S:
            self._minutes.popleft()
        found: Counter[Key] = Counter()
        for _, counts in self._minutes:
            found.update(counts)
        return found


def _bound_s(counts: Counts, percent: int) -> float | None:
    count = counts[-1]
    if not count:
        return None
    for bound_ms, within in zip(BOUNDS_MS, counts[:-1], strict=True):
        if within * 100 >= count * percent:
            return bound_ms / 1000
    return float("inf")

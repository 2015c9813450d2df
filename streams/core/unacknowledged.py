"""
Outputs of one partition that some store has still to acknowledge, for the stores' metrics.

Memory is bounded however long a store is down: transactions are kept apart while they are few, and
put together by twos, fours and so on when they are many.  A group counts as old as the oldest of
them and as far as the newest: a latency or an age may be told too long, and never too short.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

GROUPS_MAX: Final = 2_048
CAUSES_MAX: Final = 64  # time stamps kept apart in one group

Purges = tuple[tuple[int, int], ...]  # broker time stamp of the cause, and how many; ascending


class Group(NamedTuple):
    """Outputs of *transactions* neighbours, the first of *committed_ms*; the purges among them."""

    committed_ms: int
    purges: Purges
    transactions: int = 1


class Unacknowledged:
    """The outputs of one topic and partition, oldest first."""

    def __init__(self) -> None:
        self._ends: list[int] = []  # the offset behind each group; rising
        self._groups: list[Group] = []
        self._grain = 1  # transactions put together in a group

    def add(self, end: int, committed_ms: int, purges_ms: Iterable[int] = ()) -> None:
        """Note outputs up to *end*, and the time stamps of the causes of the purges in them."""
        if not self._ends:
            self._grain = 1
        elif end <= self._ends[-1]:
            return
        self._append(end, Group(committed_ms, _few(Counter(purges_ms))))

    def _append(self, end: int, group: Group) -> None:
        if self._groups and self._groups[-1].transactions + group.transactions <= self._grain:
            self._ends[-1] = end
            self._groups[-1] = _joined([self._groups[-1], group])
            return
        self._ends.append(end)
        self._groups.append(group)
        if len(self._ends) > GROUPS_MAX:
            self._grain *= 2
            self._ends = self._ends[1::2] + self._ends[len(self._ends) // 2 * 2 :]
            pairs = [self._groups[at : at + 2] for at in range(0, len(self._groups), 2)]
            self._groups = [_joined(pair) for pair in pairs]

    def extend(self, newer: "Unacknowledged") -> None:
        """Note the outputs of *newer* behind these."""
        for end, group in zip(newer._ends, newer._groups, strict=True):
            if not self._ends or end > self._ends[-1]:
                self._append(end, group)

    def oldest_ms(self, level: int) -> int | None:
        """Return when the oldest output at or above *level* was committed; None for none."""
        index = bisect_right(self._ends, level)
        return self._groups[index].committed_ms if index < len(self._groups) else None

    def purges(self, begin: int, end: int) -> Purges:
        """Return the purges that a store moving from *begin* to *end* has applied."""
        groups = self._groups[bisect_right(self._ends, begin) : bisect_right(self._ends, end)]
        return tuple(purge for group in groups for purge in group.purges)

    def drop(self, level: int) -> None:
        """Forget what all stores have applied."""
        index = bisect_right(self._ends, level)
        del self._ends[:index]
        del self._groups[:index]


def _joined(neighbours: list[Group]) -> Group:
    if len(neighbours) == 1:
        return neighbours[0]
    counts: Counter[int] = Counter()
    for each in neighbours:
        counts.update(dict(each.purges))
    transactions = sum(each.transactions for each in neighbours)
    return Group(neighbours[0].committed_ms, _few(counts), transactions)


def _few(counts: Mapping[int, int]) -> Purges:
    """Return *counts* by time stamp, neighbours counted as of the earlier where they are many."""
    found = sorted(counts.items())
    while len(found) > CAUSES_MAX:
        pairs = [found[at : at + 2] for at in range(0, len(found), 2)]
        found = [(pair[0][0], sum(count for _, count in pair)) for pair in pairs]
    return tuple(found)

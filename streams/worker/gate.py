"""
What a partition may grant: nothing, what came of older records, or all.

The fetch thread says when objections, ages and notices lag and what of them is read; grants wait
until all of that is folded, too.  `backlog` has the rule.
"""

from collections.abc import Mapping


class Gate:
    """The hold on the grants of one partition; there is one from the start."""

    def __init__(self) -> None:
        self._awaited: dict[str, int] | None = None
        self._free_below: Mapping[str, int] | None = None

    def close(self) -> None:
        """Grant nothing more until `open_at`."""
        self._awaited = None

    def open_at(
        self, positions: dict[str, int], free_below: Mapping[str, int] | None = None
    ) -> None:
        """
        Grant once all *positions* of user topics have been folded.

        free_below: offsets by topic's full name; no more than what came of records below them.
        """
        self._awaited = positions
        self._free_below = free_below

    def is_closed(self, positions: Mapping[str, int]) -> bool:
        """Whether nothing may be granted; a rollback behind the positions awaited closes again."""
        if self._awaited is None:
            return True
        return any(positions[topic] < offset for topic, offset in self._awaited.items())

    def is_open(self, positions: Mapping[str, int]) -> bool:
        """Whether all may be granted."""
        return self._free_below is None and not self.is_closed(positions)

    def free_below(self, positions: Mapping[str, int]) -> Mapping[str, int] | None:
        """Return below which offsets records may grant while others may not; None if none may."""
        return None if self.is_closed(positions) else self._free_below

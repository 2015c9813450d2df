"""
What a format has to offer for `streams.sinks.lake`: two tables, read by columns and changed whole.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

import pyarrow as pa

from streams.sinks.lake_columns import Flags
from streams.sinks.sink import Place, Position


class Conflict(Exception):
    """Another writer was first: look at the tables again and decide anew."""


class Rows(Protocol):
    """The rows of a partition number in one version of a table."""

    def read(self, columns: Iterable[str]) -> pa.Table:
        """Return *columns* of all rows, in the same order each time."""


class ItemChange(NamedTuple):
    """
    What to change in a partition number's items.

    rows: as they were looked at; they must still be so.
    gone: which of them leave, a flag for each row.
    added: rows of ITEM_SCHEMA.
    """

    rows: Rows
    gone: Flags
    added: pa.Table


class Tables(Protocol):
    """Two tables in some format.  Each method that writes is one durable step unless it says so."""

    def open(self) -> None:
        """Connect and make what is missing; `Unreachable` when that cannot be."""

    def look(self, partitions: Iterable[int]) -> None:
        """Take the newest version: first of `items`, then of `state`."""

    def release(self) -> None:
        """End what `look` began; called however it went."""

    def partitions(self) -> set[int]:
        """Return the partition numbers that either table has rows of."""

    def items(self, partition: int) -> Rows: ...

    def state(self, partition: int) -> Rows: ...

    def shown_in(self) -> AbstractSet[int | None]:
        """Return where readers find items: partition numbers, and None for outside of any."""
        return self.partitions()

    def shown(self, partition: int | None, columns: Iterable[str]) -> pa.Table:
        """Return what readers find there; *partition* was looked at, or is None."""
        assert partition is not None
        return self.items(partition).read(columns)

    def drop_strays(self, content_ids: AbstractSet[str]) -> None:  # noqa: ARG002 (overridden)
        """Remove items that lie outside of any partition number, where that can be."""
        return

    def add_state(self, added: Mapping[int, pa.Table]) -> None:
        """Add rows of STATE_SCHEMA; `Conflict` when the caller must look again."""

    def drop_state(self, dropped: Mapping[int, tuple[Rows, Flags]]) -> None:
        """Take the flagged rows out; `Conflict` when they are not as looked at."""

    def change_items(
        self, changes: Mapping[int, ItemChange], reached: Mapping[Place, Position]
    ) -> None:
        """
        Change items and note the positions; `Conflict` when the items are not as looked at.

        The greater position of a place stays.
        """

    def reached(self, candidates: Iterable[tuple[Place, Position]]) -> Mapping[Place, Position]:
        """Return the positions noted with the items; *candidates* are those `state` has seen."""

    def erase(self) -> None:
        """Remove the bytes that neither table needs any more from disk, indexes and versions."""

    def close(self) -> None: ...


def further(noted: Position | None, reached: Position) -> Position:
    """Return the greater position: a process that was frozen may write an old one."""
    return reached if noted is None else max(noted, reached, key=how_far)


def how_far(position: Position) -> tuple[int, int]:
    """Return what decides which of two positions of a place is the greater."""
    return position.generation, position.offset

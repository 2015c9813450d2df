"""
The two rules of `streams.sinks.sink` for stores made of files, over two tables: `items`, `state`.

Each change first becomes a row of `state`.  Then `items` is brought to what `state` says about the
keys and accounts concerned, in one step with the positions.  A crash in between leaves `items`
behind, and the positions with it: the same changes come again and find their rows in `state`.

`items` is compared and swapped: what was decided on an older version of a partition's items is
decided anew.  `state` is read after the version was noted, so of two writers of one partition
number (one of accounts, one of items) the later knows what the earlier has added.
"""

import functools
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streams.errors import Busy
from streams.sinks.contents import FIELDS, Key, Remembered, Shown
from streams.sinks.lake_columns import (
    ACCOUNT,
    FENCE_FIELDS,
    ITEM,
    ITEM_FIELDS,
    KIND_OF_TOPIC,
    STATE_SCHEMA,
    TOPIC_OF_POSITION,
    Fences,
    Flags,
    Integers,
    holding,
    item_rows,
    position_rows,
    state_rows,
)
from streams.sinks.lake_contents import (
    SHOWN_COLUMNS,
    among,
    hashes_of,
    pages_of,
    remembered_in,
)
from streams.sinks.sink import Batch, Change, Place, Position, Sink, winners
from streams.sinks.tables import Conflict, ItemChange, Rows, Tables, how_far

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

# A purged item is out of reach at once and out of the files this much later at most.  Each time
# costs one pass over what changed: for a million rows a few seconds, under 1 % of 15 minutes.
ERASE_EVERY_S: Final = 900.0
LOOKED_AT: Final = ("content_id", "epoch", "revision")  # Of the items that are there.
ATTEMPTS_MAX: Final = 30  # Of one commit against other writers; then the caller is asked to wait.
BUSY_RETRY_S: Final = 2.0


class LakeSink(Sink):
    """
    A sink over two tables.

    erase_every_s: how often purged bytes are removed from the files.
    """

    fields = FIELDS

    def __init__(self, tables: Tables, erase_every_s: float = ERASE_EVERY_S) -> None:
        self.erase_every_s = erase_every_s
        self._tables = tables

    def open(self) -> None:
        self._tables.open()

    def positions(self) -> Mapping[Place, Position]:
        """
        Return the lower of what `items` and `state` have got to.

        They differ after a crash, and when one of the tables was taken back to an earlier version.
        """

        def read() -> dict[Place, Position]:
            seen = [
                position
                for partition in self._tables.partitions()
                for position in _positions(self._tables.state(partition), partition)
            ]
            noted = self._tables.reached(seen)
            known = {
                place: max((p for q, p in seen if q == place), key=how_far) for place, _ in seen
            }
            return {
                place: min(position, known[place], key=how_far)
                for place, position in noted.items()
                if place in known
            }

        return self._attempt(self._attempt((), self._tables.partitions), read)

    def apply(self, batch: Batch) -> None:
        by_partition: dict[int, list[Change]] = defaultdict(list)
        for change in winners(batch.changes):
            by_partition[change.partition].append(change)
        reached = {
            partition: {p: at for p, at in batch.reached.items() if p.partition == partition}
            for partition in {place.partition for place in batch.reached} | by_partition.keys()
        }

        def attempt() -> None:
            added: dict[int, pa.Table] = {}
            changes: dict[int, ItemChange] = {}
            for partition, positions in reached.items():
                if not (news := by_partition[partition]):
                    added[partition] = position_rows(positions)
                    continue
                one = _Partition(self._tables, partition, news, positions)
                added[partition] = one.added
                # Worked out before `state` is written: that may replace the files it is read from.
                if change := one.items():
                    changes[partition] = change
            self._tables.add_state({p: rows for p, rows in added.items() if rows.num_rows})
            self._tables.change_items(changes, batch.reached)

        self._attempt(reached, attempt)

    def sweep(self, place: Place, generation: int) -> None:
        def attempt() -> None:
            state = self._tables.state(place.partition)
            fences = Fences.of(state.read(FENCE_FIELDS))
            gone = _older(fences, KIND_OF_TOPIC[place.topic], generation)
            if gone.any():
                self._tables.drop_state({place.partition: (state, gone)})
                self._tables.look((place.partition,))
            # Everything is compared, as an earlier sweep may have ended half-way.
            one = _Partition(self._tables, place.partition, [], {})
            if change := one.items(everything=True):
                self._tables.change_items({place.partition: change}, {})

        self._attempt((place.partition,), attempt)

    def erase(self) -> None:
        def tidy(partition: int) -> None:
            state = self._tables.state(partition)
            fences = Fences.of(state.read(FENCE_FIELDS))
            gone = np.ones(len(fences.epoch), np.bool_)
            gone[holding(fences)] = False
            if gone.any():
                self._tables.drop_state({partition: (state, gone)})

        for partition in sorted(self._attempt((), self._tables.partitions)):
            self._attempt((partition,), functools.partial(tidy, partition))
        self._attempt((), self._tables.erase)

    def shown(self) -> Iterator[Sequence[Shown]]:
        for part in sorted(self._attempt((), self._tables.shown_in), key=str):
            # Nothing is held while the rows are looked at.
            looked = () if part is None else (part,)
            yield from pages_of(self._attempt(looked, functools.partial(self._shown, part)))

    def remembered(self) -> Iterator[Remembered]:
        for partition in sorted(self._attempt((), self._tables.partitions)):
            fences = self._attempt((partition,), functools.partial(self._fences, partition))
            yield from remembered_in(fences)

    def expel(self, topic: str, found: Sequence[tuple[Key, str]]) -> None:
        high, low = hashes_of(key for key, _ in found)
        ids = {key for key, _ in found if isinstance(key, str)}

        def act(partition: int) -> None:
            state = self._tables.state(partition)
            fences = Fences.of(state.read(FENCE_FIELDS))
            gone = among(fences, KIND_OF_TOPIC[topic], high, low)
            if gone.any():
                self._tables.drop_state({partition: (state, gone)})
                self._tables.look((partition,))
            # What nothing is remembered of has no place among the items.
            one = _Partition(self._tables, partition, [], {})
            if change := one.items(everything=True):
                self._tables.change_items({partition: change}, {})

        self._attempt((), functools.partial(self._tables.drop_strays, ids))
        for partition in sorted(self._attempt((), self._tables.partitions)):
            self._attempt((partition,), functools.partial(act, partition))

    def close(self) -> None:
        self._tables.close()

    def _shown(self, partition: int | None) -> pa.Table:
        return self._tables.shown(partition, SHOWN_COLUMNS)

    def _fences(self, partition: int) -> Fences:
        return Fences.of(self._tables.state(partition).read(FENCE_FIELDS))

    def _attempt(self, partitions: Iterable[int], act: Callable[[], _T]) -> _T:
        """Return what *act* returns on the newest version; again when another was first."""
        for attempt in range(ATTEMPTS_MAX):
            try:
                self._tables.look(partitions)
                return act()
            except (Conflict, FileNotFoundError) as conflict:  # Erased since it was looked at.
                _log.debug("another writer was first (%s): deciding anew", conflict)
                time.sleep(random.uniform(0, min(1.0, 0.01 * 2**attempt)))
                last = conflict
            finally:
                self._tables.release()
        raise Busy(f"other writers were first {ATTEMPTS_MAX} times in a row: {last}", BUSY_RETRY_S)


class _Partition:
    """
    A partition number's state with a batch merged in, and what its items must become.

    added: the changes that `state` has to learn: those that win, or confirm for a new generation.
    """

    def __init__(
        self,
        tables: Tables,
        partition: int,
        changes: list[Change],
        reached: Mapping[Place, Position],
    ) -> None:
        self._items = tables.items(partition)
        self._state = tables.state(partition)
        self._changes = changes
        stored = Fences.of(self._state.read(FENCE_FIELDS))
        rows = state_rows(partition, changes, reached)
        fresh = Fences.of(rows)
        news = _news(stored, fresh)
        # The fence is a tombstone, and the record confirms it.
        voids = [
            change._replace(value=None)
            for change, new, purged in zip(changes, news, fresh.purged.tolist(), strict=True)
            if new is not None and new != purged
        ]
        plain = [new == purged for new, purged in zip(news, fresh.purged.tolist(), strict=True)]
        self.added = pa.concat_tables(
            [
                rows.filter(pa.array(plain, pa.bool_())),
                state_rows(partition, voids, reached),
                position_rows(reached),
            ]
        )
        self._stored_rows = len(stored.epoch)
        self._fences = stored.joined(Fences.of(self.added))
        self._touched_accounts = fresh.key_high[fresh.row_kind == ACCOUNT]
        self._touched_items = fresh.key_high[fresh.row_kind == ITEM]

    def items(self, *, everything: bool = False) -> ItemChange | None:
        """Return what to change so that items are as `state` has them; None for nothing."""
        fences = self._fences
        of_items = fences.row_kind == ITEM
        of_accounts = of_items & np.isin(fences.account_high, self._touched_accounts)
        # All rows of a key, as a purged row does not say whose it was.
        keys = np.union1d(fences.key_high[of_accounts], self._touched_items)
        rows = np.flatnonzero(of_items & (everything | np.isin(fences.key_high, keys)))
        rows = rows[holding(fences.take(rows))]
        rows = rows[~fences.purged[rows]]
        stand = self._unlocked(rows)
        usable = self._values(rows[stand], ITEM_FIELDS)
        ids = {c.key for c in self._changes if KIND_OF_TOPIC[c.topic] == ITEM}
        hidden = self._values(rows[~stand], ["content_id"]).column("content_id")

        looked = self._items.read(LOOKED_AT)
        candidates = pa.concat_arrays(
            [
                pa.array(list(ids), pa.string()),
                usable.column("content_id").combine_chunks().cast(pa.string()),
                hidden.combine_chunks().cast(pa.string()),
            ]
        )
        found = (
            np.ones(looked.num_rows, np.bool_)
            if everything
            else _flags(pc.is_in(looked.column("content_id"), candidates))
        )
        return self._difference(looked, found, usable)

    def _difference(self, looked: pa.Table, found: Flags, usable: pa.Table) -> ItemChange | None:
        """Compare the *found* rows of *looked* with those that are to be there."""
        wanted = {
            content_id: (epoch, revision, row)
            for row, (content_id, epoch, revision) in enumerate(_ranks(usable))
        }
        gone = found.copy()
        missing = np.ones(usable.num_rows, np.bool_)
        places = np.flatnonzero(found)
        for place, (content_id, epoch, revision) in zip(
            places.tolist(), _ranks(looked.take(pa.array(places))), strict=True
        ):
            rank = wanted.get(content_id)
            if rank is not None and rank[:2] == (epoch, revision) and missing[rank[2]]:
                gone[place] = False
                missing[rank[2]] = False
        if not gone.any() and not missing.any():
            return None
        return ItemChange(self._items, gone, item_rows(usable.filter(pa.array(missing))))

    def _unlocked(self, rows: Integers) -> Flags:
        """Return which of *rows*, all items that stand, have an account that stands."""
        fences = self._fences
        accounts = np.flatnonzero(
            (fences.row_kind == ACCOUNT) & np.isin(fences.key_high, fences.account_high[rows])
        )
        accounts = accounts[holding(fences.take(accounts))]
        accounts = accounts[~fences.purged[accounts]]
        stand = set(
            zip(fences.key_high[accounts].tolist(), fences.key_low[accounts].tolist(), strict=True)
        )
        owners = zip(
            fences.account_high[rows].tolist(), fences.account_low[rows].tolist(), strict=True
        )
        return np.fromiter((owner in stand for owner in owners), np.bool_, len(rows))

    def _values(self, rows: Integers, columns: Iterable[str]) -> pa.Table:
        """Return *columns* of *rows*; those of the batch come last."""
        fields = ["partition", *columns]
        in_batch = rows >= self._stored_rows
        parts = [self.added.select(fields).take(pa.array(rows[in_batch] - self._stored_rows))]
        if not in_batch.all():
            parts.insert(0, self._state.read(fields).take(pa.array(rows[~in_batch])))
        schema = pa.schema([STATE_SCHEMA.field(name) for name in fields])
        return pa.concat_tables([part.select(fields).cast(schema) for part in parts])


def _news(stored: Fences, fresh: Fences) -> list[bool | None]:
    """
    Return for each row of *fresh* whether it is to be stored as a purge; None when not at all.

    A lower pair is dropped.  An equal one is stored to confirm the key for a later generation; a
    tombstone wins the tie.
    """
    concerned = stored.take(np.isin(stored.key_high, fresh.key_high))
    held = concerned.take(holding(concerned))
    known = {row[:3]: row[3:] for row in _keys_and_ranks(held)}
    news: list[bool | None] = []
    for kind, high, low, epoch, revision, purged, generation in _keys_and_ranks(fresh):
        fence = known.get((kind, high, low))
        if fence is None or (epoch, revision, purged) > fence[:3]:
            news.append(purged)
        elif (epoch, revision) == fence[:2] and generation > fence[3]:
            news.append(fence[2])
        else:
            news.append(None)
    return news


def _keys_and_ranks(fences: Fences) -> Iterable[tuple[Any, ...]]:
    fields = ("row_kind", "key_high", "key_low", "epoch", "revision", "purged", "generation")
    return zip(*(getattr(fences, name).tolist() for name in fields), strict=True)


def _older(fences: Fences, kind: int, generation: int) -> Flags:
    """Return the rows of *kind* whose key was confirmed by no generation from this one on."""
    held = holding(fences)
    kept = held[(fences.row_kind[held] != kind) | (fences.generation[held] >= generation)]
    gone = np.ones(len(fences.epoch), np.bool_)
    gone[kept] = False
    return gone


def _positions(state: Rows, partition: int) -> list[tuple[Place, Position]]:
    """Return every position that *state* has a row of."""
    table = state.read(["row_kind", "epoch", "revision", "content_id"])
    table = table.filter(
        pc.and_(
            pc.is_in(table.column("row_kind"), pa.array(list(TOPIC_OF_POSITION), pa.int32())),
            pc.is_valid(table.column("content_id")),
        )
    )
    return [
        (
            Place(TOPIC_OF_POSITION[row["row_kind"]], partition),
            Position(row["content_id"], row["revision"], row["epoch"]),
        )
        for row in table.to_pylist()
    ]


def _ranks(table: pa.Table) -> Iterable[tuple[str, int, int]]:
    columns: list[list[Any]] = [table.column(name).to_pylist() for name in LOOKED_AT]
    return zip(*columns, strict=True)


def _flags(column: pa.ChunkedArray) -> Flags:
    flags: Flags = np.asarray(column)
    return flags

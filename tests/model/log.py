"""
Kafka, as far as the protocol leans on it: inputs, a group, transactions, one log of their records.

A transaction's changelog row and outputs are one entry of the log.  A commit is decided in one
step and carried out in two, in any order: the offsets count, the entry counts.  That is so in
Kafka: its markers reach the partitions one by one.  Entries that have ended, with none open before
them, are folded into what readers know by them: the fewer the states, the further the search goes.
"""

from enum import Enum
from typing import NamedTuple, TypeVar

from tests.model.core import USER, Output, Positions, Row

T = TypeVar("T")


class Status(Enum):
    """Of an entry: readers of committed data stop at the first that is open."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"

    __hash__ = object.__hash__  # quicker than by name


class Entry(NamedTuple):
    """What one transaction has written."""

    status: Status
    row: Row
    outputs: tuple[Output, ...]


class Past(NamedTuple):
    """
    What the log holds before its entries.

    row: the last committed one.  last: the last committed output of each key.
    seen: what readers of uncommitted data keep.
    tail: what lies aborted behind the last committed entry.
    """

    row: Row = Row()
    last: tuple[Output, ...] = ()
    seen: tuple[Output, ...] = ()
    tail: tuple[Output, ...] = ()


class Transaction(NamedTuple):
    """
    A worker's transaction that has not ended everywhere.

    decided: it is committed, whatever happens now.
    offsets: pending ones.
    entry: where in the log its records are; None: not written yet, or their marker is there.
    """

    decided: bool = False
    offsets: Positions | None = None
    entry: int | None = None


class Kafka(NamedTuple):
    """
    The cluster.

    arrived: the records of the inputs that have arrived.
    generation, owner: of the group with its one partition.
    committed: the group's offsets.
    transactions, fenced: by worker.
    """

    arrived: Positions
    generation: int
    owner: int
    committed: Positions
    transactions: tuple[Transaction | None, ...]
    fenced: tuple[bool, ...]
    past: Past = Past()
    entries: tuple[Entry, ...] = ()

    def last_stable(self) -> int:
        """Return where readers of committed data stop: at the first open entry, or at the end."""
        for at, entry in enumerate(self.entries):
            if entry.status is Status.OPEN:
                return at
        return len(self.entries)

    def has_pending_offsets(self) -> bool:
        """Whether some transaction that has not ended holds offsets."""
        return any(each is not None and each.offsets is not None for each in self.transactions)

    def change(self, worker: int, transaction: Transaction | None) -> "Kafka":
        """Return the cluster with another transaction of *worker*; one that has ended is none."""
        if transaction == (True, None, None):
            transaction = None
        return self._replace(transactions=put(self.transactions, worker, transaction))

    def write(self, worker: int, row: Row, outputs: tuple[Output, ...]) -> "Kafka":
        """Return the cluster once the records of a worker's transaction are in the log."""
        transaction = self.transactions[worker]
        assert transaction is not None
        entries = (*self.entries, Entry(Status.OPEN, row, outputs))
        then = self.change(worker, transaction._replace(entry=len(self.entries)))
        return then._replace(entries=entries)

    def abort(self, worker: int) -> "Kafka":
        """Return the cluster once a worker's transaction is rolled back."""
        transaction = self.transactions[worker]
        assert transaction is not None
        assert not transaction.decided
        return self._end(transaction.entry, Status.ABORTED).change(worker, None)

    def count_offsets(self, worker: int) -> "Kafka":
        """Return the cluster once the marker of a decided commit has reached the offsets."""
        transaction = self.transactions[worker]
        assert transaction is not None
        assert transaction.offsets is not None
        then = self._replace(committed=transaction.offsets)
        return then.change(worker, transaction._replace(offsets=None))

    def count_entry(self, worker: int) -> "Kafka":
        """Return the cluster once the marker of a decided commit has reached the log."""
        transaction = self.transactions[worker]
        assert transaction is not None
        then = self._end(transaction.entry, Status.COMMITTED)
        return then.change(worker, transaction._replace(entry=None))

    def _end(self, at: int | None, status: Status) -> "Kafka":
        if at is None:
            return self
        return self._replace(
            entries=put(self.entries, at, self.entries[at]._replace(status=status))
        )

    def without_first(self) -> "Kafka":
        """Return the cluster whose first entry, which has ended, is part of the past."""
        first, past = self.entries[0], self.past
        past = past._replace(seen=highest((*past.seen, *first.outputs)))
        if first.status is Status.COMMITTED:
            last = {each.key: each for each in (*past.last, *first.outputs)}
            past = past._replace(row=first.row, last=tuple(sorted(last.values())), tail=())
        else:
            past = past._replace(tail=highest((*past.tail, *first.outputs)))
        transactions = tuple(
            each if each is None or each.entry is None else each._replace(entry=each.entry - 1)
            for each in self.transactions
        )
        return self._replace(entries=self.entries[1:], past=past, transactions=transactions)


def put(values: tuple[T, ...], at: int, value: T) -> tuple[T, ...]:
    """Return *values* with another one at index *at*."""
    return (*values[:at], value, *values[at + 1 :])


def highest(outputs: tuple[Output, ...]) -> tuple[Output, ...]:
    """Return what a reader that remembers pairs keeps of each key, by key."""
    best: dict[str, Output] = {}
    for each in outputs:
        if each.key not in best or each.rank > best[each.key].rank:
            best[each.key] = each
    return tuple(best[key] for key in sorted(best))


def wrong_behind(last: tuple[Output, ...], outputs: tuple[Output, ...]) -> str | None:
    """Return what must not be in committed *outputs*, after the *last* ones of each key."""
    known = {each.key: each for each in last}
    for each in outputs:
        before = known.get(each.key)
        if before is not None and each[1:3] < before[1:3]:
            return f"the pair falls, from {before} to {each}"
        if each.key != USER and each.allowed and not (USER in known and known[USER].allowed):
            return f"no decision allows {each}"
        known[each.key] = each
    return None

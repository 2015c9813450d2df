"""
The audit trail of one partition: its head is a row of the state, written in one transaction with
the records that lead to it; so restarts, rollbacks and moves leave the chain whole.

**Where the topic does not exist no trail is kept**: whoever upgrades makes it when it suits, and
objections are carried out meanwhile.  The chain begins with the first cycle after that.
"""

from typing import Final, NamedTuple

from streams.core import trail
from streams.core.answers import Answers
from streams.core.fold import Fold
from streams.core.outputs import Output
from streams.core.trail import NO_RECORD, Head
from streams.errors import Halt
from streams.state import rows
from streams.state.rows import Row
from streams.state.store import Store


class Links(NamedTuple):
    """What a cycle adds: records of the trail, and the row that says where it ends."""

    outputs: list[Output]
    users_rows: list[Row]


NO_LINKS: Final = Links([], [])
_DIGITS: Final = 20


class Trail:
    """The chain of partition *number*, as far as it has been folded."""

    def __init__(self, store: Store, number: int) -> None:
        self._store = store
        self._number = number
        self._head = NO_RECORD
        self.reload()

    def reload(self) -> None:
        """Go back to what is committed: at the start, and after a rollback."""
        self._head = head_in(self._store)

    def link(self, fold: Fold, answers: Answers, now_ms: int) -> Links:
        """Return what tells of the decisions of a cycle that begin an epoch."""
        told = (change for change in fold.users.values() if change.publish)
        decisions = [
            trail.decided(change.after, output)
            for change, output in zip(told, answers.decisions, strict=True)
            if change.before is None or change.before.epoch != change.after.epoch
        ]
        if not decisions:
            return NO_LINKS
        outputs, self._head = trail.append(self._head, self._number, now_ms, decisions)
        return Links(outputs, [head_row(self._head)])


def head_in(store: Store) -> Head:
    """Return the head of the chain that the state in *store* knows."""
    data = store.get(rows.TRAIL_KEY)
    return NO_RECORD if data is None else decode_head(data)


def head_row(head: Head) -> Row:
    """Return the row that says that a chain ends with *head*."""
    return rows.TRAIL_KEY, rows.encode_text(f"{head.sequence}/{head.hash}")


def decode_head(data: bytes) -> Head:
    """Return the head in a row's *data*."""
    sequence, _, text = rows.decode_text(data).partition("/")
    if not (sequence.isdecimal() and len(sequence) < _DIGITS and len(text) == len(NO_RECORD.hash)):
        raise Halt("the row of the audit trail's end in the state is none that a worker wrote")
    return Head(int(sequence), text)

"""
What data stores report, and how far an objection has got: contract.md, "Output records".

A store says how far it has applied a partition of an output (`purge-acks`).  A receipt puts those
words together for one objection: once all that it caused is committed, it has a target in each
output, and a store is done with it when it has acknowledged the target of every output it follows.
Times in records are RFC 3339 in UTC; in rows, ms since 1970, 0 for not yet.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from streams.core.records import Id, Time
from streams.core.times import rfc3339

Phase = Literal["hidden", "erased"]
Action = Literal["filed", "withdrawn"]
Count = Annotated[int, Meta(ge=0)]
Rfc3339 = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]

HIDDEN: Final = "hidden"
ERASED: Final = "erased"
# The outputs that a store can follow; offsets in rows and levels are in this order.
FOLLOWED: Final = ("eligibility", "training-users", "training-content")
Offsets = tuple[int, int, int]
NOWHERE: Final[Offsets] = (0, 0, 0)


# For errors, in place of words that would quote what was found.
ACK: Final = "store, topic, partition, offset, phase and at, as the contract has them"


class PurgeAck(Struct, frozen=True):
    """Everything in one partition of an output below *offset* has been durably applied."""

    store: Id
    topic: Annotated[str, Meta(min_length=1, max_length=249)]
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    phase: Phase
    at: Time

    @property
    def key(self) -> str:
        """The record's key: the latest word of a store on a partition replaces its last one."""
        return f"{self.store}/{self.topic}/{self.partition}/{self.phase}"


class StoreProgress(Struct, frozen=True):
    """When a store had applied all that an objection caused; null until then."""

    hidden_at: Rfc3339 | None = None
    erased_at: Rfc3339 | None = None


class Receipt(Struct, frozen=True):
    """How far one objection, or its withdrawal, has got."""

    objection_id: Id
    user_id: Id
    action: Action
    received_at: Rfc3339
    decided_at: Rfc3339
    published_at: Rfc3339 | None = None
    items: Count = 0
    stores: dict[str, StoreProgress] = {}
    completed_at: Rfc3339 | None = None
    reopened_at: Rfc3339 | None = None

    @property
    def key(self) -> str:
        """The record's key: an objection and its withdrawal each have a receipt."""
        return f"{self.user_id}/{self.objection_id}/{self.action}"


class StoreRow(Struct, frozen=True, array_like=True, gc=False):
    """A store of a receipt; *erases*: it acknowledges `erased` too, and is done only then."""

    name: str
    erases: bool
    hidden_ms: int = 0
    erased_ms: int = 0

    @property
    def done_ms(self) -> int:
        """When the store was done with the receipt."""
        return self.erased_ms if self.erases else self.hidden_ms


class ReceiptRow(Struct, frozen=True, array_like=True, gc=False):
    """
    The state of a receipt.

    caused: whether the objection changed the decision, so that items were answered because of it.
    records: how many records told something new of it; the times are of the last of them.
    number, targets: given when it is published.  Numbers rise, and so do the targets with them.
    forget: the account is deleted, so the row leaves the state once the receipt is complete.
    """

    received_ms: int
    decided_ms: int
    stores: tuple[StoreRow, ...]
    caused: bool
    items: int = 0
    records: int = 1
    published_ms: int = 0
    number: int = 0
    targets: Offsets = NOWHERE
    completed_ms: int = 0
    reopened_ms: int = 0
    forget: bool = False


def extended(row: ReceiptRow, news: ReceiptRow) -> ReceiptRow:
    """
    Return *row* now that a further record of the same objection covers more: *news*.

    It waits for what that record caused too; its times are those of the record, the items add up.
    """
    return replace(
        news,
        items=row.items,
        records=row.records + 1,
        caused=row.caused or news.caused,
        reopened_ms=row.reopened_ms,
    )


def published(row: ReceiptRow, number: int, targets: Offsets, at_ms: int) -> ReceiptRow:
    """Return *row* now that the transaction with the last of its outputs is committed."""
    at_ms = max(at_ms, row.decided_ms)
    completed_ms = 0 if row.stores else at_ms
    return replace(
        row, published_ms=at_ms, number=number, targets=targets, completed_ms=completed_ms
    )


def reached(targets: Offsets, level: Offsets, topics: Iterable[int]) -> bool:
    """Whether a store that follows *topics* and has applied *level* is done with *targets*."""
    return all(targets[topic] <= level[topic] for topic in topics)


def applied(row: ReceiptRow, name: str, phase: Phase, at_ms: int) -> ReceiptRow:
    """Return *row* now that a store has reached its targets; the same where that is known."""
    found = _store(row, name)
    if found is None or not row.published_ms:
        return row
    at_ms = max(at_ms, row.published_ms)
    store = found
    if not store.hidden_ms:
        store = replace(store, hidden_ms=at_ms)
    if phase == ERASED and not store.erased_ms:
        store = replace(store, erased_ms=max(at_ms, store.hidden_ms))
    if store is found:
        return row
    stores = _with(row, store)
    completed_ms = 0
    if all(each.done_ms for each in stores):
        completed_ms = max(row.reopened_ms, *(each.done_ms for each in stores))
    return replace(row, stores=stores, completed_ms=completed_ms)


def reopened(row: ReceiptRow, name: str, phase: Phase, at_ms: int) -> ReceiptRow:
    """Return *row* now that a store has gone back behind it; the same where it was not there."""
    found = _store(row, name)
    if found is None or not (found.hidden_ms if phase == HIDDEN else found.erased_ms):
        return row
    hidden_ms = 0 if phase == HIDDEN else found.hidden_ms
    stores = _with(row, replace(found, hidden_ms=hidden_ms, erased_ms=0))
    at_ms = max(at_ms, row.published_ms)
    return replace(row, stores=stores, completed_ms=0, reopened_ms=at_ms)


def record(user_id: str, objection_id: str, action: Action, row: ReceiptRow) -> Receipt:
    """Return the record of a receipt for `receipts`."""
    stores = {
        each.name: StoreProgress(_text(each.hidden_ms), _text(each.erased_ms))
        for each in row.stores
    }
    return Receipt(
        objection_id,
        user_id,
        action,
        rfc3339(row.received_ms),
        rfc3339(row.decided_ms),
        _text(row.published_ms),
        row.items,
        stores,
        _text(row.completed_ms),
        _text(row.reopened_ms),
    )


def _store(row: ReceiptRow, name: str) -> StoreRow | None:
    for each in row.stores:
        if each.name == name:
            return each
    return None


def _with(row: ReceiptRow, store: StoreRow) -> tuple[StoreRow, ...]:
    return tuple(store if each.name == store.name else each for each in row.stores)


def _text(instant_ms: int) -> str | None:
    return rfc3339(instant_ms) if instant_ms else None

"""
Outputs -> rows of a state that was lost: a seed says how a user or an item stands outside.

A seeded row holds what stores have been told and no facts but those that are left.  It restricts
as ever, grants nothing, and is settled once the facts have been read again: decided anew in a
later epoch, published, and all of the user's items answered.
Source: contract.md, "Output records" ((epoch, revision) never falls) and "Decisions".
"""

from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from streams.core.changes import CLOCK, DUE_AT_ONCE_MS, NO_OFFSET, Cause, Held, UserRow
from streams.core.decode import decode_value
from streams.core.item import Item
from streams.core.outputs import Eligibility, TrainingContent
from streams.core.policy import Policy
from streams.core.reasons import KIND_INDEX, PRODUCT_INDEX, PRODUCTS, PUBLIC, Reason
from streams.core.times import NEVER_MS, to_ms
from streams.core.user import DELETED_USER, NOBODY
from streams.core.verdict import LONG_AGO_MS, Decision

# Before the value of a rebuilt item: white space to JSON, and less than what real ones begin with,
# so that at a tie of revisions the record itself holds.
LEAST: Final = b"\t"

_eligibility: Final = msgspec.json.Decoder(Eligibility)
_training_content: Final = msgspec.json.Decoder(TrainingContent)
_encode: Final = msgspec.json.Encoder().encode


def published_epoch(value: bytes) -> int:
    """Return the epoch of an `eligibility` record.  Raises msgspec.MsgspecError."""
    return _eligibility.decode(value).epoch


def user_seed(
    value: bytes, known: UserRow | None, policy: Policy, now_ms: int, partition: int, later: int
) -> UserRow:
    """
    Return the row of a user whose last decision is the `eligibility` record *value*.

    known: what is left of the row, None for nothing: its facts and its epoch are kept.
    later: by how much the epoch is to be raised above the published one.
    The coming of age is not published: all items of a granted product count as allowed, so that
    a restriction purges each of them.  Raises msgspec.MsgspecError.
    """
    record = _eligibility.decode(value)
    first, second, third, fourth = (
        _reasons(record.products.get(product, ())) for product in PRODUCTS
    )
    gone = all(each & Reason.ACCOUNT_DELETED for each in (first, second, third, fourth))
    facts = NOBODY if known is None else known.user
    adult_from_ms = NEVER_MS if gone else LONG_AGO_MS
    cause = record.cause
    return UserRow(
        DELETED_USER if gone else facts,
        max(record.epoch + later, 0 if known is None else known.epoch),
        Decision((first, second, third, fourth), adult_from_ms, policy.kinds_mask),
        DUE_AT_ONCE_MS,
        policy.version,
        to_ms(datetime.fromisoformat(record.decided_at)),
        Cause(cause.topic, cause.partition, cause.offset, cause.id),
        _held(partition, now_ms),
        seeded=True,
    )


def anew(row: UserRow, now_ms: int, partition: int) -> UserRow:
    """Return a row that was not lost, to be settled like a seed, in a later epoch."""
    if row.seeded:
        return row
    return replace(
        row,
        epoch=row.epoch + 1,
        next_change_ms=DUE_AT_ONCE_MS,
        held=_held(partition, now_ms),
        seeded=True,
    )


def item_seed(value: bytes) -> Item:
    """Return the item that the `training-content` record *value* allows: it was public."""
    record = _training_content.decode(value)
    fields = msgspec.to_builtins(record, builtin_types=(datetime,))
    del fields["epoch"]
    kept = LEAST + _encode({**fields, "visibility": "public"})
    decode_value(kept)  # as it will be, whenever the item is answered
    return Item(
        record.revision,
        PUBLIC,
        kept,
        PRODUCT_INDEX[record.product],
        KIND_INDEX[record.kind],
        to_ms(record.created_at),
    )


def _held(partition: int, now_ms: int) -> Held:
    """No record is the cause of what is found when a seed is settled, but that the time came."""
    return Held(Cause(CLOCK, partition, NO_OFFSET), now_ms)


def _reasons(names: tuple[str, ...]) -> int:
    """Return a set of reasons; an unknown one, of a newer worker, is some reason too."""
    found = 0
    for name in names:
        found |= Reason.__members__.get(name, Reason.UNREADABLE_INPUT)
    return int(found)

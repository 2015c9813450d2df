"""
A change as a row of a table: what the SQL stores share.

Two tables hold the two locks.  A row of a purged key is its fence and has no values left.
Pure: values in, values out.
"""

from collections.abc import Iterable
from typing import Any, Final

from streams.sinks.sink import TRAINING_USERS, Batch, Change, Place, winners

ACCOUNT: Final = ("key", "user_id", "product")
ITEM: Final = ("content_id", "user_id", "product", "kind", "modality", "language", "created_at")
# Behind the values of both: the fence, and what sweeps look at.
FENCE: Final = ("epoch", "revision", "allowed", "partition", "generation")

Row = tuple[Any, ...]


def split(batch: Batch) -> tuple[list[Row], list[Row]]:
    """Return the rows of accounts and of items that *batch* leads to, one for each key."""
    accounts, items = [], []
    for change in winners(batch.changes):
        generation = batch.reached[Place(change.topic, change.partition)].generation
        if change.topic == TRAINING_USERS:
            accounts.append(_account(change, generation))
        else:
            items.append(_item(change, generation))
    return accounts, items


def _account(change: Change, generation: int) -> Row:
    product, _, user_id = change.key.partition("/")
    return change.key, user_id, product, *_fence(change, generation)


def _item(change: Change, generation: int) -> Row:
    value = change.value or {}
    return change.key, *[value.get(name) for name in ITEM[1:]], *_fence(change, generation)


def _fence(change: Change, generation: int) -> Row:
    allowed = change.value is not None
    return change.epoch, change.revision, allowed, change.partition, generation


def upsert(table: str, columns: Iterable[str], greatest: str) -> str:
    """
    Return the end of an INSERT into *table*: a lower pair is dropped, a tombstone wins a tie.

    An equal pair still confirms the row.  *greatest* is the dialect's function for two numbers.
    """
    stays = (
        f"excluded.epoch = {table}.epoch AND excluded.revision = {table}.revision "
        f"AND excluded.allowed AND NOT {table}.allowed"
    )
    sets = [
        f"{name} = CASE WHEN {stays} THEN {table}.{name} ELSE excluded.{name} END"
        for name in columns
        if name != "generation"
    ]
    sets.append(f"generation = {greatest}({table}.generation, excluded.generation)")
    return (
        f"DO UPDATE SET {', '.join(sets)} WHERE "
        f"(excluded.epoch, excluded.revision) >= ({table}.epoch, {table}.revision)"
    )

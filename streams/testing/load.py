"""
Fills a store with very many items, and measures how quickly it purges.

Making the changes is not part of the times; they are made batch by batch, so memory stays small.
"""

import time
from collections.abc import Iterator
from typing import Any, Final

from streams.sinks.sink import (
    TRAINING_CONTENT,
    TRAINING_USERS,
    Batch,
    Change,
    Place,
    Position,
    Sink,
)
from streams.testing.output_log import PARTITIONS, PRODUCT, RECEIVED_MS, TOPIC_ID, partition_of

BATCH_CHANGES: Final = 5_000
ITEMS_OF_USER: Final = 50


def user_of(number: int, items_of_user: int = ITEMS_OF_USER) -> str:
    """Return whose item *number* is."""
    return f"user-{number // items_of_user:09d}"


def fill(sink: Sink, items: int, items_of_user: int = ITEMS_OF_USER) -> float:
    """Write *items* items and the records of their users; return items/s."""
    users = range(0, items, items_of_user)
    _apply(sink, _users(users, items_of_user))
    return items / _apply(sink, _items(range(items), items_of_user, epoch=1, allowed=True))


def purge(sink: Sink, numbers: range, items_of_user: int = ITEMS_OF_USER) -> float:
    """Purge the items *numbers* by their own tombstones; return purges/s, without `erase`."""
    return len(numbers) / _apply(sink, _items(numbers, items_of_user, epoch=2, allowed=False))


def _users(numbers: range, items_of_user: int) -> Iterator[Change]:
    for offset, number in enumerate(numbers):
        user = user_of(number, items_of_user)
        value = {"user_id": user, "product": PRODUCT, "epoch": 1}
        place = TRAINING_USERS, partition_of(user)
        yield Change(*place, offset, f"{PRODUCT}/{user}", user, 1, 0, value, RECEIVED_MS)


def _items(numbers: range, items_of_user: int, epoch: int, *, allowed: bool) -> Iterator[Change]:
    for number in numbers:
        user = user_of(number, items_of_user)
        name = f"item-{number:012d}"
        value: dict[str, Any] | None = None
        if allowed:
            value = {
                "content_id": name,
                "user_id": user,
                "revision": 1,
                "product": PRODUCT,
                "kind": "post",
                "modality": "text",
                "language": "de",
                "created_at": "2026-04-15T09:00:00Z",
                "epoch": epoch,
            }
        place = TRAINING_CONTENT, partition_of(user)
        # Offsets grow by one with the number, and by epochs far apart.
        offset = (epoch << 40) + number
        yield Change(*place, offset, name, user, epoch, 1, value, RECEIVED_MS)


def _apply(sink: Sink, changes: Iterator[Change]) -> float:
    """Apply *changes*; return the seconds spent in the sink."""
    spent_s = 0.0
    part: list[Change] = []
    for change in changes:
        part.append(change)
        if len(part) == BATCH_CHANGES:
            spent_s += _time(sink, part)
            part = []
    return spent_s + (_time(sink, part) if part else 0.0)


def _time(sink: Sink, part: list[Change]) -> float:
    topic, end = part[0].topic, part[-1].offset + 1
    reached = {Place(topic, number): Position(TOPIC_ID, end, 2) for number in range(PARTITIONS)}
    began_s = time.perf_counter()
    sink.apply(Batch(part, reached))
    return time.perf_counter() - began_s

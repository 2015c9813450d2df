"""
What is known of one content item.

`merge` is a join, as for users (see user.py).  The record that holds is the greatest by
(revision, less visible, value bytes); `created_ms` is the earliest of all; deletion and being
called a private message are final.  Source: contract.md, "Input records".
"""

from typing import Final

import msgspec
from msgspec import Struct

from streams.core.reasons import PRIVATE
from streams.core.times import NEVER_MS

NO_REVISION = -1  # nothing readable has arrived of this item

# Of one item: of as many the first stands for all before it, so that its row stays small.
DEAD_LETTERS_MAX: Final = 1_000


class Item(Struct, frozen=True, gc=False):
    """
    All facts about an item.

    visibility: rank in `VISIBILITIES`; product, kind: index in `PRODUCTS`, `KINDS`.
    value: bytes of the record that holds: they break ties, and modality and language are in them.
    readable_offset: the last good record's offset, -1 for none.
    dead_letters: offsets of its unreadable records behind that one, sorted, the highest.
    """

    revision: int = NO_REVISION
    visibility: int = PRIVATE
    value: bytes = b""
    product: int = 0
    kind: int = 0
    created_ms: int = NEVER_MS
    deleted: bool = False
    private_message: bool = False
    readable_offset: int = -1
    dead_letters: tuple[int, ...] = ()


UNKNOWN_ITEM = Item()


def merge(item: Item, news: Item) -> Item:
    """Return the item of which all is known that *item* or *news* knows."""
    head = max(item, news, key=_precedence)
    readable_offset = max(item.readable_offset, news.readable_offset)
    return Item(
        head.revision,
        head.visibility,
        head.value,
        head.product,
        head.kind,
        min(item.created_ms, news.created_ms),
        item.deleted or news.deleted,
        item.private_message or news.private_message,
        readable_offset,
        _still_unreadable(item.dead_letters, news.dead_letters, readable_offset),
    )


def _precedence(item: Item) -> tuple[int, int, bytes]:
    return item.revision, item.visibility, item.value


def _still_unreadable(
    known: tuple[int, ...], news: tuple[int, ...], readable_offset: int
) -> tuple[int, ...]:
    if not known and not news:
        return ()
    if not news and known[0] > readable_offset:
        return known
    left = sorted(offset for offset in {*known, *news} if offset > readable_offset)
    return tuple(left[-DEAD_LETTERS_MAX:])


def without_dead_letter(item: Item, offset: int) -> Item:
    """
    Return *item* without the dead letter at *offset*, which was resolved.

    Where there are as many as are kept none is taken out: the first stands for others.
    """
    if len(item.dead_letters) >= DEAD_LETTERS_MAX:
        return item
    left = tuple(each for each in item.dead_letters if each != offset)
    return msgspec.structs.replace(item, dead_letters=left)

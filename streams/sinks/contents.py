"""
What an audit asks of a store besides `streams.sinks.sink`: to show what it holds, and to let go.

`shown` is what a reader of the store finds, read the way a reader finds it and not by what the sink
remembers; `remembered` is that memory, the fences.  A sink that has these can be audited.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from streams.sinks.sink import Sink

# What a reader may find of an item besides its id; named as in the contract.
FIELDS: Final[tuple[str, ...]] = (
    "user_id",
    "revision",
    "product",
    "kind",
    "modality",
    "language",
    "created_at",
)
PAGE_ROWS: Final = 10_000

# A key as the topics have it, or the 16 bytes of its BLAKE2 hash where the store has no more.
Key = str | bytes


class Shown(NamedTuple):
    """
    An item as a reader finds it.

    account: `product/user_id`, under which it is found.
    values: of the sink's `fields`, in their order; a time as RFC 3339 or a `datetime`.
    """

    content_id: str
    account: str
    values: tuple[Any, ...]


class Remembered(NamedTuple):
    """Fences of *topic*, as columns of one length: the highest pair applied of each key."""

    topic: str
    keys: Sequence[Key]
    epochs: Sequence[int]
    revisions: Sequence[int]
    allowed: Sequence[bool]


@runtime_checkable
class AuditedSink(Sink, Protocol):
    """
    A sink whose store can be audited, beside whatever writes to it.

    fields: those of FIELDS that a reader finds.
    """

    fields: tuple[str, ...]

    def shown(self) -> Iterator[Sequence[Shown]]:
        """
        Yield all items that a reader finds now, some thousand at a time; taken to the end.

        Each is read at some moment between the call and the end: of one that changes meanwhile
        either state will do.  One may come twice.
        """

    def remembered(self) -> Iterator[Remembered]:
        """Yield all fences, in the same manner; nothing where the store keeps none to look at."""

    def expel(self, topic: str, found: Sequence[tuple[Key, str]]) -> None:
        """
        Remove keys of *topic* with their fences, whatever their pairs; return when that is durable.

        found: keys as `shown` or `remembered` gave them, and the account under which an item was
        shown, or an empty text.  What stands of them in the topic is applied again afterwards.
        """

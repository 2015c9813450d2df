"""
What a partition knows of users and items, and what a cycle has changed of it.

Values only; `fold` makes them, `answers` and the state read them.
Source: contract.md, "Decisions" and "Output records".
"""

from collections.abc import Mapping
from typing import Final, Protocol

from msgspec import Struct

from streams.core.breaker import Mark
from streams.core.item import Item
from streams.core.records import ContentRecord
from streams.core.user import User
from streams.core.verdict import Decision

DUE_AT_ONCE_MS: Final = 0  # once a hold has ended
DUE_BY_POLICY_MS: Final = 1  # once everybody is decided by a new policy
CLOCK: Final = "clock"  # the cause's topic for time passing
POLICY: Final = "policy"  # and for a changed policy
CAUSED_BY_TIME: Final = frozenset({CLOCK, POLICY})
NO_OFFSET: Final = -1


class Cause(Struct, frozen=True, array_like=True, gc=False):
    """The input record (its topic's full name) that led to a decision; id where it has one."""

    topic: str
    partition: int
    offset: int
    id: str | None = None


class Held(Struct, frozen=True, array_like=True, gc=False):
    """
    The record whose grant waits for the end of a hold, and its broker time stamp.

    ages_missing: nothing was known of the user's age and country when the hold began.
    """

    cause: Cause
    received_ms: int
    ages_missing: bool = False


class UserRow(Struct, frozen=True, array_like=True, gc=False):
    """
    A user's facts and the decision that stands.

    seeded: the decision was taken from the outputs, as the state was lost; what came of the facts
    is decided once they have been read again.
    reincluded: when the breaker on re-inclusion last counted the user.
    """

    user: User
    epoch: int
    decision: Decision
    next_change_ms: int
    policy_version: int
    decided_ms: int
    cause: Cause
    held: Held | None = None
    seeded: bool = False
    reincluded: Mark | None = None


class Origin(Struct, frozen=True, gc=False):
    """Where a record came from: its place, broker time stamp, and trace if it carried one."""

    topic: str
    partition: int
    offset: int
    received_ms: int
    id: str | None = None
    traceparent: bytes | None = None

    @property
    def cause(self) -> Cause:
        """The record as the cause of a decision."""
        return Cause(self.topic, self.partition, self.offset, self.id)


class UserChange(Struct, gc=False):
    """
    What a cycle did to one user.

    before: as of the cycle's start, None for a user never seen.
    origin: of the first record that changed the decision, or else the first one that is told of:
    latency is measured from there, while the decision's cause is the last record that changed it.
    publish: whether the decision is to be published, also when it is the same.
    """

    before: UserRow | None
    after: UserRow
    origin: Origin
    publish: bool = False


class ItemChange(Struct, gc=False):
    """
    What a cycle did to one item.

    before: as of the cycle's start, None where it was not known.
    after: None where the item is answered but not stored.
    """

    user_id: str
    content_id: str
    before: Item | None
    after: Item | None
    origin: Origin
    record: ContentRecord | None = None  # the record that holds, where it is at hand


class Known(Protocol):
    """What was known of a partition's users and items before the cycle."""

    def user(self, user_id: str) -> UserRow | None:
        """Return the row of *user_id*."""

    def item(self, user_id: str, content_id: str) -> Item | None:
        """Return the state of an item."""

    def item_of_dead_letter(self, user_id: str, offset: int) -> str | None:
        """Return the content_id of the unreadable `content` record at *offset*."""

    def dead_letters_of(self, user_id: str) -> set[int]:
        """Return the offsets of the unreadable `content` records of a user's items."""


def is_below(cause: Cause, offsets: Mapping[str, int]) -> bool:
    """Whether *cause* is a record below *offsets*, by topic's full name; nothing else is."""
    return cause.offset < offsets.get(cause.topic, cause.offset)

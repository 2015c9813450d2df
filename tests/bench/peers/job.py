"""
The service's job without an engine: what a peer in Python does with one input record.

Facts, decisions and outputs are made by the same pure core as ours, so that what differs between
systems is the streaming.  It does less than ours, in the peers' favour: no dead letters, timers,
holds or receipts.  An engine brings its state as a `Memory`.
"""

import os
import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

import topics
from streams.core import decode
from streams.core import item as items
from streams.core import user as users
from streams.core.changes import Origin, UserRow
from streams.core.item import Item
from streams.core.outputs import Output, Writer
from streams.core.policy import Policy
from streams.core.reasons import PRODUCTS
from streams.core.user import NOBODY, User
from streams.core.verdict import decide, item_reasons

BOOTSTRAP: Final = os.environ.get("PEER_BOOTSTRAP", "127.0.0.1:9092")
PREFIX: Final = os.environ.get("PEER_PREFIX", "")
GROUP: Final = f"{PREFIX}peer"
FOLDER: Final = os.environ.get("PEER_FOLDER", ".")
EXACTLY_ONCE: Final = os.environ.get("PEER_GUARANTEE") == "exactly-once"
INPUTS: Final = topics.names("input")
OUTPUTS: Final = ("eligibility", "training-users", "training-content")
POLICY: Final = Policy()


class Memory(Protocol):
    """What an engine remembers of users and their items."""

    def row(self, user_id: str) -> UserRow | None:
        """Return what is stored of a user."""

    def keep_row(self, user_id: str, row: UserRow) -> None:
        """Store a user."""

    def item(self, user_id: str, content_id: str) -> Item | None:
        """Return what is stored of an item."""

    def keep_item(self, user_id: str, content_id: str, item: Item, *, new: bool) -> None:
        """Store an item, and in the index of its user's items when it is *new*."""

    def items_of(self, user_id: str) -> Iterable[tuple[str, Item]]:
        """Return all items of a user, by the index."""


class Event(NamedTuple):
    """One input record; *topic* is named as in the contract."""

    topic: str
    partition: int
    offset: int
    received_ms: int
    key: bytes | None
    value: bytes | None

    def origin(self, cause_id: str | None) -> Origin:
        """Return where the record came from."""
        name = f"{PREFIX}{self.topic}"
        return Origin(name, self.partition, self.offset, self.received_ms, cause_id)


def outputs(memory: Memory, event: Event) -> Iterator[Output]:
    """Learn from *event*, decide, and yield what is to be published."""
    now_ms = int(time.time() * 1000)
    writer = Writer("/peer", now_ms, POLICY)
    if event.topic == "content":
        return _answer(memory, event, writer, now_ms)
    return _learn(memory, event, writer, now_ms)


def _learn(memory: Memory, event: Event, writer: Writer, now_ms: int) -> Iterator[Output]:
    told = decode.USER_DECODERS[event.topic](event.key, event.value, event.received_ms)
    user_id, before, origin = told.user_id, memory.row(told.user_id), event.origin(told.cause_id)
    row = _decided(before, told.facts, origin, now_ms)
    memory.keep_row(user_id, row)
    yield writer.eligibility(user_id, row, origin)
    for index, name in enumerate(PRODUCTS):
        stood = before is not None and before.decision.reasons[index] == 0
        if (allowed := row.decision.reasons[index] == 0) != stood:
            yield writer.training_user(user_id, name, row.epoch, origin, allowed=allowed)
    if before is None or row.decision == before.decision:
        return
    for content_id, item in memory.items_of(user_id):
        if (allowed := _allows(item, row)) != _allows(item, before):
            yield _item_output(writer, user_id, content_id, item, row, origin, allowed=allowed)


def _answer(memory: Memory, event: Event, writer: Writer, now_ms: int) -> Iterator[Output]:
    told = decode.decode_content(event.key, event.value, event.received_ms, event.offset)
    user_id, content_id, item = told.user_id, told.content_id, told.facts
    origin, row = event.origin(content_id), memory.row(user_id)
    if row is None:
        row = _decided(None, NOBODY, origin, now_ms)
        memory.keep_row(user_id, row)
        yield writer.eligibility(user_id, row, origin)
    known = memory.item(user_id, content_id)
    if known is not None:
        item = items.merge(known, item)
    elif item.private_message:
        return
    memory.keep_item(user_id, content_id, item, new=known is None)
    allowed = _allows(item, row)
    yield _item_output(writer, user_id, content_id, item, row, origin, allowed=allowed)


def _decided(before: UserRow | None, facts: User, origin: Origin, now_ms: int) -> UserRow:
    """Return a user's row after *facts*; its epoch grows when the decision changes."""
    user = facts if before is None else users.merge(before.user, facts)
    decision, next_ms = decide(user, POLICY, now_ms)
    if before is not None and decision == before.decision:
        return replace(before, user=user, next_change_ms=next_ms)
    epoch = 1 if before is None else before.epoch + 1
    return UserRow(user, epoch, decision, next_ms, POLICY.version, now_ms, origin.cause)


def _allows(item: Item, row: UserRow) -> bool:
    """Whether nothing stands against using *item*; no peer knows dead letters."""
    return item_reasons(item, row.user, row.decision, "") == 0


def _item_output(
    writer: Writer,
    user_id: str,
    content_id: str,
    item: Item,
    row: UserRow,
    origin: Origin,
    *,
    allowed: bool,
) -> Output:
    if allowed:
        return writer.content_allowed(user_id, content_id, item, None, row.epoch, origin)
    return writer.content_purged(user_id, content_id, item.revision, row.epoch, origin)

"""
What the owner of an account tells the owners of linked ones after it has learnt something.

Pure; the protocol is told in links.py.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from streams.core import links
from streams.core.links import (
    ANYTHING,
    LONG_AGO_MS,
    Inherited,
    Link,
    Links,
    ObjectionKey,
    Tell,
    Told,
)
from streams.core.reasons import ALL_PRODUCTS
from streams.core.times import NEVER_MS
from streams.core.user import WITHDRAWN, User, may_hide_objections

_ANYTHING_MAY_STAND: Final = Inherited(ALL_PRODUCTS, LONG_AGO_MS)


def facts_of(tell: Tell) -> User:
    """Return what *tell* says, as facts about the account told."""
    return User(links={tell.sender: tell.link}, inherited=dict(tell.objections))


class Teller:
    """Makes the tells of one *user_id* in *partition*, because of a record of *since_ms*."""

    def __init__(
        self, user_id: str, partition: int, since_ms: int, traceparent: bytes | None
    ) -> None:
        self._user_id = user_id
        self._partition = partition
        self._since_ms = since_ms
        self._traceparent = traceparent

    def tells(self, before: User, facts: User, after: User) -> Iterator[Told]:
        """Yield what *facts*, by which *before* became *after*, give to tell."""
        if after.deleted:
            if not before.deleted:
                yield from self._introductions(before.links)
            return
        changed = self._changed(before, facts, after)
        for other, link in after.links.items():
            if link == before.links.get(other):
                yield from self._tell(other, link, changed, always=False)
            else:
                yield from self._tell(other, link, self._all(after), always=True)
        for other, link in {**before.links, **facts.links}.items():
            if other not in after.links:  # more than are kept
                anything = [((self._user_id, ANYTHING), _ANYTHING_MAY_STAND)]
                yield from self._tell(other, link, anything, always=True)

    def _tell(
        self,
        other: str,
        link: Link,
        objections: Iterable[tuple[ObjectionKey, Inherited]],
        *,
        always: bool,
    ) -> Iterator[Told]:
        crossing = tuple(
            (key, told)
            for key, told in objections
            if key[0] != other and (told.flags & WITHDRAWN or link.lets_cross(told.filed_ms))
        )
        if crossing or always:
            yield self._to(other, link.partition, self._user_id, link, self._partition, crossing)

    def _introductions(self, known: Links) -> Iterator[Told]:
        """Link the accounts linked through this one, which is deleted, with the first of them."""
        linked = [(other, link) for other, link in sorted(known.items()) if link.is_open]
        for other, link in linked[1:]:
            first, to_first = linked[0]
            since_ms = min(link.linked_ms, to_first.linked_ms)
            made = Link(to_first.partition, linked_ms=since_ms)
            yield self._to(other, link.partition, first, made, to_first.partition, ())

    def _to(
        self,
        other: str,
        partition: int,
        sender: str,
        link: Link,
        senders_partition: int,
        objections: tuple[tuple[ObjectionKey, Inherited], ...],
    ) -> Told:
        said = Link(senders_partition, link.linked_ms, link.unlinked_ms, link.closed_ms)
        tell = Tell(sender, said, objections, self._since_ms)
        return Told(other, partition, tell, self._traceparent)

    def _changed(
        self, before: User, facts: User, after: User
    ) -> list[tuple[ObjectionKey, Inherited]]:
        """Return what holds of objections otherwise than before."""
        found: list[tuple[ObjectionKey, Inherited]] = []
        for objection_id in facts.objections:
            told = self._own(after, objection_id)
            if told is not None and told != self._own(before, objection_id):
                found.append(((self._user_id, objection_id), told))
        for key in facts.inherited:
            inherited = after.inherited.get(key)
            if inherited is not None and inherited != before.inherited.get(key):
                found.append((key, inherited))
        if may_hide_objections(after) and not may_hide_objections(before):
            found.append(((self._user_id, ANYTHING), _ANYTHING_MAY_STAND))
        return found

    def _all(self, user: User) -> list[tuple[ObjectionKey, Inherited]]:
        own = ((each, self._own(user, each)) for each in user.objections)
        found = [((self._user_id, each), told) for each, told in own if told is not None]
        found += user.inherited.items()
        if may_hide_objections(user):
            return [((self._user_id, ANYTHING), _ANYTHING_MAY_STAND), *found[: links.INHERITED_MAX]]
        return found

    def _own(self, user: User, objection_id: str) -> Inherited | None:
        flags = user.objections.get(objection_id)
        if flags is None:
            return None
        unfiled_ms = LONG_AGO_MS if flags & ALL_PRODUCTS else NEVER_MS
        return Inherited(flags, user.filed_ms.get(objection_id, unfiled_ms))

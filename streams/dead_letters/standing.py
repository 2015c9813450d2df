"""
Which dead letters are still open: what the workers' state says, and what they have yet to read.

The state is the truth, as it outlives the records that mended something: inputs are kept for
weeks or compacted, restrictions stand until they are resolved.  So the rows of the users changelog
are learnt first, and then the records behind the group's offsets, which will change them.  Both
may be learnt twice or overlap: all of it only ever adds.  Pure.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from streams.core.decode import (
    USER_DECODERS,
    Headers,
    ItemFacts,
    UserFacts,
    decode_content,
    resolved_by,
    valid_user_id,
)
from streams.dead_letters.letter import CONTENT, INPUTS, RESTRICTING_USERS, Letter, Place
from streams.errors import BadRecord
from streams.state import rows

Owner = tuple[int, str]  # partition and user_id: a user's state is where their records are

_REF: Final = re.compile(rb"/[0-9]+/[0-9]")  # of "topic/partition/offset" in a user's row


class Refs(NamedTuple):
    """What a user's row says of dead letters, as "topic/partition/offset"."""

    dead_letters: tuple[str, ...]
    resolved: frozenset[str]


class Standing:
    """
    What stands, and what was resolved.

    letters: those in question; of other users only what stands is kept.
    topics: the full names of the inputs, by their names in the contract.
    """

    def __init__(self, letters: Iterable[Letter], topics: dict[str, str]) -> None:
        self._topics = topics
        self._asked: set[Owner] = set()
        self._nobodys: set[str] = set()  # without a valid key: any user's record may mend them
        for letter in letters:
            if letter.user_id is None:
                self._nobodys.add(str(letter.place))
            else:
                self._asked.add((letter.place.partition, letter.user_id))
        self._users: dict[Owner, Refs] = {}
        self._items: dict[tuple[int, str, int], str] = {}  # partition, user, offset -> content_id
        self._item_owners: set[Owner] = set()
        self._deleted: set[Owner] = set()
        self._resolved: dict[Owner, set[str]] = {}  # by records behind the group's offsets
        self._readable: dict[tuple[int, str, str], int] = {}  # item -> its last good offset
        self._mended: set[str] = set()  # of self._nobodys

    def learn_row(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Learn a row of the users changelog.  Raises `NewerRow`."""
        kind = key[:1]
        if kind == rows.USER:
            self._learn_user(partition, key, value)
        elif kind == rows.DEAD_LETTER:
            user_id, offset = rows.dead_letter_of(key)
            if value is None:
                self._items.pop((partition, user_id, offset), None)
            else:
                self._items[partition, user_id, offset] = rows.decode_text(value)
                self._item_owners.add((partition, user_id))

    def _learn_user(self, partition: int, key: bytes, value: bytes | None) -> None:
        owner = partition, rows.user_of(key)
        if value is None:
            self._users.pop(owner, None)
            return
        rows.check(key, value)
        has_refs = b"/" in value and _REF.search(value)
        if not has_refs and owner not in self._asked:
            self._users.pop(owner, None)
            return
        user = rows.decode_user(value).user
        if user.deleted:
            self._deleted.add(owner)
        self._users[owner] = Refs(user.dead_letters, frozenset(user.resolved))
        if self._nobodys:
            self._mended |= self._nobodys.intersection(user.resolved)

    def learn_input(
        self,
        name: str,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        received_ms: int,
        headers: Headers,
    ) -> None:
        """Learn a record of input *name* that the workers may not have read yet."""
        ref = resolved_by(headers)
        user_id = valid_user_id(key)
        if user_id is None:
            return
        owner = partition, user_id
        dismisses = bool(self._nobodys) and b"dismissed" in (value or b"")
        if ref is None and not dismisses and not self._concerns(owner):
            return
        try:
            event = _decode(name, key, value, received_ms, offset)
        except BadRecord:
            return
        resolved = {ref} if ref is not None else set()
        if isinstance(event, ItemFacts):
            item = (*owner, event.content_id)
            self._readable[item] = max(self._readable.get(item, -1), offset)
        else:
            resolved.update(event.facts.resolved)
            if event.facts.deleted:
                self._deleted.add(owner)
        if resolved:
            self._resolved.setdefault(owner, set()).update(resolved)
            self._mended |= self._nobodys & resolved

    def _concerns(self, owner: Owner) -> bool:
        return owner in self._asked or owner in self._users or owner in self._item_owners

    def judge(self, letter: Letter) -> None:
        """Set whether *letter* is open, and of which item it is if only the state knows."""
        place, user_id = letter.place, letter.user_id
        if user_id is None:
            letter.open = str(place) not in self._mended
            return
        owner = place.partition, user_id
        in_state = self._items.get((*owner, place.offset)) if letter.input == CONTENT else None
        if in_state is not None:
            letter.content_id = in_state  # also where the letter was cut
        gone = letter.restricts == "item" and in_state is None
        letter.open = not (gone or self._is_over(owner, str(place), letter))

    def _is_over(self, owner: Owner, ref: str, letter: Letter) -> bool:
        refs = self._users.get(owner)
        if owner in self._deleted or (refs is not None and ref in refs.resolved):
            return True
        if ref in self._resolved.get(owner, ()):
            return True
        if letter.content_id is None:
            return False
        return self._readable.get((*owner, letter.content_id), -1) > letter.place.offset

    def no_longer_kept(self, kept: set[Place]) -> Iterator[Letter]:
        """Yield a letter for all that stands though its dead letter is not among those *kept*."""
        for letter in self._known_of(kept):
            self.judge(letter)
            if letter.open:
                yield letter

    def _known_of(self, kept: set[Place]) -> Iterator[Letter]:
        names = {full_name: name for name, full_name in self._topics.items()}
        for (partition, user_id), refs in self._users.items():
            for ref in refs.dead_letters:
                topic, number, offset = ref.rsplit("/", 2)
                place, name = Place(topic, int(number), int(offset)), names.get(topic)
                if place in kept or name is None or place.partition != partition:
                    continue
                yield Letter(place=place, input=name, key=user_id, user_id=user_id)
        for (partition, user_id, item_offset), content_id in self._items.items():
            place = Place(self._topics[CONTENT], partition, item_offset)
            if place not in kept:
                yield Letter(
                    place=place,
                    input=CONTENT,
                    key=user_id,
                    user_id=user_id,
                    content_id=content_id,
                )


def _decode(
    name: str, key: bytes | None, value: bytes | None, received_ms: int, offset: int
) -> UserFacts | ItemFacts:
    if name == CONTENT:
        return decode_content(key, value, received_ms, offset)
    return USER_DECODERS[name](key, value, received_ms)


assert set(INPUTS) == {*USER_DECODERS, CONTENT}
assert set(RESTRICTING_USERS) < set(USER_DECODERS)

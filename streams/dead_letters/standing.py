"""
Which dead letters are still open: what the workers' state says, and what they have yet to read.

The state is the truth, as it outlives the records that mended something: inputs are kept for
weeks or compacted, restrictions stand until they are resolved.  So the rows of the users changelog
are learnt first, and then the records behind the group's offsets, which will change them.  Both
may be learnt twice or overlap: all of it only ever adds.  Pure.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from streams.core.decode import (
    USER_DECODERS,
    Headers,
    ItemFacts,
    UserFacts,
    decode_content,
    resolved_by,
    valid_user_id,
)
from streams.core.item import DEAD_LETTERS_MAX
from streams.core.refs import partition_of
from streams.core.subjects import PLAIN, Subjects
from streams.core.user import NOBODY, User, is_resolved, merge, stand_for_more
from streams.dead_letters.letter import CONTENT, INPUTS, RESTRICTING_USERS, Letter, Place
from streams.errors import BadRecord
from streams.state import rows

# Partition and user, as the state names them: a user's state is where their records are.
Owner = tuple[int, str]

_REF: Final = re.compile(rb"/[0-9]+/[0-9]")  # of "topic/partition/offset" in a user's row


class Standing:
    """
    What stands, and what was resolved.

    letters: those in question; of other users only what stands is kept.
    topics: the full names of the inputs, by their names in the contract.
    subjects: how the state names users; *user_id* is one that is known, besides those of *letters*.
    """

    def __init__(
        self,
        letters: Iterable[Letter],
        topics: dict[str, str],
        subjects: Subjects = PLAIN,
        user_id: str | None = None,
    ) -> None:
        self._topics = topics
        self._subjects = subjects
        self._ids: dict[str, str] = {}  # of known users, by their names in the state
        self._named_by: dict[int, str] = {}  # fingerprints, by partition
        if user_id is not None:
            self._ids[subjects.of(user_id)] = user_id
        self._asked: set[Owner] = set()
        self._nobodys: set[str] = set()  # without a valid key: any user's record may mend them
        for letter in letters:
            if letter.user_id is None:
                self._nobodys.add(str(letter.place))
            else:
                name = subjects.of(letter.user_id)
                self._ids[name] = letter.user_id
                self._asked.add((letter.place.partition, name))
        self._users: dict[Owner, User] = {}  # of their facts, those about dead letters
        self._items: dict[tuple[int, str, int], str] = {}  # partition, user, offset -> content_id
        self._item_owners: set[Owner] = set()
        self._deleted: set[Owner] = set()
        # By records behind the group's offsets:
        self._resolved: dict[Owner, set[str]] = {}
        self._dismissed: dict[Owner, User] = {}
        self._readable: dict[tuple[int, str, str], int] = {}  # item -> its last good offset
        self._mended: set[str] = set()  # of self._nobodys
        self._firsts: dict[tuple[Owner, str], int] | None = None  # see _first_of

    def learn_row(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Learn a row of the users changelog.  Raises `NewerRow`."""
        kind = key[:1]
        if kind == rows.USER:
            self._learn_user(partition, key, value)
        elif key == rows.SUBJECTS_KEY and value is not None:
            self._named_by[partition] = rows.decode_text(value)
        elif kind == rows.POSITION:
            self._named_by.setdefault(partition, "")
        elif kind == rows.DEAD_LETTER:
            self._firsts = None
            user_id, offset = rows.dead_letter_of(key)
            if value is None:
                self._items.pop((partition, user_id, offset), None)
            else:
                self._items[partition, user_id, offset] = rows.decode_text(value)
                self._item_owners.add((partition, user_id))

    def check_naming(self, changelog: str) -> None:
        """Raise UsageProblem where the state of a partition names users otherwise."""
        for partition, fingerprint in sorted(self._named_by.items()):
            self._subjects.check(fingerprint, f"{changelog}/{partition}")

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
        self._users[owner] = User(
            dead_letters=user.dead_letters, resolved=user.resolved, dismissed=user.dismissed
        )
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
        owner = partition, self._subjects.of(user_id)
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
            if event.facts.dismissed:
                known = self._dismissed.get(owner, NOBODY)
                self._dismissed[owner] = merge(known, User(dismissed=event.facts.dismissed))
        if resolved:
            self._resolved.setdefault(owner, set()).update(resolved)
            self._mended |= self._nobodys & resolved

    def _concerns(self, owner: Owner) -> bool:
        return owner in self._asked or owner in self._users or owner in self._item_owners

    def judge(self, letter: Letter) -> None:
        """
        Set whether *letter* is open, and stands for more; its item too, if only the state knows.
        """
        place, user_id = letter.place, letter.user_id
        if user_id is None:
            letter.open = str(place) not in self._mended
            return
        name = user_id if letter.pseudonym else self._subjects.of(user_id)
        owner = place.partition, name
        in_state = self._items.get((*owner, place.offset)) if letter.input == CONTENT else None
        if in_state is not None:
            letter.content_id = in_state  # also where the letter was cut
        first = self._first_of(owner, letter)
        gone = letter.restricts == "item" and in_state is None and place.offset >= first
        letter.open = not (gone or self._is_over(owner, str(place), letter))
        user = self._users.get(owner, NOBODY)
        letter.stands_for_more = letter.open and (
            place.offset == first or str(place) in stand_for_more(user)
        )

    def _is_over(self, owner: Owner, ref: str, letter: Letter) -> bool:
        user, offset = self._users.get(owner, NOBODY), letter.place.offset
        dismissed = self._dismissed.get(owner, NOBODY)
        if owner in self._deleted or is_resolved(dismissed, ref):
            return True
        if offset <= user.dismissed.get(partition_of(ref), -1):
            return True
        readable = self._readable.get((*owner, letter.content_id or ""), -1)
        if readable > offset:
            return True
        if offset == self._first_of(owner, letter) or ref in stand_for_more(user):
            return False
        return is_resolved(user, ref) or ref in self._resolved.get(owner, ())

    def _first_of(self, owner: Owner, letter: Letter) -> int:
        """Return the dead letter of its item that stands for all before it, -1 for none."""
        if letter.input != CONTENT or letter.content_id is None:
            return -1
        if self._firsts is None:
            offsets: dict[tuple[Owner, str], list[int]] = defaultdict(list)
            for (partition, user_id, offset), content_id in self._items.items():
                offsets[(partition, user_id), content_id].append(offset)
            self._firsts = {
                item: min(found)
                for item, found in offsets.items()
                if len(found) >= DEAD_LETTERS_MAX
            }
        return self._firsts.get((owner, letter.content_id), -1)

    def no_longer_kept(self, kept: set[Place]) -> Iterator[Letter]:
        """Yield a letter for all that stands though its dead letter is not among those *kept*."""
        for letter in self._known_of(kept):
            self.judge(letter)
            if letter.open:
                yield letter

    def _known_of(self, kept: set[Place]) -> Iterator[Letter]:
        names = {full_name: name for name, full_name in self._topics.items()}
        for (partition, name), refs in self._users.items():
            for ref in refs.dead_letters:
                topic, number, offset = ref.rsplit("/", 2)
                place, of_input = Place(topic, int(number), int(offset)), names.get(topic)
                if place in kept or of_input is None or place.partition != partition:
                    continue
                yield self._letter(place, of_input, name)
        for (partition, name, item_offset), content_id in self._items.items():
            place = Place(self._topics[CONTENT], partition, item_offset)
            if place not in kept:
                yield self._letter(place, CONTENT, name, content_id)

    def _letter(
        self, place: Place, of_input: str, name: str, content_id: str | None = None
    ) -> Letter:
        user_id = self._ids.get(name, name)
        return Letter(
            place=place,
            input=of_input,
            key=user_id,
            user_id=user_id,
            content_id=content_id,
            pseudonym=self._subjects.keyed and name not in self._ids,
        )


def _decode(
    name: str, key: bytes | None, value: bytes | None, received_ms: int, offset: int
) -> UserFacts | ItemFacts:
    if name == CONTENT:
        return decode_content(key, value, received_ms, offset)
    return USER_DECODERS[name](key, value, received_ms)


assert set(INPUTS) == {*USER_DECODERS, CONTENT}
assert set(RESTRICTING_USERS) < set(USER_DECODERS)

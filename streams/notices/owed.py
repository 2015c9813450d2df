"""
Who has still to be told: open accounts in covered countries without a notice that counts.

The workers' state says who; notices and ages that no worker has taken in yet are looked at too, so
that nobody told a minute ago is told again.  In doubt somebody is left out until a worker has
decided: they are not eligible before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from streams.core.decode import valid_user_id
from streams.core.notices import country_of, notice_is_owed
from streams.core.policy import Policy
from streams.core.user import NOBODY, User, merge
from streams.notices.reading import Reading, Say, facts_in
from streams.settings import Settings
from streams.state import rows
from streams.worker.names import ACCOUNT_AGES, NOTICES, USERS_CHANGELOG

TOPICS: Final = (USERS_CHANGELOG, ACCOUNT_AGES, NOTICES)
_TAILS: Final = (ACCOUNT_AGES, NOTICES)


@dataclass(frozen=True, slots=True)
class Owed:
    """A user to tell, and the country that the highest assurance level names."""

    user_id: str
    country: str


@dataclass(slots=True)
class Count:
    """owed: users to tell; unknown: users of whom no country is known, so nobody can say."""

    owed: int = 0
    unknown: int = 0
    not_taken_in: int = 0  # records that no worker has read yet


class Export:
    """Finds who has still to be told at *now_ms* by *policy*; *count* is of what was yielded."""

    def __init__(self, settings: Settings, policy: Policy, now_ms: int, say: Say) -> None:
        self.count = Count()
        self._settings = settings
        self._policy = policy
        self._now_ms = now_ms
        self._say = say
        self._subjects = settings.subjects()

    def run(self) -> Iterator[Owed]:
        """Yield those to tell, one partition after the other; errors as `Reading`'s."""
        with Reading(self._settings, TOPICS, self._say) as reading:
            for number in range(reading.partitions_n):
                yield from self._partition(reading, number)

    def _partition(self, reading: Reading, number: int) -> Iterator[Owed]:
        # The last row of each user to whom a notice may be owed, as bytes: half the room of facts.
        found: dict[bytes, bytes] = {}
        unknown: set[bytes] = set()
        positions: dict[str, int] = {}
        named_by = ""
        for key, value in reading.state(number):
            if key == rows.SUBJECTS_KEY and value is not None:
                named_by = rows.decode_text(value)
            elif key[:1] == rows.POSITION:
                name = key[1:].decode()
                if value is not None and name in _TAILS:
                    positions[name] = rows.decode_number(value)
            elif key[:1] == rows.USER:
                self._take(key, value, found, unknown)
        if positions:
            self._subjects.check(named_by, f"{self._settings.topic(USERS_CHANGELOG)}/{number}")
        tail = self._tail(reading, number, positions, found)
        ids = self._ids(reading, number, found)
        for key, value in found.items():
            name = rows.user_of(key)
            user = merge(rows.decode_user(value).user, tail.get(name, NOBODY))
            if not notice_is_owed(user, self._policy, self._now_ms):
                continue
            if name not in ids:
                unknown.add(key)
                continue
            self.count.owed += 1
            yield Owed(ids[name], country_of(user))
        self.count.unknown += len(unknown)

    def _take(
        self, key: bytes, value: bytes | None, found: dict[bytes, bytes], unknown: set[bytes]
    ) -> None:
        found.pop(key, None)
        unknown.discard(key)
        if value is None:
            return
        user = rows.decode_user(value).user
        if notice_is_owed(user, self._policy, self._now_ms):
            found[key] = value
        elif not user.deleted and not user.notices_ms and not country_of(user):
            unknown.add(key)

    def _tail(
        self, reading: Reading, number: int, positions: dict[str, int], found: dict[bytes, bytes]
    ) -> dict[str, User]:
        """Return what records that no worker has taken in yet say of those *found*."""
        tail: dict[str, User] = {}
        for name in _TAILS:
            for message in reading.records(name, number, positions.get(name, 0)):
                self.count.not_taken_in += 1
                said = facts_in(name, message)
                if said is None:
                    continue
                user = self._subjects.of(said.user_id)
                if rows.user_key(user) in found:
                    tail[user] = merge(tail.get(user, NOBODY), said.facts)
        return tail

    def _ids(self, reading: Reading, number: int, found: dict[bytes, bytes]) -> dict[str, str]:
        """
        Return the ids of those *found*, by their names in the state.

        A pseudonym does not tell it; but who has a country has a record of it, under the id.
        """
        if not self._subjects.keyed:
            return {name: name for name in map(rows.user_of, found)}
        ids: dict[str, str] = {}
        for message in reading.records(ACCOUNT_AGES, number, 0):
            user_id = valid_user_id(message.key())
            if user_id is not None:
                name = self._subjects.of(user_id)
                if rows.user_key(name) in found:
                    ids[name] = user_id
        return ids

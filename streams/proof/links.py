"""
Which objections hold for linked accounts, from the records of objections and links alone.

Worked out over the whole graph of accounts at once, where workers tell each other step by step.
An objection *must* hold where links lead that let it cross by what was said of them in the end.
It *may* hold wherever links have ever led: whoever learnt of it while a link was open let it cross,
and that stays.  Between the two the tells decide.
Source: streams/core/links.py.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from streams.core.links import (
    ANYTHING,
    LONG_AGO_MS,
    Inheritance,
    Inherited,
    Link,
    Links,
    ObjectionKey,
    merge_inherited,
    merge_link,
    merge_one,
)
from streams.core.reasons import ALL_PRODUCTS
from streams.core.user import User

Crosses = Callable[[Link], bool]


@dataclass(slots=True)
class Kin:
    """What was said of links, of objections (deleted accounts' too), and by owners to owners."""

    links: dict[str, Links] = field(default_factory=lambda: defaultdict(dict))
    filed: Inheritance = field(default_factory=dict)
    told: dict[str, Inheritance] = field(default_factory=lambda: defaultdict(dict))

    def learn(self, user_id: str, facts: User) -> None:
        """Learn what a record says, of which the links name accounts as outputs do."""
        for objection_id, flags in facts.objections.items():
            unfiled_ms = LONG_AGO_MS if flags & ALL_PRODUCTS else -LONG_AGO_MS
            told = Inherited(flags, facts.filed_ms.get(objection_id, unfiled_ms))
            key = user_id, objection_id
            known = self.filed.get(key)
            self.filed[key] = told if known is None else merge_one(known, told)
        for other, link in facts.links.items():
            for one, another in ((user_id, other), (other, user_id)):
                there = self.links[one].get(another)
                self.links[one][another] = link if there is None else merge_link(there, link)

    def hear(self, user_id: str, facts: User) -> None:
        """Learn what the owner of *user_id* was told."""
        self.told[user_id] = merge_inherited(self.told[user_id], facts.inherited)

    def inherited(self, deleted: Iterable[str]) -> dict[str, Inheritance]:
        """
        Return the objections on others that hold for each account that has links.

        deleted: accounts that are; what they have not passed on before, they need not.
        """
        gone = frozenset(deleted)
        holding: dict[str, Inheritance] = {user_id: {} for user_id in self.links}
        for key, filed in self.filed.items():
            for user_id in self._reached(key[0], gone, _letting_cross(filed.filed_ms)):
                holding[user_id][key] = filed
        for user_id, told in self.told.items():
            circle = {user_id, *self._reached(user_id, frozenset(), _ever)}
            of_user = holding.setdefault(user_id, {})
            for key, inherited in told.items():
                if key[0] in circle and (raw := self._said(key)) is not None:
                    of_user.setdefault(key, Inherited(inherited.flags & raw.flags, raw.filed_ms))
        return holding

    def _said(self, key: ObjectionKey) -> Inherited | None:
        """Return what records say of an objection; None where none does."""
        if key[1] == ANYTHING:
            return Inherited(ALL_PRODUCTS, LONG_AGO_MS)
        return self.filed.get(key)

    def _reached(self, origin: str, gone: frozenset[str], crosses: Crosses) -> Iterator[str]:
        """Yield the accounts that links lead to from *origin*, over none that is *gone*."""
        seen, ahead = {origin}, [origin]
        while ahead:
            here = ahead.pop()
            if here in gone:
                continue
            for other, link in self.links.get(here, {}).items():
                if other not in seen and crosses(link):
                    seen.add(other)
                    ahead.append(other)
                    yield other


def _letting_cross(filed_ms: int) -> Crosses:
    return lambda link: link.lets_cross(filed_ms)


def _ever(_: Link) -> bool:
    return True

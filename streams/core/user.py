"""
What is known of one user.

`merge` is a join: idempotent, commutative, associative.
So replays, duplicates and late records all end in the same state.
A decoded record is itself a small `User`: events, replays and restores share one path.
Facts are only ever added (a withdrawal stands beside its objection), with two exceptions that
keep the join: an older statement of an assurance level makes way for a newer one, and a deleted
account is the greatest user of all, of whom nothing else is known.
A row has to fit into a changelog's record, so there is a limit to what is kept of one user, far
above what people do.  At it the state closes: what was left out counts as restricting.  Each limit
keeps the join, as it keeps the greatest or least of an order (see refs.py).
Source: contract.md, "Input records".
"""

from bisect import bisect_left
from collections.abc import Iterator
from operator import or_
from typing import Any, Final, TypeVar

from msgspec import Struct

from streams.core import links, refs
from streams.core.joins import join
from streams.core.links import Inheritance, Links
from streams.core.refs import Refs
from streams.core.times import NEVER_MS

WITHDRAWN = 1 << 8  # in the flags of an objection, beside a bit for each product it covers

SELF_DECLARED, INFERRED, VERIFIED = range(3)  # assurance levels, from weak to strong
ASSURANCES = ("self_declared", "inferred", "verified")

ADULT, UNDER_18 = 1, 2  # age bands; 0 is unknown

NO_OFFSET: Final = -1

# Unreadable records of a user in one partition: of as many the lowest stands for all below it.
DEAD_LETTERS_MAX: Final = 1_000
# Of one partition, twice what it restricts by: what was mended or dismissed is told for longer.
RESOLVED_MAX: Final = 2 * DEAD_LETTERS_MAX
# Ids have up to 256 bytes.  Of as many no more can be told apart, and all products are objected to.
OBJECTIONS_MAX: Final = 12_000
NOTICES_MAX: Final = 1_000  # the earliest: one of them counts, or else no notice does
STATEMENTS_MAX: Final = 1_000  # tied for the newest: of as many nothing is known of the age


class Statement(Struct, frozen=True, array_like=True, gc=False, order=True):
    """One record's word on age and country.  Days since 1970; "" is an unknown country."""

    has_birth_date: bool = False
    birth_day: int = 0
    band: int = 0  # 0 when there is a birth date, which wins over it
    has_adult_since: bool = False
    adult_since_day: int = 0
    country: str = ""


class Level(Struct, frozen=True, array_like=True, gc=False):
    """What an assurance level says: its newest statements, several when tied, sorted."""

    observed_ms: int
    statements: tuple[Statement, ...]
    adult_observed_ms: int = NEVER_MS  # earliest record with the band `adult`, of any age


Levels = tuple[Level | None, Level | None, Level | None]
NO_LEVELS: Levels = (None, None, None)


class User(Struct, frozen=True, array_like=True, gc=False):
    """
    All facts about a user.

    objections: id -> products covered, a bit each, and `WITHDRAWN`.
    notices_ms: the deliveries, sorted (all of them: a later policy may discount early ones).
    dead_letters, resolved: "topic/partition/offset" of unreadable records and of those mended
    or dismissed, sorted, the highest offsets.  `resolved` also holds items' dead letters.
    dismissed: "topic/partition" -> the offset up to which all dead letters are dismissed, those
    of items too.
    links: the accounts linked with this one, now or once; inherited: objections filed on others.
    filed_ms: id -> when an objection was filed; of those that are not in it, long ago.
    """

    objections: dict[str, int] = {}
    levels: Levels = NO_LEVELS
    notices_ms: tuple[int, ...] = ()
    dead_letters: Refs = ()
    resolved: Refs = ()
    deleted: bool = False
    dismissed: dict[str, int] = {}
    links: Links = {}
    inherited: Inheritance = {}
    filed_ms: dict[str, int] = {}


NOBODY = User()
DELETED_USER = User(deleted=True)


def merge(user: User, news: User) -> User:
    """Return the user of whom all is known that *user* or *news* knows."""
    if user.deleted or news.deleted:
        return DELETED_USER
    return User(
        join(user.objections, news.objections, or_, OBJECTIONS_MAX),
        _merge_levels(user.levels, news.levels),
        _union(user.notices_ms, news.notices_ms)[:NOTICES_MAX],
        refs.join(user.dead_letters, news.dead_letters, DEAD_LETTERS_MAX),
        refs.of_lowest_names(refs.join(user.resolved, news.resolved, RESOLVED_MAX)),
        dismissed=_merge_dismissed(user.dismissed, news.dismissed),
        links=links.merge_links(user.links, news.links),
        inherited=links.merge_inherited(user.inherited, news.inherited),
        filed_ms=links.merge_filed(user.filed_ms, news.filed_ms),
    )


def unresolved(user: User) -> Refs:
    """Return the user's own dead letters that still stand."""
    return tuple(_standing(user)) if user.dead_letters else ()


def is_unreadable(user: User) -> bool:
    """Whether a dead letter of the user's own stands."""
    if not user.dead_letters:
        return False
    return any(not is_resolved(user, ref) for ref in user.dead_letters) or bool(
        stand_for_more(user)
    )


def is_resolved(user: User, ref: str) -> bool:
    """Whether *ref*, by itself, was mended or dismissed."""
    if refs.holds(user.resolved, ref):
        return True
    return bool(user.dismissed) and refs.offset_of(ref) <= dismissed_through(user, ref)


def dismissed_through(user: User, ref: str) -> int:
    """Return up to which offset of *ref*'s partition all dead letters are dismissed."""
    return user.dismissed.get(refs.partition_of(ref), NO_OFFSET)


def stand_for_more(user: User) -> Refs:
    """
    Return the dead letters that stand for all below them, of which there is no more known.

    Only a dismissal of all up to it resolves such a one: others may not have been mended.
    """
    if len(user.dead_letters) < DEAD_LETTERS_MAX:
        return ()
    first = (
        refs.lowest(found)
        for _, found in refs.by_partition(user.dead_letters)
        if len(found) >= DEAD_LETTERS_MAX
    )
    return tuple(ref for ref in first if refs.offset_of(ref) > dismissed_through(user, ref))


def limits_reached(user: User) -> tuple[str, ...]:
    """Return of what there may be more than is kept of *user*, which restricts."""
    reached = []
    if stand_for_more(user):
        reached.append("dead letters")
    if len(user.objections) >= OBJECTIONS_MAX:
        reached.append("objections")
    if len(user.links) >= links.LINKS_MAX:
        reached.append("linked accounts")
    if len(user.inherited) >= links.INHERITED_MAX:
        reached.append("objections on linked accounts")
    tied = [len(level.statements) for level in user.levels if level is not None]
    if tied and max(tied) >= STATEMENTS_MAX:
        reached.append("statements on age")
    return tuple(reached)


def may_hide_objections(user: User) -> bool:
    """Whether there may be objections, on the account or linked ones, that are not kept."""
    return (
        len(user.objections) >= OBJECTIONS_MAX
        or len(user.links) >= links.LINKS_MAX
        or len(user.inherited) >= links.INHERITED_MAX
    )


def _standing(user: User) -> Iterator[str]:
    more = stand_for_more(user)
    return (ref for ref in user.dead_letters if ref in more or not is_resolved(user, ref))


def _merge_dismissed(known: dict[str, int], news: dict[str, int]) -> dict[str, int]:
    if not news or known == news:
        return known
    if not known:
        return news
    merged = known | {
        partition: max(offset, known.get(partition, NO_OFFSET))
        for partition, offset in news.items()
    }
    return refs.lowest_names(merged)


def _merge_levels(known: Levels, news: Levels) -> Levels:
    if news == NO_LEVELS:
        return known
    if known == NO_LEVELS:
        return news
    return (
        _merge_level(known[0], news[0]),
        _merge_level(known[1], news[1]),
        _merge_level(known[2], news[2]),
    )


def _merge_level(known: Level | None, news: Level | None) -> Level | None:
    if known is None or news is None:
        return news if known is None else known
    if known.observed_ms == news.observed_ms:
        statements = _union(known.statements, news.statements)[:STATEMENTS_MAX]
    else:
        statements = max(known, news, key=_observed_ms).statements
    return Level(
        max(known.observed_ms, news.observed_ms),
        statements,
        min(known.adult_observed_ms, news.adult_observed_ms),
    )


def _observed_ms(level: Level) -> int:
    return level.observed_ms


Sortable = TypeVar("Sortable", bound=Any)


def _union(known: tuple[Sortable, ...], news: tuple[Sortable, ...]) -> tuple[Sortable, ...]:
    if not news or known == news:
        return known
    if not known:
        return news
    if len(news) == 1:  # known already, mostly: a user's state is not sorted anew for it
        at = bisect_left(known, news[0])
        here = known[at : at + 1] == news
        return known if here else (*known[:at], *news, *known[at:])
    return tuple(sorted({*known, *news}))

"""
What is known of one user.

`merge` is a join: idempotent, commutative, associative.
So replays, duplicates and late records all end in the same state.
A decoded record is itself a small `User`: events, replays and restores share one path.
Facts are only ever added (a withdrawal stands beside its objection), with two exceptions that
keep the join: an older statement of an assurance level makes way for a newer one, and a deleted
account is the greatest user of all, of whom nothing else is known.
Source: contract.md, "Input records".
"""

from typing import Any, TypeVar

from msgspec import Struct

from streams.core.times import NEVER_MS

WITHDRAWN = 1 << 8  # in the flags of an objection, beside a bit for each product it covers

SELF_DECLARED, INFERRED, VERIFIED = range(3)  # assurance levels, from weak to strong
ASSURANCES = ("self_declared", "inferred", "verified")

ADULT, UNDER_18 = 1, 2  # age bands; 0 is unknown


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
    or dismissed, sorted.  `resolved` also holds items' dead letters.
    """

    objections: dict[str, int] = {}
    levels: Levels = NO_LEVELS
    notices_ms: tuple[int, ...] = ()
    dead_letters: tuple[str, ...] = ()
    resolved: tuple[str, ...] = ()
    deleted: bool = False


NOBODY = User()
DELETED_USER = User(deleted=True)


def merge(user: User, news: User) -> User:
    """Return the user of whom all is known that *user* or *news* knows."""
    if user.deleted or news.deleted:
        return DELETED_USER
    return User(
        _merge_objections(user.objections, news.objections),
        _merge_levels(user.levels, news.levels),
        _union(user.notices_ms, news.notices_ms),
        _union(user.dead_letters, news.dead_letters),
        _union(user.resolved, news.resolved),
    )


def unresolved(user: User) -> tuple[str, ...]:
    """Return the user's own dead letters that still stand."""
    if not user.dead_letters:
        return ()
    return tuple(ref for ref in user.dead_letters if ref not in user.resolved)


def _merge_objections(known: dict[str, int], news: dict[str, int]) -> dict[str, int]:
    if not news:
        return known
    if not known:
        return news
    merged = dict(known)
    for objection_id, flags in news.items():
        merged[objection_id] = merged.get(objection_id, 0) | flags
    return merged


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
        statements = _union(known.statements, news.statements)
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
    return tuple(sorted({*known, *news}))

"""
Facts, policy and time -> the reasons against using a user's data or an item.

What is not known is a reason, so there is no branch to forget: an empty set of reasons needs
every fact.  Source: contract.md, "Decisions" and, for ages, "Input records".
"""

from typing import NamedTuple

from msgspec import Struct

from streams.core import item as items
from streams.core import refs
from streams.core import user as users
from streams.core.item import Item
from streams.core.policy import Policy
from streams.core.reasons import (
    AI_INTERACTION,
    ALL_PRODUCTS,
    DELETED,
    PRODUCTS,
    PUBLIC,
    Reason,
)
from streams.core.times import NEVER_MS, end_of_day_ms, of_age_ms
from streams.core.user import (
    ADULT,
    NO_LEVELS,
    UNDER_18,
    WITHDRAWN,
    Level,
    Statement,
    User,
)

LONG_AGO_MS = -NEVER_MS
_PRODUCT_INDEXES = range(len(PRODUCTS))

# As plain integers: `|` of two members of an enumeration takes a microsecond.
_OBJECTION = int(Reason.OBJECTION)
_UNDER_AGE = int(Reason.UNDER_AGE)
_AGE_UNKNOWN = int(Reason.AGE_UNKNOWN)
_COUNTRY_NOT_COVERED = int(Reason.COUNTRY_NOT_COVERED)
_NOTICE_PENDING = int(Reason.NOTICE_PENDING)
_ACCOUNT_DELETED = int(Reason.ACCOUNT_DELETED)
_UNREADABLE_INPUT = int(Reason.UNREADABLE_INPUT)
_PRODUCT_NOT_COVERED = int(Reason.PRODUCT_NOT_COVERED)
_KIND_NOT_COVERED = int(Reason.KIND_NOT_COVERED)
_PRIVATE_MESSAGE = int(Reason.PRIVATE_MESSAGE)
_NOT_PUBLIC = int(Reason.NOT_PUBLIC)
_MINOR_AT_CREATION = int(Reason.MINOR_AT_CREATION)
_DELETED = int(Reason.DELETED)


class Decision(Struct, frozen=True, array_like=True, gc=False):
    """
    What is decided about a user; two that are equal judge every item alike.

    reasons: a set of reasons for each of `PRODUCTS`.
    adult_from_ms: coming of age; `NEVER_MS` while it is not known.
    kinds: the kinds of items the policy covers, a bit each.
    """

    reasons: tuple[int, int, int, int]
    adult_from_ms: int
    kinds: int


class Verdict(NamedTuple):
    """A decision, and the instant at which it next changes by time alone (or `NEVER_MS`)."""

    decision: Decision
    next_change_ms: int


class Age(NamedTuple):
    """
    What the facts in force say of age and country at one instant.

    reasons: of `UNDER_AGE`, `AGE_UNKNOWN`, `COUNTRY_NOT_COVERED`.
    of_age_again_ms: when `UNDER_AGE` ends by itself; `NEVER_MS` if it does not stand or end.
    """

    reasons: int
    adult_from_ms: int
    of_age_again_ms: int


def decide(user: User, policy: Policy, now_ms: int) -> Verdict:
    """Return what is decided about *user* at *now_ms*.  Raises nothing."""
    if user.deleted:
        gone = _ACCOUNT_DELETED
        return Verdict(Decision((gone,) * 4, NEVER_MS, policy.kinds_mask), NEVER_MS)
    age = judge_age(user, policy, now_ms)
    notice_over_ms = _notice_over_ms(user, policy)
    common = age.reasons
    if now_ms < notice_over_ms:
        common |= _NOTICE_PENDING
    if users.is_unreadable(user):
        common |= _UNREADABLE_INPUT
    objected, covered = _objected_products(user), policy.products_mask
    first = second = third = fourth = common
    if objected or covered != ALL_PRODUCTS:
        first, second, third, fourth = (
            common
            | (_OBJECTION if objected >> index & 1 else 0)
            | (0 if covered >> index & 1 else _PRODUCT_NOT_COVERED)
            for index in _PRODUCT_INDEXES
        )
    decision = Decision((first, second, third, fourth), age.adult_from_ms, policy.kinds_mask)
    pending_ms = notice_over_ms if now_ms < notice_over_ms else NEVER_MS
    return Verdict(decision, min(age.of_age_again_ms, pending_ms))


def without_grants(stands: Decision, decision: Decision) -> Decision:
    """Return *decision*, but with nothing allowed that the decision that *stands* does not."""
    first, second, third, fourth = (
        new or old for old, new in zip(stands.reasons, decision.reasons, strict=True)
    )
    return Decision(
        (first, second, third, fourth),
        max(stands.adult_from_ms, decision.adult_from_ms),
        stands.kinds & decision.kinds,
    )


def while_read_again(stands: Decision, user: User, decision: Decision) -> Decision:
    """
    Return what holds while the facts of *user*, which were lost, are being read again.

    That is what *stands*, and any restriction of *decision* that a fact gives: a fact that has
    only not been met yet is no reason, or everybody's data would be purged and allowed again.
    """
    if user.deleted:
        return decision
    missing = 0
    if user.levels == NO_LEVELS:
        missing |= _AGE_UNKNOWN | _COUNTRY_NOT_COVERED
    if not user.notices_ms:
        missing |= _NOTICE_PENDING
    first, second, third, fourth = (
        old | (new & ~missing) for old, new in zip(stands.reasons, decision.reasons, strict=True)
    )
    adult_from_ms = stands.adult_from_ms
    if adult_from_ms != LONG_AGO_MS:  # of a seed, whose items all count as allowed
        adult_from_ms = max(adult_from_ms, decision.adult_from_ms)
    return Decision((first, second, third, fourth), adult_from_ms, stands.kinds & decision.kinds)


def item_reasons(item: Item, user: User, decision: Decision, dead_letter_prefix: str) -> int:
    """
    Return all the reasons against using *item* of *user*; 0 means it may be used.

    dead_letter_prefix: "topic/partition/", to compare the item's dead letters with those resolved.
    """
    reasons = decision.reasons[item.product]
    if item.private_message:
        reasons |= _PRIVATE_MESSAGE
    if not decision.kinds >> item.kind & 1:
        reasons |= _KIND_NOT_COVERED
    if item.deleted:
        reasons |= _DELETED
    if item.visibility != PUBLIC and not _is_readable_interaction(item):
        reasons |= _NOT_PUBLIC
    if item.created_ms < decision.adult_from_ms:
        reasons |= _MINOR_AT_CREATION
    if item.dead_letters and is_unreadable(item, user, dead_letter_prefix):
        reasons |= _UNREADABLE_INPUT
    return reasons


def _is_readable_interaction(item: Item) -> bool:
    """Of an interaction with the AI no visibility matters but `deleted`."""
    return item.kind == AI_INTERACTION and item.visibility != DELETED and bool(item.value)


def allows(item: Item, user: User, decision: Decision, dead_letter_prefix: str) -> bool:
    """Whether there is no reason against using *item*; arguments as for `item_reasons`."""
    return (
        decision.reasons[item.product] == 0
        and item_reasons(item, user, decision, dead_letter_prefix) == 0
    )


def is_unreadable(item: Item, user: User, dead_letter_prefix: str) -> bool:
    """Whether a dead letter of *item* stands."""
    letters, resolved = item.dead_letters, user.resolved
    through = user.dismissed.get(dead_letter_prefix[:-1], users.NO_OFFSET)
    if len(letters) >= items.DEAD_LETTERS_MAX and letters[0] > through:
        return True  # the first stands for others, which nothing is known of
    return any(
        offset > through and not refs.holds(resolved, f"{dead_letter_prefix}{offset}")
        for offset in letters
    )


def eligible(decision: Decision, policy: Policy) -> bool:
    """Whether no product that *policy* covers has a reason."""
    covered = policy.products_mask
    reasons = (decision.reasons[index] for index in _PRODUCT_INDEXES if covered >> index & 1)
    return bool(covered) and not any(reasons)


def judge_age(user: User, policy: Policy, now_ms: int) -> Age:
    """
    Return what *user*'s ages say: the highest level that has a record is in force.

    A newer statement of a lower level counts only where it restricts: under age, a later coming
    of age by a date, a country not covered; not what it leaves unknown.
    """
    in_force: Level | None = None
    reasons, adult_from_ms, until_ms = 0, LONG_AGO_MS, LONG_AGO_MS
    for level in reversed(user.levels):
        if level is None:
            continue
        if in_force is None:
            in_force = level
        elif level.observed_ms <= in_force.observed_ms:
            continue
        reasons |= _left_out(level)
        for each in level.statements:
            under_age_ms = under_age_until_ms(each, policy)
            until_ms = max(until_ms, under_age_ms)
            if level is in_force:
                reasons |= _unknowns(each)
                adult_from_ms = max(adult_from_ms, _adult_from_ms(each, level, policy))
            elif under_age_ms != NEVER_MS:
                adult_from_ms = max(adult_from_ms, under_age_ms)
            if each.country not in policy.countries and (each.country or level is in_force):
                reasons |= _COUNTRY_NOT_COVERED
    if in_force is None:
        return Age(_AGE_UNKNOWN | _COUNTRY_NOT_COVERED, NEVER_MS, NEVER_MS)
    is_under_age = now_ms < until_ms
    reasons |= _UNDER_AGE if is_under_age else 0
    return Age(reasons, adult_from_ms, until_ms if is_under_age else NEVER_MS)


def _left_out(level: Level) -> int:
    """Return the reasons that statements may give of which nothing is known any more."""
    return (
        _AGE_UNKNOWN | _COUNTRY_NOT_COVERED if len(level.statements) >= users.STATEMENTS_MAX else 0
    )


def _unknowns(statement: Statement) -> int:
    return 0 if statement.has_birth_date or statement.band else _AGE_UNKNOWN


def _adult_from_ms(statement: Statement, level: Level, policy: Policy) -> int:
    if statement.has_birth_date:
        return of_age_ms(statement.birth_day, policy.adult_age)
    if statement.band != ADULT:
        return NEVER_MS
    if statement.has_adult_since:
        return end_of_day_ms(statement.adult_since_day)
    return level.adult_observed_ms


def under_age_until_ms(statement: Statement, policy: Policy) -> int:
    """Return when *statement* stops saying "under age": long ago where it does not say so."""
    if statement.has_birth_date:
        return of_age_ms(statement.birth_day, policy.adult_age)
    if statement.band == UNDER_18:
        return NEVER_MS
    if statement.has_adult_since:
        return end_of_day_ms(statement.adult_since_day)
    return LONG_AGO_MS


def counting_notice_ms(user: User, policy: Policy) -> int:
    """Return the delivery from which *user*'s notice window runs; `NEVER_MS` if none counts."""
    from_ms = policy.notices_from_ms
    for delivered_ms in user.notices_ms:  # sorted: the first that counts is the earliest
        if from_ms is None or delivered_ms >= from_ms:
            return delivered_ms
    return NEVER_MS


def _notice_over_ms(user: User, policy: Policy) -> int:
    delivered_ms = counting_notice_ms(user, policy)
    return NEVER_MS if delivered_ms == NEVER_MS else delivered_ms + policy.notice_window_ms


def _objected_products(user: User) -> int:
    if not (user.objections or user.links or user.inherited):
        return 0
    if users.may_hide_objections(user):
        return ALL_PRODUCTS  # there may be more, of which nothing is known
    covered = 0
    for flags in set(user.objections.values()):  # of ten thousand few differ
        if not flags & WITHDRAWN:
            covered |= flags
    for told in user.inherited.values():
        if not told.flags & WITHDRAWN:
            covered |= told.flags
    return covered & ALL_PRODUCTS

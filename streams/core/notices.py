"""
Who has still to be told, and whether somebody was told in time.  Pure.

A user may be used only once the notice window since a delivery has passed.
Source: contract.md, "Decisions".
"""

from streams.core.policy import Policy
from streams.core.reasons import Reason
from streams.core.times import NEVER_MS
from streams.core.user import User
from streams.core.verdict import counting_notice_ms, judge_age

_COUNTRY_NOT_COVERED = int(Reason.COUNTRY_NOT_COVERED)


def notice_is_owed(user: User, policy: Policy, now_ms: int) -> bool:
    """
    Whether *user*'s account is open, in a covered country, and no notice that counts was delivered.

    A notice is owed whatever else is known: to minors, and to those who have objected.
    """
    if user.deleted or counting_notice_ms(user, policy) != NEVER_MS:
        return False
    return not judge_age(user, policy, now_ms).reasons & _COUNTRY_NOT_COVERED


def told_from_ms(user: User, policy: Policy) -> int:
    """Return from when on *user* counts as told: the end of the notice window, or `NEVER_MS`."""
    delivered_ms = NEVER_MS if user.deleted else counting_notice_ms(user, policy)
    return NEVER_MS if delivered_ms == NEVER_MS else delivered_ms + policy.notice_window_ms


def country_of(user: User) -> str:
    """Return the country that the highest assurance level names, "" where it names none."""
    for level in reversed(user.levels):
        if level is not None:
            return next((each.country for each in level.statements if each.country), "")
    return ""

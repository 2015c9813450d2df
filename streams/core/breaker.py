"""
The breaker on re-inclusion: how many may be allowed again before somebody has looked.

A bad policy file or a broken age feed allows, all at once, people who were kept out for a reason.
So only a share of a partition's known users may be re-included within any window; the first one
too many trips the breaker, and from then on nothing more is allowed there until that trip is
released by its name, the instant of it.  What restricts knows nothing of this.

Each is counted once a window: a user's row carries the `Mark` of the latest time.  The window
slides by buckets, from one into the next of which a user is moved who is re-included again.  So
the count is exact, and beside the rows a few numbers are all that is remembered.
"""

from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from streams.core.reasons import Reason
from streams.core.verdict import Decision

BUCKETS: Final = 24  # of a window: it slides by an hour where it is a day

# What stands against somebody of whom not all has been told yet.
_NOTICE: Final = int(Reason.NOTICE_PENDING)
_NO_AGES: Final = int(Reason.AGE_UNKNOWN | Reason.COUNTRY_NOT_COVERED)


class Limit(NamedTuple):
    """How many users may be re-included within *window_ms*; *percent* 0 is off."""

    percent: float
    users_min: int  # few are nobody's mistake, and a share of few is none
    window_ms: int

    def of(self, known: int) -> int:
        """Return the limit where so many users are *known*."""
        return max(self.users_min, int(known * self.percent / 100))


NO_LIMIT: Final = Limit(0, 0, 0)


class Mark(Struct, frozen=True, array_like=True, gc=False):
    """When a user was last counted: the bucket's begin, and the latest trip before it."""

    bucket_ms: int
    trip_ms: int


class Release(Struct, frozen=True, gc=False):
    """What somebody who has looked sends: the trip of *partition* at *trip_ms* is released."""

    partition: int
    trip_ms: int


class Freed(Struct, frozen=True, gc=False):
    """
    Whose grants a release lets go uncounted: of those that were held.

    below: the offsets (by topic's full name) of the records that they wait for.
    """

    below: dict[str, int]
    policy_version: int
    at_ms: int


class State(Struct, frozen=True, gc=False):
    """
    What the breaker of a partition has to remember.

    known: users ever seen.
    counts: users by the begin of the bucket in which they were last re-included.
    trip_ms: the latest trip, which it names; 0 before the first.
    trip_users: the limit at which it tripped.
    """

    known: int = 0
    counts: dict[int, int] = {}
    trip_ms: int = 0
    trip_users: int = 0
    tripped: bool = False
    freed: Freed | None = None

    @property
    def count(self) -> int:
        """How many have been re-included within the window."""
        return sum(self.counts.values())


class Breaker:
    """
    The breaker of one partition; *state* is replaced, never changed.

    met: users never seen before, and not yet among those known.
    """

    def __init__(self, limit: Limit = NO_LIMIT, state: State = State()) -> None:  # noqa: B008
        self.state = state
        self.met = 0
        self.is_on: Final = limit.percent > 0
        self._limit = limit

    @property
    def tripped(self) -> bool:
        """Whether nothing more may be allowed."""
        return self.state.tripped and self.is_on

    @property
    def limit_users(self) -> int:
        """How many may be re-included within a window."""
        return self._limit.of(self.state.known + self.met)

    def know(self) -> None:
        """Let users met be among those known."""
        if self.met:
            self.state = replace(self.state, known=self.state.known + self.met)
            self.met = 0

    def admit(self, mark: Mark | None, now_ms: int) -> Mark | None:
        """Count a re-inclusion; return the mark to keep, or None for one too many, which trips."""
        state, window_ms = self.state, self._limit.window_ms
        width_ms = max(window_ms // BUCKETS, 1)
        bucket_ms = now_ms - now_ms % width_ms
        counts = {
            begin_ms: users
            for begin_ms, users in state.counts.items()
            if users and begin_ms + width_ms > now_ms - window_ms
        }
        counted = mark is not None and mark.trip_ms == state.trip_ms and mark.bucket_ms in counts
        if mark is not None and counted:
            if mark.bucket_ms >= bucket_ms:
                return mark
            counts[mark.bucket_ms] -= 1
        elif sum(counts.values()) >= self.limit_users:
            trip_ms = max(now_ms, state.trip_ms + 1)  # it names the trip
            self.state = replace(
                state, counts=counts, trip_ms=trip_ms, trip_users=self.limit_users, tripped=True
            )
            return None
        counts[bucket_ms] = counts.get(bucket_ms, 0) + 1
        self.state = replace(state, counts=counts)
        return Mark(bucket_ms, state.trip_ms)

    def release(self, trip_ms: int, freed: Freed) -> bool:
        """Release the trip of *trip_ms*, and begin to count anew; return whether there was it."""
        if not self.state.tripped or trip_ms != self.state.trip_ms:
            return False
        self.state = replace(self.state, counts={}, tripped=False, freed=freed)
        return True


def reincludes(
    stands: Decision, decision: Decision, *, ages_missing: bool, by_policy: bool
) -> bool:
    """
    Whether *decision* allows what *stands* has kept out for a reason.

    Not the first time that somebody is allowed, after nothing but their notice (and with
    *ages_missing* their age and country) was waited for.  *by_policy*: whatever a new policy
    allows counts.
    """
    introduced = 0 if by_policy else _NOTICE | (_NO_AGES if ages_missing else 0)
    more_items = (
        decision.adult_from_ms < stands.adult_from_ms or decision.kinds & ~stands.kinds != 0
    )
    for old, new in zip(stands.reasons, decision.reasons, strict=True):
        if new == 0 and (more_items if old == 0 else old & ~introduced):
            return True
    return False

"""
What of a decision may stand now: restrictions at once, grants unless something holds them.

Three things hold a grant: objections, ages or notices that are not read to their end (the gate's
hold); a new policy, until everybody is decided by it; and the breaker on re-inclusion.  Whoever is
held stands as before, and is due again when the hold ends.
"""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from streams.core.breaker import Breaker, Freed, Mark, reincludes
from streams.core.changes import (
    CLOCK,
    DUE_AT_ONCE_MS,
    DUE_BY_POLICY_MS,
    POLICY,
    Held,
    Origin,
    UserRow,
    is_below,
)
from streams.core.policy import Policy
from streams.core.user import NO_LEVELS, User
from streams.core.verdict import Decision, decide, while_read_again, without_grants


class Ruling(Struct, frozen=True, gc=False):
    """A decision as far as it may stand, when to look again, and what of it is held."""

    decision: Decision
    next_change_ms: int
    held: Held | None
    reincluded: Mark | None

    @classmethod
    def as_it_stands(cls, row: UserRow) -> "Ruling":
        """Return the ruling by which *row* stands."""
        return cls(row.decision, row.next_change_ms, row.held, row.reincluded)


class Holds:
    """
    What holds grants in one cycle of one partition.

    gate: hold what is allowed, but for what came of records below *free_below*.
    """

    def __init__(
        self,
        policy: Policy,
        now_ms: int,
        breaker: Breaker,
        *,
        gate: bool,
        free_below: Mapping[str, int],
    ) -> None:
        self._policy = policy
        self._now_ms = now_ms
        self._breaker = breaker
        self._gate = gate
        self._free_below = free_below

    def rule(self, row: UserRow, user: User, origin: Origin) -> Ruling:
        """Decide on *user*, of whom *row* stands, after the record or instant *origin*."""
        decision, next_change_ms = decide(user, self._policy, self._now_ms)
        ruling = Ruling(decision, next_change_ms, None, row.reincluded)
        if self._gate and (row.seeded or not is_below(origin.cause, self._free_below)):
            if row.seeded:
                return _held(row, while_read_again(row.decision, user, decision), origin)
            least = without_grants(row.decision, decision)
            return ruling if least == decision else _held(row, least, origin)
        allows_more = 0 in decision.reasons and decision != row.decision
        if not allows_more or not self._breaker.is_on:
            return ruling
        return self._guard(row, ruling, origin)

    def rule_by_policy(self, row: UserRow, origin: Origin) -> Ruling:
        """Decide by a new policy: restrictions at once, grants once everybody is decided by it."""
        decision, next_change_ms = decide(row.user, self._policy, self._now_ms)
        least = without_grants(row.decision, decision)
        if least == decision:
            return Ruling(decision, next_change_ms, None, row.reincluded)
        return replace(_held(row, least, origin), next_change_ms=DUE_BY_POLICY_MS)

    def release(self, trip_ms: int, positions: Mapping[str, int]) -> bool:
        """Release a trip; return whether there was it.  What is held by *positions* goes."""
        freed = Freed(dict(positions), self._policy.version, self._now_ms)
        return self._breaker.release(trip_ms, freed)

    def _guard(self, row: UserRow, ruling: Ruling, origin: Origin) -> Ruling:
        """Let what *ruling* allows go, as far as the breaker does."""
        decision, mark = ruling.decision, row.reincluded
        if not self._breaker.tripped:
            held = row.held
            counts = reincludes(
                row.decision,
                decision,
                ages_missing=_ages_missing(row),
                by_policy=POLICY in (origin.topic, held and held.cause.topic),
            )
            if not counts or self._is_freed(held):
                return ruling
            mark = self._breaker.admit(mark, self._now_ms)
            if mark is not None:
                return replace(ruling, reincluded=mark)
        least = without_grants(row.decision, decision)
        return ruling if least == decision else _held(row, least, origin)

    def _is_freed(self, held: Held | None) -> bool:
        """Whether what *held* waits for was waiting when the breaker was released."""
        freed = self._breaker.state.freed
        if held is None or freed is None:
            return False
        if held.cause.topic == POLICY:
            return freed.policy_version == self._policy.version
        if held.cause.topic == CLOCK:
            return held.received_ms <= freed.at_ms
        return is_below(held.cause, freed.below)


def _held(row: UserRow, least: Decision, origin: Origin) -> Ruling:
    held = Held(origin.cause, origin.received_ms, _ages_missing(row))
    return Ruling(least, DUE_AT_ONCE_MS, held, row.reincluded)


def _ages_missing(row: UserRow) -> bool:
    """Whether nothing was known of age and country when the decision in *row* was taken."""
    return row.user.levels == NO_LEVELS if row.held is None else row.held.ages_missing

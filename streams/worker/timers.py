"""
A partition's timers: which are due, and how many may fire now.

A timer is a row of the local store, as the row of its user says when the decision changes by
itself; it is fired by the fold.  Those of grants that waited for a hold to end fire as fast as
they can; what the clock or a changed policy allows goes at a limited rate behind everything else.
"""

import time
from collections.abc import Callable
from typing import Final

from streams.core.changes import DUE_AT_ONCE_MS, DUE_BY_POLICY_MS
from streams.core.reasons import PRODUCTS
from streams.core.times import NEVER_MS
from streams.state import rows
from streams.state.store import Row
from streams.state.view import View

TIMERS_PER_CYCLE: Final = 500  # as many as may go before fresh input

Timer = tuple[int, str]  # the instant at which it is due, and the user


class GrantRate:
    """
    How many grants the clock and the policy may cause now: *per_s* a second, at most those of one.

    What was spent beyond is owed, and paid by waiting.
    """

    def __init__(self, per_s: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock_s = clock_s
        self._left = float(per_s)
        self._counted_s = clock_s()

    def left(self) -> int:
        """Return how many may go now; 0 while any are owed."""
        now_s = self._clock_s()
        gained = (now_s - self._counted_s) * self._per_s
        self._left = min(self._left + gained, float(self._per_s))
        self._counted_s = now_s
        return max(int(self._left), 0)

    def spend(self, grants: int) -> None:
        """Note that *grants* have gone."""
        self._left -= grants


class Timers:
    """The timers of one partition; the view's store holds them."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._fired: set[Timer] = set()  # and not persisted yet
        self._next_due_ms: int | None = None  # None: look it up
        self._walked = ""  # the last user looked at by `take_held`
        self._to_walk = 0  # ends of the range still to be come by

    def next_due_ms(self) -> int:
        """Return when the next timer that has not fired is due, or `NEVER_MS`."""
        if self._next_due_ms is None:
            waiting = self._view.due(NEVER_MS, 1 + len(self._fired))
            left = (timer[0] for timer in waiting if timer not in self._fired)
            self._next_due_ms = next(left, NEVER_MS)
        return self._next_due_ms

    def can_fire(self, now_ms: int, grants: int) -> bool:
        """Whether `take` would return any."""
        due_ms = self.next_due_ms()
        return due_ms == DUE_AT_ONCE_MS or (due_ms <= now_ms and grants > 0)

    def take(self, now_ms: int, grants: int, *, sweeping: bool = False) -> list[Timer]:
        """
        Return timers that fire now, the oldest first; their users get at most *grants*.

        sweeping: what a new policy allows has to wait, as not everybody is decided by it yet.
        """
        if not self.can_fire(now_ms, grants):
            return []
        found = self._due(now_ms, TIMERS_PER_CYCLE + len(self._fired), sweeping=sweeping)
        due = [timer for timer in found if timer not in self._fired][:TIMERS_PER_CYCLE]
        held = sum(1 for due_ms, _ in due if due_ms == DUE_AT_ONCE_MS)
        # Items come on top, and are paid for by waiting; but one at least, or none ever would.
        by_clock = max(grants // len(PRODUCTS), 1) if grants else 0
        del due[held + by_clock :]
        self._fired.update(due)
        self._next_due_ms = None
        return due

    @property
    def walks_held(self) -> bool:
        """Whether `take_held` has more to look at."""
        return self._to_walk > 0

    def walk_held(self) -> None:
        """Let `take_held` look once more at all who wait for a hold to end."""
        # Where it is on its way, to the end and from the beginning again: else it may not get on.
        self._to_walk = 2 if self._walked else 1

    def take_held(self, is_free: Callable[[str], bool]) -> list[Timer]:
        """Return the next of those that wait for a hold to end whose users are free already."""
        if not self._to_walk:
            return []
        seen = self._view.due_at(DUE_AT_ONCE_MS, TIMERS_PER_CYCLE, self._walked)
        due = [timer for timer in seen if timer not in self._fired and is_free(timer[1])]
        if len(seen) == TIMERS_PER_CYCLE:
            self._walked = seen[-1][1]
        else:
            self._walked = ""
            self._to_walk -= 1
        self._fired.update(due)
        self._next_due_ms = None
        return due

    def _due(self, now_ms: int, limit: int, *, sweeping: bool) -> list[Timer]:
        if not sweeping:
            return self._view.due(now_ms, limit)
        held = self._view.due(DUE_AT_ONCE_MS, limit)
        return held + self._view.due(now_ms, limit - len(held), after_ms=DUE_BY_POLICY_MS)

    def persisted(self, local_rows: list[Row]) -> None:
        """Note that the store holds *local_rows*: timers set, (None) those that fired, others."""
        for key, value in local_rows:
            if key[:1] != rows.TIMER:
                continue
            timer = rows.timer_of(key)
            if value is None:
                self._fired.discard(timer)
            elif self._next_due_ms is not None:
                self._next_due_ms = min(self._next_due_ms, timer[0])

    def held_users(self, limit: int) -> int:
        """Return how many wait for a hold to end, *limit* at most."""
        return len(self._view.due(DUE_BY_POLICY_MS, limit))

    def roll_back(self) -> None:
        """Forget what fired and was not persisted."""
        self._fired.clear()
        self.walk_held()
        self._next_due_ms = None

    def overdue_ms(self, now_ms: int) -> int:
        """Return by how much the oldest timer of the clock is late; 0 when none is."""
        due = self._view.due(now_ms, 1, after_ms=DUE_BY_POLICY_MS)
        return max(now_ms - due[0][0], 0) if due else 0

"""
How fast an import may go beside live traffic.

**The rule.**  What the workers have not done with yet is kept young: the rate rises while they take
what comes at once, and falls when records wait longer than they did in the first LEARN_S, in which
the import is slow enough to make no difference.  So it takes what is left over, whatever that is on
this machine and at this hour, and nobody has to guess a number.

Why not otherwise: a topic of its own would be read by the same workers and committed in the same
transactions, so that only its priority would be new, at the price of a second place where
objections are; a broker's quota is a constant, in bytes, that knows nothing of how busy workers
are.  No Kafka here.
"""

from collections.abc import Mapping
from typing import Final

Place = tuple[str, int]  # a topic, and the number of a partition

LEARN_S: Final = 5.0
CALM_FACTOR: Final = 1.0  # of the longest wait while learning is borne later,
TARGET_MIN_S: Final = 0.06  # within what a look every 0.05 s can tell
TARGET_MAX_S: Final = 1.0
PAUSE_S: Final = 1.5  # of waiting: the import stops until it is less than the target
BEGIN_ROWS_PER_S: Final = 500.0
FLOOR_ROWS_PER_S: Final = 500.0  # little beside what a worker takes, and an end within an hour
FIRST_RISE: Final = 1.015  # with every look, 20 a second: doubled in 2.3 s until it is too much,
RISE: Final = 1.0015  # then in 23 s, so that too much is tried once in so long,
FALL: Final = 0.5  # and most of the time there is room
LATE_LOOKS: Final = 2  # in a row: one alone may be anything
FALL_AGAIN_S: Final = 0.5  # what has fallen needs a while to show
BURST_S: Final = 0.05  # as much as may go at once
SLACK_RECORDS: Final = 2  # a transaction's marker behind the last record is committed by nobody


class Waiting:
    """
    Knows how long records wait, from looks at ends and at what is committed.
    """

    def __init__(self) -> None:
        self._looks: list[tuple[float, Mapping[Place, int]]] = []

    def looked(self, at_s: float, ends: Mapping[Place, int]) -> None:
        """Know where the topics ended at *at_s*."""
        self._looks.append((at_s, ends))

    def waits_s(self, now_s: float, committed: Mapping[Place, int]) -> float:
        """Return how long the oldest record that is not *committed* has waited, at least."""
        passed = 0
        for at, (_, ends) in enumerate(self._looks, 1):
            if any(committed.get(place, 0) < end - SLACK_RECORDS for place, end in ends.items()):
                break
            passed = at
        del self._looks[:passed]
        return now_s - self._looks[0][0] if self._looks else 0.0


class Pace:
    """
    How many rows may go now.

    fixed: rows per second that somebody has asked for; None: as the workers allow.
    """

    def __init__(self, now_s: float, fixed: float | None = None) -> None:
        self.rate = fixed or BEGIN_ROWS_PER_S
        self._fixed = fixed is not None
        self._budget = 0.0
        self._at_s = now_s
        self._fell_s = now_s
        self._has_fallen = False
        self._late_looks = 0
        self._held_back = False
        self._learns_until_s = now_s + LEARN_S
        self._calm_s = 0.0  # the longest wait so far, while learning
        self.target_s = TARGET_MAX_S
        self.paused = False
        self.free = False  # nobody is there to be disturbed

    def looked(self, now_s: float, waits_s: float) -> None:
        """Know how long records wait."""
        if self._fixed:
            return
        if now_s < self._learns_until_s:
            self._calm_s = max(self._calm_s, waits_s)
            self.target_s = min(max(CALM_FACTOR * self._calm_s, TARGET_MIN_S), TARGET_MAX_S)
            return
        if waits_s > PAUSE_S:
            self.paused = True
        elif waits_s < self.target_s:
            self.paused = False
        self._late_looks = 0 if waits_s < self.target_s else self._late_looks + 1
        if not self._late_looks:
            # Where rows come slower than they might go, nothing is known of a higher rate.
            rise = RISE if self._has_fallen else FIRST_RISE
            self.rate *= rise if self._held_back else 1.0
            self._held_back = False
        elif self._late_looks >= LATE_LOOKS and now_s - self._fell_s > FALL_AGAIN_S:
            self._fell_s = now_s
            self._has_fallen = True
            self.rate = max(FLOOR_ROWS_PER_S, self.rate * FALL)

    def allow(self, now_s: float, wanted: int) -> int:
        """Return how many of *wanted* rows may go now."""
        if self.free and not self._fixed:
            return wanted
        if self.paused:
            self._at_s = now_s
            return 0
        earned = (now_s - self._at_s) * self.rate
        self._at_s = now_s
        self._budget = min(self._budget + earned, max(self.rate * BURST_S, 1.0))
        allowed = min(int(self._budget), wanted)
        self._budget -= allowed
        self._held_back |= allowed < wanted
        return allowed

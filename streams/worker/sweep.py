"""
A changed policy: which one a partition was decided by, and the walk that decides everyone again.

Both are rows of the users changelog, written with the decisions they tell of.  So a worker that
takes over goes on where the last one stopped, and one with an older policy gives up.  Restrictions
go out as the walk finds them; what the new policy allows waits until it has seen everybody.
Source: contract.md, "Decisions".
"""

import logging
import time
from itertools import islice
from typing import Final

import msgspec

from streams.core.policy import Policy
from streams.errors import UsageProblem
from streams.state import rows
from streams.state.store import Row, Store

logger = logging.getLogger(__name__)

POLICY_KEY: Final = rows.position_key("policy")
SWEEP_KEY: Final = rows.position_key("sweep")
COUNTED_MAX: Final = 20_000  # users counted for a metric
PROGRESS_S: Final = 10.0


class Decided(msgspec.Struct, frozen=True):
    """The policy a partition is decided by."""

    version: int
    digest: str


class Walk(msgspec.Struct, frozen=True):
    """How far a walk has come: *since_ms* it has been due, *cursor* is the last user's id."""

    since_ms: int
    done: int = 0
    cursor: str = ""


class Sweep:
    """
    The walk over the users of one partition, whose state is *store*; idle where it is not needed.

    Raises UsageProblem (exit status 2) where the state was decided by a policy of a higher
    version, or by another one of the same version.
    """

    def __init__(self, store: Store, policy: Policy, now_ms: int, place: str) -> None:
        self._store = store
        self._place = place
        self._ours = Decided(policy.version, policy.digest)
        self._since_ms = now_ms
        self._told_s = time.monotonic()
        self._known = False  # whether the store says that it is decided by our policy
        self._walk: Walk | None = None
        self._noted = False  # whether a row of the walk has been written
        self.reload()
        if self._walk is not None:
            logger.info("%s: all are decided again by policy %d", place, policy.version)

    @property
    def since_ms(self) -> int:
        """Since when the new policy has been due here."""
        return self._since_ms

    @property
    def under_way(self) -> bool:
        """Whether there are users left to decide again."""
        return self._walk is not None

    def reload(self) -> None:
        """Go back to what the store says: at the start, and after a rollback."""
        decided = _decided_by(self._store)
        walk = self._store.get(SWEEP_KEY)
        self._known = decided == self._ours
        self._noted = walk is not None
        if walk is not None:
            self._walk = msgspec.json.decode(rows.decode_text(walk), type=Walk)
        else:
            self._walk = None
        if decided is None or self._known:
            if self._walk is not None:
                self._since_ms = self._walk.since_ms
            return
        self._refuse(decided)
        self._walk = Walk(self._since_ms)

    def take(self, limit: int) -> list[str]:
        """Return the next users to decide again, *limit* at most, and move on behind them."""
        if self._walk is None:
            return []
        found = [
            rows.user_of(key)
            for key, _ in islice(self._store.scan(rows.USER, self._walk.cursor.encode()), limit)
        ]
        done = self._walk.done + len(found)
        if len(found) < limit:
            logger.info(
                "%s: all %d users are decided by policy %d", self._place, done, self._version
            )
            self._walk = None
        else:
            self._walk = Walk(self._since_ms, done, found[-1])
            if time.monotonic() - self._told_s > PROGRESS_S:
                self._told_s = time.monotonic()
                logger.info(
                    "%s: %d users are decided by policy %d", self._place, done, self._version
                )
        return found

    def notes(self) -> list[Row]:
        """Return the rows that say where this stands, for the transaction of what was decided."""
        found: list[Row] = []
        if not self._known:
            found.append((POLICY_KEY, rows.encode_text(_text(self._ours))))
        if self._walk is not None:
            found.append((SWEEP_KEY, rows.encode_text(_text(self._walk))))
        elif self._noted:
            found.append((SWEEP_KEY, None))
        self._noted = self._walk is not None
        return found

    def persisted(self) -> None:
        """Note that the rows of a cycle are in the store."""
        if not self._known:
            self._known = _decided_by(self._store) == self._ours

    def pending_users(self) -> int:
        """Return how many users are left to decide again; no more than 20,000 are counted."""
        walk = self._walk
        if walk is None:
            return 0
        left = self._store.scan(rows.USER, walk.cursor.encode())
        return sum(1 for _ in islice(left, COUNTED_MAX))

    @property
    def _version(self) -> int:
        return self._ours.version

    def _refuse(self, decided: Decided) -> None:
        if decided.version < self._ours.version:
            return
        if decided.version > self._ours.version:
            what = f"policy version {decided.version}, this worker has version {self._version}"
        else:
            what = f"another policy of version {decided.version} than this worker has"
        raise UsageProblem(
            f"{self._place} was decided by {what}: decisions must not go back and forth. Start "
            "this worker with that policy (OBJECTIONS_POLICY), or with one of a higher version"
        )


def _decided_by(store: Store) -> Decided | None:
    """Return the policy of the state in *store*; None where nothing is decided yet."""
    data = store.get(POLICY_KEY)
    if data is not None:
        return msgspec.json.decode(rows.decode_text(data), type=Decided)
    if next(iter(store.scan(rows.USER)), None) is None:
        return None
    built_in = Policy()  # all there was before policies were noted
    return Decided(built_in.version, built_in.digest)


def _text(struct: msgspec.Struct) -> str:
    return msgspec.json.encode(struct).decode()

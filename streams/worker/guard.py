"""
The breaker on re-inclusion of one partition, as a row of the users changelog.

The row is written in the transaction of what it counts, so that a restart, a rollback and a move
to another worker change nothing.  While the limit is off there is none: the users are counted anew
when it is on again.
"""

import logging
from typing import Final

from streams.core.breaker import Breaker, Limit, State
from streams.core.times import rfc3339
from streams.state import rows
from streams.state.store import Row, Store

logger = logging.getLogger(__name__)

REMEDY: Final = "see `objections grants status`"


class Guard:
    """Keeps the breaker of the partition whose state is *store*."""

    def __init__(self, store: Store, limit: Limit, place: str) -> None:
        self.breaker = Breaker(limit)
        self._store = store
        self._place = place
        self._row: bytes | None = None  # as of the last cycle
        self._told_trip_ms = 0
        self.reload()

    @property
    def tripped(self) -> bool:
        """Whether nothing more may be allowed here."""
        return self.breaker.tripped

    def reload(self) -> None:
        """Go back to what the store says: at the start, and after a rollback."""
        self._row = self._store.get(rows.BREAKER_KEY)
        self.breaker.met = 0
        if self._row is not None:
            self.breaker.state = rows.decode_breaker(self._row)
        elif self.breaker.is_on:
            self.breaker.state = State(sum(1 for _ in self._store.scan(rows.USER)))
        self._tell()

    def notes(self) -> list[Row]:
        """Return the row that says how it stands, if that is new, for a cycle's transaction."""
        self.breaker.know()
        row = rows.encode_breaker(self.breaker.state) if self.breaker.is_on else None
        if row == self._row:
            return []
        self._row = row
        self._tell()
        return [(rows.BREAKER_KEY, row)]

    def _tell(self) -> None:
        """Say it once where the breaker has tripped, or was released."""
        state, tripped = self.breaker.state, self.tripped
        if tripped and state.trip_ms != self._told_trip_ms:
            logger.error(
                "%s: since %s nothing more is allowed: more than %d of %d users would have been "
                "allowed again. Restrictions and purges go on. Remedy: %s",
                self._place,
                rfc3339(state.trip_ms),
                self.breaker.limit_users,
                state.known,
                REMEDY,
            )
        elif self._told_trip_ms and not tripped:
            logger.warning("%s: grants are released", self._place)
        self._told_trip_ms = state.trip_ms if tripped else 0

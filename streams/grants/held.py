"""
What the users changelog says of a partition's breaker, and of the grants that wait.

Pure.  Rows are learnt in the order of the log: the last one of a key holds.
"""

from collections import Counter
from typing import Any, Final

from streams.core.breaker import State
from streams.core.times import rfc3339
from streams.state import rows

LOOK_AT: Final = 3  # users named, for somebody who wants to see why


class Held:
    """The breaker of *partition*, and the users who wait for a hold of any kind to end."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.state = State()
        self._topics: dict[str, str] = {}

    def learn_row(self, key: bytes, value: bytes | None) -> None:
        """Learn a row of the users changelog.  Raises `NewerRow`, `UnreadableRow`."""
        if key == rows.BREAKER_KEY:
            self.state = State() if value is None else rows.decode_breaker(value)
        elif key[:1] == rows.USER:
            user_id = rows.user_of(key)
            held = None if value is None else rows.decode_user(value).held
            if held is not None:
                self._topics[user_id] = held.cause.topic
            else:
                self._topics.pop(user_id, None)

    @property
    def tripped(self) -> bool:
        """Whether grants are held until somebody releases them."""
        return self.state.tripped

    @property
    def users_n(self) -> int:
        """How many wait."""
        return len(self._topics)

    @property
    def causes(self) -> dict[str, int]:
        """How many wait, by the topic of what would allow them (a record, `policy`, `clock`)."""
        return dict(Counter(self._topics.values()).most_common())

    @property
    def some(self) -> list[str]:
        """A few of those who wait."""
        return sorted(self._topics)[:LOOK_AT]

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        state = self.state
        return {
            "partition": self.partition,
            "held": self.tripped,
            "tripped_at": rfc3339(state.trip_ms) if self.tripped else None,
            "limit_users": state.trip_users if self.tripped else None,
            "reincluded_users": state.count,
            "known_users": state.known,
            "waiting_users": self.users_n,
            "causes": self.causes,
            "some_users": self.some,
        }

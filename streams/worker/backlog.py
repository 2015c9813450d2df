"""
Whether objections, ages and notices lag, and when what waits for them may go on.

**The rule.**  While a record of a user topic is known to be unread, content of its partition waits
and nothing more is granted; tombstones go on.  "Known" is what Kafka said last:

- with every fetch it says where a topic ends.  A round that does not reach that end leaves a
  backlog behind: a burst of objections, an import, a long catch-up.
- every second the ends are asked for beside the fetches.  An end that is not reached a second
  later means that fetches do not get through, and no answer for seconds means that nobody knows:
  a broker that is slow, or away, for one topic alone.

**The end of a hold** is not where the topics end when it ends, or objections that never stop would
stop everything: it is an end they had.  When they are read so far, all that is older than that
look is judged by all the objections there were: grants of older facts go out, older content is
handed over, and what is newer waits for the next look (a *step*).  When nothing is known to be
unread any more, one more look makes sure, and the hold is over.

No Kafka here.  Source: contract.md, "Output records".
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from streams.worker.names import Followed
from streams.worker.rounds import Look, Place

LOOK_EVERY_S: Final = 1.0
UNKNOWN_AFTER_S: Final = 4.0  # without an answer
assert UNKNOWN_AFTER_S > 3 * LOOK_EVERY_S  # or a single slow answer would stop content


class Backlog:
    """What is known of the ends of user topics."""

    def __init__(
        self,
        followed: Followed,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock_s = clock_s
        self._user_topics = followed.users
        self._fetched: dict[Place, int] = {}
        self._stable: dict[Place, int] = {}
        self._looks: dict[int, tuple[Look | None, Look]] = {}  # the last but one, and the last

    def clear(self) -> None:
        """Forget all partitions."""
        self._fetched.clear()
        self._stable.clear()
        self._looks.clear()

    def begin(self, partition: int, ends: Mapping[str, int]) -> Look:
        """Know the *ends* of a partition that is taken over now."""
        look = Look(self._clock_s(), {}, {topic: ends[topic] for topic in self._user_topics})
        self._looks[partition] = None, look
        return look

    def looked(self, partition: int, look: Look) -> None:
        """Know a new look."""
        _, last = self._looks[partition]
        self._looks[partition] = last, look

    def seen_end(self, place: Place) -> int:
        """Return where an input ended by the last look; 0 where there was none."""
        topic, partition = place
        looks = self._looks.get(partition)
        return looks[1].limits.get(topic, 0) if looks else 0

    def fetched(self, place: Place, end: int) -> None:
        """Know where a topic ends by the last fetch, uncommitted records included."""
        self._fetched[place] = end

    def reached(self, place: Place, offset: int) -> None:
        """Know that a fetch found nothing more to read at *offset*; there may be an open end."""
        self._stable[place] = offset

    def lags(self, partition: int, positions: Mapping[Place, int]) -> bool:
        """Whether what was fetched shows that user topics have more than *positions*."""
        for topic in self._user_topics:
            place = topic, partition
            at = positions[place]
            if self._fetched.get(place, at) > at != self._stable.get(place):
                return True
        return self.is_late(partition, positions)

    def is_late(self, partition: int, positions: Mapping[Place, int]) -> bool:
        """Whether fetches have not brought what there was a second ago, or nobody knows."""
        before, last = self._looks[partition]
        if self._clock_s() - last.asked_s > UNKNOWN_AFTER_S:
            return True
        return before is not None and not has_reached(before, partition, positions)


def has_reached(look: Look, partition: int, positions: Mapping[Place, int]) -> bool:
    """Whether all that *look* saw of the user topics is read."""
    return all(positions.get((topic, partition), -1) >= end for topic, end in look.ends.items())


class Next(Enum):
    """What becomes of a hold."""

    MAKE_SURE = auto()  # by a look that is asked for now
    STEP = auto()  # what is older than the look goes on
    END = auto()


@dataclass
class Hold:
    """
    A hold on the grants and the content of one partition.

    since_s: only a look that is asked for after it will do, by time.monotonic().
    look: what is to be read; None: it is still to come.
    confirming: nothing is known to be unread, and *look* makes sure.
    content_limit: content below it may be read; None: none may.
    began_s: by time.time().
    """

    since_s: float
    look: Look | None = None
    confirming: bool = False
    content_limit: int | None = None
    began_s: float = field(default_factory=time.time)

    def offer(self, look: Look) -> None:
        """Take *look* as what is to be read, where one is needed and it is new enough."""
        if self.look is None and look.asked_s > self.since_s:
            self.look = look

    def judge(self, *, lags: bool) -> Next:
        """Return what follows as *look* is read; *lags*: there is known to be more."""
        if lags:
            return Next.STEP
        return Next.END if self.confirming else Next.MAKE_SURE

    def renew(self, now_s: float, then: Next) -> None:
        """Wait for another look, as *then* wants."""
        self.look, self.since_s, self.confirming = None, now_s, then is Next.MAKE_SURE

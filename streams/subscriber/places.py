"""
Where to begin with a place, and whether what a store has can still be trusted.

A store that misses a tombstone keeps what it should drop, and compaction takes tombstones away
after `delete.retention.ms`.  So a place goes on from where it is only while that is known to be
short ago; else it is read from its beginning into a new generation (a *resync*).

An odd generation is a resync under way, an even one is settled: it grows by one when a resync
begins and by one when it has ended.  Nothing beyond what was acknowledged before is acknowledged
while it is odd.  Pure: values in, values out.
"""

from enum import Enum
from typing import Final, NamedTuple

from streams.sinks.sink import Position

MINUTE_MS: Final = 60_000


class Reason(Enum):
    """Why a place is read from its beginning; the text is for people."""

    NEW = "the store is new to it"
    GONE = "the store has lost its position"
    ANOTHER_TOPIC = "the topic was made anew"
    CUT = "the log ends before the store's position: it has lost its end"
    TRUNCATED = "the log begins after the store's position"
    INTERRUPTED = "a resync of it was begun, and what came of it is not known"
    WENT_BACK = "the store is behind what it acknowledged: it went back to a backup"
    UNKNOWN_AGE = "the store has acknowledged nothing, so its age is not known"
    AWAY = "the store was away for more than half of delete.retention.ms"


class Ack(NamedTuple):
    """What a store last acknowledged of a place; *at_ms* is the broker's time stamp."""

    offset: int
    at_ms: int


class Committed(NamedTuple):
    """The group's offset of a place, and the generation it was committed in; None if unknown."""

    offset: int
    generation: int | None


class Found(NamedTuple):
    """
    What is known of a place when it is taken over.

    position: the store's; None where it has none.
    start, end: of the log, as offsets.
    hidden: what the store acknowledged last; None where it never did.
    committed: what the group has; None where it has nothing.
    """

    position: Position | None
    topic_id: str
    start: int
    end: int
    hidden: Ack | None
    committed: Committed | None


class Beginning(NamedTuple):
    """
    Where to begin.

    position: the store's from now on; to be stored first where there is a *reason*.
    reason: why the place is resynced; None to go on.
    lower_to: an offset to acknowledge at once, as what was acknowledged is not so any more.
    """

    position: Position
    reason: Reason | None
    lower_to: int | None


def begin(found: Found, now_ms: int, away_max_ms: int) -> Beginning:
    """Return where to begin; *away_max_ms* is half of `delete.retention.ms`."""
    position = found.position
    reason = _reason(found, now_ms, away_max_ms)
    if position is None:
        return Beginning(Position(found.topic_id, 0, _unused(found, now_ms)), reason, 0)
    if reason is None:
        return Beginning(position, None, None)
    return Beginning(
        Position(found.topic_id, 0, next_resync(position.generation)),
        reason,
        _still_true(position, reason, found.hidden),
    )


def is_settled(position: Position) -> bool:
    """Whether no resync is under way."""
    return position.generation % 2 == 0


def next_resync(generation: int) -> int:
    """Return the generation of a resync that follows *generation*."""
    return generation + 1 + generation % 2


def settled(position: Position) -> Position:
    """Return *position* once its resync has ended."""
    assert not is_settled(position)
    return position._replace(generation=position.generation + 1)


def _unused(found: Found, now_ms: int) -> int:
    """
    Return the generation of a first resync: an odd one above any that rows may still carry.

    Of a store that has lost its positions nobody knows its rows' generation, but it was made from
    an earlier minute.  Within 31 bits for some thousand years.
    """
    first = 2 * (now_ms // MINUTE_MS) + 1
    known = found.committed.generation if found.committed else None
    return first if known is None else max(first, next_resync(known))


def _reason(found: Found, now_ms: int, away_max_ms: int) -> Reason | None:
    position, hidden, committed = found.position, found.hidden, found.committed
    reached = committed.offset if committed else 0
    if position is None:
        return Reason.GONE if reached or (hidden and hidden.offset) else Reason.NEW
    resyncing = not is_settled(position)
    if not (resyncing and committed and committed.generation == position.generation):
        # Of the resync that is under way the acknowledgements say nothing: they stand still.
        reached = max(reached, hidden.offset if hidden else 0)
    # A backup brought back twice: the word it is behind was lowered to it the first time.
    known = committed.generation if committed else None
    older = known is not None and position.generation < known
    behind = older or position.offset < reached
    checks = (
        (Reason.ANOTHER_TOPIC, position.topic_id != found.topic_id),
        (Reason.CUT, position.offset > found.end),
        (Reason.TRUNCATED, 0 < position.offset < found.start),
        (Reason.INTERRUPTED, behind and resyncing),
        (Reason.WENT_BACK, behind),
        (Reason.UNKNOWN_AGE, hidden is None),
        (Reason.AWAY, hidden is not None and now_ms - hidden.at_ms > away_max_ms),
    )
    return next((reason for reason, stands in checks if stands), None)


def _still_true(position: Position, reason: Reason, hidden: Ack | None) -> int | None:
    """Return what may be acknowledged at most; None where the last word holds."""
    if reason in {Reason.ANOTHER_TOPIC, Reason.CUT}:
        return 0
    if reason is Reason.AWAY and hidden is not None:
        return None  # It may be in a resync: what was acknowledged before that stands.
    most = position.offset if is_settled(position) else 0
    return None if hidden is not None and hidden.offset <= most else most

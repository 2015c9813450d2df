"""Where a place begins: every way a store and the log may not fit together."""

import pytest

from streams.sinks.sink import Position
from streams.subscriber.places import (
    Ack,
    Beginning,
    Committed,
    Found,
    Reason,
    begin,
    is_settled,
    next_resync,
    settled,
)

NOW_MS = 1_776_243_600_000
AWAY_MAX_MS = 1_000_000
ID = "an-id"
SETTLED = Position(ID, 50, 4)
RESYNCING = Position(ID, 50, 5)
WELL = Found(SETTLED, ID, 0, 100, Ack(50, NOW_MS - AWAY_MAX_MS), Committed(50, 4))


def test_a_place_that_is_well_goes_on() -> None:
    """
    What was acknowledged short ago goes on, also when it died between applying and saying so.
    """
    assert Beginning(SETTLED, None, None) == begin(WELL, NOW_MS, AWAY_MAX_MS)
    behind = WELL._replace(hidden=Ack(40, NOW_MS), committed=None)
    assert Beginning(SETTLED, None, None) == begin(behind, NOW_MS, AWAY_MAX_MS)
    at_its_end = WELL._replace(end=50)
    assert Beginning(SETTLED, None, None) == begin(at_its_end, NOW_MS, AWAY_MAX_MS)


@pytest.mark.parametrize(
    "found,reason,lower_to",
    [
        (WELL._replace(topic_id="another"), Reason.ANOTHER_TOPIC, 0),
        (WELL._replace(end=49), Reason.CUT, 0),
        (WELL._replace(start=51), Reason.TRUNCATED, None),
        (WELL._replace(hidden=Ack(51, NOW_MS)), Reason.WENT_BACK, 50),
        (WELL._replace(committed=Committed(51, 4)), Reason.WENT_BACK, None),
        # A backup brought back twice: what it is behind was lowered to it the first time.
        (WELL._replace(committed=Committed(0, 5)), Reason.WENT_BACK, None),
        (WELL._replace(hidden=None), Reason.UNKNOWN_AGE, 50),
        (WELL._replace(hidden=Ack(50, NOW_MS - AWAY_MAX_MS - 1)), Reason.AWAY, None),
        (WELL._replace(hidden=Ack(40, NOW_MS - AWAY_MAX_MS - 1)), Reason.AWAY, None),
    ],
)
def test_what_begins_a_resync(found: Found, reason: Reason, lower_to: int | None) -> None:
    """
    Each doubt leads to offset 0 in a new generation, and takes back what is not so any more.
    """
    expected = Beginning(Position(found.topic_id, 0, 5), reason, lower_to)

    assert expected == begin(found, NOW_MS, AWAY_MAX_MS)


@pytest.mark.parametrize(
    "hidden,committed,reason",
    [
        (Ack(0, NOW_MS), None, Reason.NEW),
        (None, None, Reason.NEW),
        (Ack(1, NOW_MS), None, Reason.GONE),
        (None, Committed(3, 7), Reason.GONE),
    ],
)
def test_no_position(hidden: Ack | None, committed: Committed | None, reason: Reason) -> None:
    """
    Without a position the generation is above any that rows of an earlier time may carry.
    """
    found = WELL._replace(position=None, hidden=hidden, committed=committed)
    earlier = begin(found, NOW_MS - 60_000, AWAY_MAX_MS)
    now = begin(found, NOW_MS, AWAY_MAX_MS)

    assert (reason, 0, 0) == (now.reason, now.position.offset, now.lower_to)
    assert settled(earlier.position).generation < now.position.generation < 2**31
    again = begin(
        found._replace(committed=Committed(9, now.position.generation + 1)), NOW_MS, AWAY_MAX_MS
    )
    assert again.position.generation > now.position.generation + 1


def test_a_resync_goes_on() -> None:
    """
    A resync that was cut short goes on where its own commits say so, though the last word is ahead.
    """
    found = WELL._replace(position=RESYNCING, hidden=Ack(90, NOW_MS), committed=Committed(50, 5))

    assert Beginning(RESYNCING, None, None) == begin(found, NOW_MS, AWAY_MAX_MS)


@pytest.mark.parametrize(
    "found,reason,lower_to",
    [
        (WELL._replace(committed=Committed(60, 5)), Reason.INTERRUPTED, 0),
        (WELL._replace(committed=None, hidden=Ack(90, NOW_MS)), Reason.INTERRUPTED, 0),
        (WELL._replace(committed=Committed(20, 4), hidden=Ack(90, NOW_MS)), Reason.INTERRUPTED, 0),
        (WELL._replace(committed=Committed(50, 5), hidden=Ack(90, 0)), Reason.AWAY, None),
    ],
)
def test_a_resync_that_cannot_go_on(found: Found, reason: Reason, lower_to: int | None) -> None:
    """
    A resync restored from a backup, or begun and never committed, begins once more.
    """
    assert Beginning(Position(ID, 0, 7), reason, lower_to) == begin(
        found._replace(position=RESYNCING), NOW_MS, AWAY_MAX_MS
    )


def test_generations() -> None:
    """
    An odd generation is a resync under way, an even one is settled; both only grow.
    """
    assert [3, 3, 5, 5] == [next_resync(generation) for generation in (1, 2, 3, 4)]
    assert not is_settled(RESYNCING)
    assert is_settled(settled(RESYNCING))
    assert settled(RESYNCING) == RESYNCING._replace(generation=6)

"""
When objections, ages and notices lag, and what follows: the rule alone, without Kafka.
"""

import pytest

from streams.worker.backlog import LOOK_EVERY_S, UNKNOWN_AFTER_S, Backlog, Hold, Next, has_reached
from streams.worker.names import INPUTS, OBJECTIONS, USER_TOPICS, WITHOUT_LINKS
from streams.worker.rounds import Look, Place

PLACE: Place = (OBJECTIONS, 0)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands."""
    return Clock()


@pytest.fixture
def backlog(clock: Clock) -> Backlog:
    """Return what is known of partition 0, whose inputs were empty when it was taken over."""
    backlog = Backlog(WITHOUT_LINKS, clock)
    backlog.begin(0, dict.fromkeys(INPUTS, 0))
    return backlog


def at(objections: int) -> dict[Place, int]:
    """Return positions in partition 0."""
    return {(topic, 0): 0 for topic in USER_TOPICS} | {PLACE: objections}


def look(asked_s: float, objections: int) -> Look:
    """Return a look at ends."""
    ends = dict.fromkeys(USER_TOPICS, 0) | {OBJECTIONS: objections}
    return Look(asked_s, ends | {"content": 7}, ends)


def test_a_fetch_that_tells_of_more_is_a_backlog(backlog: Backlog) -> None:
    """Until what it told of is read."""
    backlog.fetched(PLACE, 5)

    assert backlog.lags(0, at(4))
    assert not backlog.lags(0, at(5))


def test_an_open_transaction_is_no_backlog(backlog: Backlog) -> None:
    """A fetch that finds nothing more to read has read all that is committed."""
    backlog.fetched(PLACE, 5)
    backlog.reached(PLACE, 3)

    assert not backlog.lags(0, at(3))
    assert backlog.lags(0, at(2))


def test_what_was_there_a_look_ago_has_to_be_read(backlog: Backlog, clock: Clock) -> None:
    """Else the fetches do not get through, whatever they told last."""
    backlog.looked(0, look(clock.now_s, 5))
    fresh = backlog.lags(0, at(0))
    clock.now_s += LOOK_EVERY_S
    backlog.looked(0, look(clock.now_s, 9))

    assert not fresh
    assert backlog.lags(0, at(4))
    assert not backlog.lags(0, at(5))


def test_nobody_knowing_is_lagging(backlog: Backlog, clock: Clock) -> None:
    """Without an answer for seconds there may be any number of objections."""
    clock.now_s += UNKNOWN_AFTER_S
    known = backlog.lags(0, at(0))
    clock.now_s += 0.1

    assert not known
    assert backlog.lags(0, at(0))
    backlog.looked(0, look(clock.now_s, 0))
    assert not backlog.lags(0, at(0))


def test_a_look_is_read_when_all_its_ends_are() -> None:
    """A place that is not read at all has reached nothing."""
    assert has_reached(look(0, 5), 0, at(5))
    assert not has_reached(look(0, 5), 0, at(4))
    assert not has_reached(look(0, 0), 0, {PLACE: 0})


def test_a_hold_takes_no_older_look() -> None:
    """What was asked before the lag was noticed says nothing of it."""
    hold = Hold(since_s=100)
    hold.offer(look(100, 1))
    older = hold.look
    hold.offer(look(101, 2))
    hold.offer(look(102, 3))

    assert older is None
    assert hold.look == look(101, 2)


def test_a_hold_ends_after_one_more_look() -> None:
    """The fetches' word may be old by the time all they told of is read."""
    hold = Hold(since_s=100, look=look(101, 1))

    assert hold.judge(lags=False) is Next.MAKE_SURE
    hold.renew(102, Next.MAKE_SURE)
    assert hold.look is None
    hold.offer(look(103, 4))
    assert hold.judge(lags=False) is Next.END


def test_objections_that_never_stop_let_older_ones_go_on() -> None:
    """A step ends no hold: the next look has to be made sure of again."""
    hold = Hold(since_s=100, look=look(101, 1), confirming=True)

    assert hold.judge(lags=True) is Next.STEP
    hold.renew(102, Next.STEP)
    hold.offer(look(103, 4))
    assert hold.judge(lags=False) is Next.MAKE_SURE

"""
The rate of what time allows, and which timers fire when.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.core.changes import DUE_AT_ONCE_MS
from streams.core.times import NEVER_MS
from streams.state import rows
from streams.state.store import Memory, Store
from streams.state.view import View
from streams.worker.timers import TIMERS_PER_CYCLE, GrantRate, Timers

NOW_MS = 1_000_000
MANY = 10_000


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a new store."""
    store = Store(tmp_path / "0", Memory(1024 * 1024))
    yield store
    store.close()


def put(store: Store, *timers: tuple[int, str]) -> None:
    """Set *timers*: when, and for whom."""
    store.write([(rows.timer_key(*timer), b"") for timer in timers], {})


def test_no_more_is_left_than_a_second_gains() -> None:
    """Idle hours save nothing up beyond one second's grants."""
    clock = Clock()
    rate = GrantRate(100, clock)
    clock.now_s = 3_600
    assert rate.left() == 100


def test_what_was_spent_beyond_is_waited_for() -> None:
    """A cycle may overdraw; then none go until the debt is paid."""
    clock = Clock()
    rate = GrantRate(100, clock)
    rate.spend(250)
    assert rate.left() == 0
    clock.now_s = 1.5
    assert rate.left() == 0
    clock.now_s = 1.75
    assert rate.left() == 25


def test_grants_limit_the_clock_but_not_what_a_hold_kept_waiting(store: Store) -> None:
    """A grant that only waited for a hold is not one that time has caused."""
    put(store, *((DUE_AT_ONCE_MS, f"held{number}") for number in range(20)))
    put(store, *((NOW_MS - 5, f"due{number:02}") for number in range(20)))
    timers = Timers(View(store))
    assert timers.can_fire(NOW_MS, 0)
    assert {due_ms for due_ms, _ in timers.take(NOW_MS, 0)} == {DUE_AT_ONCE_MS}
    assert not timers.can_fire(NOW_MS, 0)
    assert [(NOW_MS - 5, "due00"), (NOW_MS - 5, "due01")] == timers.take(NOW_MS, 8)
    assert [(NOW_MS - 5, "due02")] == timers.take(NOW_MS, 1)


def test_one_that_fired_waits_for_its_transaction(store: Store) -> None:
    """It fires once; after a rollback it fires again; once persisted it is gone."""
    put(store, (NOW_MS, "u1"))
    timers = Timers(View(store))
    assert timers.take(NOW_MS, MANY) == [(NOW_MS, "u1")]
    assert timers.take(NOW_MS, MANY) == []
    assert timers.next_due_ms() == NEVER_MS
    timers.roll_back()
    assert timers.take(NOW_MS, MANY) == [(NOW_MS, "u1")]
    done: list[tuple[bytes, bytes | None]] = [(rows.timer_key(NOW_MS, "u1"), None)]
    store.write(done, {})
    timers.persisted(done)
    timers.roll_back()
    assert timers.take(NOW_MS, MANY) == []


def test_one_set_meanwhile_is_noticed(store: Store) -> None:
    """A fold that sets an earlier timer wakes the partition in time."""
    timers = Timers(View(store))
    assert not timers.can_fire(NOW_MS, MANY)
    put(store, (NOW_MS - 1, "u1"))
    timers.persisted([(rows.timer_key(NOW_MS - 1, "u1"), b"")])
    assert timers.can_fire(NOW_MS, MANY)


def test_a_cycle_takes_no_more_than_its_share(store: Store) -> None:
    """However many are due, fresh input waits for so many at most."""
    put(store, *((NOW_MS, f"u{number}") for number in range(TIMERS_PER_CYCLE + 10)))
    timers = Timers(View(store))
    assert len(timers.take(NOW_MS, MANY)) == TIMERS_PER_CYCLE
    assert len(timers.take(NOW_MS, MANY)) == 10


def test_overdue_looks_past_what_was_held(store: Store) -> None:
    """A held grant has no instant of its own; the oldest of the clock has."""
    put(store, (DUE_AT_ONCE_MS, "held"), (NOW_MS - 700, "u1"), (NOW_MS - 20, "u2"))
    assert Timers(View(store)).overdue_ms(NOW_MS) == 700
    assert Timers(View(store)).overdue_ms(NOW_MS - 10_000) == 0

"""
A partition's breaker on re-inclusion: over a real store, without Kafka.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.core.breaker import Limit, State
from streams.core.outputs import Output
from streams.core.policy import Policy
from streams.core.subjects import Subjects
from streams.core.times import DAY_MS, rfc3339
from streams.state.store import Memory, Store
from streams.worker.intake import Fetched, take_in
from streams.worker.names import ACCOUNT_AGES, CONTENT, NOTICES, OBJECTIONS, USER_TOPICS
from tests.making import NOW_MS
from tests.test_partition import Desk, Message, age, item, kinds, notice, objection
from tests.test_partition_holds import granted, known, work

LIMIT = Limit(5, 2, DAY_MS)
USERS = [f"u{number}" for number in range(1, 7)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a new store."""
    opened = Store(tmp_path / "0", Memory(1024 * 1024))
    yield opened
    opened.close()


@pytest.fixture
def desk(store: Store) -> Desk:
    """Return a desk whose users have objected; two of them may be allowed again."""
    desk = Desk(store, limit=LIMIT)
    desk.release()
    known(desk, *USERS)
    desk.commit(desk.intake(OBJECTIONS, *(objection(each) for each in USERS)))
    work(desk)
    return desk


def withdraw(desk: Desk, *user_ids: str) -> list[Output]:
    """Let users withdraw their objections, one cycle each."""
    outputs: list[Output] = []
    for user_id in user_ids:
        outputs += desk.commit(desk.intake(OBJECTIONS, objection(user_id, "withdrawn")))
    return outputs + work(desk)


def released(desk: Desk, trip_ms: int | None = None, partition: int = 0) -> dict[str, Any]:
    """Return the record that releases the trip."""
    at_ms = desk.partition.guard.breaker.state.trip_ms if trip_ms is None else trip_ms
    return {
        "user_id": "grants-released-0",
        "action": "grants_released",
        "partition": partition,
        "tripped_at": rfc3339(at_ms),
    }


def state(desk: Desk) -> State:
    """Return what the breaker remembers."""
    return desk.partition.guard.breaker.state


def test_grants_are_held_from_the_first_one_too_many(desk: Desk) -> None:
    """Whoever comes after the limit waits, and first-time grants with them; and all is told."""
    outputs = withdraw(desk, *USERS)
    first = known(desk, "new") + work(desk)

    assert {"u1", "u2"} == granted(outputs)
    assert set() == granted(first)
    assert desk.partition.guard.tripped
    assert 5 == desk.partition.held_users()
    assert (7, 2) == (state(desk).known, state(desk).count)


def test_a_batch_trips_it_half_way(desk: Desk) -> None:
    """Not a whole cycle's grants go before it is noticed."""
    outputs = desk.commit(
        desk.intake(OBJECTIONS, *(objection(each, "withdrawn") for each in USERS))
    )

    assert {"u1", "u2"} == granted(outputs + work(desk))


def test_purges_go_on_while_grants_are_held(desk: Desk) -> None:
    """Objections, and fan-outs in their purging phase; content of who is allowed is answered."""
    withdraw(desk, *USERS)
    desk.commit(desk.intake(CONTENT, *(item(number) for number in range(12))))
    answered = desk.commit(desk.intake(CONTENT, item(12)))
    again = {**objection(), "objection_id": "o2"}
    purged = desk.commit(desk.intake(OBJECTIONS, again)) + work(desk)

    assert ["content.allowed"] == kinds(answered)
    assert 4 == kinds(purged).count("user.purged")
    assert 13 == kinds(purged).count("content.purged")
    assert {} == desk.partition.view.jobs


def test_timers_and_granting_fan_outs_wait(desk: Desk) -> None:
    """What time allows, and the items of an account that was allowed just before the trip."""
    desk.commit(desk.intake(CONTENT, *(item(number) for number in range(12))))
    desk.commit(desk.intake(ACCOUNT_AGES, age("u7")))
    desk.commit(desk.intake(NOTICES, notice("u7", delivered_at="2026-06-30T00:00:00Z")))
    desk.commit(
        desk.intake(OBJECTIONS, *(objection(each, "withdrawn") for each in ["u2", "u1", "u3"]))
    )
    later_ms = NOW_MS + 40 * DAY_MS
    held = work(desk, later_ms)

    assert desk.partition.guard.tripped
    assert 0 == kinds(held).count("content.allowed")
    assert set() == granted(held)

    after = desk.commit(desk.intake(OBJECTIONS, released(desk)), now_ms=later_ms)
    after += work(desk, later_ms)

    assert {"u1", "u3", "u7"} == granted(after)
    assert 12 == kinds(after).count("content.allowed")


def test_those_who_wait_are_not_looked_at_in_vain(desk: Desk) -> None:
    """While it is tripped a cycle decides on those its records are about, and on nobody else."""
    withdraw(desk, *USERS)

    assert {"new"} == set(desk.fold(desk.intake(ACCOUNT_AGES, age("new"))).layer.users)


def test_a_release_lets_all_go_that_was_held(desk: Desk) -> None:
    """Uncounted, however many they are; and counting begins anew for those who come later."""
    withdraw(desk, *USERS[:5])
    let_go = desk.commit(desk.intake(OBJECTIONS, released(desk))) + work(desk)
    count = state(desk).count
    later = withdraw(desk, "u6")

    assert {"u3", "u4", "u5"} == granted(let_go)
    assert 0 == count
    assert {"u6"} == granted(later)
    assert 0 == desk.partition.held_users()
    assert not desk.partition.guard.tripped


def test_a_release_is_read_where_users_go_by_pseudonyms(desk: Desk) -> None:
    """Its user is nobody, and renamed like everybody."""
    withdraw(desk, *USERS[:3])
    messages: list[Any] = [Message(desk.ends[OBJECTIONS], released(desk), NOW_MS)]
    fetched = Fetched(OBJECTIONS, 0, messages, desk.ends[OBJECTIONS])
    desk.commit(take_in(fetched, OBJECTIONS, Subjects("k" * 32)))

    assert not desk.partition.guard.tripped


def test_what_comes_behind_a_release_is_counted_again(desk: Desk) -> None:
    """A feed that is broken still trips the breaker again, in the same cycle too."""
    withdraw(desk, *USERS[:3])
    first_ms = state(desk).trip_ms
    users = [f"v{number}" for number in range(4)]
    desk.commit(
        desk.intake(OBJECTIONS, released(desk), *(objection(each) for each in users)),
        desk.intake(ACCOUNT_AGES, *(age(each) for each in users)),
        desk.intake(NOTICES, *(notice(each) for each in users)),
    )
    outputs = work(desk) + withdraw(desk, *users)

    assert {"u3", "v0", "v1"} == granted(outputs)
    assert desk.partition.guard.tripped
    assert first_ms < state(desk).trip_ms


@pytest.mark.parametrize("mistake", ["an older trip", "another partition"])
def test_another_release_changes_nothing(desk: Desk, mistake: str) -> None:
    """It names the trip and the partition, so that one read again releases no later trip."""
    withdraw(desk, *USERS[:3])
    first = released(desk)
    desk.commit(desk.intake(OBJECTIONS, first))
    work(desk)
    withdraw(desk, *USERS[3:])
    wrong = first if mistake == "an older trip" else released(desk, partition=1)
    desk.commit(desk.intake(OBJECTIONS, wrong))
    held = work(desk)

    assert desk.partition.guard.tripped
    assert set() == granted(held)


def test_one_person_all_day_counts_once(desk: Desk) -> None:
    """Filing and withdrawing over and over is one person re-included."""
    for number in range(2, 9):
        record = {**objection(), "objection_id": f"o{number}"}
        desk.commit(desk.intake(OBJECTIONS, record))
        desk.commit(desk.intake(OBJECTIONS, {**record, "action": "withdrawn"}))
        if number == 2:
            withdraw(desk, "u1")

    assert 1 == state(desk).count
    assert not desk.partition.guard.tripped


def test_first_grants_trip_nothing(store: Store) -> None:
    """Not by the hundred: in any order, at once, held by lag, or at the end of a notice window."""
    desk = Desk(store, limit=LIMIT)
    desk.release()
    users = [f"n{number}" for number in range(20)]
    desk.commit(desk.intake(NOTICES, *(notice(each) for each in users)))
    desk.partition.hold()
    desk.commit(desk.intake(ACCOUNT_AGES, *(age(each) for each in users[:10])))
    desk.release()
    outputs = work(desk)
    outputs += desk.commit(desk.intake(ACCOUNT_AGES, *(age(each) for each in users[10:])))
    late = [f"l{number}" for number in range(20)]
    desk.commit(desk.intake(ACCOUNT_AGES, *(age(each) for each in late)))
    delivered_at = "2026-06-30T00:00:00Z"
    desk.commit(desk.intake(NOTICES, *(notice(each, delivered_at) for each in late)))
    outputs += work(desk, NOW_MS + 40 * DAY_MS)

    assert {*users, *late} == granted(outputs)
    assert (40, 0) == (state(desk).known, state(desk).count)


def test_a_rollback_takes_the_count_and_the_trip_back(desk: Desk) -> None:
    """They are what the transaction of the grants says, and count again when it is read again."""
    before, positions = state(desk), dict(desk.partition.positions)
    batch = desk.intake(OBJECTIONS, *(objection(each, "withdrawn") for each in USERS))
    desk.fold(batch)
    tripped = desk.partition.guard.tripped
    desk.partition.roll_back(positions)

    assert tripped
    assert before == state(desk)
    assert {"u1", "u2"} == granted(desk.commit(batch))


def test_another_worker_goes_on_with_count_and_trip(desk: Desk, store: Store) -> None:
    """All of it is in the rows: the count, who was counted, the trip, and what waits for it."""
    withdraw(desk, "u1")
    desk = _taken_over(desk, store)
    record = {**objection(), "objection_id": "o2"}
    desk.commit(desk.intake(OBJECTIONS, record))
    again = desk.commit(desk.intake(OBJECTIONS, {**record, "action": "withdrawn"}))
    more = withdraw(desk, "u2", "u3")
    desk = _taken_over(desk, store)
    held = work(desk)
    tripped = desk.partition.guard.tripped
    let_go = desk.commit(desk.intake(OBJECTIONS, released(desk))) + work(desk)

    assert {"u1"} == granted(again)
    assert {"u2"} == granted(more)
    assert tripped
    assert set() == granted(held)
    assert {"u3"} == granted(let_go)


def _taken_over(desk: Desk, store: Store, **changed: Any) -> Desk:
    after = Desk(store, ends=desk.ends, **{"limit": LIMIT, **changed})
    after.partition.release_at({topic: after.ends[topic] for topic in USER_TOPICS})
    return after


def test_a_bad_policy_is_stopped(desk: Desk, store: Store) -> None:
    """Its restrictions go out to the last user, of its grants no more than the limit."""
    minors = [f"m{number}" for number in range(5)]
    adults = ["a1", "a2"]
    desk.commit(
        desk.intake(ACCOUNT_AGES, *(age(each, "2015-01-01") for each in minors)),
        desk.intake(NOTICES, *(notice(each) for each in [*minors, *adults])),
    )
    desk.commit(desk.intake(ACCOUNT_AGES, *({**age(each), "country": "FR"} for each in adults)))
    work(desk)
    policy = Policy(version=2, adult_age=3, countries=frozenset({"DE"}))
    desk = _taken_over(desk, store, policy=policy)
    outputs = work(desk)
    let_go = desk.commit(desk.intake(OBJECTIONS, released(desk))) + work(desk)

    assert 2 * 4 == kinds(outputs).count("user.purged")
    assert 2 == len(granted(outputs))
    assert {*minors} == granted(outputs + let_go)


def test_a_policy_that_forgets_to_wait_is_stopped(desk: Desk, store: Store) -> None:
    """Who is allowed before their notice window has passed is no newcomer like all others."""
    told = [f"t{number}" for number in range(4)]
    desk.commit(
        desk.intake(ACCOUNT_AGES, *(age(each) for each in told)),
        desk.intake(NOTICES, *(notice(each, "2026-06-30T00:00:00Z") for each in told)),
    )
    desk = _taken_over(desk, store, policy=Policy(version=2, notice_window_days=0))

    assert 2 == len(granted(work(desk)))
    assert desk.partition.guard.tripped


def test_a_broken_age_feed_is_stopped(store: Store) -> None:
    """It calls minors adult, and people of elsewhere Europeans."""
    desk = Desk(store, limit=LIMIT)
    desk.release()
    minors, elsewhere = ["m1", "m2", "m3"], ["e1", "e2", "e3"]
    ages = [age(each, "2015-01-01") for each in minors]
    ages += [{**age(each), "country": "US"} for each in elsewhere]
    desk.commit(
        desk.intake(ACCOUNT_AGES, *ages),
        desk.intake(NOTICES, *(notice(each) for each in [*minors, *elsewhere])),
    )
    news = {"observed_at": "2026-02-01T00:00:00Z"}
    wrong = [{**age(each), **news} for each in [*minors, *elsewhere]]
    outputs = desk.commit(desk.intake(ACCOUNT_AGES, *wrong)) + work(desk)

    assert {"m1", "m2"} == granted(outputs)


def test_turned_off_it_lets_go(desk: Desk, store: Store) -> None:
    """And turned on again it counts who is known, without the trip of before."""
    withdraw(desk, *USERS[:4])
    off = _taken_over(desk, store, limit=Limit(0, 2, DAY_MS))
    let_go = work(off)
    on = _taken_over(off, store)

    assert {"u3", "u4"} == granted(let_go)
    assert State(known=6) == state(on)

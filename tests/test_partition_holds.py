"""
A partition's grants while objections, ages and notices lag: over a real store, without Kafka.
"""

import pytest

from streams.core.outputs import Output
from streams.core.times import DAY_MS
from streams.worker.names import ACCOUNT_AGES, CONTENT, NOTICES, OBJECTIONS, USER_TOPICS
from tests.making import NOW_MS
from tests.test_partition import GRANTS, Desk, age, desk, item, kinds, notice, objection, ready

__all__ = ["desk"]  # a fixture


def known(desk: Desk, *user_ids: str) -> list[Output]:
    """Fold what makes users eligible."""
    return desk.commit(
        desk.intake(ACCOUNT_AGES, *(age(user_id) for user_id in user_ids)),
        desk.intake(NOTICES, *(notice(user_id) for user_id in user_ids)),
    )


def work(desk: Desk, now_ms: int = NOW_MS) -> list[Output]:
    """Return all that is published without any record arriving."""
    outputs: list[Output] = []
    for _ in range(100):
        if not desk.partition.has_work(now_ms, GRANTS):
            return outputs
        outputs += desk.commit(now_ms=now_ms)
    raise AssertionError("there is work without end")


def granted(outputs: list[Output]) -> set[str]:
    """Return the users who are allowed anything."""
    return {
        str(dict(each.headers)["ce_subject"])
        for each in outputs
        if each.topic.startswith("training-") and each.value is not None
    }


def step(desk: Desk, **free: int) -> None:
    """Release all that came of records below *free*, as all that is folded is read."""
    below = {OBJECTIONS: free.get("objections", 0), NOTICES: free.get("notices", 0)}
    below[ACCOUNT_AGES] = free.get("ages", 0)
    desk.partition.release_at({topic: desk.ends[topic] for topic in USER_TOPICS}, below)


def test_a_hold_may_come_at_any_time(desk: Desk) -> None:
    """Grants wait again, tombstones go on, and what waited is granted when it ends."""
    ready(desk, items=2)
    desk.partition.hold()
    held = known(desk, "u2")
    purged = desk.commit(desk.intake(OBJECTIONS, objection()))
    desk.release()
    after = work(desk)

    assert granted(held) == set()
    assert kinds(purged).count("user.purged") == 4
    assert kinds(purged).count("content.purged") == 2
    assert granted(after) == {"u2"}


def test_the_clock_and_walks_of_grants_wait_too(desk: Desk) -> None:
    """A notice window that ends, and a withdrawal's items, may be forbidden by what is unread."""
    ready(desk, items=12)
    known(desk, "u2")
    desk.commit(desk.intake(NOTICES, notice("u3", delivered_at="2026-06-30T00:00:00Z")))
    desk.commit(desk.intake(ACCOUNT_AGES, age("u3")))
    desk.commit(desk.intake(OBJECTIONS, objection()))
    work(desk)
    withdrawn = desk.commit(desk.intake(OBJECTIONS, objection(action="withdrawn")))
    desk.partition.hold()
    later_ms = NOW_MS + 40 * DAY_MS
    held = work(desk, later_ms)
    desk.release()
    after = work(desk, later_ms)

    assert granted(held) == set()
    assert granted(after) == {"u1", "u3"}
    assert 12 == kinds([*withdrawn, *after]).count("content.allowed")


def test_a_step_grants_what_came_of_older_records(desk: Desk) -> None:
    """Who became eligible by a record that no look has seen yet waits for the next one."""
    desk.release()
    desk.partition.hold()
    old = known(desk, "u1", "u2")
    step(desk, ages=2, notices=2)
    new = known(desk, "u3")
    first = work(desk)
    step(desk, ages=3, notices=3)
    second = work(desk)

    assert granted(old + new) - {"u1", "u2"} == set()
    assert granted(new + first) == {"u1", "u2"}
    assert granted(second) == {"u3"}


def test_a_step_ends_no_hold_of_the_clock(desk: Desk) -> None:
    """What becomes due by itself is younger than anything that was looked at."""
    desk.release()
    known(desk, "u1")
    desk.commit(
        desk.intake(ACCOUNT_AGES, age("u2")),
        desk.intake(NOTICES, notice("u2", delivered_at="2026-06-30T00:00:00Z")),
    )
    desk.partition.hold()
    step(desk, ages=2, notices=2)
    later_ms = NOW_MS + 40 * DAY_MS
    in_step = work(desk, later_ms)
    desk.release()

    assert granted(in_step) == set()
    assert granted(work(desk, later_ms)) == {"u2"}


def test_who_is_held_again_in_the_cycle_that_frees_them_is_not_forgotten(desk: Desk) -> None:
    """The timer that fired is set again, as a newer record waits for the next look."""
    desk.release()
    desk.partition.hold()
    desk.commit(desk.intake(OBJECTIONS, {**objection(), "products": ["facebook"]}))
    known(desk, "u1")
    step(desk, objections=1, ages=1, notices=1)
    freed = desk.commit(desk.intake(OBJECTIONS, objection(action="withdrawn")))
    held = work(desk)
    step(desk, objections=2, ages=1, notices=1)

    assert kinds(freed).count("user.allowed") == 3
    assert granted(held) == set()
    assert kinds(work(desk)).count("user.allowed") == 1


def test_a_walk_over_those_who_wait_reaches_all_though_steps_follow_each_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on where the step before has left it, past those who have to wait on."""
    monkeypatch.setattr("streams.worker.timers.TIMERS_PER_CYCLE", 3)
    desk.release()
    desk.partition.hold()
    users = [f"user{number:02}" for number in range(10)]
    known(desk, *users)
    known(desk, *(f"before{number}" for number in range(5)))
    outputs: list[Output] = []
    for _ in range(8):
        step(desk, ages=10, notices=10)
        outputs += desk.commit()

    assert granted(outputs) == set(users)


def test_content_of_who_stands_allowed_is_answered_in_a_step(desk: Desk) -> None:
    """The fetch thread hands over only what is old enough."""
    ready(desk)
    desk.partition.hold()
    step(desk)

    assert kinds(desk.commit(desk.intake(CONTENT, item(1)))) == ["content.allowed"]

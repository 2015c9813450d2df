"""
The order of what one cycle publishes: decisions, purges, grants; a user's record before the items.
"""

from streams.core.outputs import Output
from streams.worker.names import ACCOUNT_AGES, CONTENT, NOTICES, OBJECTIONS
from tests.test_partition import Desk, age, desk, item, kinds, notice, objection, ready

__all__ = ["desk"]  # a fixture


def commit_all(desk: Desk) -> list[Output]:
    """Let one cycle purge u1, who has an item, and grant all to u2, who has one too."""
    ready(desk, items=1)
    desk.commit(desk.intake(ACCOUNT_AGES, age("u2")), desk.intake(CONTENT, item(9, "u2")))
    return desk.commit(desk.intake(OBJECTIONS, objection()), desk.intake(NOTICES, notice("u2")))


def test_purges_go_before_grants_and_users_before_their_items(desk: Desk) -> None:
    """Whoever reads on knows that a user's data are gone before others' come, in every cycle."""
    order = [
        "eligibility.decided",
        "user.purged",
        "content.purged",
        "user.allowed",
        "content.allowed",
    ]
    published = [kind for kind in kinds(commit_all(desk)) if kind in order]

    assert sorted(published, key=order.index) == published
    assert set(order) == set(published)


def test_a_users_record_goes_before_a_fan_out_of_items(desk: Desk) -> None:
    """Items by the slice are unlocked in later cycles than their user, never in an earlier one."""
    ready(desk, items=12)
    desk.commit(desk.intake(OBJECTIONS, objection()))
    while desk.partition.has_work(0, 1):
        desk.commit()
    first = kinds(desk.commit(desk.intake(OBJECTIONS, objection(action="withdrawn"))))
    rest: list[str] = []
    while desk.partition.has_work(0, 1):
        rest += kinds(desk.commit())

    assert 4 == first.count("user.allowed")
    assert "user.allowed" not in rest
    assert 12 == [*first, *rest].count("content.allowed")

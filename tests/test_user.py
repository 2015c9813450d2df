from hypothesis import given
from hypothesis import strategies as st

from streams.core.user import DELETED_USER, NOBODY, User, merge, unresolved
from tests.making import age, grown_up, notice, objection, user_of
from tests.strategies import all_users, facts, user_from


@given(all_users, all_users, all_users)
def test_merge_is_a_join(first: User, second: User, third: User) -> None:
    """Merging is idempotent, commutative and associative, and nobody adds nothing."""
    assert first == merge(first, first)
    assert merge(first, second) == merge(second, first)
    assert merge(merge(first, second), third) == merge(first, merge(second, third))
    assert first == merge(first, NOBODY)


@given(st.lists(facts, max_size=6), st.data())
def test_any_order_and_repetition_ends_in_the_same_state(
    known: list[User], data: st.DataObject
) -> None:
    """Replays, duplicates and any order between topics end in the same state."""
    again = st.lists(st.sampled_from(known), max_size=3) if known else st.just([])
    shuffled = data.draw(st.permutations(known + data.draw(again)))

    assert user_from(known) == user_from(shuffled)


@given(all_users, all_users)
def test_merge_knows_all_that_either_knows(first: User, second: User) -> None:
    """Merging what is known already changes nothing."""
    both = merge(first, second)

    assert both == merge(both, first)
    assert both == merge(both, second)


@given(all_users)
def test_deletion_is_the_greatest_fact(user: User) -> None:
    """Of a deleted account nothing else stays known, whatever came first."""
    assert DELETED_USER == merge(user, DELETED_USER)
    assert DELETED_USER == merge(DELETED_USER, user)


def test_merge_leaves_its_arguments_alone() -> None:
    """A merged user shares no dict with its parts that the merge writes to."""
    first, second = user_of(objection()), user_of(objection(objection_id="o2"))

    merge(first, second)

    assert {"o1"} == first.objections.keys()
    assert {"o2"} == second.objections.keys()
    assert {} == NOBODY.objections


def test_dead_letters_stand_until_resolved() -> None:
    """A dead letter stands until it is resolved, also when the resolution arrives first."""
    unreadable = User(dead_letters=("objections/0/1", "objections/0/2"))
    resolved = User(resolved=("objections/0/1",))

    assert ("objections/0/1", "objections/0/2") == unresolved(unreadable)
    assert ("objections/0/2",) == unresolved(merge(unreadable, resolved))
    assert ("objections/0/2",) == unresolved(merge(resolved, unreadable))


def test_older_statements_make_way() -> None:
    """A level keeps only its newest statements, so that a user's state stays small."""
    older = age(observed_at="2026-01-01T00:00:00Z", age_band="under_18")
    newer = grown_up(observed_at="2026-02-01T00:00:00Z")

    level = user_of(older, newer).levels[0]

    assert level is not None
    assert user_of(newer).levels[0] == level


def test_news_of_one_topic_keep_the_others() -> None:
    """A record says nothing on what its topic is not about."""
    before = user_of(objection(), grown_up(), notice())

    after = merge(before, user_of(objection(objection_id="o2", action="withdrawn")))

    assert before.levels == after.levels
    assert before.notices_ms == after.notices_ms
    assert before.objections["o1"] == after.objections["o1"]

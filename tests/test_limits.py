"""
A state that nobody can make grow: at each limit it forgets, and what it forgot restricts.

The limits are far above what people do, so most tests look at a core with limits of two or three.
"""

from collections.abc import Iterator
from functools import reduce
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import topics
from streams.core import item as items
from streams.core import refs
from streams.core import user as users
from streams.core.changes import Cause, Held, UserRow
from streams.core.item import UNKNOWN_ITEM, Item
from streams.core.policy import Policy
from streams.core.reasons import ALL_PRODUCTS, reason_names
from streams.core.times import NEVER_MS
from streams.core.user import NO_LEVELS, NOBODY, WITHDRAWN, Level, Statement, User
from streams.core.verdict import decide, is_unreadable, item_reasons
from streams.state import rows
from tests.limits import limits
from tests.making import ALLOWED, DEFAULTS, NOW_MS, PREFIX, age, dismissal, user_of
from tests.strategies import policies

CONTENT = PREFIX[:-1]
OBJECTIONS, AGES = "objections/0", "account-ages/0"


class Real(NamedTuple):
    """The limits of a worker."""

    objections: int = users.OBJECTIONS_MAX
    notices: int = users.NOTICES_MAX
    statements: int = users.STATEMENTS_MAX
    dead_letters: int = users.DEAD_LETTERS_MAX
    resolved: int = users.RESOLVED_MAX
    of_item: int = items.DEAD_LETTERS_MAX


REAL = Real()
FULL_LEVEL = Level(
    NOW_MS,
    tuple(Statement(True, 10_000 + n, 2, True, 60_000, "DE") for n in range(REAL.statements)),
    NOW_MS,
)


@pytest.fixture(autouse=True, scope="module")
def few() -> Iterator[None]:
    """Keep three of each, but where a test says otherwise."""
    with limits(3):
        yield


# --- Facts that meet: few places, ids and instants, more of each than are kept ---------------

offsets = st.integers(0, 12)
places = st.builds("{}/{}".format, st.sampled_from([OBJECTIONS, AGES]), offsets)
anywhere = st.builds(
    "{}/{}".format, st.sampled_from([OBJECTIONS, AGES, CONTENT, "a/0", "b/0", "z/1"]), offsets
)
statements = st.builds(
    Statement,
    st.booleans(),
    st.sampled_from([0, 10_000, 18_000, 20_000]),
    st.just(0),
    country=st.sampled_from(["DE", "NO", "US", ""]),
)
levels = st.builds(
    lambda at, level: (*NO_LEVELS[:at], level, *NO_LEVELS[at + 1 :]),
    st.integers(0, 2),
    st.builds(Level, st.sampled_from([1, 2]), st.tuples(statements)),
)
facts = st.one_of(
    st.builds(lambda ref: User(dead_letters=(ref,)), places),
    st.builds(lambda ref: User(dead_letters=(ref,)), places),
    st.builds(lambda ref: User(resolved=(ref,)), anywhere),
    st.builds(lambda ref: User(dismissed={refs.partition_of(ref): refs.offset_of(ref)}), anywhere),
    st.builds(
        lambda each, flags: User(objections={each: flags}),
        st.sampled_from("abcde"),
        st.sampled_from([1, 2, ALL_PRODUCTS, WITHDRAWN]),
    ),
    st.builds(lambda each: User(notices_ms=(each,)), st.integers(0, 6)),
    st.builds(lambda each: User(levels=each), levels),
)
item_facts = st.one_of(
    st.builds(lambda offset: Item(dead_letters=(offset,)), offsets),
    st.builds(lambda offset: Item(dead_letters=(offset,)), offsets),
    st.builds(lambda offset: Item(1, readable_offset=offset, value=b"{}"), st.integers(0, 3)),
)
many_facts = st.lists(facts, max_size=14)
many_item_facts = st.lists(item_facts, max_size=10)
a_user, an_item = (
    many_facts.map(lambda known: reduce(users.merge, known, NOBODY)),
    many_item_facts.map(lambda known: reduce(items.merge, known, UNKNOWN_ITEM)),
)


@given(a_user, a_user, a_user)
def test_merging_users_stays_a_join(first: User, second: User, third: User) -> None:
    """Also at its limits merging is idempotent, commutative and associative."""
    assert first == users.merge(first, first)
    assert users.merge(first, second) == users.merge(second, first)
    assert users.merge(users.merge(first, second), third) == users.merge(
        first, users.merge(second, third)
    )


@given(an_item, an_item, an_item)
def test_merging_items_stays_a_join(first: Item, second: Item, third: Item) -> None:
    """Also at its limits merging is idempotent, commutative and associative."""
    assert first == items.merge(first, first)
    assert items.merge(first, second) == items.merge(second, first)
    assert items.merge(items.merge(first, second), third) == items.merge(
        first, items.merge(second, third)
    )


@given(many_facts, st.data())
def test_any_order_and_repetition_ends_in_the_same_user(
    known: list[User], data: st.DataObject
) -> None:
    """What is forgotten does not depend on when it was learnt."""
    again = st.lists(st.sampled_from(known), max_size=3) if known else st.just([])
    shuffled = data.draw(st.permutations(known + data.draw(again)))

    assert reduce(users.merge, known, NOBODY) == reduce(users.merge, shuffled, NOBODY)


@given(many_item_facts, st.data())
def test_any_order_and_repetition_ends_in_the_same_item(
    known: list[Item], data: st.DataObject
) -> None:
    """What is forgotten does not depend on when it was learnt."""
    shuffled = data.draw(st.permutations(known))

    assert reduce(items.merge, known, UNKNOWN_ITEM) == reduce(items.merge, shuffled, UNKNOWN_ITEM)


@given(many_facts, policies)
def test_what_is_forgotten_of_a_user_restricts(known: list[User], policy: Policy) -> None:
    """Nothing is allowed that all the facts together forbid; below the limits nothing differs."""
    kept = decide(reduce(users.merge, known, NOBODY), policy, NOW_MS).decision
    with limits(10_000):
        whole = reduce(users.merge, known, NOBODY)
        true = decide(whole, policy, NOW_MS).decision

    for all_of_them, found in zip(true.reasons, kept.reasons, strict=True):
        assert found or not all_of_them
    if _is_below(whole):
        assert true == kept


def _is_below(user: User) -> bool:
    """Whether *user* is below all limits of three, or four of partitions."""
    tied = [level.statements for level in user.levels if level is not None]
    counts = [*_grouped(user), user.objections, user.notices_ms, *tied]
    partitions = {*map(refs.partition_of, user.resolved), *user.dismissed}
    return max(map(len, counts)) < 3 and len(partitions) <= 3


def _grouped(user: User) -> list[tuple[str, ...]]:
    found = [*refs.by_partition(user.dead_letters), *refs.by_partition(user.resolved)]
    return [of_one for _, of_one in found]


@given(many_item_facts, many_facts)
def test_what_is_forgotten_of_an_item_restricts(known: list[Item], of_user: list[User]) -> None:
    """An item is never readable for what was forgotten of it, nor of its user."""
    item = reduce(items.merge, known, UNKNOWN_ITEM)
    found = is_unreadable(item, reduce(users.merge, of_user, NOBODY), PREFIX)
    with limits(10_000):
        whole = reduce(items.merge, known, UNKNOWN_ITEM)
        user = reduce(users.merge, of_user, NOBODY)
        true = is_unreadable(whole, user, PREFIX)

    assert found or not true
    if len(whole.dead_letters) < 3 and _is_below(user):
        assert true == found


@given(st.lists(places, min_size=1, max_size=12), st.lists(places, max_size=8))
def test_a_dismissal_of_all_up_to_one_frees(bad: list[str], resolved: list[str]) -> None:
    """However many there were, a user is freed once all partitions' last ones are dismissed."""
    user = user_of(age())
    for ref in bad:
        user = users.merge(user, User(dead_letters=(ref,)))
    for ref in resolved:
        user = users.merge(user, User(resolved=(ref,)))
    last = {refs.partition_of(ref): 0 for ref in bad}
    for ref in bad:
        last[refs.partition_of(ref)] = max(last[refs.partition_of(ref)], refs.offset_of(ref))

    assert users.is_unreadable(user) or set(bad) <= set(resolved)
    for partition, offset in last.items():
        record = dismissal(dead_letter=f"{partition}/{offset}", through=True)
        user = users.merge(user, user_of(record))

    assert not users.is_unreadable(user)
    assert () == users.unresolved(user)
    later = users.merge(user, User(dead_letters=(f"{OBJECTIONS}/99",)))
    assert (f"{OBJECTIONS}/99",) == users.unresolved(later)
    assert not users.is_unreadable(users.merge(later, User(resolved=(f"{OBJECTIONS}/99",))))


def test_the_first_kept_stands_for_all_before_it() -> None:
    """Each of those kept may be resolved; the first stands on, as nothing is known of others."""
    known = [User(dead_letters=(f"{OBJECTIONS}/{offset}",)) for offset in range(7, 12)]
    user = reduce(users.merge, known, NOBODY)
    resolved = [User(resolved=(ref,)) for ref in user.dead_letters]
    mended = reduce(users.merge, resolved, user)

    # Sorted as texts, highest by number.
    assert (f"{OBJECTIONS}/10", f"{OBJECTIONS}/11", f"{OBJECTIONS}/9") == user.dead_letters
    assert (f"{OBJECTIONS}/9",) == users.unresolved(mended)
    assert (f"{OBJECTIONS}/9",) == users.stand_for_more(mended)


refs_of_one = st.lists(st.integers(0, 200), max_size=9).map(
    lambda found: reduce(
        users.merge, [User(dead_letters=(f"{OBJECTIONS}/{each}",)) for each in found], NOBODY
    )
)


@given(refs_of_one, refs_of_one, refs_of_one)
def test_the_highest_are_kept(first: User, second: User, third: User) -> None:
    """By number and not as texts, in whichever order two full states come together."""
    one = users.merge(users.merge(first, second), third)

    assert one == users.merge(first, users.merge(third, second))
    every = {ref for each in (first, second, third) for ref in each.dead_letters}
    assert set(sorted(every, key=refs.offset_of)[-3:]) == set(one.dead_letters)


def test_of_too_many_objections_all_stand() -> None:
    """Who has objected more often than is kept objects to all, whatever was withdrawn."""
    user = reduce(
        users.merge, [User(objections={each: WITHDRAWN}) for each in "abcd"], user_of(age())
    )
    at_the_limit = decide(user, DEFAULTS, NOW_MS).decision
    below = decide(users.merge(NOBODY, User(objections={"a": WITHDRAWN})), DEFAULTS, NOW_MS)

    assert {"a", "b", "c"} == set(user.objections)
    assert all("OBJECTION" in reason_names(each) for each in at_the_limit.reasons)
    assert not any("OBJECTION" in reason_names(each) for each in below.decision.reasons)


def test_the_earliest_notices_are_kept() -> None:
    """One of them counts; where none does, as the policy says so, no later one does."""
    user = reduce(users.merge, [User(notices_ms=(each,)) for each in (5, 4, 9, 1)], NOBODY)
    policy = Policy(notices_from_ms=6)

    assert (1, 4, 5) == user.notices_ms
    for reasons in decide(user, policy, NOW_MS).decision.reasons:
        assert "NOTICE_PENDING" in reason_names(reasons)


def test_an_item_at_its_limit_loses_none() -> None:
    """Resolving one of an item's takes none out, or the others would be forgotten and free it."""
    item = reduce(items.merge, [Item(dead_letters=(offset,)) for offset in range(5)], UNKNOWN_ITEM)

    assert (2, 3, 4) == item.dead_letters
    for offset in (2, 3, 4):
        assert item == items.without_dead_letter(item, offset)
    resolved = User(resolved=tuple(f"{PREFIX}{offset}" for offset in range(5)))
    assert is_unreadable(item, resolved, PREFIX)
    assert is_unreadable(item, User(dismissed={CONTENT: 1}), PREFIX)
    assert not is_unreadable(item, User(dismissed={CONTENT: 4}), PREFIX)
    readable = items.merge(item, Item(1, readable_offset=5))
    assert () == readable.dead_letters


def test_of_too_many_statements_the_age_is_unknown() -> None:
    """Of records tied for the newest, more than are kept leave the age unknown; a newer frees."""
    records = [age(birth_date=f"19{year}-01-01", country="DE") for year in range(50, 56)]
    user = users.merge(ALLOWED, user_of(*records))
    decision = decide(user, DEFAULTS, NOW_MS).decision
    newer = user_of(age(birth_date="1950-01-01", country="DE", observed_at="2026-02-01T00:00:00Z"))
    fresh = decide(users.merge(user, newer), DEFAULTS, NOW_MS).decision

    assert all(decision.reasons)
    assert not any(fresh.reasons)
    assert item_reasons(Item(1, 0, b"{}", created_ms=NOW_MS), user, decision, PREFIX)


def test_the_fattest_row_fits() -> None:
    """
    A user and an item of whom all limits are reached fit into a record of their changelog: what
    does not would end the worker.
    """
    objection_ids = [f"{number:0256}" for number in range(REAL.objections)]
    partitions = [f"{'t' * 120}{number}/{2**31}" for number in range(8)]
    far = 10**19 - 1
    user = User(
        dict.fromkeys(objection_ids, ALL_PRODUCTS | WITHDRAWN),
        (FULL_LEVEL, FULL_LEVEL, FULL_LEVEL),
        tuple(range(NOW_MS, NOW_MS + REAL.notices)),
        tuple(f"{p}/{far - n}" for p in partitions[:2] for n in range(REAL.dead_letters)),
        tuple(f"{p}/{far - n}" for p in partitions for n in range(REAL.resolved)),
        dismissed=dict.fromkeys(partitions, far),
    )
    cause = Cause(partitions[0], 2**31, far, "x" * 256)
    decision = decide(user, DEFAULTS, NOW_MS).decision
    row = UserRow(
        user, 2**40, decision, NEVER_MS, 9, NOW_MS, cause, Held(cause, NOW_MS), seeded=True
    )
    value_max = 4 * 1024 * 1024  # see decode.VALUE_BYTES_MAX
    item = Item(value=b"x" * value_max, dead_letters=tuple(range(REAL.of_item)))

    for data, changelog in (
        (rows.encode_user(row), "objections-users-changelog"),
        (rows.encode_item(item), "objections-content-changelog"),
    ):
        room = int(topics.definition(changelog).config["max.message.bytes"].value)
        assert len(data) + 64 * 1024 < room

import itertools

from hypothesis import given
from hypothesis import strategies as st

from streams.core.item import Item, merge
from streams.core.policy import Policy
from streams.core.reasons import PRODUCTS, Reason, reason_names
from streams.core.times import NEVER_MS, from_ms, to_ms
from streams.core.user import DELETED_USER, User
from streams.core.user import merge as merge_users
from streams.core.verdict import Decision, decide, eligible, item_reasons, judge_age
from tests.age_oracle import judged
from tests.making import (
    ALLOWED,
    DEFAULTS,
    NOW_MS,
    PREFIX,
    Record,
    grown_up,
    item_facts,
    ms,
    notice,
    objection,
    reasons,
    user_of,
)
from tests.strategies import (
    ages,
    all_items,
    all_users,
    contents_of_one,
    dead_letters,
    facts,
    instants,
    living_users,
    nows,
    policies,
    user_from,
)

timed_ages = st.lists(st.tuples(ages, instants), max_size=5)


def decision_of(user: User, policy: Policy, now_ms: int) -> Decision:
    """Return what is decided about *user*."""
    return decide(user, policy, now_ms).decision


@given(timed_ages, policies, nows)
def test_ages_as_the_contract_says(
    records: list[tuple[Record, int]], policy: Policy, now_ms: int
) -> None:
    """Age and country are judged as a second reading of the contract judges them."""
    user = user_from([user_of(record, timestamp_ms=at_ms) for record, at_ms in records])
    dated = [(record, from_ms(at_ms)) for record, at_ms in records]

    expected = judged(dated, policy.adult_age, set(policy.countries), from_ms(now_ms))
    found = judge_age(user, policy, now_ms)

    assert expected.reasons == set(reason_names(found.reasons))
    assert (to_ms(expected.of_age) if expected.of_age else NEVER_MS) == found.adult_from_ms


@given(st.lists(facts, max_size=6), st.data(), policies, nows)
def test_any_order_and_repetition_ends_in_the_same_decision(
    known: list[User], data: st.DataObject, policy: Policy, now_ms: int
) -> None:
    """The same facts, in any order and as often as they come, are decided alike."""
    again = st.lists(st.sampled_from(known), max_size=3) if known else st.just([])
    shuffled = data.draw(st.permutations(known + data.draw(again)))

    assert decide(user_from(known), policy, now_ms) == decide(user_from(shuffled), policy, now_ms)


@given(living_users, policies, nows, st.integers(1, 15))
def test_an_objection_never_makes_anything_eligible(
    user: User, policy: Policy, now_ms: int, products: int
) -> None:
    """A new objection adds `OBJECTION` to the products it covers, and changes nothing else."""
    before = decision_of(user, policy, now_ms)

    after = decision_of(merge_users(user, User(objections={"new": products})), policy, now_ms)

    for index, old in enumerate(before.reasons):
        covered = Reason.OBJECTION if products >> index & 1 else 0
        assert old | covered == after.reasons[index]
    assert before.adult_from_ms == after.adult_from_ms
    assert eligible(before, policy) >= eligible(after, policy)


@given(all_users, policies, nows, st.sampled_from(["o1", "o2"]))
def test_any_objection_record_only_adds(
    user: User, policy: Policy, now_ms: int, objection_id: str
) -> None:
    """Filing an id that is known, withdrawn or of a deleted account takes no reason away."""
    filed = user_of(objection(objection_id=objection_id))

    before = decision_of(user, policy, now_ms)
    after = decision_of(merge_users(user, filed), policy, now_ms)

    assert all(old & ~new == 0 for old, new in zip(before.reasons, after.reasons, strict=True))


@given(living_users, policies, nows, dead_letters)
def test_a_dead_letter_takes_no_reason_away(
    user: User, policy: Policy, now_ms: int, ref: str
) -> None:
    """An unreadable record adds `UNREADABLE_INPUT` at most."""
    before = decision_of(user, policy, now_ms)

    after = decision_of(merge_users(user, User(dead_letters=(ref,))), policy, now_ms)

    assert all(old & ~new == 0 for old, new in zip(before.reasons, after.reasons, strict=True))


@given(all_users, policies, nows)
def test_a_deleted_account_is_eligible_for_nothing(user: User, policy: Policy, now_ms: int) -> None:
    """After a deletion "the only reason left is `ACCOUNT_DELETED`", and no time changes it."""
    verdict = decide(merge_users(user, DELETED_USER), policy, now_ms)

    assert (Reason.ACCOUNT_DELETED,) * 4 == verdict.decision.reasons
    assert NEVER_MS == verdict.next_change_ms
    assert not eligible(verdict.decision, policy)


restricting_items = st.one_of(
    st.integers(0, 9).map(lambda offset: Item(dead_letters=(offset,))),
    contents_of_one().flatmap(
        lambda records: st.sampled_from(
            [
                item_facts({**record, **change}).facts
                for record in records
                for change in ({"visibility": "deleted"}, {"kind": "private_message"})
            ]
            or [Item(deleted=True)]
        )
    ),
)


@given(all_items, restricting_items, all_users, policies, nows)
def test_a_restriction_of_an_item_takes_no_reason_away(
    item: Item, restriction: Item, user: User, policy: Policy, now_ms: int
) -> None:
    """A deletion, a dead letter or a private message leaves the item's other reasons standing."""
    decision = decision_of(user, policy, now_ms)
    # Only the restricting part: at a higher revision a record would also replace the item.
    flags = Item(
        deleted=restriction.deleted,
        private_message=restriction.private_message,
        dead_letters=restriction.dead_letters,
    )

    before = item_reasons(item, user, decision, PREFIX)
    after = item_reasons(merge(item, flags), user, decision, PREFIX)

    assert set(reason_names(before)) <= set(reason_names(after))
    if flags.deleted:
        assert after & Reason.DELETED
    if flags.private_message:
        assert after & Reason.PRIVATE_MESSAGE


@given(all_items, all_users, policies, nows)
def test_an_item_needs_its_user(item: Item, user: User, policy: Policy, now_ms: int) -> None:
    """No item is eligible while a reason stands against its user for its product."""
    decision = decision_of(user, policy, now_ms)

    against_user = decision.reasons[item.product]

    assert against_user == against_user & item_reasons(item, user, decision, PREFIX)


@given(all_users, policies, nows)
def test_the_next_change_is_the_next_change(user: User, policy: Policy, now_ms: int) -> None:
    """By time alone the decision stands until `next_change_ms`, and is another one from then on."""
    decision, next_change_ms = decide(user, policy, now_ms)

    assert next_change_ms > now_ms
    if next_change_ms == NEVER_MS:
        assert decision == decision_of(user, policy, NEVER_MS - 1)
        return
    between = (now_ms + next_change_ms) // 2
    assert decision == decision_of(user, policy, between)
    assert decision == decision_of(user, policy, next_change_ms - 1)
    assert decision != decision_of(user, policy, next_change_ms)


def test_what_is_next() -> None:
    """What ends first is next: a notice window, then a coming of age, then nothing."""
    user = user_of(grown_up(birth_date="2010-12-31"), notice(delivered_at="2026-06-15T00:00:00Z"))
    window_ms, birthday_ms = ms("2026-07-15T00:00:00Z"), ms("2029-01-01T12:00:00Z")

    assert window_ms == decide(user, DEFAULTS, NOW_MS).next_change_ms
    assert window_ms == decide(user, DEFAULTS, window_ms - 1).next_change_ms
    assert birthday_ms == decide(user, DEFAULTS, window_ms).next_change_ms
    assert birthday_ms == decide(user, DEFAULTS, birthday_ms - 1).next_change_ms
    assert NEVER_MS == decide(user, DEFAULTS, birthday_ms).next_change_ms


@given(living_users, policies, nows, nows)
def test_time_takes_reasons_away_and_adds_none(
    user: User, policy: Policy, first_ms: int, second_ms: int
) -> None:
    """People grow up and windows end: of one user the later decision never has a new reason."""
    earlier = decision_of(user, policy, min(first_ms, second_ms))
    later = decision_of(user, policy, max(first_ms, second_ms))

    assert all(new & ~old == 0 for old, new in zip(earlier.reasons, later.reasons, strict=True))


NEEDED: dict[str, Record] = {
    "age": grown_up(country=None, assurance="verified"),
    "country": grown_up(birth_date=None, assurance="verified"),
    "notice": notice(),
}


def test_nothing_is_allowed_unless_every_fact_is_known() -> None:
    """Only with age, country and notice known is anything eligible; each left out is a reason."""
    everything = user_of(grown_up(assurance="verified"), notice())
    assert set() == reasons(everything)

    for count in range(len(NEEDED)):
        for known in itertools.combinations(NEEDED, count):
            assert not eligible(
                decision_of(user_of(*(NEEDED[name] for name in known)), DEFAULTS, NOW_MS), DEFAULTS
            )
    assert {"AGE_UNKNOWN"} == reasons(user_of(NEEDED["country"], notice()))
    assert {"COUNTRY_NOT_COVERED"} == reasons(user_of(NEEDED["age"], notice()))
    assert {"NOTICE_PENDING"} == reasons(user_of(grown_up()))
    nothing_known = {"AGE_UNKNOWN", "COUNTRY_NOT_COVERED", "NOTICE_PENDING"}
    assert nothing_known == reasons(User())


@given(all_users, policies, nows)
def test_what_is_allowed_is_known(user: User, policy: Policy, now_ms: int) -> None:
    """Where no reason stands, a coming of age, a country and a delivered notice are known."""
    decision = decision_of(user, policy, now_ms)
    if 0 not in decision.reasons:
        return

    statements = [each for level in user.levels if level for each in level.statements]

    assert decision.adult_from_ms <= now_ms or not any(each.has_birth_date for each in statements)
    assert decision.adult_from_ms != NEVER_MS
    assert any(each.country in policy.countries for each in statements)
    assert any(at_ms + policy.notice_window_ms <= now_ms for at_ms in user.notices_ms)
    assert not user.deleted


@given(all_users, policies, nows)
def test_eligible_needs_every_covered_product(user: User, policy: Policy, now_ms: int) -> None:
    """`eligible` is true only when no product the policy covers has a reason."""
    decision = decision_of(user, policy, now_ms)

    clean = {name for name, found in zip(PRODUCTS, decision.reasons, strict=True) if not found}

    assert clean <= policy.products
    assert eligible(decision, policy) == (bool(clean) and clean == policy.products)


def test_allowed_user_of_these_tests() -> None:
    """The user the other tests restrict is free of reasons to begin with."""
    assert eligible(decision_of(ALLOWED, DEFAULTS, NOW_MS), DEFAULTS)

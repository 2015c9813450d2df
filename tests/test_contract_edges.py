"""
Edges of contract.md on users, each named by its sentence: objections, notices, accounts, policy.

Ages are in test_contract_edges_ages.py, items in test_contract_edges_items.py.
"""

from typing import Any

import pytest

from streams.core.policy import Policy
from streams.core.reasons import PRODUCTS
from streams.core.times import DAY_MS
from streams.core.user import NOBODY, User
from streams.core.user import merge as merge_users
from streams.core.verdict import decide, eligible
from tests.making import (
    ALLOWED,
    DEFAULTS,
    NOW_MS,
    Record,
    age,
    grown_up,
    ms,
    notice,
    objection,
    reasons,
    user_facts,
    user_of,
)

EVERYTHING = set(PRODUCTS)


def objected(*records: Record) -> set[str]:
    """Return the products that `OBJECTION` stands against."""
    user = user_of(*records)
    return {name for name in PRODUCTS if "OBJECTION" in reasons(user, name)}


def of_ages(*records: Record, now: str = "2026-07-01T00:00:00Z") -> set[str]:
    """Return the reasons that ages give against a user who is otherwise allowed."""
    return reasons(user_of(notice(), *records), now_ms=ms(now))


class TestObjections:
    @pytest.mark.parametrize(
        "products",
        [None, [], "facebook", {}, 5, ["myspace"], ["facebook", "myspace"], ["facebook", 5], [[]],
         ["Facebook"], ["facebook", None]],
    )  # fmt: skip
    def test_doubtful_products(self, products: Any) -> None:
        """“`products` missing, null, empty, of a wrong type or holding an unknown name means all
        products: a doubtful objection objects to everything.”
        """
        assert objected(objection(products=products)) == EVERYTHING
        assert objected({**objection(), "products": products}) == EVERYTHING

    def test_named_products(self) -> None:
        """Products that are all known are the ones objected to, also when named twice."""
        found = objected(objection(products=["facebook", "instagram", "facebook"]))

        assert {"facebook", "instagram"} == found

    def test_products_of_one_id_add_up(self) -> None:
        """“Products of one `objection_id` add up over its records.”"""
        first, second = objection(products=["facebook"]), objection(products=["messenger"])

        assert {"facebook", "messenger"} == objected(first, second) == objected(second, first)

    def test_withdrawal_takes_back_the_whole_id(self) -> None:
        """“A withdrawal takes back that whole `objection_id`”: its products do not matter."""
        withdrawal = objection(action="withdrawn", products=["facebook"])

        assert set() == objected(objection(), withdrawal)

    def test_withdrawal_before_filing(self) -> None:
        """“..., also when it arrives first”"""
        assert set() == objected(objection(action="withdrawn"), objection())

    def test_a_withdrawn_id_stays_withdrawn(self) -> None:
        """“a withdrawn id stays withdrawn, objecting again takes a new id.”"""
        filed, withdrawn = objection(), objection(action="withdrawn")

        assert set() == objected(filed, withdrawn, filed)
        assert objected(filed, withdrawn, filed, objection(objection_id="o2")) == EVERYTHING

    def test_other_objections_stand(self) -> None:
        """“taking one away leaves the others”"""
        other = objection(objection_id="o2", products=["facebook"])

        assert {"facebook"} == objected(objection(), other, objection(action="withdrawn"))

    def test_occurred_at_does_not_order(self) -> None:
        """A filing said to have occurred after the withdrawal is taken back all the same."""
        withdrawn = objection(action="withdrawn", occurred_at="2026-01-01T00:00:00Z")

        assert set() == objected(withdrawn, objection(occurred_at="2026-02-01T00:00:00Z"))


class TestNotices:
    @pytest.mark.parametrize(
        "after_ms,expected",
        [(0, {"NOTICE_PENDING"}), (30 * DAY_MS - 1, {"NOTICE_PENDING"}), (30 * DAY_MS, set())],
    )
    def test_window(self, after_ms: int, expected: set[str]) -> None:
        """“the notice window (default 30 days) since its delivery has not passed”"""
        user = user_of(grown_up(), notice(delivered_at="2026-06-01T10:00:00Z"))

        assert expected == reasons(user, now_ms=ms("2026-06-01T10:00:00Z") + after_ms)

    def test_earliest_not_before_notices_from(self) -> None:
        """“The earliest delivery not before the policy's `notices_from` counts.”"""
        first = notice(delivered_at="2026-01-01T00:00:00Z")
        second = notice(delivered_at="2026-05-01T00:00:00Z", notice_id="n2")
        third = notice(delivered_at="2026-06-20T00:00:00Z", notice_id="n3")
        user = user_of(grown_up(), third, first, second)

        def pending(notices_from: str) -> bool:
            policy = Policy(notices_from_ms=ms(notices_from))
            return "NOTICE_PENDING" in reasons(user, policy=policy)

        assert set() == reasons(user)
        assert not pending("2026-05-01T00:00:00Z")  # the second, its window has passed
        assert pending("2026-05-01T00:00:00.001Z")  # the third, it has not
        assert pending("2026-06-20T00:00:00.001Z")  # none


class TestClampedTimes:
    """“A time later than the record's broker time stamp counts as that time stamp.”"""

    def test_observed_at(self) -> None:
        """A record from the future does not outlive what is stated after it."""
        record = grown_up(observed_at="2099-01-01T00:00:00Z")
        early = user_facts(record, ms("2026-02-01T00:00:00Z")).facts
        later = user_facts(age(observed_at="2026-03-01T00:00:00Z", age_band="under_18")).facts

        assert {"UNDER_AGE"} <= reasons(merge_users(early, later))

    def test_observed_at_of_adults(self) -> None:
        """A coming of age at the observation is not later than the record."""
        future = "2099-01-01T00:00:00Z"
        record = grown_up(birth_date=None, age_band="adult", observed_at=future)
        at_ms = ms("2026-03-01T00:00:00Z")
        user = user_facts(record, at_ms).facts

        assert at_ms == decide(user, DEFAULTS, NOW_MS).decision.adult_from_ms

    def test_delivered_at(self) -> None:
        """A notice is not delivered later than its record arrives."""
        stamped_ms = ms("2026-03-01T00:00:00Z")
        user = user_facts(notice(delivered_at="2027-01-01T00:00:00Z"), stamped_ms).facts

        assert (stamped_ms,) == user.notices_ms

    def test_earlier_times_stay(self) -> None:
        """Times up to the time stamp count as they are."""
        stamped_ms = ms("2026-03-01T00:00:00Z")
        record = notice(delivered_at="2026-03-01T01:00:00+01:00")

        assert (stamped_ms,) == user_facts(record, stamped_ms).facts.notices_ms
        assert (stamped_ms,) == user_facts(record, stamped_ms + 1).facts.notices_ms


class TestAccounts:
    @pytest.mark.parametrize("level", ["self_declared", "inferred", "verified"])
    def test_deleted_is_final_at_any_level(self, level: str) -> None:
        """“`account: deleted` is final, at any level.”"""
        gone = age(account="deleted", assurance=level, observed_at="2025-01-01T00:00:00Z")
        opened = grown_up(account="open", assurance="verified")

        for records in ((gone, opened), (opened, gone)):
            user = user_of(notice(), objection(), *records)
            assert all({"ACCOUNT_DELETED"} == reasons(user, name) for name in PRODUCTS)

    def test_unreadable_until_resolved(self) -> None:
        """“It stands until the dead letter is resolved”"""
        unreadable = merge_users(ALLOWED, User(dead_letters=("objections/0/7",)))
        dismissed = {"action": "dismissed", "objection_id": None}
        wrong = user_of(objection(dead_letter="objections/0/8", **dismissed))
        right = user_of(objection(dead_letter="objections/0/7", **dismissed))

        assert {"UNREADABLE_INPUT"} == reasons(unreadable)
        assert {"UNREADABLE_INPUT"} == reasons(merge_users(unreadable, wrong))
        assert set() == reasons(merge_users(unreadable, right))


class TestPolicy:
    def test_products_left_out(self) -> None:
        """“the policy leaves the product out”, and `eligible` looks at what is covered only."""
        policy = Policy(products=frozenset({"instagram", "facebook"}))
        decision = decide(ALLOWED, policy, NOW_MS).decision

        assert {"PRODUCT_NOT_COVERED"} == reasons(ALLOWED, "whatsapp", policy)
        assert set() == reasons(ALLOWED, "instagram", policy)
        assert eligible(decision, policy)

    def test_eligible_needs_every_covered_product(self) -> None:
        """“`eligible` is true only when no product the policy covers has a reason”"""
        user = merge_users(ALLOWED, user_of(objection(products=["facebook"])))
        without = Policy(products=frozenset(PRODUCTS) - {"facebook"})

        assert not eligible(decide(user, DEFAULTS, NOW_MS).decision, DEFAULTS)
        assert eligible(decide(user, without, NOW_MS).decision, without)

    def test_countries_left_out(self) -> None:
        """“country unknown, or not among the policy's”"""
        assert {"COUNTRY_NOT_COVERED"} == of_ages(grown_up(country="US"))
        assert {"COUNTRY_NOT_COVERED"} == of_ages(grown_up(country=None))
        user = user_of(notice(), grown_up(country="DE"))
        assert {"COUNTRY_NOT_COVERED"} == reasons(user, policy=Policy(countries=frozenset({"FR"})))

    def test_defaults(self) -> None:
        """“default: the 27 EU states, IS, LI, NO” and the rest of version 1."""
        assert 30 == len(DEFAULTS.countries)
        assert {"IS", "LI", "NO", "GR"} <= DEFAULTS.countries
        assert not {"GB", "CH", "EL", "UK"} & DEFAULTS.countries
        assert (1, 18, 30, None) == (
            DEFAULTS.version,
            DEFAULTS.adult_age,
            DEFAULTS.notice_window_days,
            DEFAULTS.notices_from_ms,
        )

    def test_nobody(self) -> None:
        """“What is not known is a reason: the service fails closed.”"""
        assert {"AGE_UNKNOWN", "COUNTRY_NOT_COVERED", "NOTICE_PENDING"} == reasons(NOBODY)

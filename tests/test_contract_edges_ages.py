"""Edges of contract.md on ages, each named by its sentence: coming of age, bands, levels."""

from typing import Any

import pytest

from streams.core.policy import Policy
from tests.making import (
    Record,
    age,
    content,
    grown_up,
    item_of,
    ms,
    notice,
    reasons,
    reasons_of_item,
)
from tests.making import user_of as known

JANUARY, MARCH, MAY = (f"2026-0{month}-01T00:00:00Z" for month in (1, 3, 5))


def self_declared(**changes: Any) -> Record:
    """Return a record of the lowest level, of May if nothing else is said."""
    return age(**{"observed_at": MAY, **changes})


def verified(**changes: Any) -> Record:
    """Return a record of an adult of the highest level, of March if nothing else is said."""
    return grown_up(**{"observed_at": MARCH, "assurance": "verified", **changes})


def found(*records: Record, now: str = "2026-07-01T00:00:00Z") -> set[str]:
    """Return the reasons of ages, which no order of the records may change."""
    forwards, backwards = known(notice(), *records), known(*reversed(records), notice())
    assert forwards == backwards
    return reasons(forwards, now_ms=ms(now))


def minor_at(created_at: str, *records: Record) -> bool:
    """Whether `MINOR_AT_CREATION` stands against an item created then."""
    item = item_of(content(created_at=created_at))
    return "MINOR_AT_CREATION" in reasons_of_item(item, known(notice(), *records))


def adult(**changes: Any) -> Record:
    """Return a record of the band `adult` in a covered country."""
    return grown_up(**{"birth_date": None, "age_band": "adult", **changes})


class TestComingOfAge:
    @pytest.mark.parametrize(
        "now,expected",
        [
            ("2026-05-02T11:59:59.999Z", {"UNDER_AGE"}),
            ("2026-05-02T12:00:00Z", set()),
        ],
    )
    def test_date_line(self, now: str, expected: set[str]) -> None:
        """“born 2008-05-01, adult from 2026-05-02T12:00:00Z”"""
        assert expected == found(grown_up(birth_date="2008-05-01"), now=now)

    @pytest.mark.parametrize(
        "now,expected",
        [("2026-03-02T11:59:59.999Z", {"UNDER_AGE"}), ("2026-03-02T12:00:00Z", set())],
    )
    def test_29_february(self, now: str, expected: set[str]) -> None:
        """“born on 29 February, the birthday is 1 March in other years”"""
        assert expected == found(grown_up(birth_date="2008-02-29"), now=now)

    def test_adult_age_of_the_policy(self) -> None:
        """“younger than the policy's adult age (18)”"""
        user = known(notice(), grown_up(birth_date="2008-05-01"))

        assert {"UNDER_AGE"} == reasons(user, policy=Policy(adult_age=19))
        assert set() == reasons(user, policy=Policy(adult_age=17))

    @pytest.mark.parametrize("band", ["adult", "under_18", "unknown"])
    def test_birth_date_wins_over_band(self, band: str) -> None:
        """“Within a record a birth date wins over a band.”"""
        assert set() == found(grown_up(age_band=band))
        assert {"UNDER_AGE"} == found(grown_up(age_band=band, birth_date="2012-01-01"))

    def test_birth_date_wins_over_adult_since(self) -> None:
        """“With the band `adult` and no birth date ...”: with one, `adult_since` says nothing."""
        record = grown_up(age_band="adult", adult_since="2030-01-01")

        assert set() == found(record)

    @pytest.mark.parametrize("band", ["unknown", None])
    def test_unknown_age(self, band: str | None) -> None:
        """“no age fact in force, or unknown”"""
        assert {"AGE_UNKNOWN"} == found(grown_up(birth_date=None, age_band=band))

    def test_under_18(self) -> None:
        """“band `under_18`” stands however much time passes."""
        record = grown_up(birth_date=None, age_band="under_18")

        assert {"UNDER_AGE"} == found(record) == found(record, now="2099-01-01T00:00:00Z")


class TestAdultBand:
    @pytest.mark.parametrize(
        "now,expected",
        [("2026-06-02T11:59:59.999Z", {"UNDER_AGE"}), ("2026-06-02T12:00:00Z", set())],
    )
    def test_adult_since(self, now: str, expected: set[str]) -> None:
        """“the user came of age at the end of the day `adult_since` (by the same rule;
        `UNDER_AGE` stands until then)”
        """
        record = adult(adult_since="2026-06-01")

        assert expected == found(record, now=now)
        assert minor_at("2026-06-02T11:59:59.999Z", record)
        assert not minor_at("2026-06-02T12:00:00Z", record)

    def test_without_a_date(self) -> None:
        """“or else at the earliest `observed_at` of that level's `adult` records”"""
        first = adult(observed_at="2026-02-01T00:00:00Z")
        later = adult(observed_at="2026-03-01T00:00:00Z")

        assert set() == found(first, later)
        for records in ((first, later), (later, first)):
            assert minor_at("2026-01-31T23:59:59.999Z", *records)
            assert not minor_at("2026-02-01T00:00:00Z", *records)

    def test_earliest_of_its_own_level(self) -> None:
        """“... of *that level's* `adult` records”: another level's say nothing on it."""
        weaker = adult(observed_at="2026-01-01T00:00:00Z")
        verified = adult(observed_at="2026-03-01T00:00:00Z", assurance="verified")

        assert minor_at("2026-02-28T00:00:00Z", weaker, verified)

    def test_earliest_survives_other_statements(self) -> None:
        """An `under_18` in between does not make the earliest `adult` record younger."""
        first = adult(observed_at="2026-02-01T00:00:00Z")
        between = adult(observed_at="2026-03-01T00:00:00Z", age_band="under_18")
        last = adult(observed_at="2026-04-01T00:00:00Z")

        assert not minor_at("2026-02-01T00:00:00Z", last, between, first)

    def test_a_record_with_a_birth_date_is_no_adult_record(self) -> None:
        """A birth date wins over the band, so its record is not one of the `adult` records."""
        dated = adult(observed_at="2026-02-01T00:00:00Z", birth_date="1990-01-01")
        banded = adult(observed_at="2026-03-01T00:00:00Z")

        assert minor_at("2026-02-15T00:00:00Z", dated, banded)


# --- Assurance levels ---


def test_default_level() -> None:
    """“default `self_declared`”: a record that names that level replaces one that names none."""
    older, newer = grown_up(observed_at=MARCH), grown_up(observed_at=MAY, country="US")

    assert {"COUNTRY_NOT_COVERED"} == found(older, {**newer, "assurance": "self_declared"})
    assert {"COUNTRY_NOT_COVERED"} == found({**older, "assurance": "self_declared"}, newer)


def test_the_newest_holds() -> None:
    """“Per level the newest `observed_at` holds”"""
    under_age = grown_up(birth_date="2012-01-01", observed_at=MARCH)

    assert set() == found(under_age, grown_up(observed_at=MAY))
    assert {"UNDER_AGE"} == found(under_age, grown_up(observed_at=JANUARY))


def test_a_record_is_the_whole_statement() -> None:
    """“Each record is the whole statement of its assurance level: a missing age or country is
    unknown.”
    """
    assert {"AGE_UNKNOWN"} == found(grown_up(), age(observed_at=MAY, country="DE"))
    without_country = age(observed_at=MAY, birth_date="1990-01-01")
    assert {"COUNTRY_NOT_COVERED"} == found(grown_up(), without_country)


@pytest.mark.parametrize(
    "change,expected",
    [
        ({"birth_date": "2012-01-01"}, {"UNDER_AGE"}),
        ({"birth_date": None}, {"AGE_UNKNOWN"}),
        ({"birth_date": None, "age_band": "under_18"}, {"UNDER_AGE"}),
        ({"country": None}, {"COUNTRY_NOT_COVERED"}),
        ({"country": "US"}, {"COUNTRY_NOT_COVERED"}),
        ({"birth_date": "2012-01-01", "country": "US"}, {"UNDER_AGE", "COUNTRY_NOT_COVERED"}),
    ],
)
def test_ties(change: Record, expected: set[str]) -> None:
    """“records tied for it all hold, and every reason any of them gives stands”"""
    assert expected == found(grown_up(), grown_up(**change))


def test_a_tie_keeps_the_later_coming_of_age() -> None:
    """Of tied birth dates the item has to be younger than both."""
    assert minor_at("2020-01-01T00:00:00Z", grown_up(), grown_up(birth_date="2004-05-01"))


def test_ties_end_with_a_newer_record() -> None:
    """Tied records hold only while they are the newest."""
    tied = [grown_up(), grown_up(birth_date="2012-01-01")]

    assert set() == found(*tied, grown_up(observed_at=MARCH))


def test_a_tie_of_clamped_times() -> None:
    """Times clamped to one time stamp are tied."""
    future = "2099-01-01T00:00:00Z"

    adult = grown_up(observed_at="2098-01-01T00:00:00Z")

    assert {"UNDER_AGE"} == found(adult, grown_up(birth_date="2012-01-01", observed_at=future))


def test_the_highest_level_is_in_force() -> None:
    """“The highest level that has a record is in force” over older and newer lower ones."""
    under_age = {"birth_date": "2012-01-01", "country": "DE"}

    assert {"UNDER_AGE"} == found(
        grown_up(observed_at=MAY),
        grown_up(observed_at=MAY, assurance="inferred"),
        verified(**under_age),
    )
    assert set() == found(verified(), age(observed_at=JANUARY, assurance="inferred", **under_age))


@pytest.mark.parametrize(
    "change,expected",
    [
        ({"age_band": "under_18"}, {"UNDER_AGE"}),
        ({"birth_date": "2012-01-01"}, {"UNDER_AGE"}),
        ({"age_band": "adult", "adult_since": "2027-01-01"}, {"UNDER_AGE"}),
        ({"country": "US"}, {"COUNTRY_NOT_COVERED"}),
    ],
)
@pytest.mark.parametrize("level", ["self_declared", "inferred"])
def test_a_lower_level_restricts_when_newer(level: str, change: Record, expected: set[str]) -> None:
    """“a newer record of a lower level counts only where it restricts: being under age, a later
    coming of age by a birth date or `adult_since`, a country not covered”
    """
    restricting = self_declared(assurance=level, **change)

    assert expected == found(verified(), restricting)
    assert set() == found(verified(), {**restricting, "observed_at": JANUARY})
    assert set() == found(verified(), {**restricting, "observed_at": MARCH})  # not newer
    assert set() == found(verified(observed_at="2026-06-01T00:00:00Z"), restricting)


def test_unknowns_of_a_lower_level_do_not_count() -> None:
    """“... but not what it leaves unknown”"""
    assert set() == found(verified(), self_declared())
    assert set() == found(verified(), self_declared(age_band="unknown", country="FR"))


def test_a_lower_level_never_helps() -> None:
    """A newer lower level lifts nothing the level in force says or leaves unknown."""
    adult = self_declared(birth_date="1990-01-01", country="DE")

    assert {"UNDER_AGE"} == found(verified(birth_date="2012-01-01"), adult)
    assert {"AGE_UNKNOWN"} == found(verified(birth_date=None), adult)
    assert {"COUNTRY_NOT_COVERED"} == found(verified(country=None), adult)
    assert {"COUNTRY_NOT_COVERED"} == found(verified(country="US"), adult)


@pytest.mark.parametrize(
    "later", [{"birth_date": "2004-05-01"}, {"age_band": "adult", "adult_since": "2022-05-01"}]
)
def test_a_later_coming_of_age_of_a_lower_level(later: Record) -> None:
    """A newer lower level's later coming of age counts for items, an earlier one does not."""
    at = "2022-05-02T12:00:00Z"
    before = "2022-05-02T11:59:59.999Z"

    assert minor_at(before, verified(), self_declared(**later))
    assert not minor_at(at, verified(), self_declared(**later))
    assert not minor_at(before, verified(), self_declared(observed_at=JANUARY, **later))
    assert minor_at(
        "2022-12-01T00:00:00Z", verified(birth_date="2005-01-01"), self_declared(**later)
    )


def test_an_undated_adult_of_a_lower_level_does_not_count() -> None:
    """Only "by a birth date or `adult_since`": when a lower level saw an adult is no later
    coming of age.
    """
    created_at = "2026-01-01T00:00:00Z"

    assert not minor_at(created_at, verified(), self_declared(age_band="adult"))


def test_only_the_newest_of_a_lower_level_restricts() -> None:
    """A lower level's word that its own newer one has replaced no longer counts."""
    wrong = self_declared(country="US", observed_at="2026-04-01T00:00:00Z")

    assert {"COUNTRY_NOT_COVERED"} == found(verified(), wrong)
    assert set() == found(verified(), wrong, self_declared(country="DE"))


def test_tied_records_of_a_lower_level_all_restrict() -> None:
    """Tied records of a lower level each count where they restrict."""
    records = [self_declared(country="US"), self_declared(age_band="under_18")]

    assert {"COUNTRY_NOT_COVERED", "UNDER_AGE"} == found(verified(), *records)

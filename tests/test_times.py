from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.times import (
    NEVER_MS,
    end_of_day_ms,
    from_day,
    from_ms,
    of_age_ms,
    rfc3339,
    to_day,
    to_ms,
)
from tests.making import ms

# The last place on earth where a day ends.
EVERYWHERE = timezone(-timedelta(hours=12))


def of_age(born: str, years: int = 18) -> int:
    """Return when someone born on the day *born* is *years* old, ms since 1970."""
    return of_age_ms(to_day(date.fromisoformat(born)), years)


def test_date_line() -> None:
    """Born 2008-05-01, adult from 2026-05-02T12:00:00Z: the birthday has ended everywhere."""
    assert ms("2026-05-02T12:00:00Z") == of_age("2008-05-01")


@pytest.mark.parametrize(
    "born,of_age_at",
    [
        ("2008-02-29", "2026-03-02T12:00:00Z"),  # 1 March in other years
        ("2004-02-29", "2022-03-02T12:00:00Z"),
        ("2008-02-28", "2026-03-01T12:00:00Z"),
        ("2008-03-01", "2026-03-02T12:00:00Z"),
        ("2008-12-31", "2027-01-01T12:00:00Z"),
    ],
)
def test_29_february(born: str, of_age_at: str) -> None:
    """Born on 29 February, the birthday is 1 March in other years; its neighbours keep theirs."""
    assert ms(of_age_at) == of_age(born)


def test_29_february_in_a_leap_year() -> None:
    """Where the year of the birthday has a 29 February, that is the birthday."""
    assert ms("2028-03-01T12:00:00Z") == of_age("2008-02-29", 20)


def test_29_february_of_a_century() -> None:
    """2100 is no leap year."""
    assert ms("2100-03-02T12:00:00Z") == of_age("2080-02-29", 20)


def test_an_age_beyond_the_calendar_is_never_reached() -> None:
    """A coming of age that no date can name never comes: it fails closed."""
    assert NEVER_MS == of_age("2008-05-01", 8_000)


@given(st.dates(min_value=date(1900, 1, 1), max_value=date(2200, 1, 1)))
def test_a_day_ends_where_it_ends_last(day: date) -> None:
    """The end of a day is the midnight after it on the clock twelve hours behind UTC."""
    following = day + timedelta(days=1)
    midnight = datetime(following.year, following.month, following.day, tzinfo=EVERYWHERE)

    assert to_ms(midnight) == end_of_day_ms(to_day(day))


@given(st.dates(min_value=date(1900, 1, 1), max_value=date(2150, 1, 1)))
def test_the_later_born_come_of_age_no_earlier(day: date) -> None:
    """A day later born is never a day earlier of age."""
    assert of_age_ms(to_day(day), 18) <= of_age_ms(to_day(day) + 1, 18)


@given(st.dates())
def test_days_there_and_back(day: date) -> None:
    """Days since 1970 name each date once."""
    assert day == from_day(to_day(day))


@given(st.integers(ms("0001-01-01T00:00:00+00:00"), ms("9999-12-31T23:59:59Z")))
def test_instants_there_and_back(instant_ms: int) -> None:
    """Text and datetimes keep the millisecond."""
    assert instant_ms == to_ms(from_ms(instant_ms))
    assert instant_ms == ms(rfc3339(instant_ms))


@given(st.integers())
def test_any_instant_can_be_written(instant_ms: int) -> None:
    """Instants out of the calendar are written as its first or last one."""
    assert rfc3339(instant_ms).endswith("Z")


def test_parts_of_a_millisecond_are_left_out() -> None:
    """Times are rounded down, before 1970 too."""
    assert 0 == to_ms(datetime(1970, 1, 1, microsecond=999, tzinfo=UTC))
    assert -1 == to_ms(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))

"""
What ages say, worked out a second time: from contract.md's sentences and the records' own text.

It shares no code with streams/core (but for the text of a record), keeps all records, and
knows of instants as datetimes.  `judge_age` is compared with it in test_verdict.py.
"""

from datetime import date, datetime, timedelta, timezone
from typing import NamedTuple

from tests.making import Record

LEVELS = ["self_declared", "inferred", "verified"]
LAST_PLACE_ON_EARTH = timezone(timedelta(hours=-12))


class Said(NamedTuple):
    """Reasons by name, and the coming of age where it is known."""

    reasons: set[str]
    of_age: datetime | None


def judged(
    records: list[tuple[Record, datetime]], adult_age: int, countries: set[str], now: datetime
) -> Said:
    """Return what *records*, each with its broker time stamp, say of one living account."""
    levels = [_of_level(records, name) for name in LEVELS]
    levels = [level for level in levels if level]
    if not levels:
        return Said({"AGE_UNKNOWN", "COUNTRY_NOT_COVERED"}, None)
    # "The highest level that has a record is in force"
    *lower, in_force = levels
    said = _in_force(in_force, adult_age, countries, now)
    for level in lower:
        # "a newer record of a lower level counts only where it restricts"
        if _observed(level[0]) > _observed(in_force[0]):
            said = _restricted(said, level, adult_age, countries, now)
    return said


def _in_force(level: list[Record], adult_age: int, countries: set[str], now: datetime) -> Said:
    reasons: set[str] = set()
    comings: list[datetime | None] = []
    # "records tied for it all hold, and every reason any of them gives stands"
    for record in _newest(level):
        coming = _coming_of_age(record, level, adult_age)
        comings.append(coming)
        if _is_minor(record) or (coming is not None and _dated(record) and now < coming):
            reasons.add("UNDER_AGE")
        elif coming is None:
            reasons.add("AGE_UNKNOWN")
        if record.get("country") not in countries:
            reasons.add("COUNTRY_NOT_COVERED")
    return Said(reasons, None if None in comings else max(each for each in comings if each))


def _restricted(
    said: Said, level: list[Record], adult_age: int, countries: set[str], now: datetime
) -> Said:
    reasons, of_age = set(said.reasons), said.of_age
    for record in _newest(level):
        if _is_minor(record):
            reasons.add("UNDER_AGE")
        if _dated(record):
            coming = _coming_of_age(record, level, adult_age)
            assert coming is not None
            of_age = max(of_age, coming) if of_age else None
            if now < coming:
                reasons.add("UNDER_AGE")
        if "country" in record and record["country"] not in countries:
            reasons.add("COUNTRY_NOT_COVERED")
    return Said(reasons, of_age)


def _of_level(records: list[tuple[Record, datetime]], name: str) -> list[Record]:
    """Return a level's records, the newest first, with "a time later than ..." applied."""
    found = [
        {**record, "at": min(datetime.fromisoformat(record["observed_at"]), timestamp)}
        for record, timestamp in records
        if record.get("assurance", "self_declared") == name
    ]
    return sorted(found, key=_observed, reverse=True)


def _observed(record: Record) -> datetime:
    at = record["at"]
    assert isinstance(at, datetime)
    return at


def _newest(level: list[Record]) -> list[Record]:
    """Per level the newest `observed_at` holds."""
    return [each for each in level if _observed(each) == _observed(level[0])]


def _is_minor(record: Record) -> bool:
    return "birth_date" not in record and record.get("age_band") == "under_18"


def _is_adult(record: Record) -> bool:
    """Within a record a birth date wins over a band."""
    return "birth_date" not in record and record.get("age_band") == "adult"


def _dated(record: Record) -> bool:
    """Whether a record names the day of a coming of age."""
    return "birth_date" in record or (_is_adult(record) and "adult_since" in record)


def _coming_of_age(record: Record, level: list[Record], adult_age: int) -> datetime | None:
    if "birth_date" in record:
        year, month, day = (int(part) for part in record["birth_date"].split("-"))
        try:
            return _end_of(date(year + adult_age, month, day))
        except ValueError:
            return _end_of(date(year + adult_age, 3, 1))
    if not _is_adult(record):
        return None
    if "adult_since" in record:
        return _end_of(date.fromisoformat(record["adult_since"]))
    # "or else at the earliest `observed_at` of that level's `adult` records"
    return min(_observed(each) for each in level if _is_adult(each))


def _end_of(day: date) -> datetime:
    """Return the end of a day everywhere on earth."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=LAST_PLACE_ON_EARTH)
    return midnight + timedelta(days=1)

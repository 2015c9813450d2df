"""
Instants are integers: milliseconds since 1970, UTC.  Days are integers: days since 1970-01-01.

Source of the coming-of-age rule: contract.md, "Decisions".
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

NEVER_MS = 2**62  # Later than any real time: leaves `min` unchanged, and fails closed.
DAY_MS = 86_400_000
# A day ends last at UTC-12 ("anywhere on earth"), twelve hours after it ends in UTC.
EVERYWHERE_MS = 12 * 3_600_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_EARLIEST_MS = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LATEST_MS = (datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC) - _EPOCH) // _MILLISECOND
# Below it (in 2106) a float of seconds rounds to the very microsecond.
_FLOAT_EXACT_MS = 2**32 * 1000


def to_ms(moment: datetime) -> int:
    """Return the aware *moment* in milliseconds since 1970, rounded down."""
    since = moment - _EPOCH
    return since.days * DAY_MS + since.seconds * 1_000 + since.microseconds // 1_000


def from_ms(instant_ms: int) -> datetime:
    """Return *instant_ms* as an aware datetime, clamped to the years 1 to 9999."""
    if 0 <= instant_ms < _FLOAT_EXACT_MS:
        return datetime.fromtimestamp(instant_ms / 1000, UTC)
    return _EPOCH + timedelta(milliseconds=min(max(instant_ms, _EARLIEST_MS), _LATEST_MS))


@lru_cache(maxsize=1024)
def rfc3339(instant_ms: int) -> str:
    """Return *instant_ms* as RFC 3339 text in UTC with milliseconds."""
    return from_ms(instant_ms).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def read_rfc3339(text: str) -> int:
    """
    Return the time that `rfc3339` wrote, or others with an offset, in milliseconds since 1970.

    Raises ValueError, TypeError or OverflowError where *text* is none.
    """
    return to_ms(datetime.fromisoformat(text))


def to_day(day: date) -> int:
    """Return *day* in days since 1970-01-01."""
    return day.toordinal() - _EPOCH_ORDINAL


def from_day(day: int) -> date:
    """Return the date *day* days after 1970-01-01."""
    return date.fromordinal(day + _EPOCH_ORDINAL)


def end_of_day_ms(day: int) -> int:
    """Return the instant at which *day* has ended everywhere on earth."""
    return (day + 1) * DAY_MS + EVERYWHERE_MS


@lru_cache(maxsize=65_536)
def of_age_ms(birth_day: int, adult_age: int) -> int:
    """
    Return the instant at which someone born on *birth_day* is *adult_age* years old.

    That is the end of the birthday everywhere on earth: born 2008-05-01, of age at 18 from
    2026-05-02T12:00:00Z.  Born on 29 February, the birthday is 1 March in other years.
    """
    born = from_day(birth_day)
    year = born.year + adult_age
    if year > date.max.year:
        return NEVER_MS
    try:
        birthday = born.replace(year=year)
    except ValueError:
        birthday = date(year, 3, 1)
    return end_of_day_ms(to_day(birthday))

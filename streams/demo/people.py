"""
People made up around the real accounts: age, country, language, notice.

Proportions are those of a large network in Europe, roughly: most are adults who were given a
notice in spring 2025; a few are not old enough, live elsewhere, or were never told.
"""

from datetime import date, timedelta
from typing import Any, Final, NamedTuple

from streams.core.times import DAY_MS, rfc3339
from streams.demo.activity import chance

Value = dict[str, Any]

# country: how many of a hundred, and the languages and dialects written there
COUNTRIES: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "DE": (20, ("de-DE", "de-DE", "de-DE", "bar", "nds-DE")),
    "FR": (15, ("fr-FR", "fr-FR", "fr-FR", "br", "oc")),
    "IT": (13, ("it-IT", "it-IT", "it-IT", "scn", "vec")),
    "ES": (11, ("es-ES", "es-ES", "ca-ES", "gl-ES", "eu-ES")),
    "PL": (8, ("pl-PL", "pl-PL", "szl")),
    "NL": (6, ("nl-NL", "nl-NL", "fy-NL")),
    "BE": (4, ("nl-BE", "fr-BE")),
    "AT": (4, ("de-AT", "bar")),
    "SE": (4, ("sv-SE",)),
    "PT": (3, ("pt-PT",)),
    "IE": (3, ("en-IE", "ga-IE")),
    "NO": (2, ("nb-NO", "nn-NO")),
    "GB": (3, ("en-GB", "cy")),
    "US": (2, ("en-US",)),
    "CH": (2, ("gsw-CH", "fr-CH")),
}
_NOTICES_BEGAN: Final = date(2025, 4, 14)
_OBSERVED_AT: Final = "2025-03-01T08:00:00Z"
_RECENT_NOTICE_DAYS: Final = 5  # within the notice window: not to be used yet


class Person(NamedTuple):
    """An account's owner; records are values of the inputs, None where there is none."""

    user_id: str
    languages: tuple[str, ...]
    age: Value | None
    notice: Value | None


def make_person(user_id: str, now_ms: int) -> Person:
    """Return who owns account *user_id*; recent notices are recent as of *now_ms*."""
    dice = chance("person", user_id)
    shares = [share for share, _ in COUNTRIES.values()]
    country = dice.choices(list(COUNTRIES), shares)[0]
    age = _age(user_id, country, dice.random(), dice.randrange(20_000))
    assurance = dice.choices(("self_declared", "inferred", "verified"), (70, 20, 10))[0]
    if age is not None:
        age["assurance"] = assurance
    notice = _notice(user_id, dice.random(), dice.randrange(20), now_ms)
    return Person(user_id, COUNTRIES[country][1], age, notice)


def _age(user_id: str, country: str, kind: float, days: int) -> Value | None:
    """Return an `account-ages` record; *kind* from 0 to 1 and *days* say what it holds."""
    record: Value = {"user_id": user_id, "observed_at": _OBSERVED_AT, "country": country}
    if kind < 0.80:  # adults, and so when they wrote
        return record | {"birth_date": str(date(1948, 1, 1) + timedelta(days=days))}
    if kind < 0.91:
        since = date(1990, 1, 1) + timedelta(days=days % 10_000)
        return record | {"age_band": "adult", "adult_since": str(since)}
    if kind < 0.95:  # came of age while they wrote: what they wrote before is not to be used
        return record | {"birth_date": str(date(2005, 11, 1) + timedelta(days=days % 330))}
    if kind < 0.97:
        return record | {"birth_date": str(date(2011, 1, 1) + timedelta(days=days % 900))}
    if kind < 0.99:
        return record | {"age_band": "unknown"}
    return None


def _notice(user_id: str, kind: float, days: int, now_ms: int) -> Value | None:
    record: Value = {"user_id": user_id, "notice_id": f"n-{user_id}", "channel": "in_app"}
    if kind < 0.94:
        return record | {"delivered_at": f"{_NOTICES_BEGAN + timedelta(days=days)}T10:00:00+02:00"}
    if kind < 0.97:
        return record | {"delivered_at": rfc3339(now_ms - _RECENT_NOTICE_DAYS * DAY_MS)}
    return None


def turns_out_under_age(user_id: str, now_ms: int) -> Value:
    """Return the record of a check that finds the owner of an account to be under age."""
    days = chance("under age", user_id).randrange(600)
    return {
        "user_id": user_id,
        "observed_at": rfc3339(now_ms),
        "birth_date": str(date(2012, 1, 1) + timedelta(days=days)),
        "assurance": "verified",
        "country": "DE",
    }

"""
A seed -> input records in a realistic mix, and what must be allowed once all are decided.

Accounts are heavy-tailed: the busiest have hundreds of items, most have a few.  An account's age
and notice come shortly before its first activity.  Every content record is an item of its own, so
that answers can be counted.  Made up from a seed alone: no clock and no environment, and all dates
lie far from any birthday or end of a notice window.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from typing import Any, Final, NamedTuple

import msgspec

from streams.core import user as users
from streams.core.decode import (
    USER_DECODERS,
    decode_content,
)
from streams.core.item import Item
from streams.core.policy import Policy
from streams.core.reasons import MODALITIES, PRODUCTS
from streams.core.user import NOBODY, User
from streams.core.verdict import decide, item_reasons

OBJECTION_SHARE: Final = 0.03  # of all activity, by any account alike
WITHDRAWAL_SHARE: Final = 0.3  # of these, where the account has an objection to withdraw
NEW_AGE_SHARE: Final = 0.01  # of all activity: an age is corrected, or better assured,
DELETED_SHARE: Final = 0.05  # or the account is deleted
RECORDS_PER_ACCOUNT: Final = 12
TAIL: Final = 1.2  # exponent of the Pareto distribution of activity
BUSIEST_WEIGHT: Final = 500.0  # an account has at most so many times the least activity
PROBES: Final = 64  # before a latency run

_START: Final = datetime(2025, 6, 1, tzinfo=UTC)
_COUNTRIES: Final = ("DE", "FR", "IT", "ES", "PL", "NL", "SE", "IE", "AT", "PT", "US", "GB")
_LANGUAGES: Final = ("de", "fr", "it", "es", "pl", "nl", "sv", "en", None)

_encode = msgspec.json.Encoder().encode


class Record(NamedTuple):
    """One input record; *id* is the content's or the objection's, "" for the others."""

    topic: str
    key: bytes
    value: bytes
    id: str


class Allowed(NamedTuple):
    """What may be used in the end: content ids, and `product/user_id`."""

    items: frozenset[str]
    products: frozenset[str]


def make(records: int, seed: int) -> list[Record]:
    """Return the first *records* records of the workload of *seed*."""
    return list(islice(_activity(records, random.Random(seed)), records))


def probes() -> list[Record]:
    """Return private items of users nobody else has, enough to reach every partition."""
    rng = random.Random(0)
    found = []
    for number in range(PROBES):
        content_id = f"probe-{number}"
        record = make_content(f"probe-user-{number}", content_id, rng)
        fields = msgspec.json.decode(record.value) | {"kind": "post", "visibility": "private"}
        found.append(_record("content", content_id, fields))
    return found


def answered_ids(records: Sequence[Record]) -> set[str]:
    """Return the content ids that must be answered: all but private messages."""
    found = set()
    for record in records:
        if record.topic == "content" and b'"private_message"' not in record.value:
            found.add(record.id)
    return found


def expected(records: Sequence[Record], now_ms: int) -> Allowed:
    """Return what the pure core allows, given all *records* at once in any order."""
    known: dict[bytes, User] = {}
    items: list[tuple[bytes, str, Item]] = []
    for topic, key, value, record_id in records:
        if topic == "content":
            items.append((key, record_id, decode_content(key, value, now_ms, 0).facts))
        else:
            facts = USER_DECODERS[topic](key, value, now_ms).facts
            known[key] = users.merge(known.get(key, NOBODY), facts)
    policy = Policy()
    decisions = {key: decide(user, policy, now_ms).decision for key, user in known.items()}
    nobody = decide(NOBODY, policy, now_ms).decision
    products = {
        f"{product}/{key.decode()}"
        for key, decision in decisions.items()
        for index, product in enumerate(PRODUCTS)
        if decision.reasons[index] == 0
    }
    allowed = {
        content_id
        for key, content_id, item in items
        if not item_reasons(item, known.get(key, NOBODY), decisions.get(key, nobody), "")
    }
    return Allowed(frozenset(allowed), frozenset(products))


def _activity(records: int, rng: random.Random) -> Iterator[Record]:
    """Yield at least *records* records."""
    accounts = max(records // RECORDS_PER_ACCOUNT, 1)
    weights = [min(rng.paretovariate(TAIL), BUSIEST_WEIGHT) for _ in range(accounts)]
    chosen = rng.choices(range(accounts), cum_weights=list(accumulate(weights)), k=records)
    seen: set[int] = set()
    user_ids: list[str] = []  # of accounts seen
    filed: dict[str, list[str]] = {}
    for number, account in enumerate(chosen):
        user_id = f"user-{account:07d}"
        if account not in seen:
            seen.add(account)
            user_ids.append(user_id)
            yield make_age(user_id, rng)
            if rng.random() < 0.92:
                yield make_notice(user_id, rng)
        draw = rng.random()
        if draw < OBJECTION_SHARE:
            objector = rng.choice(user_ids)
            yield _objection(objector, f"objection-{number}", filed.setdefault(objector, []), rng)
        elif draw < OBJECTION_SHARE + NEW_AGE_SHARE:
            yield make_age(user_id, rng, assurance="verified")
        else:
            yield make_content(user_id, f"content-{number}", rng)


def _record(topic: str, record_id: str, fields: dict[str, Any]) -> Record:
    return Record(topic, fields["user_id"].encode(), _encode(fields), record_id)


def make_age(user_id: str, rng: random.Random, assurance: str = "") -> Record:
    """Return what is told of a made-up account's age and country."""
    fields: dict[str, Any] = {
        "user_id": user_id,
        "observed_at": _time(rng, days=300),
        "assurance": assurance or rng.choice(("self_declared", "self_declared", "inferred")),
        "country": rng.choices(_COUNTRIES, weights=(9,) * 10 + (1, 1))[0],
    }
    draw = rng.random()
    if draw < 0.75:
        fields["birth_date"] = f"{rng.randint(1950, 2004)}-{rng.randint(1, 12):02d}-15"
    elif draw < 0.9:
        fields["age_band"] = "adult"
        fields["adult_since"] = f"{rng.randint(1970, 2020)}-03-01"
    elif draw < 0.97:
        fields["birth_date"] = f"{rng.randint(2016, 2018)}-{rng.randint(1, 12):02d}-15"
    else:
        fields["age_band"] = "unknown"
    if assurance and rng.random() < DELETED_SHARE:
        fields["account"] = "deleted"
    return _record("account-ages", "", fields)


def make_notice(user_id: str, rng: random.Random) -> Record:
    """Return the notice of an account."""
    fields = {
        "user_id": user_id,
        "notice_id": f"notice-{user_id}",
        "delivered_at": _time(rng, days=100),
        "channel": rng.choice(("in_app", "email")),
    }
    return _record("notices", "", fields)


def _objection(user_id: str, objection_id: str, filed: list[str], rng: random.Random) -> Record:
    withdrawn = bool(filed) and rng.random() < WITHDRAWAL_SHARE
    if withdrawn:
        objection_id = filed.pop()
    else:
        filed.append(objection_id)
    fields: dict[str, Any] = {
        "user_id": user_id,
        "objection_id": objection_id,
        "action": "withdrawn" if withdrawn else "filed",
        "occurred_at": _time(rng, days=30),
        "channel": rng.choice(("in_app", "email", "web")),
    }
    if rng.random() < 0.4:
        fields["products"] = rng.sample(PRODUCTS, rng.randint(1, 2))
    return _record("objections", "" if withdrawn else objection_id, fields)


def make_content(user_id: str, content_id: str, rng: random.Random) -> Record:
    """Return the first revision of a made-up item."""
    fields = {
        "user_id": user_id,
        "content_id": content_id,
        "revision": 0,
        "product": rng.choices(PRODUCTS, weights=(40, 45, 10, 5))[0],
        "kind": rng.choices(
            ("post", "comment", "ai_interaction", "private_message"), weights=(50, 40, 7, 3)
        )[0],
        "visibility": rng.choices(
            ("public", "friends", "private", "deleted"), weights=(75, 15, 8, 2)
        )[0],
        "modality": rng.choices(MODALITIES, weights=(50, 5, 15, 30))[0],
        "created_at": _time(rng, days=1_500),
        "language": rng.choice(_LANGUAGES),
    }
    return _record("content", content_id, fields)


def _time(rng: random.Random, days: int) -> str:
    moment = _START - timedelta(seconds=rng.randrange(days * 86_400))
    return moment.isoformat().replace("+00:00", "Z")

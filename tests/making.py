"""
Input records as producers write them, and what the core makes of them, in few words.

Builders return the smallest good record; keyword arguments change a field, `None` leaves it out.
Times are RFC 3339 text in records and milliseconds since 1970 everywhere else.
"""

import json
from datetime import datetime
from functools import reduce
from typing import Any

from streams.core import item as items
from streams.core import user as users
from streams.core.decode import (
    ItemFacts,
    UserFacts,
    decode_account_age,
    decode_account_link,
    decode_content,
    decode_notice,
    decode_objection,
)
from streams.core.item import UNKNOWN_ITEM, Item
from streams.core.policy import Policy
from streams.core.reasons import PRODUCTS, reason_names
from streams.core.times import to_ms
from streams.core.user import NOBODY, User
from streams.core.verdict import decide, item_reasons
from streams.errors import BadRecord

Record = dict[str, Any]

PREFIX = "content/0/"  # of the dead letters of the one partition of `content` in these tests
DEFAULTS = Policy()


def ms(text: str) -> int:
    """Return the RFC 3339 time *text* in milliseconds since 1970."""
    return to_ms(datetime.fromisoformat(text))


NOW_MS = ms("2026-07-01T00:00:00Z")  # when records arrive and are judged, unless a test says so


def objection(**changes: Any) -> Record:
    """Return an objection to everything."""
    return _changed({"user_id": "u1", "objection_id": "o1", "action": "filed"}, changes)


def dismissal(**changes: Any) -> Record:
    """Return the dismissal of a dead letter of `content`."""
    record = {"user_id": "u1", "action": "dismissed", "dead_letter": PREFIX + "0"}
    return _changed(record, changes)


def age(**changes: Any) -> Record:
    """Return a record that leaves age and country unknown."""
    return _changed({"user_id": "u1", "observed_at": "2026-01-01T00:00:00Z"}, changes)


def grown_up(**changes: Any) -> Record:
    """Return a record of an adult in a country the policy covers."""
    return age(**{"birth_date": "1990-01-01", "country": "DE", **changes})


def notice(**changes: Any) -> Record:
    """Return a notice whose window has long passed."""
    record = {"user_id": "u1", "notice_id": "n1", "delivered_at": "2026-01-01T00:00:00Z"}
    return _changed(record, changes)


def link(**changes: Any) -> Record:
    """Return a valid `account-links` record with *changes*; None leaves a field out."""
    record = {
        "user_id": "u1",
        "linked_user_id": "u2",
        "action": "linked",
        "occurred_at": "2026-04-15T09:00:00Z",
    }
    return _changed(record, changes)


def content(**changes: Any) -> Record:
    """Return a public post."""
    record = {
        "user_id": "u1",
        "content_id": "c1",
        "revision": 1,
        "product": "instagram",
        "kind": "post",
        "visibility": "public",
        "modality": "text",
        "created_at": "2026-04-15T09:00:00Z",
    }
    return _changed(record, changes)


def _changed(record: Record, changes: Record) -> Record:
    return {name: value for name, value in {**record, **changes}.items() if value is not None}


def to_bytes(record: Record) -> bytes:
    """Return *record* as it stands in a topic."""
    return json.dumps(record).encode()


def user_facts(record: Record, timestamp_ms: int = NOW_MS) -> UserFacts:
    """Decode a record about a user; its topic is told by its fields."""
    key, value = record["user_id"].encode(), to_bytes(record)
    if "observed_at" in record:
        return decode_account_age(key, value, timestamp_ms)
    if "linked_user_id" in record:
        return decode_account_link(key, value, timestamp_ms)
    if "notice_id" in record:
        return decode_notice(key, value, timestamp_ms)
    return decode_objection(key, value, timestamp_ms)


def item_facts(record: Record, offset: int = 0, timestamp_ms: int = NOW_MS) -> ItemFacts:
    """Decode a `content` record."""
    return decode_content(record["user_id"].encode(), to_bytes(record), timestamp_ms, offset)


def user_of(*records: Record, timestamp_ms: int = NOW_MS) -> User:
    """Return what *records* say of a user, in the order given."""
    return reduce(users.merge, (user_facts(each, timestamp_ms).facts for each in records), NOBODY)


def item_of(*records: Record, timestamp_ms: int = NOW_MS) -> Item:
    """Return what *records* say of an item; their offsets count from 0."""
    facts = (item_facts(each, at, timestamp_ms).facts for at, each in enumerate(records))
    return reduce(items.merge, facts, UNKNOWN_ITEM)


def reasons(
    user: User, product: str = "instagram", policy: Policy = DEFAULTS, now_ms: int = NOW_MS
) -> set[str]:
    """Return the names of the reasons against *product* of *user*."""
    decision = decide(user, policy, now_ms).decision
    return set(reason_names(decision.reasons[PRODUCTS.index(product)]))


def reasons_of_item(
    item: Item, user: User, policy: Policy = DEFAULTS, now_ms: int = NOW_MS
) -> set[str]:
    """Return the names of the reasons against *item* of *user*."""
    decision = decide(user, policy, now_ms).decision
    return set(reason_names(item_reasons(item, user, decision, PREFIX)))


def code_of(record: Record) -> str:
    """Return the error code that *record*, bad but for its key, gets."""
    try:
        if "content_id" in record or "revision" in record:
            item_facts(record)
        else:
            user_facts(record)
    except BadRecord as bad:
        return bad.code
    return "good"


ALLOWED = user_of(grown_up(), notice())  # of whom all that is needed is known, and no more

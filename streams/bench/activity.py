"""
The bundled real activity -> input records for peers, as many as wanted.

Who wrote what kind of item, and when, is real; the rest is made up as in the demo.  The file is
repeated with fresh ids, user by user and item by item.  An account's age and notice come just
before its first item; some accounts object while they write, and some of those take it back.
Every content record is an item of its own, so that answers can be counted.
"""

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count, islice
from typing import Any, Final, NamedTuple

import msgspec

from streams.bench.workload import Record
from streams.core.times import to_ms
from streams.demo.activity import Activity, read_activity
from streams.demo.items import make_item
from streams.demo.people import make_person, turns_out_under_age

OBJECTING_SHARE: Final = 0.3  # of accounts, once each,
WITHDRAWING_SHARE: Final = 0.3  # of these take it back
UNDER_AGE_SHARE: Final = 0.02  # of accounts turn out to be under age,
DELETED_SHARE: Final = 0.02  # or are deleted
ONE_PRODUCT_SHARE: Final = 0.4  # of objections cover one product only
# Long ago, so that nothing changes by time alone while it is measured.
_NOW_MS: Final = to_ms(datetime(2025, 9, 1, tzinfo=UTC))
_IDS: Final = ("content_id", "objection_id")
_OBSERVED_AT: Final = "2025-08-01T08:00:00Z"

_encode = msgspec.json.Encoder().encode
Fields = dict[str, Any]


class _Step(NamedTuple):
    """One record of the file; *id* is the content's or the objection's, "" for the others."""

    topic: str
    user_id: str
    id: str
    fields: Fields


def from_activity(records: int, seed: int) -> list[Record]:
    """Return the first *records* of the real activity, repeated; *seed* says who objects."""
    return list(islice(_repeated(seed), records))


def account(items: int, user_id: str) -> list[Record]:
    """Return an account with *items* public posts, all of which may be used."""
    age = {"user_id": user_id, "observed_at": _OBSERVED_AT, "country": "DE"}
    notice = {"user_id": user_id, "notice_id": "n", "delivered_at": "2025-05-01T08:00:00Z"}
    found = [
        Record("account-ages", user_id.encode(), _encode(age | {"birth_date": "1980-05-01"}), ""),
        Record("notices", user_id.encode(), _encode(notice), ""),
    ]
    post = {
        "user_id": user_id,
        "revision": 1,
        "product": "facebook",
        "kind": "post",
        "visibility": "public",
        "modality": "text",
        "created_at": "2024-05-01T08:00:00Z",
        "language": "de-DE",
    }
    for number in range(items):
        content_id = f"{user_id}-item-{number}"
        value = _encode(post | {"content_id": content_id})
        found.append(Record("content", user_id.encode(), value, content_id))
    return found


def objection(user_id: str) -> Record:
    """Return an objection of *user_id* to everything."""
    objection_id = f"{user_id}-objection"
    fields = {"user_id": user_id, "objection_id": objection_id, "action": "filed"}
    return Record("objections", user_id.encode(), _encode(fields), objection_id)


def _repeated(seed: int) -> Iterator[Record]:
    steps = _file(seed)
    for number in count():
        for topic, user_id, record_id, fields in steps:
            fresh_user = f"{user_id}-{number}"
            fresh = fields | {"user_id": fresh_user}
            for name in _IDS:
                if name in fields:
                    fresh[name] = f"{fields[name]}-{number}"
            fresh_id = f"{record_id}-{number}" if record_id else ""
            yield Record(topic, fresh_user.encode(), _encode(fresh), fresh_id)


@lru_cache(maxsize=1)
def _file(seed: int) -> list[_Step]:
    """Return the records that come of the file once."""
    activity = read_activity()
    later = _what_else(activity, random.Random(seed))
    seen: set[str] = set()
    steps = []
    for number, each in enumerate(activity):
        person = make_person(each.user_id, _NOW_MS)
        if each.user_id not in seen:
            seen.add(each.user_id)
            for topic, fields in (("account-ages", person.age), ("notices", person.notice)):
                if fields is not None:
                    steps.append(_Step(topic, each.user_id, "", fields))
        steps.append(_Step("content", each.user_id, each.content_id, make_item(each, person)))
        steps += later[number]
    return steps


def _what_else(activity: list[Activity], rng: random.Random) -> dict[int, list[_Step]]:
    """Return what accounts do besides writing, by the place in *activity* it comes behind."""
    later = defaultdict[int, list[_Step]](list)
    begins: dict[str, int] = {}
    for number, each in enumerate(activity):
        begins.setdefault(each.user_id, number)
    for user_id, begun in begins.items():
        if rng.random() < OBJECTING_SHARE:
            for number, step in zip(
                sorted(rng.randrange(begun, len(activity)) for _ in range(2)),
                _objection(user_id, rng),
                strict=False,
            ):
                later[number].append(step)
        if rng.random() < UNDER_AGE_SHARE:
            fields = turns_out_under_age(user_id, _NOW_MS)
            later[rng.randrange(begun, len(activity))].append(
                _Step("account-ages", user_id, "", fields)
            )
        if rng.random() < DELETED_SHARE:
            fields = {"user_id": user_id, "observed_at": _OBSERVED_AT, "account": "deleted"}
            later[rng.randrange(begun, len(activity))].append(
                _Step("account-ages", user_id, "", fields)
            )
    return later


def _objection(user_id: str, rng: random.Random) -> list[_Step]:
    """Return the objection of *user_id*, and its withdrawal if there is one."""
    objection_id = f"objection-{user_id}"
    fields: Fields = {"user_id": user_id, "objection_id": objection_id, "action": "filed"}
    if rng.random() < ONE_PRODUCT_SHARE:
        fields["products"] = [rng.choice(("facebook", "instagram"))]
    steps = [_Step("objections", user_id, objection_id, fields)]
    if rng.random() < WITHDRAWING_SHARE:
        withdrawn = {"user_id": user_id, "objection_id": objection_id, "action": "withdrawn"}
        steps.append(_Step("objections", user_id, "", withdrawn))
    return steps

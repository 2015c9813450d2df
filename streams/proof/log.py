"""
Promises over the whole log of the outputs, not only its last records.

For one key (epoch, revision) never falls, at an equal pair no record follows a tombstone, and
every record carries the contract's headers.  Source: contract.md, "Output records".
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from streams.core.refusals import REFUSALS
from streams.proof.records import Record

ITEMS: Final = "training-content"
# ce_type of (records, tombstones); None where there are none
_TYPES: Final[dict[str, tuple[bytes, bytes | None]]] = {
    "eligibility": (b"eligibility.decided", None),
    "training-users": (b"user.allowed", b"user.purged"),
    ITEMS: (b"content.allowed", b"content.purged"),
}

Identity = tuple[str, bytes | None, int, int, bytes | None]  # topic, key, epoch, revision, type


class _Last(NamedTuple):
    """What the log last said of a key."""

    record: Record
    pair: tuple[int, int]


def log_violations(records: Iterable[Record]) -> list[str]:
    """
    Return how committed output *records* break a promise, each with its place in the log.

    records: of any outputs of the three, in any order between partitions; offsets rise within.
    """
    return list(_violations(records))


def repetitions(records: Iterable[Record]) -> list[str]:
    """
    Return a line for each record that was published more than once.

    A good input record that changes nothing is answered by a republication, so this is a promise
    only where no two inputs say the same and none arrives in vain.
    """
    counts = Counter((record.topic, record.key_text, record.header("ce_id")) for record in records)
    return [
        f"{topic} {key}: {(ce_id or b'').decode()} was published {count} times"
        for (topic, key, ce_id), count in counts.items()
        if count > 1
    ]


def _violations(records: Iterable[Record]) -> Iterator[str]:
    last: dict[tuple[str, bytes | None], _Last] = {}
    event_ids: dict[bytes, Identity] = {}
    identities: dict[Identity, bytes] = {}
    for record in records:
        name = next((each for each in _TYPES if record.topic.endswith(each)), None)
        at = f"{record.place} ({record.key_text})"
        if name is None or record.key is None:
            yield f"{at}: expected a record of {', '.join(_TYPES)}, with a key"
            continue
        headers = dict(record.headers)
        yield from (f"{at}: {wrong}" for wrong in _wrong_headers(name, record, headers))
        pair = _pair(name, headers)
        if pair is None:
            continue
        yield from (f"{at}: {wrong}" for wrong in _wrong_value(name, record, headers, pair))
        before = last.get((record.topic, record.key))
        if before is not None:
            yield from (f"{at}: {wrong}" for wrong in _wrong_order(record, pair, before))
        last[record.topic, record.key] = _Last(record, pair)
        identity = (record.topic, record.key, *pair, headers.get("ce_type"))
        event_id = headers.get("ce_id") or b""
        same = event_ids.setdefault(event_id, identity) == identity
        if not same or identities.setdefault(identity, event_id) != event_id:
            yield f"{at}: ce_id is {event_id!r}, expected one for each event and its repetitions"


def _wrong_order(record: Record, pair: tuple[int, int], before: _Last) -> Iterator[str]:
    if record.partition != before.record.partition:
        yield f"its key was written to partition {before.record.partition} as well"
    if pair < before.pair:
        yield f"(epoch, revision) fell from {before.pair} to {pair} since {before.record.place}"
    if pair == before.pair and record.value is not None and before.record.value is None:
        yield f"a record follows the tombstone {before.record.place} at an equal pair {pair}"


def _pair(name: str, headers: dict[str, bytes | None]) -> tuple[int, int] | None:
    """Return (epoch, revision), with revision 0 where there is none; None where unreadable."""
    epoch = _whole(headers.get("objections_epoch"))
    revision = _whole(headers.get("objections_revision")) if name == ITEMS else 0
    return None if epoch is None or revision is None else (epoch, revision)


def _wrong_headers(name: str, record: Record, headers: dict[str, bytes | None]) -> Iterator[str]:
    of_record, of_tombstone = _TYPES[name]
    wanted = of_tombstone if record.value is None else of_record
    if wanted is None:
        yield "its value is null, which this topic never holds"
    elif headers.get("ce_type") != wanted:
        what = "tombstone" if record.value is None else "record with a value"
        yield f"ce_type is {headers.get('ce_type')!r}, expected {wanted!r} for a {what}"
    if headers.get("ce_specversion") != b"1.0":
        yield f"ce_specversion is {headers.get('ce_specversion')!r}, expected b'1.0'"
    for header in ("ce_id", "ce_source", "ce_subject"):
        if not headers.get(header):
            yield f"{header} is {headers.get(header)!r}, expected text"
    if not _is_time(headers.get("ce_time")):
        yield f"ce_time is {headers.get('ce_time')!r}, expected an RFC 3339 time"
    if not _whole(headers.get("objections_epoch")):
        yield f"objections_epoch is {headers.get('objections_epoch')!r}, expected 1 or more"
    if name == ITEMS and _whole(headers.get("objections_revision")) is None:
        found = headers.get("objections_revision")
        yield f"objections_revision is {found!r}, expected 0 or more"
    if _whole(headers.get("objections_received_at")) is None:
        found = headers.get("objections_received_at")
        yield f"objections_received_at is {found!r}, expected milliseconds since 1970"


def _wrong_value(
    name: str, record: Record, headers: dict[str, bytes | None], pair: tuple[int, int]
) -> Iterator[str]:
    """Yield where key, value and headers disagree."""
    subject = (headers.get("ce_subject") or b"").decode(errors="replace")
    key = record.key_text
    owner = {"eligibility": key, "training-users": key.partition("/")[2]}.get(name, subject)
    if subject != owner:
        yield f"ce_subject is {subject!r}, expected {owner!r}"
    if record.value is None:
        return
    try:
        value = msgspec.json.decode(record.value)
    except REFUSALS:
        value = None
    if not isinstance(value, dict):
        yield "its value is no JSON object and not null: no record, and no tombstone either"
        return
    wanted: dict[str, Any] = {"user_id": owner, "epoch": pair[0]}
    if name == ITEMS:
        wanted |= {"content_id": key, "revision": pair[1]}
    for field, content in wanted.items():
        if value.get(field) != content:
            yield f"{field} is {value.get(field)!r}, but key and headers say {content!r}"


def _whole(text: bytes | None) -> int | None:
    """Return the whole number from 0 up that *text* writes, None where it writes none."""
    return int(text) if text is not None and text.isdigit() and len(text) < 20 else None


def _is_time(text: bytes | None) -> bool:
    try:
        return datetime.fromisoformat((text or b"").decode()).tzinfo is not None
    except (UnicodeDecodeError, ValueError):
        return False

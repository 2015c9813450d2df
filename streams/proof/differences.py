"""
What was published last for each key, against the truth: each difference in a sentence.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from streams.core.reasons import PRODUCTS
from streams.core.refusals import REFUSALS
from streams.core.times import read_rfc3339
from streams.proof.records import Record
from streams.proof.truth import TrueItem, TrueUser, Truth

Published = Mapping[str, Record]  # the last record of each key, as `compacted` returns them


def differences(
    truth: Truth, eligibility: Published, training_users: Published, training_content: Published
) -> list[str]:
    """Return how the outputs differ from the *truth*; none means they are proven."""
    return [
        *_of_eligibility(truth, eligibility),
        *_of_training_users(truth, training_users),
        *_of_training_content(truth, training_content),
        *_misplaced(truth, eligibility),
        *_misplaced(truth, training_users),
        *_misplaced(truth, training_content),
    ]


def _of_eligibility(truth: Truth, found: Published) -> Iterator[str]:
    for user_id in sorted(truth.users.keys() | found.keys()):
        name = f"eligibility {user_id}"
        user, record = truth.users.get(user_id), found.get(user_id)
        if user is None:
            yield f"{name}: published, but no input record has this user"
        elif record is None:
            yield f"{name}: never decided"
        else:
            yield from _compare(name, record, _decision_fields(user_id, user))


def _decision_fields(user_id: str, user: TrueUser) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "eligible": user.eligible,
        "reasons": sorted({name for names in user.reasons.values() for name in names}),
        "products": {product: list(names) for product, names in user.reasons.items()},
    }


def _of_training_users(truth: Truth, found: Published) -> Iterator[str]:
    for key in sorted(truth.products | found.keys()):
        name = f"training-users {key}"
        record = found.get(key)
        product, _, user_id = key.partition("/")
        if product not in PRODUCTS or user_id not in truth.users:
            yield f"{name}: published, but no input record has this user and product"
        elif key not in truth.products:
            if record is not None and record.value is not None:
                yield f"{name}: stands, but may not be used: {_why(truth.users[user_id], product)}"
        elif record is None or record.value is None:
            yield f"{name}: may be used, but {_absence(record)}"
        else:
            yield from _compare(name, record, {"user_id": user_id, "product": product})


def _of_training_content(truth: Truth, found: Published) -> Iterator[str]:
    for key in sorted(truth.answered | truth.unanswered | found.keys()):
        name = f"training-content {key}"
        item, record = truth.items.get(key), found.get(key)
        standing = record is not None and record.value is not None
        if key not in truth.answered and key not in truth.unanswered:
            yield f"{name}: published, but no input record has this item"
        elif key in truth.unanswered:
            if record is not None and (standing or not _of_deleted(truth, record)):
                yield f"{name}: answered, but it is a private message never known otherwise"
        elif record is None:
            yield f"{name}: a content record was never answered"
        elif item is None:
            if standing:
                yield f"{name}: stands, but may not be used"
        elif not standing:
            yield f"{name}: may be used, but {_absence(record)}"
        else:
            yield from _compare(name, record, _item_fields(key, item))


def _item_fields(content_id: str, item: TrueItem) -> dict[str, Any]:
    return {
        "content_id": content_id,
        "user_id": item.user_id,
        "revision": item.revision,
        "product": item.product,
        "kind": item.kind,
        "modality": item.modality,
        "language": item.language,
        "created_at": item.created_ms,
    }


def _of_deleted(truth: Truth, record: Record) -> bool:
    user = truth.users.get(_subject(record))
    return user is not None and user.deleted


def _misplaced(truth: Truth, found: Published) -> Iterator[str]:
    """Yield the records that are not in the partition of their user's input records."""
    for record in found.values():
        user = truth.users.get(_subject(record))
        if user is not None and user.partition != record.partition:
            yield f"{record.place} ({record.key_text}): expected in partition {user.partition}"


def _subject(record: Record) -> str:
    return (record.header("ce_subject") or b"").decode(errors="replace")


def _why(user: TrueUser, product: str) -> str:
    return ", ".join(user.reasons[product])


def _absence(record: Record | None) -> str:
    return "was never published" if record is None else f"{record.place} is a tombstone"


def _compare(name: str, record: Record, wanted: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each field of *record*'s value that is not as *wanted*."""
    try:
        value = msgspec.json.decode(record.value or b"null")
    except REFUSALS:
        value = None
    if not isinstance(value, dict):
        yield f"{name}: {record.place} holds no JSON object"
        return
    for field, content in wanted.items():
        found = value.get(field)
        if field == "created_at":
            found = _instant_ms(found)
        if found != content:
            yield f"{name}: {field} is {found!r}, expected {content!r} ({record.place})"


def _instant_ms(text: object) -> int | None:
    """Return the RFC 3339 time in milliseconds since 1970, None where it is none."""
    try:
        return read_rfc3339(str(text))
    except (TypeError, ValueError):
        return None


def dead_letter_differences(truth: Truth, dead_letters: Iterable[Record]) -> list[str]:
    """Return how `dead-letters` differs from the bad inputs: each once, bytes and code as it."""
    found: dict[str, list[Record]] = {}
    for letter in dead_letters:
        names = ("dlq_topic", "dlq_partition", "dlq_offset")
        place = "/".join((letter.header(name) or b"?").decode() for name in names)
        found.setdefault(place, []).append(letter)
    lines = [f"dead letter of {place}: of no bad record" for place in found.keys() - truth.bad]
    for place, (record, code) in truth.bad.items():
        letters = found.get(place, [])
        if len(letters) != 1:
            lines.append(f"dead letter of {place}: there are {len(letters)}, expected one")
        lines += [
            f"dead letter of {place}: {what} is {is_now!r}, expected {wanted!r}"
            for letter in letters
            for what, is_now, wanted in (
                ("key", letter.key, record.key),
                ("value", letter.value, record.value),
                ("dlq_error", letter.header("dlq_error"), code.encode()),
                ("dlq_timestamp", letter.header("dlq_timestamp"), b"%d" % record.timestamp_ms),
            )
            if is_now != wanted
            and not (what in {"key", "value"} and _is_cut(letter, is_now, wanted))
        ]
    return sorted(lines)


def _is_cut(letter: Record, found: object, wanted: object) -> bool:
    """Whether *found* is the beginning of *wanted* and the letter says that it was cut."""
    return (
        letter.header("dlq_truncated") is not None
        and isinstance(found, bytes)
        and isinstance(wanted, bytes)
        and wanted.startswith(found)
    )

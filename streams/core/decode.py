"""
Bytes of an input record -> facts, or `BadRecord`.

A decoded record is a small `User` or `Item`.  Times later than the record's broker time stamp
count as that time stamp.  What a bad record still restricts is told by `restriction`.
Source: contract.md, "Input records" and "Bad records".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from streams.core import refs
from streams.core.breaker import Release
from streams.core.diagnose import check_field, diagnose, id_refusal, parse_object
from streams.core.item import Item
from streams.core.links import NO_PARTITION, Link
from streams.core.reasons import (
    ALL_PRODUCTS,
    DELETED,
    KIND_INDEX,
    PRIVATE,
    PRIVATE_MESSAGE,
    PRODUCT_INDEX,
    VISIBILITY_RANK,
)
from streams.core.records import (
    AccountAgeRecord,
    AccountLinkRecord,
    ContentRecord,
    DeadLetterRef,
    NoticeRecord,
    ObjectionRecord,
    Partition,
    Time,
)
from streams.core.refusals import REFUSALS
from streams.core.times import DAY_MS, NEVER_MS, to_day, to_ms
from streams.core.user import (
    ADULT,
    ASSURANCES,
    DELETED_USER,
    NO_LEVELS,
    NOBODY,
    UNDER_18,
    WITHDRAWN,
    Level,
    Levels,
    Statement,
    User,
)
from streams.errors import BadRecord

ID_BYTES_MAX: Final = 256
# A record may come in compressed and be huge; what is kept of an item has to fit into a row of
# its changelog, which takes 8 MiB.
VALUE_BYTES_MAX: Final = 4 * 1024 * 1024
LANGUAGE_LENGTH_MAX: Final = 255  # RFC 5646 expects 35 to do; an output has to stay small
EARLIEST_BIRTH_DAY: Final = to_day(date(1900, 1, 1))

Headers = Sequence[tuple[str, bytes | str | None]] | None

_BANDS: Final = {"adult": ADULT, "under_18": UNDER_18}
# Well-formed BCP 47: a language or a private or grandfathered tag, then subtags.
_BCP_47: Final = re.compile(r"(?:[A-Za-z]{2,8}|[xXiI](?=-))(?:-[A-Za-z0-9]{1,8})*\Z")

_objection_decoder: Final = msgspec.json.Decoder(ObjectionRecord)
_age_decoder: Final = msgspec.json.Decoder(AccountAgeRecord)
_link_decoder: Final = msgspec.json.Decoder(AccountLinkRecord)
_notice_decoder: Final = msgspec.json.Decoder(NoticeRecord)
_content_decoder: Final = msgspec.json.Decoder(ContentRecord)


class UserFacts(Struct, frozen=True, gc=False):
    """
    A record about a user: *cause_id* is the objection's or notice's id, if it has one.

    release: of the breaker on re-inclusion, which is no fact about anybody.
    """

    user_id: str
    cause_id: str | None
    facts: User
    release: Release | None = None


class ItemFacts(Struct, frozen=True, gc=False):
    """A record about an item, with the text of its language tag ("" for none)."""

    user_id: str
    content_id: str
    facts: Item
    record: ContentRecord


class Restriction(Struct, frozen=True, gc=False):
    """Whom a bad record restricts: nobody, a user, or (with *content_id*) an item."""

    user_id: str | None
    content_id: str | None


def decode_objection(key: bytes | None, value: bytes | None, timestamp_ms: int) -> UserFacts:
    """Return the facts of an `objections` record.  Raises `BadRecord`."""
    record = check_objection(key, value, timestamp_ms)
    if record.action == "dismissed":
        return UserFacts(record.user_id, None, _dismissed(record))
    if record.action == "grants_released":
        return UserFacts(record.user_id, None, NOBODY, _release(record))
    objection_id = record.objection_id or ""
    if record.action == "withdrawn":
        return UserFacts(record.user_id, objection_id, User(objections={objection_id: WITHDRAWN}))
    flags, filed_ms = covered_products(record.products), _filed_ms(record, timestamp_ms)
    facts = User(objections={objection_id: flags}, filed_ms={objection_id: filed_ms})
    return UserFacts(record.user_id, objection_id, facts)


def check_objection(key: bytes | None, value: bytes | None, _: int = 0) -> ObjectionRecord:
    """Return the record if it has facts, without making them.  Raises `BadRecord`."""
    record = _decode(key, value, _objection_decoder, ObjectionRecord)
    if record.action == "dismissed":
        _dismissed(record)
    elif record.action == "grants_released":
        _release(record)
    elif record.objection_id is None:
        raise BadRecord("field_missing", "objection_id: expected a value")
    else:
        _check_id(record.objection_id, "objection_id")
    return record


def _filed_ms(record: ObjectionRecord, timestamp_ms: int) -> int:
    """Return when an objection was filed: where that is not understood, when it got here."""
    if not isinstance(record.occurred_at, str):
        return timestamp_ms
    try:
        return min(to_ms(msgspec.convert(record.occurred_at, Time)), timestamp_ms)
    except msgspec.ValidationError:
        return timestamp_ms


def _dismissed(record: ObjectionRecord) -> User:
    ref = _dead_letter_ref(record.dead_letter)
    if not isinstance(record.through, bool | None):
        raise BadRecord("field_type", "through: expected true or false")
    if record.through:
        return User(dismissed={refs.partition_of(ref): refs.offset_of(ref)})
    return User(resolved=(ref,))


def _dead_letter_ref(found: object) -> str:
    expected = "dead_letter: expected topic/partition/offset"
    if found is None:
        raise BadRecord("field_missing", expected)
    try:
        return msgspec.convert(found, DeadLetterRef)
    except msgspec.ValidationError:
        code = "field_value" if isinstance(found, str) else "field_type"
        raise BadRecord(code, expected) from None


def _release(record: ObjectionRecord) -> Release:
    check_field(record.partition, "partition", Partition, required=True)
    check_field(record.tripped_at, "tripped_at", Time, required=True)
    partition = msgspec.convert(record.partition, Partition)
    return Release(partition, to_ms(msgspec.convert(record.tripped_at, Time)))


def covered_products(products: object) -> int:
    """Return the products of an objection, a bit each: all where there is any doubt."""
    if not isinstance(products, list) or not products:
        return ALL_PRODUCTS
    covered = 0
    for name in products:
        index = PRODUCT_INDEX.get(name) if isinstance(name, str) else None
        if index is None:
            return ALL_PRODUCTS
        covered |= 1 << index
    return covered


def decode_account_age(key: bytes | None, value: bytes | None, timestamp_ms: int) -> UserFacts:
    """Return the facts of an `account-ages` record.  Raises `BadRecord`."""
    record = check_account_age(key, value, timestamp_ms)
    if record.account == "deleted":
        return UserFacts(record.user_id, None, DELETED_USER)
    observed_ms = min(to_ms(record.observed_at), timestamp_ms)
    statement = _statement(record)
    adult_ms = observed_ms if statement.band == ADULT else NEVER_MS
    level = Level(observed_ms, (statement,), adult_ms)
    at = ASSURANCES.index(record.assurance or "self_declared")
    levels: Levels = (*NO_LEVELS[:at], level, *NO_LEVELS[at + 1 :])  # type: ignore[assignment]
    return UserFacts(record.user_id, None, User(levels=levels))


def check_account_age(
    key: bytes | None, value: bytes | None, timestamp_ms: int
) -> AccountAgeRecord:
    """Return the record if it has facts, without making them.  Raises `BadRecord`."""
    record = _decode(key, value, _age_decoder, AccountAgeRecord)
    _check_birth_date(record.birth_date, timestamp_ms)
    return record


def _check_birth_date(birth_date: date | None, timestamp_ms: int) -> None:
    if birth_date is None:
        return
    if not EARLIEST_BIRTH_DAY <= to_day(birth_date) <= timestamp_ms // DAY_MS:
        detail = "birth_date: expected a day from 1900 to the record's time stamp"
        raise BadRecord("birth_date_range", detail)


def _statement(record: AccountAgeRecord) -> Statement:
    country = record.country or ""
    if record.birth_date is not None:
        return Statement(True, to_day(record.birth_date), country=country)
    band = _BANDS.get(record.age_band or "", 0)
    if band == ADULT and record.adult_since is not None:
        return Statement(False, 0, band, True, to_day(record.adult_since), country)
    return Statement(False, 0, band, country=country)


def decode_account_link(key: bytes | None, value: bytes | None, timestamp_ms: int) -> UserFacts:
    """
    Return the facts of an `account-links` record.  Raises `BadRecord`.

    The other account is named as in the record, its partition is to be filled in.
    """
    record = check_account_link(key, value)
    other = record.linked_user_id
    occurred_ms = min(to_ms(record.occurred_at), timestamp_ms)
    link = (
        Link(NO_PARTITION, linked_ms=occurred_ms)
        if record.action == "linked"
        else Link(NO_PARTITION, unlinked_ms=occurred_ms, closed_ms=timestamp_ms)
    )
    return UserFacts(record.user_id, None, User(links={other: link}))


def check_account_link(key: bytes | None, value: bytes | None, _: int = 0) -> AccountLinkRecord:
    """Return the record if it has facts, without making them.  Raises `BadRecord`."""
    record = _decode(key, value, _link_decoder, AccountLinkRecord)
    _check_id(record.linked_user_id, "linked_user_id")
    if record.linked_user_id == record.user_id:
        raise BadRecord("field_value", "linked_user_id: expected another account")
    return record


def decode_notice(key: bytes | None, value: bytes | None, timestamp_ms: int) -> UserFacts:
    """Return the facts of a `notices` record.  Raises `BadRecord`."""
    record = check_notice(key, value)
    delivered_ms = min(to_ms(record.delivered_at), timestamp_ms)
    return UserFacts(record.user_id, record.notice_id, User(notices_ms=(delivered_ms,)))


def check_notice(key: bytes | None, value: bytes | None, _: int = 0) -> NoticeRecord:
    """Return the record if it has facts, without making them.  Raises `BadRecord`."""
    record = _decode(key, value, _notice_decoder, NoticeRecord)
    _check_id(record.notice_id, "notice_id")
    return record


# Of the topics that tell about users, by their names in the contract.
USER_DECODERS: Final = {
    "objections": decode_objection,
    "account-ages": decode_account_age,
    "notices": decode_notice,
    "account-links": decode_account_link,
}


def decode_content(
    key: bytes | None, value: bytes | None, timestamp_ms: int, offset: int
) -> ItemFacts:
    """Return the facts of the `content` record at *offset*.  Raises `BadRecord`."""
    record = check_content(key, value)
    content_id = record.content_id
    kind = KIND_INDEX.get(record.kind, PRIVATE_MESSAGE)
    visibility = VISIBILITY_RANK.get(record.visibility, PRIVATE)
    created_ms = to_ms(record.created_at)
    facts = Item(
        record.revision,
        visibility,
        value or b"",
        PRODUCT_INDEX[record.product],
        kind,
        min(created_ms, timestamp_ms),
        visibility == DELETED,
        kind == PRIVATE_MESSAGE,
        offset,
    )
    return ItemFacts(record.user_id, content_id, facts, record)


def check_content(key: bytes | None, value: bytes | None, _: int = 0) -> ContentRecord:
    """Return the record if it has facts, without making them.  Raises `BadRecord`."""
    record = _decode(key, value, _content_decoder, ContentRecord)
    if len(record.content_id) > 64:  # else it cannot have more than 256 bytes
        _check_id(record.content_id, "content_id")
    return record


# What refuses the records of each topic that a file may be imported into, all of their decoders'
# refusals: (key, value, the record's time stamp).
CHECKS: Final[Mapping[str, Callable[[bytes | None, bytes | None, int], Struct]]] = {
    "objections": check_objection,
    "account-ages": check_account_age,
    "notices": check_notice,
    "account-links": check_account_link,
    "content": check_content,
}


def language(record: ContentRecord) -> str | None:
    """Return the BCP 47 tag of *record*; None when missing or not well-formed."""
    tag = record.language
    if not isinstance(tag, str) or len(tag) > LANGUAGE_LENGTH_MAX:
        return None
    return tag if _BCP_47.match(tag) else None


def decode_value(value: bytes) -> ContentRecord:
    """Return the record in the bytes that an item's state has kept."""
    return _content_decoder.decode(value)


def restriction(topic: str, key: bytes | None, value: bytes | None) -> Restriction:
    """Return whom a bad record of *topic* (its name in the contract) restricts."""
    user_id = valid_user_id(key)
    if user_id is None or topic != "content":
        return Restriction(user_id, None)
    try:
        content_id = parse_object(value).get("content_id")
    except BadRecord:
        return Restriction(user_id, None)
    if not isinstance(content_id, str) or not 0 < len(content_id.encode()) <= ID_BYTES_MAX:
        return Restriction(user_id, None)
    return Restriction(user_id, content_id)


def valid_user_id(key: bytes | None) -> str | None:
    """Return *key* as a user id, or None where it cannot be one."""
    if key is None or not 0 < len(key) <= ID_BYTES_MAX:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def resolved_by(headers: Headers) -> str | None:
    """Return the dead letter that a record's `dlq_resolves` header mends, if it is one."""
    for name, value in headers or ():
        if name == "dlq_resolves" and value is not None:
            try:
                text = value.decode() if isinstance(value, bytes) else value
                return msgspec.convert(text, DeadLetterRef)
            except (UnicodeDecodeError, msgspec.ValidationError):
                return None
    return None


Record = TypeVar(
    "Record", ObjectionRecord, AccountAgeRecord, AccountLinkRecord, NoticeRecord, ContentRecord
)


def _decode(
    key: bytes | None,
    value: bytes | None,
    decoder: msgspec.json.Decoder[Record],
    record_type: type[Struct],
) -> Record:
    if value is None:
        raise diagnose(value, record_type)
    if len(value) > VALUE_BYTES_MAX:
        raise BadRecord("value_too_large", "value: expected at most 4 MiB")
    try:
        if not value.isascii():
            value.decode()  # the decoder skips unknown fields without looking at their bytes
        record = decoder.decode(value)
    except REFUSALS:
        raise diagnose(value, record_type) from None
    if key is None or key != record.user_id.encode():
        raise _key_refusal(key)
    if len(key) > ID_BYTES_MAX:
        raise id_refusal(record.user_id, "user_id")
    return record


def _key_refusal(key: bytes | None) -> BadRecord:
    if key is None:
        return BadRecord("key_missing", "key: expected the user_id")
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return BadRecord("key_not_utf8", "key: expected the user_id in UTF-8")
    if not 0 < len(key) <= ID_BYTES_MAX:
        return id_refusal(text, "key")
    return BadRecord("key_differs", "key: expected the value's user_id")


def _check_id(text: str, name: str) -> None:
    if not 0 < len(text.encode()) <= ID_BYTES_MAX:
        raise id_refusal(text, name)

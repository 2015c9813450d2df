"""
The input records as their producers write them: contract.md, "Input records".

A field whose type is `Lenient` may hold anything: what cannot be understood is as if missing.
`visibility` and `kind` take any text: an unknown one counts as the most private.
Unknown fields are ignored.
"""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

# Text of 1 to 256 bytes in UTF-8; the upper bound is checked in bytes by the decoder.
Id = Annotated[str, Meta(min_length=1, max_length=256)]
Time = Annotated[datetime, Meta(tz=True)]
Revision = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$", max_length=2)]
# "topic/partition/offset"; the look-ahead refuses a last newline, which Python's `$` lets pass.
DeadLetterRef = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}/[0-9]{1,10}/[0-9]{1,19}$(?!\n)")
]
Partition = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Lenient = Any


class ObjectionRecord(Struct, gc=False):
    """
    An objection filed or withdrawn, a dead letter of the user dismissed, or grants released.

    What releases is no user: its id is made so that the record gets to the right partition.
    """

    user_id: Id
    action: Literal["filed", "withdrawn", "dismissed", "grants_released"]
    objection_id: Id | None = None  # required for "filed" and "withdrawn"
    occurred_at: Lenient = None
    products: Lenient = None
    channel: Lenient = None
    locale: Lenient = None
    dead_letter: Lenient = None  # for "dismissed": a `DeadLetterRef`
    through: Lenient = None  # for "dismissed": true for all up to that one
    partition: Lenient = None  # for "grants_released": a `Partition`
    tripped_at: Lenient = None  # for "grants_released": a `Time`, which names the trip


class AccountAgeRecord(Struct, gc=False):
    """The whole statement of one assurance level about an account."""

    user_id: Id
    observed_at: Time
    birth_date: date | None = None
    age_band: Literal["adult", "under_18", "unknown"] | None = None
    adult_since: date | None = None
    assurance: Literal["self_declared", "inferred", "verified"] | None = None
    country: Country | None = None
    account: Literal["open", "deleted"] | None = None


class AccountLinkRecord(Struct, gc=False):
    """Two accounts of one person were linked, or are not any more; the order of them is none."""

    user_id: Id
    linked_user_id: Id
    action: Literal["linked", "unlinked"]
    occurred_at: Time


class NoticeRecord(Struct, gc=False):
    """A notice with the form's link was delivered."""

    user_id: Id
    notice_id: Id
    delivered_at: Time
    channel: Lenient = None


class ContentRecord(Struct, gc=False):
    """A content item was published, changed or deleted."""

    user_id: Id
    content_id: Id
    revision: Revision
    product: Literal["facebook", "instagram", "whatsapp", "messenger"]
    kind: str
    visibility: str
    modality: Literal["text", "voice", "video", "image"]
    created_at: Time
    language: Lenient = None

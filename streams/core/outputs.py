"""
Changes -> output records: keys, values, headers.

A value of None is a tombstone.  Headers are CloudEvents 1.0 in Kafka's binary mode, so that a
tombstone's value stays null.  Reasons and causes stand on `eligibility` only.
Source: contract.md, "Output records".
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from streams.core import verdict
from streams.core.changes import Origin, UserRow
from streams.core.decode import decode_value, language
from streams.core.item import Item
from streams.core.policy import Policy
from streams.core.reasons import KINDS, PRODUCTS, reason_names
from streams.core.records import ContentRecord
from streams.core.times import from_ms, rfc3339

REVISION_MAX: Final = 2**63 - 1  # of the tombstones of a deleted account

Header = tuple[str, str | bytes | None]


class Event(Struct, frozen=True, gc=False):
    """
    What the headers of a decision, a record or a tombstone say; iterating gives the headers.

    They are needed once, as bytes: so no list of them is made for each output.
    common: those that all outputs of a cycle have.
    """

    common: tuple[Header, ...]
    id: str
    kind: str
    user_id: str
    epoch: int
    received_ms: int
    traceparent: bytes | None
    revision: int | None = None

    def __iter__(self) -> Iterator[Header]:
        """Yield the headers in their order."""
        yield from self.common
        yield "ce_id", self.id
        yield "ce_type", self.kind
        yield "ce_subject", self.user_id
        yield "objections_epoch", str(self.epoch)
        yield "objections_received_at", str(self.received_ms)
        if self.traceparent is not None:
            yield "traceparent", self.traceparent
        if self.revision is not None:
            yield "objections_revision", str(self.revision)


class Output(Struct, frozen=True, gc=False):
    """One record of an output topic, named as in the contract."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Iterable[Header]


class EligibilityCause(Struct, gc=False):
    """What led to a decision: topic, partition and offset of a record; its id where it has one."""

    topic: str
    partition: int
    offset: int
    id: str | None


class Eligibility(Struct, gc=False):
    """The value of an `eligibility` record."""

    user_id: str
    epoch: int
    eligible: bool
    reasons: list[str]
    products: dict[str, tuple[str, ...]]
    decided_at: str
    cause: EligibilityCause


class TrainingUser(Struct, gc=False):
    """The value of a `training-users` record."""

    user_id: str
    product: str
    epoch: int


class TrainingContent(Struct, gc=False):
    """The value of a `training-content` record."""

    content_id: str
    user_id: str
    revision: int
    product: str
    kind: str
    modality: str
    language: str | None
    created_at: datetime
    epoch: int


_encode = msgspec.json.Encoder().encode


class Writer:
    """
    Writes the outputs of one cycle.

    source: the `ce_source` of all events, a URI reference.
    now_ms: the cycle's time, for `ce_time`.
    more: further headers of all of them.
    """

    def __init__(
        self, source: str, now_ms: int, policy: Policy, more: Sequence[Header] = ()
    ) -> None:
        self._policy = policy
        self._common: tuple[Header, ...] = (
            ("ce_specversion", "1.0"),
            ("ce_source", source),
            ("ce_time", rfc3339(now_ms)),
            *more,
        )

    def eligibility(self, user_id: str, row: UserRow, origin: Origin) -> Output:
        """Return the record of the decision that stands on a user; never a tombstone."""
        decision = row.decision
        products = {
            name: reason_names(reasons)
            for name, reasons in zip(PRODUCTS, decision.reasons, strict=True)
        }
        cause = row.cause
        value = Eligibility(
            user_id,
            row.epoch,
            verdict.eligible(decision, self._policy),
            sorted({name for names in products.values() for name in names}),
            products,
            rfc3339(row.decided_ms),
            EligibilityCause(cause.topic, cause.partition, cause.offset, cause.id),
        )
        event_id = f"eligibility/{user_id}/{row.epoch}"
        event = self._event(event_id, "eligibility.decided", user_id, row.epoch, origin)
        return Output("eligibility", user_id.encode(), _encode(value), event)

    def training_user(
        self, user_id: str, product: str, epoch: int, origin: Origin, *, allowed: bool
    ) -> Output:
        """Return the record, or the tombstone, of one product of a user."""
        key = f"{product}/{user_id}"
        value = _encode(TrainingUser(user_id, product, epoch)) if allowed else None
        kind = "user.allowed" if allowed else "user.purged"
        event_id = f"training-users/{key}/{epoch}/{'record' if allowed else 'tombstone'}"
        event = self._event(event_id, kind, user_id, epoch, origin)
        return Output("training-users", key.encode(), value, event)

    def content_allowed(
        self,
        user_id: str,
        content_id: str,
        item: Item,
        record: ContentRecord | None,
        epoch: int,
        origin: Origin,
    ) -> Output:
        """Return the record of an item that may be used; *record* is the one that holds."""
        if record is None:
            record = decode_value(item.value)
        value = TrainingContent(
            content_id,
            user_id,
            item.revision,
            PRODUCTS[item.product],
            KINDS[item.kind],
            record.modality,
            language(record),
            from_ms(item.created_ms),
            epoch,
        )
        event_id = f"training-content/{content_id}/{epoch}/{item.revision}/record"
        event = self._event(event_id, "content.allowed", user_id, epoch, origin, item.revision)
        return Output("training-content", content_id.encode(), _encode(value), event)

    def content_purged(
        self, user_id: str, content_id: str, revision: int, epoch: int, origin: Origin
    ) -> Output:
        """Return the tombstone of an item."""
        event_id = f"training-content/{content_id}/{epoch}/{revision}/tombstone"
        event = self._event(event_id, "content.purged", user_id, epoch, origin, revision)
        return Output("training-content", content_id.encode(), None, event)

    def _event(
        self,
        event_id: str,
        kind: str,
        user_id: str,
        epoch: int,
        origin: Origin,
        revision: int | None = None,
    ) -> Event:
        received_ms, trace = origin.received_ms, origin.traceparent
        return Event(self._common, event_id, kind, user_id, epoch, received_ms, trace, revision)

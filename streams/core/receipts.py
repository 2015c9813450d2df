"""
What data stores report, and how far an objection has got: contract.md, "Output records".

A store says how far it has applied a partition of an output (`purge-acks`).  A receipt puts those
words together for one objection.  Times are RFC 3339 in UTC.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from streams.core.records import Id, Time

Phase = Literal["hidden", "erased"]
Count = Annotated[int, Meta(ge=0)]
Rfc3339 = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class PurgeAck(Struct, frozen=True):
    """Everything in one partition of an output below *offset* has been durably applied."""

    store: Id
    topic: Annotated[str, Meta(min_length=1, max_length=249)]
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    phase: Phase
    at: Time

    @property
    def key(self) -> str:
        """The record's key: the latest word of a store on a partition replaces its last one."""
        return f"{self.store}/{self.topic}/{self.partition}/{self.phase}"


class StoreProgress(Struct, frozen=True):
    """When a store had applied all that an objection caused; null until then."""

    hidden_at: Rfc3339 | None = None
    erased_at: Rfc3339 | None = None


class Receipt(Struct, frozen=True):
    """How far one objection, or its withdrawal, has got."""

    objection_id: Id
    user_id: Id
    action: Literal["filed", "withdrawn"]
    received_at: Rfc3339
    decided_at: Rfc3339
    published_at: Rfc3339 | None = None
    items: Count = 0
    stores: dict[str, StoreProgress] = {}
    completed_at: Rfc3339 | None = None
    reopened_at: Rfc3339 | None = None

    @property
    def key(self) -> str:
        """The record's key: an objection and its withdrawal each have a receipt."""
        return f"{self.user_id}/{self.objection_id}/{self.action}"

"""
The audit trail: what each decision of a partition is known by, in records that are chained.

A record's bytes name the hash of the record before it, so that none can be removed, altered,
inserted or moved without a break.  A decision is known by a hash of its `eligibility` record:
reasons and causes stand there alone, with access rights of their own, and the trail can prove them
and not tell them.  Whose it is shows by a hash of the id, which finds a known id and tells none.
Source: contract.md, "Output records": reasons and causes stand on `eligibility` only.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from streams.core.changes import UserRow
from streams.core.outputs import Eligibility, Header, Output
from streams.core.reasons import PRODUCTS
from streams.core.times import rfc3339

AUDIT_TRAIL: Final = "audit-trail"
HASH: Final = "trail_hash"  # the header with a record's own hash
DECISIONS_MAX: Final = 2_000  # of one record: some 400 kB, below what a broker takes by default
_SUBJECT_BYTES: Final = 16


class Head(NamedTuple):
    """The last record of a chain: its number, from 1, and its hash in hexadecimals."""

    sequence: int
    hash: str


NO_RECORD: Final = Head(0, "0" * 64)


class Decided(Struct, frozen=True, gc=False):
    """One decision: whose, in which epoch, what it allows, and the hash that proves the rest."""

    subject: str
    epoch: int
    allowed: tuple[str, ...]
    digest: str


class TrailRecord(Struct, frozen=True, gc=False):
    """The value of an `audit-trail` record: the decisions of one transaction on one partition."""

    partition: int
    sequence: int
    previous: str
    at: str
    decisions: tuple[Decided, ...]


_encode = msgspec.json.Encoder().encode
_trail_decoder = msgspec.json.Decoder(TrailRecord)
_eligibility_decoder = msgspec.json.Decoder(Eligibility)


def subject_of(user_id: bytes) -> str:
    """Return what stands for *user_id* in the trail."""
    return sha256(user_id).hexdigest()[: 2 * _SUBJECT_BYTES]


def digest_of(eligibility: bytes) -> str:
    """
    Return what proves the value of an `eligibility` record.

    Of the fields it has had since the first version, in their order: what is added later, or by
    others, changes nothing.  Raises msgspec.MsgspecError.
    """
    return hash_of(_encode(read_eligibility(eligibility)))


def read_eligibility(value: bytes) -> Eligibility:
    """Return the `eligibility` record in *value*.  Raises msgspec.MsgspecError."""
    return _eligibility_decoder.decode(value)


def hash_of(value: bytes) -> str:
    """Return the hash of a record's bytes."""
    return sha256(value).hexdigest()


def decided(row: UserRow, eligibility: Output) -> Decided:
    """Return the trail's word on a decision and the `eligibility` record just made of it."""
    assert eligibility.key is not None
    assert eligibility.value is not None
    return Decided(
        subject_of(eligibility.key),
        row.epoch,
        _allowed(row.decision.reasons),
        hash_of(eligibility.value),
    )


@lru_cache(maxsize=4096)
def _allowed(reasons: tuple[int, ...]) -> tuple[str, ...]:
    """Return the products that nothing stands against; few combinations come up."""
    return tuple(name for name, each in zip(PRODUCTS, reasons, strict=True) if not each)


def append(
    head: Head, partition: int, now_ms: int, decisions: Sequence[Decided]
) -> tuple[list[Output], Head]:
    """Return the records that chain *decisions* to *head*, and the head they make."""
    at = rfc3339(now_ms)
    outputs: list[Output] = []
    for begin in range(0, len(decisions), DECISIONS_MAX):
        some = tuple(decisions[begin : begin + DECISIONS_MAX])
        sequence = head.sequence + 1
        value = _encode(TrailRecord(partition, sequence, head.hash, at, some))
        head = Head(sequence, hash_of(value))
        headers: list[Header] = [(HASH, head.hash)]
        outputs.append(Output(AUDIT_TRAIL, key_of(partition, sequence), value, headers))
    return outputs, head


def key_of(partition: int, sequence: int) -> bytes:
    """Return the key of a record."""
    return f"{partition}/{sequence}".encode()


def read(value: bytes) -> TrailRecord:
    """Return the record in *value*.  Raises msgspec.MsgspecError."""
    return _trail_decoder.decode(value)


def head_after(value: bytes) -> Head:
    """Return the head that a record with *value* makes.  Raises msgspec.MsgspecError."""
    return Head(read(value).sequence, hash_of(value))

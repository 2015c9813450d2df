"""
Verifies the audit trail: `objections audit trail --verify`.

The state knows the last record of each chain, and is asked first: what it knows must be there, so
a chain that lost its end shows.  What nobody rewrote can be known from heads noted elsewhere.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from streams.audit.chain import FROM_THE_STATE, Break, Chain, Known
from streams.audit.decisions import Decisions, Difference
from streams.audit.reading import Log, Range, Say
from streams.core import trail
from streams.core.refusals import REFUSALS
from streams.core.times import read_rfc3339
from streams.core.trail import AUDIT_TRAIL, Head
from streams.errors import CheckFailed
from streams.kafka import admin
from streams.settings import Settings
from streams.state import rows
from streams.worker.names import USERS_CHANGELOG
from streams.worker.trail import decode_head

if TYPE_CHECKING:
    from confluent_kafka import Message

ELIGIBILITY: Final = "eligibility"
ANSWER_S: Final = 15.0

Heads = Mapping[int, Mapping[int, str]]  # hashes by partition and sequence, noted earlier


class Verified(Struct, kw_only=True):
    """
    What was found of one partition.

    begins: the first sequence there is; above 1, the beginning was cut.
    sequence, hash: of the last record that was judged.
    proven: decisions that stand and are in the trail; older: from before it began; None where
    they were not compared.
    """

    partition: int
    records: int
    decisions: int
    begins: int
    begins_at: str
    ends_at: str
    sequence: int
    hash: str
    broken: Break | None
    proven: int | None = None
    older: int | None = None
    differences: list[Difference] = []
    differences_n: int = 0


def verify(
    settings: Settings, say: Say, *, noted: Heads | None = None, eligibility: bool = False
) -> list[Verified]:
    """
    Return what is found of each partition's chain, read from its beginning.

    noted: heads noted earlier.  eligibility: whether to compare what stands with the trail.
    """
    numbers = range(_partitions_n(settings))
    with Log(settings, say) as log:
        return [_verify(log, each, (noted or {}).get(each, {}), eligibility) for each in numbers]


def heads(settings: Settings, say: Say) -> dict[int, Head | None]:
    """Return the head of each partition's chain as the topic has it; None where it is empty."""
    with Log(settings, say) as log:
        return {
            number: _head(log.last(AUDIT_TRAIL, number, log.range(AUDIT_TRAIL, number), _any))
            for number in range(_partitions_n(settings))
        }


def _partitions_n(settings: Settings) -> int:
    names = (AUDIT_TRAIL, ELIGIBILITY, USERS_CHANGELOG)
    return admin.count_partitions(settings, names, timeout_s=ANSWER_S)


def _verify(log: Log, number: int, noted: Mapping[int, str], eligibility: bool) -> Verified:
    known = {sequence: Known(found, "noted earlier") for sequence, found in noted.items()}
    state = _state_head(log, number)
    if state is not None:
        known.setdefault(state.sequence, Known(state.hash, FROM_THE_STATE))
    decisions = Decisions(number) if eligibility else None
    stood = log.range(ELIGIBILITY, number)
    if decisions is not None:
        for key, value in _records(log.read(ELIGIBILITY, number, *stood)):
            decisions.stands(key, value)
    chain = _chain(log, number, known, decisions)
    if decisions is not None and chain.broken is None:
        since = Range(stood.end, log.range(ELIGIBILITY, number).end)
        for key, value in _records(log.read(ELIGIBILITY, number, *since)):
            decisions.stands_since(key, value)
        decisions.end(read_rfc3339(chain.begins_at) if chain.records else None)
    found = Verified(
        partition=number,
        records=chain.records,
        decisions=chain.decisions,
        begins=chain.begins,
        begins_at=chain.begins_at,
        ends_at=chain.ends_at,
        sequence=chain.head.sequence,
        hash=chain.head.hash,
        broken=chain.broken,
    )
    if decisions is not None:
        found.proven, found.older = decisions.proven, decisions.older
        found.differences, found.differences_n = decisions.differences, decisions.differences_n
    return found


def _chain(log: Log, number: int, known: Mapping[int, Known], decisions: Decisions | None) -> Chain:
    span = log.range(AUDIT_TRAIL, number)
    chain = Chain(number, span.low, known)
    for message in log.read(AUDIT_TRAIL, number, *span):
        record = chain.add(
            message.offset() or 0, message.key(), message.value(), dict(message.headers() or ())
        )
        if record is None:
            break
        if decisions is not None:
            for decided in record.decisions:
                decisions.told(decided)
    chain.end(span.end)
    return chain


def _state_head(log: Log, number: int) -> Head | None:
    """Return the head that the workers' state has of a partition's chain."""

    def is_head(message: "Message") -> bool:
        return message.key() == rows.TRAIL_KEY and message.value() is not None

    span = log.range(USERS_CHANGELOG, number)
    found = log.last(USERS_CHANGELOG, number, span, is_head)
    return None if found is None else decode_head(found.value() or b"")


def _records(messages: "Iterable[Message]") -> Iterable[tuple[bytes, bytes]]:
    for message in messages:
        key, value = message.key(), message.value()
        if key is not None and value is not None:
            yield key, value


def _head(message: "Message | None") -> Head | None:
    if message is None:
        return None
    try:
        return trail.head_after(message.value() or b"")
    except REFUSALS as error:
        raise CheckFailed(
            f"{message.topic()}/{message.partition()}/{message.offset()} is no record of the audit "
            "trail. Remedy: `objections audit trail --verify` tells what is wrong."
        ) from error


def _any(message: "Message") -> bool:
    return message.value() is not None

"""
Fetched records -> entries for the fold, and dead letters for the bad ones.

A bad record never stops or loses its neighbours: it becomes a dead letter and a restriction.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from streams.core.changes import Origin
from streams.core.decode import (
    USER_DECODERS,
    Headers,
    ItemFacts,
    Restriction,
    UserFacts,
    decode_content,
    resolved_by,
    restriction,
)
from streams.core.outputs import Header, Output
from streams.core.subjects import PLAIN, Subjects
from streams.core.tells import facts_of
from streams.core.user import User, merge
from streams.errors import BadRecord
from streams.kafka.partitioner import partition_of
from streams.state import rows
from streams.worker.names import ACCOUNT_LINKS, CONTENT, DEAD_LETTERS, TELLS

if TYPE_CHECKING:
    from confluent_kafka import Message

# What a dead letter may hold of key and value; the topic takes 8 MiB, the rest is for headers.
TRACEPARENT_BYTES_MAX: Final = 256  # W3C's has 55; it is carried on every output
DEAD_LETTER_BYTES_MAX: Final = 8 * 1024 * 1024 - 64 * 1024


class Fetched(NamedTuple):
    """
    Records of one partition of an input, in the order of their offsets.

    topic: as named in the contract.
    begin: where the records handed over before these ended: nothing lies between.
    """

    topic: str
    partition: int
    messages: "list[Message]"
    begin: int


class Entry(Struct, frozen=True, gc=False):
    """
    One record for the fold.

    event: its facts, or whom it restricts if it is bad.
    resolves: the dead letter that a record of an item mends, "topic/partition/offset".
    """

    origin: Origin
    event: UserFacts | ItemFacts | Restriction
    resolves: str | None = None


class Intake(NamedTuple):
    """A decoded `Fetched`: one entry a record, and a dead letter for each bad one."""

    topic: str
    partition: int
    begin: int
    next_offset: int
    entries: list[Entry]
    dead_letters: list[Output]


def take_in(
    fetched: Fetched, full_topic: str, subjects: Subjects = PLAIN, partitions_n: int = 1
) -> Intake:
    """
    Return the decoded records of *fetched*, whose topic is called *full_topic* on Kafka.

    Behind it users go by their names in *subjects*; dead letters are the input's bytes.
    partitions_n: of each input, to know where a linked account belongs.
    """
    if fetched.topic == TELLS:
        return _take_in_tells(fetched, full_topic)
    links = fetched.topic == ACCOUNT_LINKS
    entries: list[Entry] = []
    dead_letters: list[Output] = []
    partition = fetched.partition
    decode_user = USER_DECODERS.get(fetched.topic)
    renames = subjects.keyed
    for message in fetched.messages:
        key, value = message.key(), message.value()
        offset: int = message.offset()  # type: ignore[assignment] # a fetched one has it
        received_ms = message.timestamp()[1]
        headers: Headers = message.headers()  # type: ignore[assignment] # always a list
        event: UserFacts | ItemFacts | Restriction
        cause_id: str | None = None
        try:
            if decode_user is None:
                event = decode_content(key, value, received_ms, offset)
                cause_id = event.content_id
            else:
                event = decode_user(key, value, received_ms)
                cause_id = event.cause_id
        except BadRecord as bad:
            event = restriction(fetched.topic, key, value)
            cause_id = event.content_id
            place = (full_topic, partition, offset, received_ms)
            dead_letters.append(_dead_letter(key, value, bad, *place))
        if links and isinstance(event, UserFacts):
            event = _placed(event, subjects, partitions_n)
        if renames:
            event = _renamed(event, subjects)
        if headers is None:
            origin = Origin(full_topic, partition, offset, received_ms, cause_id)
            entries.append(Entry(origin, event))
        else:
            trace = _traceparent(headers)
            origin = Origin(full_topic, partition, offset, received_ms, cause_id, trace)
            resolves = resolved_by(headers)
            if resolves is not None and isinstance(event, UserFacts):
                # One record, one decision: what it mends is one more of its facts.
                facts = merge(event.facts, User(resolved=(resolves,)))
                event, resolves = replace(event, facts=facts), None
            entries.append(Entry(origin, event, resolves))
    return Intake(fetched.topic, partition, fetched.begin, offset + 1, entries, dead_letters)


def _take_in_tells(fetched: Fetched, full_topic: str) -> Intake:
    """
    Return the decoded tells of other owners: none can be bad, as workers alone write them.

    They use the names that users go by.  Raises `rows.UnreadableRow` and `rows.NewerRow`.
    """
    entries: list[Entry] = []
    for message in fetched.messages:
        offset: int = message.offset()  # type: ignore[assignment] # a fetched one has it
        headers: Headers = message.headers()  # type: ignore[assignment] # always a list
        user_id, tell = rows.decode_tell(message.key() or b"", message.value() or b"")
        trace = _traceparent(headers)
        origin = Origin(full_topic, fetched.partition, offset, tell.since_ms, None, trace)
        entries.append(Entry(origin, UserFacts(user_id, None, facts_of(tell))))
    return Intake(fetched.topic, fetched.partition, fetched.begin, offset + 1, entries, [])


def _placed(event: UserFacts, subjects: Subjects, partitions_n: int) -> UserFacts:
    """Return *event* with linked accounts under their names in *subjects*, and where they are."""
    links = {
        subjects.of(user_id): replace(link, partition=partition_of(user_id.encode(), partitions_n))
        for user_id, link in event.facts.links.items()
    }
    return replace(event, facts=replace(event.facts, links=links))


def _renamed(
    event: UserFacts | ItemFacts | Restriction, subjects: Subjects
) -> UserFacts | ItemFacts | Restriction:
    """Return *event* as one of the user under their name in *subjects*."""
    if event.user_id is None:
        return event
    user_id = subjects.of(event.user_id)
    if isinstance(event, ItemFacts):
        return ItemFacts(user_id, event.content_id, event.facts, event.record)
    if isinstance(event, UserFacts):
        return replace(event, user_id=user_id)
    return Restriction(user_id, event.content_id)


def _dead_letter(
    key: bytes | None,
    value: bytes | None,
    bad: BadRecord,
    topic: str,
    partition: int,
    offset: int,
    received_ms: int,
) -> Output:
    headers: list[Header] = [
        ("dlq_topic", topic.encode()),
        ("dlq_partition", b"%d" % partition),
        ("dlq_offset", b"%d" % offset),
        ("dlq_timestamp", b"%d" % received_ms),
        ("dlq_error", bad.code.encode()),
        ("dlq_detail", bad.detail.encode()),
    ]
    key_bytes = key if key is None else key[: DEAD_LETTER_BYTES_MAX // 2]
    left = DEAD_LETTER_BYTES_MAX - len(key_bytes or b"")
    value_bytes = value if value is None else value[:left]
    if (key_bytes, value_bytes) != (key, value):
        headers.append(("dlq_truncated", b"true"))
    return Output(DEAD_LETTERS, key_bytes, value_bytes, headers)


def _traceparent(headers: Headers) -> bytes | None:
    for name, value in headers or ():
        if name == "traceparent" and value is not None and len(value) <= TRACEPARENT_BYTES_MAX:
            return value if isinstance(value, bytes) else value.encode()
    return None


assert CONTENT not in USER_DECODERS  # it has a decoder of its own

"""
How far what was decided has got: outputs by what caused them, receipts, and stores' words.

Collected from records as `evidence` is, and pure.  Outputs are matched to a decision by its epoch
and the time stamp of the record that caused it, which all of them carry.
"""

from bisect import bisect_left
from typing import Final

import msgspec

from streams.core.levels import NOTHING, Ack, Level, after_ack
from streams.core.receipts import FOLLOWED, Action, Phase, PurgeAck, Receipt
from streams.core.refusals import REFUSALS
from streams.core.times import read_rfc3339
from streams.core.trace_context import trace_context
from streams.proof.records import Record

RECEIPTS: Final = "receipts"
PURGE_ACKS: Final = "purge-acks"


class Outputs:
    """
    The outputs that one record has caused, or time.

    received_ms: of that record; for time, when it was due.  decided_ms: when the first was made.
    published_ms: of the last.  purges, grants: the offset behind the last of each, by topic.
    """

    def __init__(self, first: Record) -> None:
        found = trace_context(first.header("traceparent"))
        self.trace_id = None if found is None else f"{found.trace_id:032x}"
        self.received_ms = whole(first, "objections_received_at")
        self.decided_ms = _instant_ms(first)
        self.published_ms = 0
        self.purges: dict[str, int] = {}
        self.grants: dict[str, int] = {}

    def add(self, topic: str, record: Record) -> None:
        """Count *record* of *topic* (as in the contract) among them."""
        self.published_ms = max(self.published_ms, record.timestamp_ms)
        if topic != "eligibility":
            ends = self.purges if record.value is None else self.grants
            ends[topic] = record.offset + 1


class Passage:
    """
    What the topics of partition *number* tell of the way of a user's decisions.

    topic_prefix: before every topic's name.  name: of the user in outputs.
    """

    def __init__(self, topic_prefix: str, number: int, name: str) -> None:
        self.receipts: dict[tuple[str, Action], Receipt] = {}
        self._key = f"{name}/".encode()
        self._name = name
        self._ack_endings = tuple(f"/{number}/{phase}".encode() for phase in ("hidden", "erased"))
        self._topics = {f"{topic_prefix}{topic}": at for at, topic in enumerate(FOLLOWED)}
        self._decisions: dict[tuple[int, int], Outputs] = {}
        self._levels: dict[tuple[str, str], _Levels] = {}

    def wants(self, topic: str, key: bytes) -> bool:
        """Whether a record of `receipts` or `purge-acks` may tell of the user's outputs."""
        return key.startswith(self._key) if topic == RECEIPTS else key.endswith(self._ack_endings)

    def decision(self, record: Record) -> Outputs:
        """Return what belongs to the decision that a record of `eligibility` says."""
        found = Outputs(record)
        key = whole(record, "objections_epoch"), found.received_ms
        found = self._decisions.setdefault(key, found)
        found.add("eligibility", record)
        return found

    def output(self, topic: str, record: Record) -> None:
        """Note an output of the user beside `eligibility`."""
        key = whole(record, "objections_epoch"), whole(record, "objections_received_at")
        found = self._decisions.get(key)
        if found is not None:
            found.add(topic, record)

    def receipt(self, record: Record) -> None:
        """Note a receipt; the last of an objection and action holds."""
        try:
            found = msgspec.json.decode(record.value or b"", type=Receipt)
        except REFUSALS:
            return
        if found.user_id == self._name:
            self.receipts[found.objection_id, found.action] = found

    def ack(self, record: Record) -> None:
        """Note a store's word."""
        try:
            found = msgspec.json.decode(record.value or b"", type=PurgeAck)
        except REFUSALS:
            return  # the worker says so
        topic = self._topics.get(found.topic)
        if topic is not None:
            levels = self._levels.setdefault((found.store, FOLLOWED[topic]), _Levels())
            levels.add(
                Ack(
                    found.store,
                    topic,
                    found.partition,
                    found.phase,
                    found.offset,
                    record.timestamp_ms,
                )
            )

    @property
    def stores(self) -> list[str]:
        """Return the stores that have said anything."""
        return sorted({store for store, _ in self._levels})

    def follows(self, store: str, ends: dict[str, int]) -> bool:
        """Whether *store* has spoken of a topic of *ends*."""
        return any((store, topic) in self._levels for topic in ends)

    def reached_ms(self, store: str, phase: Phase, ends: dict[str, int]) -> int | None:
        """Return since when *store* has applied all below *ends* that it follows; None: not yet."""
        since = [
            self._levels[store, topic].since_ms(phase, end)
            for topic, end in ends.items()
            if (store, topic) in self._levels
        ]
        told = [each for each in since if each is not None]
        return max(told) if len(told) == len(since) else None


class _Levels:
    """
    What a store has said of one output, in the order of the log.

    `purge-acks` is compacted, so a word may be a later one than the first that was true: what is
    told of the last day is exact, and of earlier times it is the latest it can have been.
    """

    def __init__(self) -> None:
        self._level: Level = NOTHING
        self._said: dict[Phase, list[tuple[int, int]]] = {"hidden": [], "erased": []}

    def add(self, ack: Ack) -> None:
        self._level = level = after_ack(self._level, ack)
        for phase, said in self._said.items():
            offset, since_ms = level.offset(phase), ack.at_ms
            while said and said[-1][0] > offset:  # it went back: what lies above is open again
                since_ms = said.pop()[1]
            if not said or said[-1][0] < offset:
                said.append((offset, since_ms))

    def since_ms(self, phase: Phase, end: int) -> int | None:
        """Return since when all below *end* has been so; None where it is not."""
        said = self._said[phase]
        at = bisect_left(said, (end, 0))
        return said[at][1] if at < len(said) else None


def whole(record: Record, header: str) -> int:
    """Return the number in *header*; 0 where there is none: then no worker wrote the record."""
    text = record.header(header) or b""
    return int(text) if text.isdigit() and len(text) < 20 else 0


def _instant_ms(record: Record) -> int:
    """Return `ce_time`; 0 where it is none."""
    try:
        return read_rfc3339((record.header("ce_time") or b"").decode())
    except (ValueError, TypeError, OverflowError):
        return 0

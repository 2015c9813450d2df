"""
Whether the audit trail of one partition is whole: its records one by one.  Pure.

A record must be the next of its chain (number, and hash of the one before), be what its own hash
says, and be the one that is known from elsewhere: from the state, or from a head noted earlier.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from streams.core import trail
from streams.core.refusals import REFUSALS
from streams.core.times import read_rfc3339
from streams.core.trail import HASH, NO_RECORD, Head, TrailRecord

FROM_THE_STATE: Final = "by the workers' state"


class Break(NamedTuple):
    """The first place at which a chain is not whole."""

    partition: int
    offset: int
    expected: str
    found: str


class Known(NamedTuple):
    """The hash that a record must have, and who says so."""

    hash: str
    source: str


class Chain:
    """
    The chain of *partition*, whose log begins at offset *low*.

    known: hashes by sequence, from elsewhere.
    begins: the first record's sequence: above 1 the beginning was cut, by retention.
    broken: the first break; nothing behind it is judged.
    """

    def __init__(self, partition: int, low: int, known: Mapping[int, Known]) -> None:
        self.partition = partition
        self.head = NO_RECORD
        self.begins = 0
        self.begins_at = ""
        self.ends_at = ""
        self.records = 0
        self.decisions = 0
        self.broken: Break | None = None
        self._low = low
        self._known = known

    def add(
        self, offset: int, key: bytes | None, value: bytes | None, headers: Mapping[str, object]
    ) -> TrailRecord | None:
        """Judge the next record; return it, or None where the chain breaks."""
        record = self._read(offset, value)
        if record is None or value is None:
            return None
        wrong = self._wrong(record, key, value, headers)
        if wrong is not None:
            self.broken = Break(self.partition, offset, *wrong)
            return None
        self.head = Head(record.sequence, trail.hash_of(value))
        if not self.records:
            self.begins, self.begins_at = record.sequence, record.at
        self.ends_at = record.at
        self.records += 1
        self.decisions += len(record.decisions)
        return record

    def end(self, offset: int) -> None:
        """Judge whether the log, which ends at *offset*, has all that is known of the chain."""
        last = max(self._known, default=0)
        if self.broken is None and last > self.head.sequence:
            self.broken = Break(
                self.partition,
                offset,
                f"records up to sequence {last} ({self._known[last].source})",
                f"the end of the topic behind sequence {self.head.sequence}"
                if self.records
                else "no record at all",
            )

    def _read(self, offset: int, value: bytes | None) -> TrailRecord | None:
        try:
            record = trail.read(value or b"")
            read_rfc3339(record.at)
        except (*REFUSALS, ValueError, TypeError, OverflowError) as error:
            expected = "a record of the audit trail"
            self.broken = Break(self.partition, offset, expected, f"other bytes ({error})")
            return None
        return record

    def _wrong(
        self, record: TrailRecord, key: bytes | None, value: bytes, headers: Mapping[str, object]
    ) -> tuple[str, str] | None:
        """Return what was expected of a record and what was found instead; None for nothing."""
        sequence, previous = self.head.sequence + 1, self.head.hash
        if not self.records and self._low and record.sequence > 1:
            sequence, previous = record.sequence, record.previous  # what was before is cut off
        own = trail.hash_of(value)
        told = headers.get(HASH)
        said = told.decode(errors="replace") if isinstance(told, bytes) else told
        known = self._known.get(record.sequence, Known(own, ""))
        checks = (
            ("partition {}", self.partition, record.partition),
            ("sequence {}", sequence, record.sequence),
            ("the record with hash {}", said, own),
            ("previous {}", previous, record.previous),
            ("key {}", trail.key_of(self.partition, record.sequence), key),
            (f"the record with hash {{}} ({known.source})", known.hash, own),
        )
        for what, expected, found in checks:
            if expected != found:
                return what.format(expected), what.partition(" (")[0].format(found)
        return None

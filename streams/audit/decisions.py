"""
Whether the decisions that stand are those of the audit trail.  Pure; of one partition at a time.

`eligibility` is read first, then the trail, then what has come to `eligibility` since: both are
written in one transaction, so the trail must have every decision that was read first, and
`eligibility` in the end every epoch of the trail, or a later one.
"""

from typing import Final, NamedTuple

from streams.core import trail
from streams.core.refusals import REFUSALS
from streams.core.times import read_rfc3339
from streams.core.trail import Decided

NAMED_MAX: Final = 20


class Difference(NamedTuple):
    """One subject whose decision is not the trail's."""

    partition: int
    subject: str
    epoch: int
    what: str


class _Standing(NamedTuple):
    epoch: int
    digest: str
    decided_ms: int


class Decisions:
    """
    What `eligibility` of *partition* says, beside the trail.

    proven: decisions that stand and are in the trail.
    older: those from before the trail's first record, of which it cannot know.
    differences: the first of them; *differences_n* counts all.
    """

    def __init__(self, partition: int) -> None:
        self.proven = 0
        self.older = 0
        self.differences: list[Difference] = []
        self.differences_n = 0
        self._partition = partition
        self._standing: dict[str, _Standing] = {}
        self._ahead: dict[str, int] = {}  # epochs of the trail beyond what stood

    def stands(self, key: bytes, value: bytes) -> None:
        """Take a record of `eligibility`, read before the trail."""
        subject = trail.subject_of(key)
        try:
            found = trail.read_eligibility(value)
            at_ms = read_rfc3339(found.decided_at)
            self._standing[subject] = _Standing(found.epoch, trail.digest_of(value), at_ms)
        except (*REFUSALS, ValueError, TypeError, OverflowError):
            self._differs(subject, 0, "the record of eligibility is none that a worker wrote")

    def told(self, decided: Decided) -> None:
        """Take a decision of the trail."""
        standing = self._standing.get(decided.subject)
        if standing is None or decided.epoch > standing.epoch:
            self._ahead[decided.subject] = decided.epoch
        elif decided.epoch == standing.epoch and standing.digest:
            if decided.digest == standing.digest:
                self.proven += 1
            else:
                what = "eligibility says something else in this epoch than the trail"
                self._differs(decided.subject, decided.epoch, what)
            # Seen: what is left in the end is not in the trail.
            self._standing[decided.subject] = standing._replace(digest="")

    def stands_since(self, key: bytes, value: bytes) -> None:
        """Take a record that has come to `eligibility` since."""
        subject = trail.subject_of(key)
        try:
            epoch = trail.read_eligibility(value).epoch
        except REFUSALS:
            self._differs(subject, 0, "the record of eligibility is none that a worker wrote")
            return
        if epoch >= self._ahead.get(subject, epoch + 1):
            del self._ahead[subject]

    def end(self, since_ms: int | None) -> None:
        """Judge what is left; the trail's first record is from *since_ms*, None without any."""
        for subject, standing in self._standing.items():
            if not standing.digest:
                continue
            if since_ms is None or standing.decided_ms < since_ms:
                self.older += 1
            else:
                self._differs(subject, standing.epoch, "the trail does not have this decision")
        for subject, epoch in self._ahead.items():
            self._differs(subject, epoch, "eligibility never had this decision of the trail")

    def _differs(self, subject: str, epoch: int, what: str) -> None:
        self.differences_n += 1
        if len(self.differences) < NAMED_MAX:
            self.differences.append(Difference(self._partition, subject, epoch, what))

"""
What a cycle changed -> the outputs it owes: decisions, purges, grants, fan-outs.

Purges go before grants, and a user's `training-users` record before the items it unlocks.
Source: contract.md, "Output records"; design.md, "Fan-out".
"""

from collections.abc import Container, Iterator, Mapping
from itertools import islice
from typing import Final, Protocol

from streams.core.changes import CAUSED_BY_TIME, ItemChange, Origin, UserChange, UserRow
from streams.core.fanout import (
    Answer,
    Era,
    Job,
    anew,
    begin,
    may_differ,
    next_phase,
    slice_answers,
    touched,
)
from streams.core.fold import Fold
from streams.core.item import Item
from streams.core.outputs import REVISION_MAX, Output, Writer
from streams.core.reasons import PRODUCTS
from streams.core.verdict import Decision, allows

INLINE_BY_TIME: Final = 8  # items of a user that time or the policy has changed, in one cycle


class KnownItems(Protocol):
    """A partition's items and fan-outs as they were before the cycle."""

    jobs: dict[str, Job]

    def items_of(self, user_id: str, after: bytes = b"") -> Iterator[tuple[bytes, Item]]:
        """Yield a user's items behind content id *after*, ordered by its bytes."""


class Answers:
    """
    The outputs of one cycle of one partition, and the rows that follow from answering.

    jobs: fan-outs begun, moved on or (None) done.
    forgotten: items that leave the state with their account, by user.
    answered: items purged and items allowed again, of users whose decision has changed.
    purges_ms: by output, the broker time stamps of the records that have caused purges.
    decisions: on each user that is to be told of, in the order of the fold's users.
    grants_by_time: outputs so far that allow what the clock or the policy made eligible.
    content_offset: where this cycle's records of `content` begin.
    """

    def __init__(
        self, writer: Writer, known: KnownItems, dead_letter_prefix: str, content_offset: int
    ) -> None:
        self.jobs: dict[str, Job | None] = {}
        self.forgotten: dict[str, list[Answer]] = {}
        self.answered: dict[str, tuple[int, int]] = {}
        self.purges_ms: dict[str, list[int]] = {"training-users": [], "training-content": []}
        self.grants_by_time = 0
        self._writer = writer
        self._known = known
        self._prefix = dead_letter_prefix
        self._content_offset = content_offset
        self.decisions: list[Output] = []
        self._user_purges: list[Output] = []
        self._purges: list[Output] = []
        self._user_grants: list[Output] = []
        self._grants: list[Output] = []

    def outputs(self) -> list[Output]:
        """Return what is owed, in the order in which it is to be written."""
        return [
            *self.decisions,
            *self._user_purges,
            *self._purges,
            *self._user_grants,
            *self._grants,
        ]

    def add_fold(self, fold: Fold, inline_items: int) -> None:
        """Answer all that *fold* changed; fan-outs of more than *inline_items* become jobs."""
        for user_id, change in fold.users.items():
            self._add_user(user_id, change, settled=user_id in fold.settled)
            if needs_fanout(change) and user_id not in fold.settled:
                self._fan_out(user_id, change, fold.items, inline_items)
        for user_id, origin in fold.answer_anew.items():
            self._answer_anew(user_id, fold, origin, inline_items)
        for item_change in fold.items.values():
            self._add_item(item_change, fold.users[item_change.user_id].after)

    def work_off(
        self, user_id: str, job: Job, row: UserRow, limit: int, answered: Container[tuple[str, str]]
    ) -> int:
        """
        Answer up to *limit* of the next items of *job*; return how many were looked at.

        answered: users and content ids that this cycle has answered already.
        """
        found = list(islice(self._known.items_of(user_id, job.cursor), limit))
        answers, then = slice_answers(job, found, row.user, self._prefix)
        origin = Origin(job.topic, -1, -1, job.received_ms, None, job.traceparent)
        self._add_answers(user_id, answers, row, origin, answered, forget=job.forget)
        self.jobs[user_id] = then if len(found) == limit else next_phase(then)
        return len(found)

    def _add_user(self, user_id: str, change: UserChange, *, settled: bool) -> None:
        """Publish a decision and permissions that changed; of all products if *settled*."""
        row, origin = change.after, change.origin
        if change.publish:
            self.decisions.append(self._writer.eligibility(user_id, row, origin))
        if change.before is not None and change.before.decision is row.decision and not settled:
            return
        for index, product in enumerate(PRODUCTS):
            stood = change.before is not None and change.before.decision.reasons[index] == 0
            allowed = row.decision.reasons[index] == 0
            if stood != allowed or settled:
                output = self._writer.training_user(
                    user_id, product, row.epoch, origin, allowed=allowed
                )
                (self._user_grants if allowed else self._user_purges).append(output)
                if not allowed and origin.topic not in CAUSED_BY_TIME:
                    self.purges_ms["training-users"].append(origin.received_ms)
                self._count(origin, allowed=allowed)

    def _answer_anew(self, user_id: str, fold: Fold, origin: Origin, inline_items: int) -> None:
        """Answer all items of a user, however they stand."""
        row = fold.users[user_id].after
        job = anew(
            Era(self._content_offset, row.decision),
            origin.topic,
            origin.received_ms,
            origin.traceparent,
            forget=row.user.deleted,
        )
        if user_id in fold.settled and self._known.jobs.get(user_id) is None:
            # By the million after a lost state: few of them have so many items as to need a job.
            found = list(islice(self._known.items_of(user_id), inline_items + 1))
            if len(found) <= inline_items:
                self._answer_inline(user_id, job, found, row, origin, fold.items)
                return
        self.jobs[user_id] = job

    def _fan_out(
        self,
        user_id: str,
        change: UserChange,
        changed: Mapping[tuple[str, str], ItemChange],
        inline_items: int,
    ) -> None:
        assert change.before is not None
        running = self._known.jobs.get(user_id)
        old, row, origin = change.before.decision, change.after, change.origin
        job = begin(
            old,
            Era(self._content_offset, row.decision),
            running,
            origin.topic,
            origin.received_ms,
            origin.traceparent,
            forget=row.user.deleted,
        )
        if running is None:
            if origin.topic in CAUSED_BY_TIME:  # then many users change in one cycle
                inline_items = min(inline_items, INLINE_BY_TIME)
            found = list(islice(self._known.items_of(user_id), inline_items + 1))
            if len(found) <= inline_items:
                self._answer_inline(user_id, job, found, row, origin, changed)
                return
        self.jobs[user_id] = job

    def _answer_inline(
        self,
        user_id: str,
        job: Job,
        found: list[tuple[bytes, Item]],
        row: UserRow,
        origin: Origin,
        changed: Mapping[tuple[str, str], ItemChange],
    ) -> None:
        phase: Job | None = job
        while phase is not None:
            answers, walked = slice_answers(phase, found, row.user, self._prefix)
            self._add_answers(user_id, answers, row, origin, changed, forget=job.forget)
            phase = next_phase(walked)

    def _add_answers(
        self,
        user_id: str,
        answers: list[Answer],
        row: UserRow,
        origin: Origin,
        answered: Container[tuple[str, str]],
        *,
        forget: bool,
    ) -> None:
        """Write *answers*, but for items *answered* already; remember what is to be forgotten."""
        purged, granted = self.answered.get(user_id, (0, 0))
        for key, item, allowed, differs in answers:
            content_id = key.decode()
            if not differs or (user_id, content_id) in answered:
                continue
            if not allowed:
                purged += 1
                self._purge(user_id, content_id, item.revision, row, origin)
                continue
            granted += 1
            self._count(origin, allowed=True)
            self._grants.append(
                self._writer.content_allowed(user_id, content_id, item, None, row.epoch, origin)
            )
        if purged or granted:
            self.answered[user_id] = purged, granted
        if forget:
            self.forgotten.setdefault(user_id, []).extend(answers)

    def _add_item(self, change: ItemChange, row: UserRow) -> None:
        item = change.after
        job = self.jobs.get(change.user_id) or self._known.jobs.get(change.user_id)
        if job is not None and item is not None and (marked := touched(job, item)) is not job:
            self.jobs[change.user_id] = marked
        # What a seed's decision says of items is not known: they are answered when it is settled.
        allowed = item is not None and not row.seeded and self._allows(row.decision, item, row)
        if item is None or not allowed:
            revision = 0 if item is None else item.revision
            self._purge(change.user_id, change.content_id, revision, row, change.origin)
            return
        self._grants.append(
            self._writer.content_allowed(
                change.user_id, change.content_id, item, change.record, row.epoch, change.origin
            )
        )

    def _count(self, origin: Origin, *, allowed: bool) -> None:
        if allowed and origin.topic in CAUSED_BY_TIME:
            self.grants_by_time += 1

    def _purge(
        self, user_id: str, content_id: str, revision: int, row: UserRow, origin: Origin
    ) -> None:
        revision = REVISION_MAX if row.user.deleted else max(revision, 0)
        if origin.topic not in CAUSED_BY_TIME:
            self.purges_ms["training-content"].append(origin.received_ms)
        self._purges.append(
            self._writer.content_purged(user_id, content_id, revision, row.epoch, origin)
        )

    def _allows(self, decision: Decision, item: Item, row: UserRow) -> bool:
        return allows(item, row.user, decision, self._prefix)


def needs_fanout(change: UserChange) -> bool:
    """Whether *change* is one after which items of the user may need another answer."""
    before, row = change.before, change.after
    if before is None or before.decision == row.decision:
        return False
    if row.user.deleted and not before.user.deleted:
        return True
    return may_differ(before.decision, row.decision)

"""
One partition number that this worker owns: its state, and the fold of a cycle over it.

Pure arithmetic over the state: no Kafka here.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Final

from streams.core.answers import Answers
from streams.core.breaker import NO_LIMIT, Limit
from streams.core.changes import DUE_AT_ONCE_MS, is_below
from streams.core.decode import UserFacts
from streams.core.fold import Fold
from streams.core.outputs import Output, Writer
from streams.core.policy import Policy
from streams.core.receipts import Action
from streams.core.subjects import PLAIN, Subjects
from streams.core.times import NEVER_MS
from streams.errors import Halt
from streams.setting_values import Store as DataStore
from streams.state import rows
from streams.state.layer import Layer, position_rows
from streams.state.store import Reached, Row, Store
from streams.state.view import View
from streams.worker.entries import Entries, objections_first
from streams.worker.fanouts import FanOuts, fanned_of
from streams.worker.folded import Delivered, Folded, forget, keep_item
from streams.worker.gate import Gate
from streams.worker.guard import Guard
from streams.worker.intake import Intake
from streams.worker.limits import tell_of_limits
from streams.worker.names import CONTENT
from streams.worker.naming import NamingNote
from streams.worker.open_letters import OpenLetters
from streams.worker.receipt_rows import Part
from streams.worker.receipts import Receipts
from streams.worker.sweep import Sweep
from streams.worker.timers import Timer, Timers
from streams.worker.trail import NO_LINKS, Trail
from streams.worker.unanswered import Unanswered

CONTENT_END: Final = f"{CONTENT}/end"  # among the positions: the highest there ever was
HELD_COUNTED_MAX: Final = 20_000  # users whose grants are held, counted for a metric
SWEPT_SHARE: Final = 4  # users a new policy decides in a cycle: a part of a fan-out's slice


class Partition:
    """
    The state of partition *number*.

    positions: the next offset of each input (by its name in the contract) to be folded.
    gate: grants wait while objections, ages and notices lag, as they do when it is taken over.
    tells: whether the owners of linked accounts can be told.
    """

    def __init__(
        self,
        number: int,
        store: Store,
        reached: dict[str, Reached],
        positions: dict[str, int],
        policy: Policy,
        source: str,
        content_topic: str,
        inline_items: int,
        now_ms: int,
        stores: tuple[DataStore, ...] = (),
        clock_offset_ms: int = 0,
        letters: OpenLetters | None = None,
        limit: Limit = NO_LIMIT,
        subjects: Subjects = PLAIN,
        trail: Trail | None = None,
        *,
        tells: bool = True,
    ) -> None:
        self.number = number
        self.store = store
        self.reached = reached
        self.view = View(store)
        self.positions = positions
        self._committed = positions  # as many of them as are persisted
        self.gate = Gate()
        self._content_end = self._content_high()
        self._policy = policy
        self._source = source
        self._prefix = f"{content_topic}/{number}/"
        self._inline_items = inline_items
        self._timers = Timers(self.view)
        self.letters = letters or OpenLetters(store, self._prefix)
        self.sweep = Sweep(store, policy, now_ms, f"partition {number}")
        self.guard = Guard(store, limit, f"partition {number}")
        self.fanouts = FanOuts(self.view, self.guard, lambda: self.holding)
        self.positions_unsaid = False  # the group's offsets are others than our positions
        self._outputs_row: list[Row] = []  # what is still to be noted of the outputs
        self._headers = subjects.headers
        self._naming = NamingNote(store, subjects)
        self.receipts = Receipts(
            store, stores, self._is_settled, clock_offset_ms, headers=self._headers
        )
        self.unanswered = Unanswered(store)
        self._trail = trail
        self._tells = tells

    def _content_high(self) -> int:
        """
        Return what is above every record of content that the state knows of.

        The position is not, while content is read again from earlier on.
        """
        high = self.store.get(rows.position_key(CONTENT_END))
        return max(self.positions[CONTENT], 0 if high is None else rows.decode_number(high))

    def hold(self) -> None:
        """Hold grants until they are released."""
        self.gate.close()

    def release_at(
        self, positions: dict[str, int], free_below: Mapping[str, int] | None = None
    ) -> None:
        """End the hold, or its hold on what came of older records; see `Gate.open_at`."""
        self.gate.open_at(positions, free_below)
        if free_below is not None:
            self._timers.walk_held()

    def outputs_known(self, output_ids: str) -> None:
        """Note in the state which topics the outputs are, with the next cycle, if it is new."""
        self.receipts.outputs_are(output_ids, int(time.time() * 1000))
        if self.store.get(rows.OUTPUTS_KEY) is None:
            self._outputs_row = [(rows.OUTPUTS_KEY, rows.encode_text(output_ids))]

    @property
    def holding(self) -> bool:
        """Whether nothing may be granted."""
        return self.gate.is_closed(self.positions)

    def has_work(self, now_ms: int, grants: int) -> bool:
        """
        Whether there is something to do without any record arriving.

        grants: how many the clock and the policy may cause now.
        """
        if self.positions_unsaid or self.fanouts.ready(grants):
            return True
        if self.receipts.has_work() or (self.sweep.under_way and self.fanouts.has_room()):
            return True
        if not self.fanouts.has_room():
            return False
        tripped = self.guard.tripped
        if self.gate.is_open(self.positions):
            left = self.unanswered.has_work(self._committed, held=tripped)
            return left or (not tripped and self._timers.can_fire(now_ms, grants))
        return not tripped and self._timers.walks_held

    def held_users(self) -> int:
        """Return how many wait for the breaker to be released, one at the least; 0 if it is not."""
        return max(self._timers.held_users(HELD_COUNTED_MAX), 1) if self.guard.tripped else 0

    def overdue_ms(self, now_ms: int) -> int:
        """Return by how much the oldest timer of the clock is late."""
        return self._timers.overdue_ms(now_ms)

    def fold(self, intakes: list[Intake], now_ms: int, slice_items: int, grants: int) -> Folded:
        """
        Return what *intakes*, timers due and a slice of the fan-outs change and publish.

        grants: about how many the clock and the policy may cause.
        """
        self._check_seamless(intakes)
        if intakes:
            self.unanswered.moved()
        intakes.sort(key=objections_first)
        free_below = self.gate.free_below(self.positions)
        fold = Fold(
            self.view,
            self._policy,
            now_ms,
            self._prefix,
            hold_grants=not self.gate.is_open(self.positions),
            free_below=free_below,
            policy_since_ms=self.sweep.since_ms,
            breaker=self.guard.breaker,
        )
        due: list[Timer] = []
        swept: list[str] = []
        if self.fanouts.has_room():
            if self.guard.tripped:
                pass  # all that fires is grants
            elif free_below is None:
                due = self._timers.take(now_ms, grants, sweeping=self.sweep.under_way)
            else:
                due = self._timers.take_held(lambda user_id: self._is_free(user_id, free_below))
            swept = self.sweep.take(max(slice_items // SWEPT_SHARE, 1))
        self._fetch_ahead(intakes, [*swept, *(user_id for _, user_id in due)])
        for user_id in swept:
            fold.decide_again(user_id)
        for due_ms, user_id in due:
            fold.time_passed(user_id, due_ms, self.number)
        entries = Entries(fold, self.view, self.receipts, self.positions, self.number, now_ms)
        handled = [entries.fold(intake) for intake in intakes]
        settles = self.gate.is_open(self.positions) and self.unanswered.is_due(
            self._committed, held=self.guard.tripped
        )
        if settles:
            self._settle(fold)
        writer = Writer(self._source, now_ms, self._policy, self._headers)
        answers = Answers(writer, self.view, self._prefix, self._content_end)
        answers.add_fold(fold, self._inline_items)
        layer = self._layer_of(fold, answers)
        index_rows = self.letters.fold(self.view, fold, layer)
        tell_of_limits(self.number, fold, layer)
        self.view.push(layer)
        fanned = self.fanouts.work_off(answers, fold, layer, slice_items, grants)
        receipts = self._fold_receipts(fold, answers)
        moved = {intake.topic: intake.next_offset for intake in intakes}
        self.positions = {**self.positions, **moved}
        told = self.positions if self.positions_unsaid else dict(moved)
        self.positions_unsaid = False
        # With the items, so that a cycle of content alone writes to one changelog alone.
        content_moved = {}
        if CONTENT in moved:
            self._content_end = max(self._content_end, moved[CONTENT])
            content_moved = {CONTENT: moved.pop(CONTENT), CONTENT_END: self._content_end}
        outputs = answers.outputs()
        trail = NO_LINKS if self._trail is None else self._trail.link(fold, answers, now_ms)
        dead_letters = [letter for intake in intakes for letter in intake.dead_letters]
        return Folded(
            self,
            [*outputs, *dead_letters, *receipts.outputs, *trail.outputs],
            [
                *layer.users_rows(),
                *position_rows(moved),
                *self._notes(fold, outputs),
                *receipts.users_rows,
                *trail.users_rows,
            ],
            [*layer.content_rows(), *position_rows(content_moved)],
            [*self._timer_rows(fold, due), *index_rows, *receipts.local_rows],
            self.positions,
            told,
            layer,
            handled,
            fanned,
            [fanned_of(job) for job in layer.jobs.values() if job is not None],
            answers.grants_by_time,
            receipts,
            answers.purges_ms,
            Delivered(),
            settles,
            fold.tells if self._tells else [],
        )

    def _settle(self, fold: Fold) -> None:
        """Answer what aborted transactions have said, and nothing since."""
        for user_id, epoch in self.unanswered.settle().items():
            if user_id in fold.users or self.view.user(user_id) is not None:
                fold.answer_all_anew(user_id, epoch)

    def _fold_receipts(self, fold: Fold, answers: Answers) -> Part:
        deleted = [
            user_id
            for user_id, change in fold.users.items()
            if change.after.user.deleted and not (change.before and change.before.user.deleted)
        ]

        def touched(user_id: str) -> bool:
            return user_id in fold.users or user_id in answers.jobs

        return self.receipts.fold(touched, answers.answered, deleted)

    def _is_settled(self, user_id: str, action: Action) -> bool:
        """Whether nothing that an *action* of a user has caused is on its way or held."""
        row = self.view.user(user_id)
        if user_id in self.view.jobs or (row is not None and row.seeded):
            return False
        return action == "filed" or row is None or row.held is None

    def _notes(self, fold: Fold, outputs: list[Output]) -> list[Row]:
        """Return what else the state has to say of itself, with the decisions it is true of."""
        notes = [*self.sweep.notes(), *self.unanswered.notes(outputs), *self.guard.notes()]
        notes += self._naming.rows()
        return [*self._outputs_row, *notes] if fold.users or notes else []

    def persisted(self, folded: Folded) -> None:
        """Note that the rows of *folded*, the oldest of this partition, are in the store."""
        self._committed = folded.positions
        self.view.pop(folded.layer)
        self.sweep.persisted()
        self.letters.persisted()
        self.unanswered.committed(folded.outputs, settled=folded.settles)
        self._naming.persisted(folded.users_rows)
        if self._outputs_row and self._outputs_row[0] in folded.users_rows:
            self._outputs_row = []
        self._timers.persisted([row for row in folded.local_rows if row[0][:1] == rows.TIMER])
        self.receipts.persisted(folded.receipts, folded.delivered.ends, folded.delivered.at_ms)
        if self.receipts.unsettled and not (self.holding or self.view.jobs or self._due_at_once()):
            self.receipts.settle()

    def _due_at_once(self) -> bool:
        return self._timers.next_due_ms() == DUE_AT_ONCE_MS

    def roll_back(self, positions: dict[str, int]) -> None:
        """Forget all that is not persisted; the inputs are read again from *positions*."""
        self.view.drop()
        self._timers.roll_back()
        self.letters.roll_back()
        self.sweep.reload()
        self.guard.reload()
        self.unanswered.roll_back()
        self.receipts.roll_back()
        if self._trail is not None:
            self._trail.reload()
        self.positions = self._committed = positions
        # Else fan-outs would answer again what content that is read again has answered.
        self._content_end = self._content_high()
        self.positions_unsaid = True

    def _check_seamless(self, intakes: list[Intake]) -> None:
        """End the process, before anything is committed, if records were skipped or doubled."""
        positions = dict(self.positions)
        for intake in intakes:
            if intake.begin != positions[intake.topic]:
                raise Halt(
                    f"{intake.topic}/{self.number}: records from {positions[intake.topic]} on were "
                    f"expected, those from {intake.begin} on came"
                )
            positions[intake.topic] = intake.next_offset

    def _fetch_ahead(self, intakes: list[Intake], user_ids: list[str]) -> None:
        users = set(user_ids)
        items: set[tuple[str, str]] = set()
        for intake in intakes:
            for entry in intake.entries:
                event = entry.event
                if event.user_id is not None:
                    users.add(event.user_id)
                    if not isinstance(event, UserFacts) and event.content_id is not None:
                        items.add((event.user_id, event.content_id))
        self.view.fetch(users, items)

    def _is_free(self, user_id: str, free_below: Mapping[str, int]) -> bool:
        """Whether the grant that *user_id* waits for came of a record that may grant now."""
        row = self.view.user(user_id)
        held = None if row is None else row.held
        return held is not None and is_below(held.cause, free_below)

    def _layer_of(self, fold: Fold, answers: Answers) -> Layer:
        layer = Layer()
        layer.users = {
            user_id: change.after
            for user_id, change in fold.users.items()
            if change.after is not change.before
        }
        for change in fold.items.values():
            if change.after is not None:
                keep_item(layer, change, change.after)
        layer.jobs = dict(answers.jobs)
        forget(layer, answers)
        return layer

    def _timer_rows(self, fold: Fold, due: Iterable[tuple[int, str]]) -> list[Row]:
        fired = set(due)
        found: list[Row] = [(rows.timer_key(due_ms, user_id), None) for due_ms, user_id in fired]
        for user_id, change in fold.users.items():
            next_ms = change.after.next_change_ms
            before_ms = None if change.before is None else change.before.next_change_ms
            is_set = next_ms == before_ms and (next_ms, user_id) not in fired
            if next_ms != NEVER_MS and not is_set:
                found.append((rows.timer_key(next_ms, user_id), b""))
        return found

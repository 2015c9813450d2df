"""
Brings published receipts to where the stores are.

A published receipt gets a number.  Targets rise with numbers, so what a store has reached is always
the receipts up to some number: a cursor for each store and phase is all there is to remember, for
one receipt or a million, and when a store goes back its cursor does.
A store that is no longer configured goes on counting in the receipts that name it.
"""

import time
from collections.abc import Callable
from itertools import islice
from typing import Final

from streams.core import receipts
from streams.core.levels import Ack, Level, Levels
from streams.core.receipts import Offsets, Phase, ReceiptRow
from streams.setting_values import Store as DataStore
from streams.state import rows
from streams.state.store import Row
from streams.worker.receipt_notes import UNREACHABLE, Cursor, Following, Note, read_note
from streams.worker.receipt_rows import ReceiptRows

WALKED_AT_ONCE: Final = 200  # receipts brought to where a store is: some 5 ms,
WALK_EVERY_S: Final = 0.1  # no more often than so

Place = tuple[str, Phase]


class Walks:
    """
    The cursors over a partition's receipts, *table*.

    levels: how far the stores are.  note_due: the note has to be written though no receipt changes.
    """

    def __init__(
        self, table: ReceiptRows, stores: tuple[DataStore, ...], clock_s: Callable[[], float]
    ) -> None:
        self.levels = Levels()
        self.note_due = False
        self._table = table
        self._configured = {each.name: Following.of(each) for each in stores}
        self._clock_s = clock_s
        self._walk_s = 0.0  # not before
        self._followed = False
        self._output_ids = ""
        self._offsets: dict[Place, Offsets] = {}  # of the levels, as long as they stand
        self._read()
        for name, topic, level in self.note.noted_levels():
            self.levels.set(name, topic, level)
        self._look_all()

    def _read(self) -> None:
        self.note: Note = read_note(self._table.store)
        self.following = {**self.note.following(), **self._configured}
        last = self.note.next_number - 1
        self._cursors: dict[Place, Cursor] = {}
        for each in self.following.values():
            for phase in each.phases:
                # A new store is in no receipt that there is.
                cursor = self.note.cursor(each.name, phase) or Cursor(last, last, last)
                self._cursors[each.name, phase] = cursor

    def roll_back(self) -> None:
        """Go back to what was noted; what stores have said stays said."""
        since_ms, heard_upto = self.note.since_ms, self.note.heard_upto
        self._read()
        self.note.heard_upto = heard_upto
        self._take_outputs(since_ms)
        self._look_all()
        # A store may have gone back since the note was last written.
        for name, topic, noted in self.note.noted_levels():
            for phase in self.following[name].phases:
                if self.levels.get(name, topic).offset(phase) < noted.offset(phase):
                    self._go_back(self.following[name], phase, int(time.time() * 1000))

    # Outputs that are made anew.

    def outputs_are(self, output_ids: str, now_ms: int) -> None:
        """
        Say which topics the outputs are.

        Where they were made anew, offsets of before mean nothing: what stores have acknowledged so
        far does not count, and receipts of before wait until all is published again (`settle`).
        """
        self._output_ids = output_ids
        if self.note.outputs not in ("", output_ids):
            self.levels = Levels()
            self._offsets.clear()
            self.note.since_ms = now_ms
        self._take_outputs(self.note.since_ms)

    def _take_outputs(self, since_ms: int) -> None:
        """Let the note be of the outputs as they are now."""
        note = self.note
        if note.outputs == self._output_ids:
            return
        if note.outputs:
            note.levels.clear()
            note.floor, note.floor_targets, note.since_ms = note.next_number - 1, None, since_ms
            self.note_due = True
        note.outputs = self._output_ids
        self._look_all()

    @property
    def unsettled(self) -> bool:
        """Whether receipts wait until all that stands is published again."""
        return self.note.floor > 0 and self.note.floor_targets is None

    def settle(self, ends: Offsets) -> None:
        """Note that all that stands has been published again, and ends at *ends*."""
        self.note.floor_targets = ends
        self.note_due = True
        self._look_all()

    # What stores say.

    def follow(self, acks_end: int) -> None:
        """Begin to listen; *acks_end* of `purge-acks` tells whether it is the one of before."""
        self._followed = True
        if self.note.heard_upto > acks_end:
            self.note.heard_upto = 0

    def refuse(self, ack: Ack) -> None:
        """Note that *ack* does not count, so that it never will when the output has grown."""
        if ack.position >= 0:
            self.note.heard_upto = ack.position + 1
            self.note_due = True

    def acknowledge(self, ack: Ack) -> Level | None:
        """Let *ack* hold; return the level before it, or None where it says nothing to us."""
        following = self.following.get(ack.store)
        if following is None or ack.topic not in following.topics or not self._followed:
            return None
        if ack.at_ms < self.note.since_ms:
            return None
        if ack.position >= 0:
            self.note.heard_upto = ack.position + 1
        before = self.levels.acknowledge(ack)
        after = self.levels.get(ack.store, ack.topic)
        self._offsets.clear()
        for phase in following.phases:
            if after.offset(phase) < before.offset(phase):
                self._go_back(following, phase, ack.at_ms)
            elif after.offset(phase) > before.offset(phase):
                level = self._level(ack.store, phase)
                self._cursors[ack.store, phase].passes(level, ack.at_ms)
        return before

    def are_due(self) -> bool:
        """Whether there is something to write."""
        return self.note_due or any(self._is_stirred(place) for place in self._cursors)

    # Receipts.

    def publish(self, key: bytes, before: ReceiptRow, targets: Offsets, at_ms: int) -> None:
        """Give a receipt its number; stores that have reached it already are told in it."""
        number = self.note.next_number
        self.note.next_number += 1
        row = receipts.published(before, number, targets, at_ms)
        self._table.now.numbers[number] = key
        for store in row.stores:
            following = self.following[store.name]
            for phase in following.phases:
                if self._is_reached(following, phase, targets):
                    reached_ms = self.levels.since_ms(store.name, phase, following.topics)
                    row = receipts.applied(row, store.name, phase, reached_ms)
                elif (cursor := self._cursors[store.name, phase]).awaits is None:
                    cursor.awaits = targets
        self._table.put(key, before, row)

    def walk(self) -> None:
        """Bring receipts to where the stores are, first back, then forward."""
        now_s = self._clock_s()
        if now_s < self._walk_s:
            return
        left = WALKED_AT_ONCE
        for place, cursor in self._cursors.items():
            if left > 0 and self._is_stirred(place):
                left -= self._walk_back(place, cursor, left)
            if left > 0 and self._is_stirred(place):
                left -= self._walk_on(place, cursor, left)
        if left < WALKED_AT_ONCE:
            self._walk_s = now_s + WALK_EVERY_S

    def note_rows(self) -> list[Row]:
        """Return the note as a row, as it is now."""
        self.note_due = False
        note = self.note.encode(self.following, self.levels, self._cursors)
        return [(rows.RECEIPTS_KEY, note)]

    def _walk_back(self, place: Place, cursor: Cursor, limit: int) -> int:
        name, phase = place
        topics = self.following[name].topics
        walked = 0
        for number, key, row in islice(self._table.numbered(cursor.back), limit):
            if number > cursor.upto:
                break
            walked += 1
            cursor.back = number
            if row is not None and not receipts.reached(self._targets(row), cursor.low, topics):
                self._change(key, row, receipts.reopened(row, name, phase, cursor.back_ms))
        if walked < limit:
            cursor.back = cursor.upto
        return walked

    def _walk_on(self, place: Place, cursor: Cursor, limit: int) -> int:
        name, phase = place
        following = self.following[name]
        walked = 0
        cursor.awaits = None
        for number, key, row in self._table.numbered(cursor.done):
            if row is not None:
                targets = self._targets(row)
                if walked >= limit or not self._is_reached(following, phase, targets):
                    cursor.awaits = targets
                    break
                at_ms = cursor.passed_ms(targets, following.topics)
                if at_ms is None:
                    at_ms = self.levels.since_ms(name, phase, following.topics)
                self._change(key, row, receipts.applied(row, name, phase, at_ms))
            walked += 1
            cursor.done = number
        return walked

    def _change(self, key: bytes, row: ReceiptRow, then: ReceiptRow) -> None:
        if then is not row:
            self._table.put(key, row, then)

    # Cursors.

    def _level(self, name: str, phase: Phase) -> Offsets:
        found = self._offsets.get((name, phase))
        if found is None:
            found = self._offsets[name, phase] = self.levels.offsets(name, phase)
        return found

    def _is_reached(self, following: Following, phase: Phase, targets: Offsets) -> bool:
        return receipts.reached(targets, self._level(following.name, phase), following.topics)

    def _is_stirred(self, place: Place) -> bool:
        """Whether a cursor has receipts to go over."""
        if not self._followed:
            return False
        cursor = self._cursors[place]
        if cursor.back < cursor.upto:
            return True
        name, phase = place
        return cursor.awaits is not None and self._is_reached(
            self.following[name], phase, cursor.awaits
        )

    def _targets(self, row: ReceiptRow) -> Offsets:
        if row.number > self.note.floor:
            return row.targets
        return self.note.floor_targets or UNREACHABLE

    def _look_all(self) -> None:
        for cursor in self._cursors.values():
            self._look(cursor)

    def _look(self, cursor: Cursor) -> None:
        """Find what a cursor waits for next."""
        found = (row for _, _, row in self._table.numbered(cursor.done) if row is not None)
        row = next(found, None)
        cursor.awaits = None if row is None else self._targets(row)

    def _go_back(self, following: Following, phase: Phase, at_ms: int) -> None:
        """Let a store's cursor go back to the receipts that it has still reached."""
        cursor = self._cursors[following.name, phase]
        least, beyond = 0, cursor.done + 1
        while least + 1 < beyond:
            middle = (least + beyond) // 2
            found = next(((n, row) for n, _, row in self._table.numbered(middle - 1) if row), None)
            if found is None or found[0] >= beyond:
                beyond = middle
            elif self._is_reached(following, phase, self._targets(found[1])):
                least = found[0]
            else:
                beyond = middle
        level = self._level(following.name, phase)
        cursor.goes_back(least, self.note.next_number - 1, level, at_ms)
        self.note_due = True
        self._look(cursor)

"""
The receipts of one partition: opened by objections, published with a cycle's transaction.

Every receipt is a row of the users changelog, written in the transaction of the decision.  Its
publication is known only once that is committed, and is written with the next cycle, or alone a
moment later.  After a crash in between, whatever is left open and waits for nothing is published
then, with a target and a time that are later than the true ones, never earlier.

A published receipt gets a number.  Targets rise with numbers, so what a store has reached is always
the receipts up to some number: a cursor for each store and phase is all there is to remember, for
one receipt or a million, and when a store goes back its cursor does.  Rows stay, as the objections
in their users' rows do, some 100 bytes each; those of a deleted account go when they are complete.
A store that is no longer configured goes on counting in the receipts that name it.

Pure but for the store: no Kafka here.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from streams.core import receipts
from streams.core.fold import Origin, UserRow
from streams.core.levels import Ack, Level, Levels
from streams.core.outputs import Output
from streams.core.receipts import (
    FOLLOWED,
    NOWHERE,
    Action,
    Offsets,
    Phase,
    ReceiptRow,
    StoreRow,
)
from streams.core.user import WITHDRAWN
from streams.setting_values import Store as DataStore
from streams.state import rows
from streams.state.store import Row, Store
from streams.worker.names import RECEIPTS
from streams.worker.receipt_notes import UNREACHABLE, Cursor, Following, Note, read_note

ALONE_AFTER_S: Final = 0.1  # for so long what is due waits for a cycle that is made anyway
WALKED_AT_ONCE: Final = 200  # receipts brought to where a store is, every so long: some 5 ms

_encode: Final = msgspec.json.Encoder().encode

# Whether nothing is on its way any more that an action of a user has caused.
Settled = Callable[[str, Action], bool]


class Told(NamedTuple):
    """
    A receipt whose last outputs are committed, as of its *records*; targets are still to be found.

    with_stores: whether it needs targets.  targets: None until it is known where outputs end.
    """

    key: bytes
    records: int
    with_stores: bool
    at_ms: int
    targets: Offsets | None


class Part:
    """
    What a cycle changed in the receipts, and publishes of them.

    committing: receipts of which the last outputs are in this cycle.
    """

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.users_rows: list[Row] = []
        self.local_rows: list[Row] = []
        self.rows: dict[bytes, ReceiptRow | None] = {}
        self.before: dict[bytes, ReceiptRow | None] = {}
        self.numbers: dict[int, bytes] = {}
        self.to_publish: dict[bytes, None] = {}
        self.committing: list[Told] = []


class Receipts:
    """
    The receipts of the partition whose state is *store*.

    stores: those whose progress new receipts tell.
    clock_offset_ms: of the cycle's clock: latencies are told by the real one.
    """

    def __init__(
        self,
        store: Store,
        stores: tuple[DataStore, ...],
        settled: Settled,
        clock_offset_ms: int = 0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock_s = clock_s
        self.levels = Levels()
        self._store = store
        self._settled = settled
        self._clock_offset_ms = clock_offset_ms
        self._configured = {each.name: Following.of(each) for each in stores}
        self._fresh = tuple(StoreRow(each.name, each.erases) for each in self._configured.values())
        self._ends: Offsets | None = None  # behind the last record of each output
        self._delivered: Offsets = NOWHERE
        self._output_ids = ""
        self._levels_known = False
        self._note_due = False  # it has to be written though no receipt has changed
        self._due_s: float | None = None
        self._walk_s = 0.0  # not before
        self._layers: deque[Part] = deque()
        self._now = Part()
        self._read()
        for name, topic, level in self._note.noted_levels():
            self.levels.set(name, topic, level)
        for name, phase in self._cursors:
            self._look(name, phase)

    def _read(self) -> None:
        """Take up what the store holds; nothing is under way."""
        self._now = Part()
        self._note: Note = read_note(self._store)
        self.following = {**self._note.following(), **self._configured}
        last = self._note.next_number - 1
        self._cursors: dict[tuple[str, Phase], Cursor] = {}
        for each in self.following.values():
            for phase in each.phases:
                # A new store is in no receipt that there is.
                cursor = self._note.cursor(each.name, phase) or Cursor(last, last, last)
                self._cursors[each.name, phase] = cursor
        self._told: deque[Told] = deque()
        self._waiting: dict[str, set[bytes]] = {}
        now_ms = int(time.time() * 1000)
        for key, _ in self._store.scan(rows.RECEIPT_OPEN):
            row_key = key[1:]
            row = self._row(row_key)
            if row is None or row.published_ms:
                continue
            user_id, _, action = rows.receipt_of(row_key)
            if self._settled(user_id, action):
                told = Told(row_key, row.records, bool(row.stores), now_ms, self._ends)
                self._told.append(told)
            else:
                self._waiting.setdefault(user_id, set()).add(row_key)

    def outputs_are(self, output_ids: str, now_ms: int) -> None:
        """
        Say which topics the outputs are.

        Where they were made anew, offsets of before mean nothing: what stores have acknowledged so
        far does not count, and receipts of before wait until all is published again (`settle`).
        """
        self._output_ids = output_ids
        if self._note.outputs not in ("", output_ids):
            self.levels = Levels()
            self._note.levels.clear()
            self._note.since_ms = now_ms
        self._take_outputs(self._note.since_ms)

    def _take_outputs(self, since_ms: int) -> None:
        """Let the note be of the outputs as they are now."""
        note = self._note
        if note.outputs == self._output_ids:
            return
        if note.outputs:
            note.levels.clear()
            note.floor, note.floor_targets, note.since_ms = note.next_number - 1, None, since_ms
            self._note_due = True
        note.outputs = self._output_ids
        for name, phase in self._cursors:
            self._look(name, phase)

    @property
    def unsettled(self) -> bool:
        """Whether receipts wait until all that stands is published again."""
        return self._note.floor > 0 and self._note.floor_targets is None

    def settle(self) -> None:
        """Note that all that stands has been published again, and is committed."""
        if self._ends is None or self._layers:
            return
        self._note.floor_targets = self._ends
        self._note_due = True
        for name, phase in self._cursors:
            self._look(name, phase)

    # What stores say, and where outputs end.

    def follow(self, ends: Offsets, acks_end: int) -> None:
        """
        Begin to follow the stores: the last records of outputs ended at *ends*.

        acks_end: of `purge-acks`, to know whether it is still the one that was heard before.
        """
        self._levels_known = True
        delivered = self._delivered
        users, content = max(ends[1], delivered[1]), max(ends[2], delivered[2])
        self._ends = max(ends[0], delivered[0]), users, content
        if self._note.heard_upto > acks_end:
            self._note.heard_upto = 0
        self._soon()

    @property
    def heard_upto(self) -> int:
        """The offset of `purge-acks` behind the last acknowledgement that the levels tell of."""
        return self._note.heard_upto

    def is_heard(self, ack: Ack) -> bool:
        """Whether the levels tell of *ack*, or of what came after it."""
        return 0 <= ack.position < self.heard_upto

    def refuse(self, ack: Ack) -> None:
        """Note that *ack* does not count, so that it never will when the output has grown."""
        if ack.position >= 0:
            self._note.heard_upto = ack.position + 1
            self._note_due = True
            self._soon()

    def acknowledge(self, ack: Ack) -> Level | None:
        """Let *ack* hold; return the level before it, or None where it says nothing to us."""
        following = self.following.get(ack.store)
        if following is None or ack.topic not in following.topics or not self._levels_known:
            return None
        if ack.at_ms < self._note.since_ms:
            return None
        if ack.position >= 0:
            self._note.heard_upto = ack.position + 1
        before = self.levels.acknowledge(ack)
        after = self.levels.get(ack.store, ack.topic)
        for phase in following.phases:
            if after.offset(phase) < before.offset(phase):
                self._go_back(following, phase, ack.at_ms)
            elif after.offset(phase) > before.offset(phase):
                level = self.levels.offsets(ack.store, phase)
                self._cursors[ack.store, phase].passes(level, ack.at_ms)
        self._soon()
        return before

    def has_work(self) -> bool:
        """Whether something is due that no cycle has come by for."""
        return (
            self._due_s is not None and self._clock_s() >= self._due_s and self._is_anything_due()
        )

    def _soon(self) -> None:
        if self._due_s is None and self._is_anything_due():
            self._due_s = self._clock_s() + ALONE_AFTER_S

    def _is_anything_due(self) -> bool:
        return (
            self._note_due
            or any(self._is_stirred(name, phase) for name, phase in self._cursors)
            or any(self._ends is not None or not each.with_stores for each in self._told)
        )

    # The cycle.

    def hear(
        self,
        user_id: str,
        objections: Mapping[str, int],
        origin: Origin,
        before: UserRow | None,
        after: UserRow,
        now_ms: int,
    ) -> None:
        """
        Note an objection filed or withdrawn, which took the user's row from *before* to *after*.

        A repetition changes nothing; a record that lets the objection cover more extends it.
        """
        known_flags = {} if before is None else before.user.objections
        changed = before is None or before.decision != after.decision or after.held != before.held
        for objection_id, flags in objections.items():
            action: Action = "withdrawn" if flags & WITHDRAWN else "filed"
            key = rows.receipt_key(user_id, objection_id, action)
            decided_ms = max(now_ms - self._clock_offset_ms, origin.received_ms)
            row = ReceiptRow(
                origin.received_ms,
                decided_ms,
                self._fresh,
                changed,
                forget=after.user.deleted,
            )
            known = self._row(key)
            if known is not None:
                if not flags & ~known_flags.get(objection_id, 0) or after.user.deleted:
                    continue
                row = receipts.extended(known, row)
            self._put(key, row)
            self._waiting.setdefault(user_id, set()).add(key)

    def fold(
        self,
        touched: Iterable[str],
        answered: Mapping[str, tuple[int, int]],
        deleted: Iterable[str],
    ) -> Part:
        """
        Return what a cycle changes in the receipts, at its end.

        touched: users of whom something may be settled now.
        answered: items purged, and items allowed again, of users whose decision has changed.
        deleted: users whose account has been deleted in this cycle.
        """
        for user_id, (purged, allowed) in answered.items():
            self._count(user_id, purged, allowed)
        for user_id in touched:
            if user_id in self._waiting:
                self._settle_user(user_id)
        for user_id in deleted:
            self._forget(user_id)
        self._publish_told()
        self._walk()
        part, self._now = self._now, Part()
        self._write(part)
        self._layers.append(part)
        self._due_s = None
        self._soon()
        return part

    def persisted(self, part: Part, delivered: Mapping[str, int], at_ms: int) -> None:
        """
        Note that *part*, the oldest of this partition, is committed and in the store.

        delivered: where its records of outputs end.
        """
        assert self._layers[0] is part
        self._layers.popleft()
        if delivered:
            eligibility, users, content = (
                max(delivered.get(topic, 0), end)
                for topic, end in zip(FOLLOWED, self._ends or self._delivered, strict=True)
            )
            self._delivered = eligibility, users, content
            if self._ends is not None:
                self._ends = self._delivered
        for told in part.committing:
            self._told.append(told._replace(at_ms=at_ms, targets=self._ends))
        self._soon()

    def roll_back(self) -> None:
        """Forget all that is not persisted."""
        self._layers.clear()
        since_ms, heard_upto = self._note.since_ms, self._note.heard_upto
        self._read()
        self._note.heard_upto = heard_upto  # as the levels stay
        self._take_outputs(since_ms)
        for name, phase in self._cursors:
            self._look(name, phase)
        # A store may have gone back since the note was last written.
        for name, topic, noted in self._note.noted_levels():
            for phase in self.following[name].phases:
                if self.levels.get(name, topic).offset(phase) < noted.offset(phase):
                    self._go_back(self.following[name], phase, int(time.time() * 1000))
        self._soon()

    def _count(self, user_id: str, purged: int, allowed: int) -> None:
        """Count items answered: purges are a filed objection's doing, the rest a withdrawal's."""
        for key in self._waiting.get(user_id, ()):
            row = self._row(key)
            if row is not None and row.caused:
                filed = rows.receipt_of(key)[2] == "filed"
                if count := purged if filed else allowed:
                    more = msgspec.structs.replace(row, items=row.items + count)
                    self._put(key, more, publish=False)

    def _settle_user(self, user_id: str) -> None:
        """Let the receipts of a user be published with the commit of this cycle, if they can be."""
        waiting = self._waiting[user_id]
        for key in list(waiting):
            row = self._row(key)
            if row is None or row.published_ms:
                waiting.discard(key)
            elif self._settled(user_id, rows.receipt_of(key)[2]):
                waiting.discard(key)
                self._now.to_publish.pop(key, None)  # in a moment it is known to be published
                self._now.committing.append(Told(key, row.records, bool(row.stores), 0, None))
        if not waiting:
            del self._waiting[user_id]

    def _forget(self, user_id: str) -> None:
        """Remove the complete receipts of a deleted account; the others go once they are."""
        prefix = rows.receipts_prefix(user_id)
        found = {key for key, _ in self._store.scan(prefix)}
        for layer in (*self._layers, self._now):
            found.update(key for key in layer.rows if key.startswith(prefix))
        for key in found:
            row = self._row(key)
            if row is not None:
                self._put(key, msgspec.structs.replace(row, forget=True), publish=False)

    def _publish_told(self) -> None:
        """Publish receipts of which the last outputs are known to be committed."""
        later: list[Told] = []
        for told in self._told:
            row = self._row(told.key)
            if row is None or row.published_ms or row.records != told.records:
                continue  # extended meanwhile: it is published with what that causes
            targets = told.targets or self._ends
            if not row.stores:
                self._put(told.key, receipts.published(row, 0, NOWHERE, told.at_ms))
            elif targets is None:
                later.append(told)
            else:
                self._publish(told, row, targets)
        self._told = deque(later)

    def _publish(self, told: Told, row: ReceiptRow, targets: Offsets) -> None:
        number = self._note.next_number
        self._note.next_number += 1
        row = receipts.published(row, number, targets, told.at_ms)
        self._now.numbers[number] = told.key
        for store in row.stores:
            following = self.following[store.name]
            for phase in following.phases:
                if self._is_reached(following, phase, targets):
                    at_ms = self.levels.since_ms(store.name, phase, following.topics)
                    row = receipts.applied(row, store.name, phase, at_ms)
                elif (cursor := self._cursors[store.name, phase]).awaits is None:
                    cursor.awaits = targets
        self._put(told.key, row)

    # Cursors.

    def _is_reached(self, following: Following, phase: Phase, targets: Offsets) -> bool:
        level = self.levels.offsets(following.name, phase)
        return receipts.reached(targets, level, following.topics)

    def _is_stirred(self, name: str, phase: Phase) -> bool:
        if not self._levels_known:
            return False
        cursor = self._cursors[name, phase]
        if cursor.back < cursor.upto:
            return True
        return cursor.awaits is not None and self._is_reached(
            self.following[name], phase, cursor.awaits
        )

    def _targets(self, row: ReceiptRow) -> Offsets:
        if row.number > self._note.floor:
            return row.targets
        return self._note.floor_targets or UNREACHABLE

    def _look(self, name: str, phase: Phase) -> None:
        """Find what a cursor waits for next."""
        cursor = self._cursors[name, phase]
        cursor.awaits = None
        for _, _, row in self._numbered(cursor.done):
            if row is not None:
                cursor.awaits = self._targets(row)
                return

    def _go_back(self, following: Following, phase: Phase, at_ms: int) -> None:
        """Let a store's cursor go back to the receipts that it has still reached."""
        cursor = self._cursors[following.name, phase]
        least, beyond = 0, cursor.done + 1
        while least + 1 < beyond:
            middle = (least + beyond) // 2
            found = next(((n, row) for n, _, row in self._numbered(middle - 1) if row), None)
            if found is None or found[0] >= beyond:
                beyond = middle
            elif self._is_reached(following, phase, self._targets(found[1])):
                least = found[0]
            else:
                beyond = middle
        cursor.goes_back(
            least,
            self._note.next_number - 1,
            self.levels.offsets(following.name, phase),
            at_ms,
        )
        self._note_due = True
        self._look(following.name, phase)

    def _walk(self) -> None:
        """Bring receipts to where the stores are, first back, then forward."""
        now_s = self._clock_s()
        if now_s < self._walk_s:
            return
        left = WALKED_AT_ONCE
        for (name, phase), cursor in self._cursors.items():
            if left > 0 and self._is_stirred(name, phase):
                left -= self._walk_back(name, phase, cursor, left)
            if left > 0 and self._is_stirred(name, phase):
                left -= self._walk_on(name, phase, cursor, left)
        if left < WALKED_AT_ONCE:
            self._walk_s = now_s + ALONE_AFTER_S

    def _walk_back(self, name: str, phase: Phase, cursor: Cursor, limit: int) -> int:
        walked = 0
        for number, key, row in islice(self._numbered(cursor.back), limit):
            if number > cursor.upto:
                break
            walked += 1
            cursor.back = number
            if row is not None and not receipts.reached(
                self._targets(row), cursor.low, self.following[name].topics
            ):
                self._change(key, row, receipts.reopened(row, name, phase, cursor.back_ms))
        if walked < limit:
            cursor.back = cursor.upto
        return walked

    def _walk_on(self, name: str, phase: Phase, cursor: Cursor, limit: int) -> int:
        walked = 0
        following = self.following[name]
        cursor.awaits = None
        for number, key, row in self._numbered(cursor.done):
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

    def _numbered(self, after: int) -> Iterator[tuple[int, bytes, ReceiptRow | None]]:
        """Yield published receipts behind number *after*; None for a number of no row any more."""
        start = rows.receipt_number_key(after)[1:]
        for number_key, row_key in self._store.scan(rows.RECEIPT_NUMBER, start):
            yield self._with_row(rows.receipt_number_of(number_key), row_key)
        for layer in (*self._layers, self._now):
            for number, row_key in list(layer.numbers.items()):
                if number > after:
                    yield self._with_row(number, row_key)

    def _with_row(self, number: int, key: bytes) -> tuple[int, bytes, ReceiptRow | None]:
        row = self._row(key)
        if row is None or row.number != number:
            self._now.local_rows.append((rows.receipt_number_key(number), None))
            return number, key, None
        return number, key, row

    # Rows.

    def _row(self, key: bytes) -> ReceiptRow | None:
        if key in self._now.rows:
            return self._now.rows[key]
        for layer in reversed(self._layers):
            if key in layer.rows:
                return layer.rows[key]
        data = self._store.get(key)
        return None if data is None else rows.decode_receipt(data)

    def _change(self, key: bytes, row: ReceiptRow, then: ReceiptRow) -> None:
        if then is not row:
            self._put(key, then)

    def _put(self, key: bytes, row: ReceiptRow, *, publish: bool = True) -> None:
        now = self._now
        if key not in now.rows:
            now.before[key] = self._row(key)
        now.rows[key] = row
        if publish:
            now.to_publish[key] = None

    def _write(self, part: Part) -> None:
        """Make the rows and records of *part*."""
        for key in part.to_publish:
            row = part.rows[key]
            assert row is not None
            part.outputs.append(_output(key, row))
        for key, row in part.rows.items():
            kept = None if row is None or (row.forget and row.completed_ms) else row
            part.rows[key] = kept
            part.users_rows.append((key, None if kept is None else rows.encode_receipt(kept)))
            old = part.before[key]
            old_index = None if old is None else rows.receipt_index(key, old)
            index = None if kept is None else rows.receipt_index(key, kept)
            if old_index is not None and (index is None or index[0] != old_index[0]):
                part.local_rows.append((old_index[0], None))
            if index is not None and index != old_index:
                part.local_rows.append(index)
        if (part.rows and self.following) or self._note_due:
            self._note_due = False
            part.users_rows.append(
                (rows.RECEIPTS_KEY, self._note.encode(self.following, self.levels, self._cursors))
            )


def _output(key: bytes, row: ReceiptRow) -> Output:
    receipt = receipts.record(*rows.receipt_of(key), row)
    return Output(RECEIPTS, receipt.key.encode(), _encode(receipt), [])

"""
The receipts of one partition: opened by objections, published with a cycle's transaction.

Every receipt is a row of the users changelog, written in the transaction of the decision.  Its
publication is known only once that is committed, and is written with the next cycle, or alone a
moment later.  After a crash in between, whatever is left open and waits for nothing is published
then, with a target and a time that are later than the true ones, never earlier.

Rows stay, as the objections in their users' rows do, some 100 bytes each: a store that goes back
re-opens them.  Those of a deleted account go when they are complete, and stay complete.  Where the
changelog was lost, receipts are opened again as the objections are read again.

Pure but for the store: no Kafka here.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from streams.core import receipts
from streams.core.changes import Origin, UserRow
from streams.core.levels import Ack, Level, Levels
from streams.core.outputs import Header
from streams.core.receipts import FOLLOWED, NOWHERE, Action, Offsets, ReceiptRow, StoreRow
from streams.core.user import WITHDRAWN
from streams.setting_values import Store as DataStore
from streams.state import rows
from streams.state.store import Store
from streams.worker.receipt_notes import Following
from streams.worker.receipt_rows import Part, ReceiptRows, Told
from streams.worker.receipt_walks import Walks

ALONE_AFTER_S: Final = 0.1  # for so long what is due waits for a cycle that is made anyway

# Whether nothing is on its way any more that an action of a user has caused.
Settled = Callable[[str, Action], bool]


class Receipts:
    """
    The receipts of the partition whose state is *store*.

    stores: those whose progress new receipts tell.
    clock_offset_ms: of the cycle's clock: latencies are told by the real one.
    headers: of the records.
    """

    def __init__(
        self,
        store: Store,
        stores: tuple[DataStore, ...],
        settled: Settled,
        clock_offset_ms: int = 0,
        clock_s: Callable[[], float] = time.monotonic,
        headers: Sequence[Header] = (),
    ) -> None:
        self._settled = settled
        self._clock_offset_ms = clock_offset_ms
        self._clock_s = clock_s
        self._fresh = tuple(StoreRow(each.name, each.erases) for each in map(Following.of, stores))
        self._ends: Offsets | None = None  # behind the last record of each output
        self._delivered: Offsets = NOWHERE
        self._due_s: float | None = None
        self._table = ReceiptRows(store, headers)
        self._walks = Walks(self._table, stores, clock_s)
        self._find_unpublished()

    def _find_unpublished(self) -> None:
        """Take up the receipts that the store holds open; nothing is under way."""
        self._told: list[Told] = []
        self._waiting: dict[str, set[bytes]] = {}
        now_ms = int(time.time() * 1000)
        for key, row in self._table.unpublished():
            user_id, _, action = rows.receipt_of(key)
            if self._settled(user_id, action):
                self._told.append(Told(key, row.records, bool(row.stores), now_ms, self._ends))
            else:
                self._waiting.setdefault(user_id, set()).add(key)

    # What stores say, and where outputs end.

    @property
    def levels(self) -> Levels:
        """How far the stores are in this partition."""
        return self._walks.levels

    @property
    def heard_upto(self) -> int:
        """The offset of `purge-acks` behind the last acknowledgement that the levels tell of."""
        return self._walks.note.heard_upto

    def is_heard(self, ack: Ack) -> bool:
        """Whether the levels tell of *ack*, or of what came after it."""
        return 0 <= ack.position < self.heard_upto

    def outputs_are(self, output_ids: str, now_ms: int) -> None:
        """Say which topics the outputs are; see `Walks.outputs_are`."""
        self._walks.outputs_are(output_ids, now_ms)

    @property
    def unsettled(self) -> bool:
        """Whether receipts wait until all that stands is published again."""
        return self._walks.unsettled

    def settle(self) -> None:
        """Note that all that stands has been published again, if it is committed too."""
        if self._ends is not None and not self._table.layers:
            self._walks.settle(self._ends)

    def follow(self, ends: Offsets, acks_end: int) -> None:
        """
        Begin to follow the stores: the last records of outputs ended at *ends*.

        acks_end: of `purge-acks`, to know whether it is still the one that was heard before.
        """
        delivered = self._delivered
        users, content = max(ends[1], delivered[1]), max(ends[2], delivered[2])
        self._ends = max(ends[0], delivered[0]), users, content
        self._walks.follow(acks_end)
        self._soon()

    def refuse(self, ack: Ack) -> None:
        """Note that *ack* does not count, so that it never will when the output has grown."""
        self._walks.refuse(ack)
        self._soon()

    def acknowledge(self, ack: Ack) -> Level | None:
        """Let *ack* hold; return the level before it, or None where it says nothing to us."""
        before = self._walks.acknowledge(ack)
        self._soon()
        return before

    def has_work(self) -> bool:
        """Whether something is due that no cycle has come by for."""
        if self._due_s is None or self._clock_s() < self._due_s:
            return False
        return self._is_anything_due()

    def _soon(self) -> None:
        if self._due_s is None and self._is_anything_due():
            self._due_s = self._clock_s() + ALONE_AFTER_S

    def _is_anything_due(self) -> bool:
        return self._walks.are_due() or any(
            self._ends is not None or not each.with_stores for each in self._told
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
            forget = after.user.deleted
            row = ReceiptRow(origin.received_ms, decided_ms, self._fresh, changed, forget=forget)
            known = self._table.get(key)
            if known is not None:
                if not flags & ~known_flags.get(objection_id, 0) or forget:
                    continue
                row = receipts.extended(known, row)
            self._table.put(key, known, row)
            self._waiting.setdefault(user_id, set()).add(key)

    def fold(
        self,
        touched: Callable[[str], bool],
        answered: Mapping[str, tuple[int, int]],
        deleted: Iterable[str],
    ) -> Part:
        """
        Return what a cycle changes in the receipts, at its end.

        touched: whether something of a user may be settled now that was not before.
        answered: items purged, and items allowed again, of users whose decision has changed.
        deleted: users whose account has been deleted in this cycle.
        """
        if self._waiting:
            for user_id, (purged, allowed) in answered.items():
                self._count(user_id, purged, allowed)
            for user_id in [each for each in self._waiting if touched(each)]:
                self._settle_user(user_id)
        for user_id in deleted:  # complete ones go now, the others once they are
            for key, row in list(self._table.of_user(user_id)):
                self._table.put(key, row, replace(row, forget=True), publish=False)
        self._publish_told()
        self._walks.walk()
        part = self._table.finish()
        if (part.rows and self._walks.following) or self._walks.note_due:
            part.users_rows += self._walks.note_rows()
        self._due_s = None
        self._soon()
        return part

    def persisted(self, part: Part, delivered: Mapping[str, int], at_ms: int) -> None:
        """
        Note that *part*, the oldest of this partition, is committed and in the store.

        delivered: where its records of outputs end.
        """
        self._table.persisted(part)
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
        self._table.roll_back()
        self._walks.roll_back()
        self._find_unpublished()
        self._soon()

    def _count(self, user_id: str, purged: int, allowed: int) -> None:
        """Count items answered: purges are a filed objection's doing, the rest a withdrawal's."""
        for key in self._waiting.get(user_id, ()):
            row = self._table.get(key)
            count = purged if rows.receipt_of(key)[2] == "filed" else allowed
            if row is not None and row.caused and count:
                more = replace(row, items=row.items + count)
                self._table.put(key, row, more, publish=False)

    def _settle_user(self, user_id: str) -> None:
        """Let the receipts of a user be published with the commit of this cycle, if they can be."""
        waiting, now = self._waiting[user_id], self._table.now
        for key in list(waiting):
            row = self._table.get(key)
            if row is None or row.published_ms:
                waiting.discard(key)
            elif self._settled(user_id, rows.receipt_of(key)[2]):
                waiting.discard(key)
                now.to_publish.pop(key, None)  # in a moment it is known to be published
                now.committing.append(Told(key, row.records, bool(row.stores), 0, None))
        if not waiting:
            del self._waiting[user_id]

    def _publish_told(self) -> None:
        """Publish receipts of which the last outputs are known to be committed."""
        later: list[Told] = []
        for told in self._told:
            row = self._table.get(told.key)
            if row is None or row.published_ms or row.records != told.records:
                continue  # extended meanwhile: it is published with what that causes
            targets = told.targets or self._ends
            if not row.stores:
                done = receipts.published(row, 0, NOWHERE, told.at_ms)
                self._table.put(told.key, row, done)
            elif targets is None:
                later.append(told)
            else:
                self._walks.publish(told.key, row, targets, told.at_ms)
        self._told = later

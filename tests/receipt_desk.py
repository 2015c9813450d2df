"""
A partition's receipts over a real store, without Kafka: cycles, acknowledgements, crashes.
"""

from itertools import count
from pathlib import Path

import msgspec

from streams.core.changes import Cause, Origin, UserRow
from streams.core.levels import Ack
from streams.core.policy import Policy
from streams.core.receipts import FOLLOWED, Action, Offsets, Phase, Receipt
from streams.core.user import NOBODY, WITHDRAWN, User, merge
from streams.core.verdict import decide
from streams.setting_values import Store as DataStore
from streams.state import rows
from streams.state.store import Memory, Store
from streams.worker.copies import store_rows
from streams.worker.receipt_notes import Following
from streams.worker.receipt_rows import Part
from streams.worker.receipts import Receipts
from tests.making import NOW_MS

USERS, CONTENT = 1, 2  # indexes in FOLLOWED
STORES = (
    DataStore("features", ("training-users",)),
    DataStore("index", ("training-users", "training-content")),
    DataStore("lake", ("training-content",), group="lake-loader"),
)
MEMORY = Memory(1024 * 1024)


def user_row(user: User) -> UserRow:
    """Return the row of a user as the fold would make it."""
    decision, next_change_ms = decide(user, Policy(), NOW_MS)
    return UserRow(user, 1, decision, next_change_ms, 1, NOW_MS, Cause("objections", 0, 0))


class Desk:
    """
    Drives `Receipts` as a partition and a worker do.

    ends: behind the last record of each output, as committed.
    published: the last record of each receipt.
    """

    def __init__(self, folder: Path, stores: tuple[DataStore, ...] = STORES) -> None:
        self.stores = stores
        self.ends = [0, 0, 0]
        self.published: dict[str, Receipt] = {}
        self.log: list[Receipt] = []
        self.busy: set[str] = set()  # users with a fan-out under way
        self.now_ms = NOW_MS
        self._now_s = 0.0
        self._folder = folder
        self._names = count()
        self._users: dict[str, UserRow] = {}
        self._changelog: dict[bytes, bytes | None] = {}
        self._heard: dict[str, Ack] = {}  # the latest of each key, as compaction leaves them
        self._position = 0
        self.store = Store(folder / "0", MEMORY)
        self.receipts = self._make()

    def _make(self) -> Receipts:
        made = Receipts(
            self.store,
            self.stores,
            lambda user_id, _: user_id not in self.busy,
            clock_s=lambda: self._now_s,
        )
        made.outputs_are("ids", self.now_ms)
        return made

    def close(self) -> None:
        self.store.close()

    def hear(
        self, user_id: str, objection_id: str, action: Action = "filed", products: int = 15
    ) -> None:
        """Let an objection be folded in the cycle that comes next."""
        flags = WITHDRAWN if action == "withdrawn" else products
        before = self._users.get(user_id)
        known = NOBODY if before is None else before.user
        after = user_row(merge(known, User(objections={objection_id: flags})))
        self._users[user_id] = after
        self.now_ms += 10
        origin = Origin("objections", 0, 0, self.now_ms)
        self.receipts.hear(user_id, {objection_id: flags}, origin, before, after, self.now_ms + 1)

    def cycle(
        self,
        answered: dict[str, tuple[int, int]] | None = None,
        deleted: tuple[str, ...] = (),
        outputs: tuple[int, int, int] = (0, 0, 0),
        *,
        crash: str = "",
    ) -> Part:
        """Fold and commit one; *crash* "before" or "after" the commit, unknown to the worker."""
        part = self.receipts.fold(lambda _: True, answered or {}, deleted)
        if crash == "before":
            return part
        delivered = {}
        for index, number in enumerate(outputs):
            if number:
                self.ends[index] += number
                delivered[FOLLOWED[index]] = self.ends[index]
        self.ends = [end + 1 if end else 0 for end in self.ends]  # a control record
        for output in part.outputs:
            record = msgspec.json.decode(output.value or b"", type=Receipt)
            self.published[record.key] = record
            self.log.append(record)
        self._changelog.update(part.users_rows)
        self.store.write([*part.users_rows, *part.local_rows], {})
        if not crash:
            self.now_ms += 1
            self.receipts.persisted(part, delivered, self.now_ms)
        return part

    def quiet(self) -> None:
        """Go on until nothing is due."""
        for _ in range(1_000):
            self._now_s += 1
            if not self.receipts.has_work():
                return
            self.cycle()
        raise AssertionError("there is always something due")

    def acknowledge(self, store: str, topic: int, offset: int, phase: Phase = "hidden") -> None:
        """Let a store say how far it is."""
        self.now_ms += 5
        ack = Ack(store, topic, 0, phase, offset, self.now_ms, self._position)
        self._position += 1
        self._heard.pop(f"{store}{topic}{phase}", None)
        self._heard[f"{store}{topic}{phase}"] = ack
        self.receipts.acknowledge(ack)

    def acknowledge_all(self) -> None:
        """Let all stores be at the ends."""
        for each in self.stores:
            for topic in each.topics:
                index = FOLLOWED.index(topic)
                for phase in Following.of(each).phases:
                    self.acknowledge(each.name, index, self.ends[index], phase)

    def follow(self) -> None:
        """Let the worker learn of the stores, as it does a moment after it has taken over."""
        ends: Offsets = (self.ends[0], self.ends[1], self.ends[2])
        self.receipts.follow(ends, self._position)
        for ack in self._heard.values():
            if not self.receipts.is_heard(ack):
                self.receipts.acknowledge(ack)

    def restart(self, *, anew: bool) -> None:
        """Let another worker take over: the same store, or one made from the changelog alone."""
        if anew:
            self.store.close()
            self.store = Store(self._folder / f"anew{next(self._names)}", MEMORY)
            for key, value in self._changelog.items():
                self.store.write(store_rows(key, value), {})
        self.receipts = self._make()
        self.follow()

    def rows(self) -> dict[str, object]:
        """Return the rows of the changelog that are of receipts, by user and objection."""
        return {
            "/".join(rows.receipt_of(key)): rows.decode_receipt(value)
            for key, value in self._changelog.items()
            if key[:1] == rows.RECEIPT and value is not None
        }

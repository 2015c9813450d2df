"""
How much room accounts and items take, from bytes measured here.

Accounts with an age and a notice, and then items of theirs, as the benchmarks make them up, go
through the real intake, fold, RocksDB and transactions to a Kafka; what each step adds is divided
by their number.
Topics are as after compaction (the last record of each key, with the compression the batches had);
the local store is as RocksDB leaves it after a full compaction.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from confluent_kafka import Consumer

from streams.bench.offline import Offline
from streams.bench.workload import Record, make_age, make_content, make_notice
from streams.settings import Settings
from streams.state.store import Store
from streams.worker.intake import Intake
from streams.worker.names import CHANGELOGS, CONTENT_CHANGELOG, DECISIONS, USERS_CHANGELOG
from streams.worker.transaction import Publisher

CYCLE_RECORDS: Final = 1_000
ACCOUNT_ROWS: Final = 2  # of the inputs, for each account: its age and a notice


class Bytes(msgspec.Struct, frozen=True):
    """Bytes in a worker's local store, in the changelogs and in the outputs."""

    store: float
    changelogs: float
    outputs: float

    def times(self, number: float) -> "Bytes":
        """Return as much for *number* of them."""
        return Bytes(self.store * number, self.changelogs * number, self.outputs * number)

    def plus(self, other: "Bytes") -> "Bytes":
        """Return both together."""
        return Bytes(
            self.store + other.store,
            self.changelogs + other.changelogs,
            self.outputs + other.outputs,
        )


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one account and one item of it take.

    per_record: bytes that a content record of a new item adds to changelogs and outputs, before
    compaction; positions and transaction markers included.
    """

    accounts: int
    items_per_account: int
    id_bytes: int
    per_account: Bytes
    per_item: Bytes
    per_record: Bytes


def needed(measured: Measured, accounts: int, items: int) -> Bytes:
    """Return what *accounts* with *items* in all take, one copy of each."""
    return measured.per_account.times(accounts).plus(measured.per_item.times(items))


class _Compacting(Store):
    """A store that can be brought to its least size."""

    def compact(self) -> None:
        self._db.flush()
        self._db.compact_range(None, None)


class _Topics:
    """The log files of a prefix's topics, in the data folder of a local Kafka."""

    def __init__(self, settings: Settings, data: Path) -> None:
        self._settings = settings
        self._data = data

    def bytes_of(self, names: tuple[str, ...]) -> dict[str, int]:
        return {
            name: sum(
                path.stat().st_size
                for path in self._data.glob(f"{self._settings.topic(name)}-*/*.log")
            )
            for name in names
        }


class _Written:
    """Raw bytes written to topics: of every record, and of the last one of each key."""

    def __init__(self) -> None:
        self.all: dict[str, int] = {}
        self._last: dict[str, dict[bytes, int]] = {}

    def add(self, topic: str, key: bytes, size: int) -> None:
        self.all[topic] = self.all.get(topic, 0) + size
        self._last.setdefault(topic, {})[key] = size

    def share_kept(self, topic: str) -> float:
        """Return the share of a topic's bytes that compaction leaves."""
        written = self.all.get(topic, 0)
        return sum(self._last[topic].values()) / written if written else 1.0


class _Look(NamedTuple):
    """What there is: as after compaction, and in the topics' files now."""

    kept: Bytes
    now: Bytes


def measure(
    settings: Settings,
    data: Path,
    folder: Path,
    accounts: int,
    items_per_account: int,
    id_bytes: int,
    say: Callable[[str], None],
) -> Measured:
    """
    Measure on the Kafka whose data folder is *data*, in topics just made; *folder*: for the store.

    id_bytes: of a user_id, and of a content_id.
    """
    offline = Offline(folder / "store", 1, int(time.time() * 1000), _Compacting)
    run = _Run(settings, offline, _Topics(settings, data), folder / "store")
    rng = random.Random(1)
    users = [_id("user", number, id_bytes) for number in range(accounts)]
    with closing(offline), closing(run):
        offline.release()
        empty = run.look()
        run.work_off(
            (make(user, rng) for user in users for make in (make_age, make_notice)),
            lambda done: say(f"{done // ACCOUNT_ROWS:,} of {accounts:,} accounts"),
        )
        with_accounts = run.look()
        items = accounts * items_per_account
        run.work_off(
            _items(users, items_per_account, id_bytes, rng),
            lambda done: say(f"{done:,} of {items:,} items"),
        )
        with_items = run.look()
    return Measured(
        accounts=accounts,
        items_per_account=items_per_account,
        id_bytes=id_bytes,
        per_account=_each(empty.kept, with_accounts.kept, accounts),
        per_item=_each(with_accounts.kept, with_items.kept, items),
        per_record=_each(with_accounts.now, with_items.now, items),
    )


class _Run:
    def __init__(self, settings: Settings, offline: Offline, topics: _Topics, folder: Path) -> None:
        self._offline = offline
        self._topics = topics
        self._folder = folder
        self._written = _Written()
        self._consumer = Consumer(settings.kafka(group_id=settings.group))
        self._metadata = self._consumer.consumer_group_metadata()
        self._publisher = Publisher(settings, settings.group)
        self._publisher.start()

    def close(self) -> None:
        self._publisher.close()
        self._consumer.close()

    def work_off(self, records: Iterator[Record], done: Callable[[int], None]) -> None:
        count = 0
        while batch := list(islice(records, CYCLE_RECORDS)):
            for fetched in self._offline.rounds(batch, CYCLE_RECORDS):
                self._cycle(self._offline.decode(fetched))
            count += len(batch)
            done(count)
        while self._offline.has_work():
            self._cycle([])

    def _cycle(self, intakes: list[Intake]) -> None:
        cycle = self._offline.fold(intakes)
        for part in cycle:
            for output in part.outputs:
                size = len(output.key or b"") + len(output.value or b"")
                self._written.add(output.topic, output.key or b"", size)
            for topic, rows in (
                (USERS_CHANGELOG, part.users_rows),
                (CONTENT_CHANGELOG, part.content_rows),
            ):
                for key, value in rows:
                    self._written.add(topic, key, len(key) + len(value or b""))
        self._publisher.publish(cycle, self._metadata)
        self._offline.persisted(cycle)

    def look(self) -> _Look:
        store = self._offline.partitions[0].store
        assert isinstance(store, _Compacting)
        store.compact()
        on_disk = sum(path.stat().st_size for path in self._folder.rglob("*.sst"))
        now = self._topics.bytes_of((*CHANGELOGS, *DECISIONS))
        kept = {topic: size * self._written.share_kept(topic) for topic, size in now.items()}
        return _Look(*(_by_kind(on_disk, found) for found in (kept, now)))


def _by_kind(on_disk: int, topics: Mapping[str, float]) -> Bytes:
    return Bytes(
        on_disk,
        sum(topics[name] for name in CHANGELOGS),
        sum(topics[name] for name in DECISIONS),
    )


def _items(
    users: list[str], items_per_account: int, id_bytes: int, rng: random.Random
) -> Iterator[Record]:
    """Yield the items one after the other, every account's first one first."""
    for number in range(items_per_account):
        for user in users:
            yield make_content(user, _id("item", f"{user}/{number}", id_bytes), rng)


def _id(kind: str, number: object, id_bytes: int) -> str:
    """Return an id that does not compress, as ids do not."""
    return hashlib.shake_128(f"{kind}/{number}".encode()).hexdigest(-(-id_bytes // 2))[:id_bytes]


def _each(before: Bytes, after: Bytes, number: int) -> Bytes:
    return after.plus(before.times(-1)).times(1 / number)

"""
From an objection to the moment a data store has hidden what it covers.

The times are those of the service's own receipts: from the broker's time stamp of the objection to
a store's acknowledgement that all tombstones it caused are durably applied.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from streams.bench import produce
from streams.bench.connection import settings_at
from streams.bench.latency import Spread, spread
from streams.bench.peers import Place
from streams.bench.run import Offsets, Say
from streams.bench.systems import System, follower
from streams.bench.workload import Record
from streams.core.receipts import Receipt
from streams.errors import CommandError
from streams.kafka.reader import fetch, reader
from streams.program import Program

BIG: Final = "big"  # the account with many items, and its objection
STALL_TIMEOUT_S: Final = 120.0  # without any progress
POLL_S: Final = 0.1
NAP_S: Final = 0.001

_encode = msgspec.json.Encoder().encode


class Load(NamedTuple):
    """Objections per second and for how long, items of each account, and those of the big one."""

    rate: float
    seconds: float
    items: int
    account_items: int

    @property
    def users(self) -> int:
        """How many accounts object at *rate*."""
        return int(self.rate * self.seconds)


@dataclass(frozen=True)
class StoreRun:
    """
    What was measured with one store: in ms, of objections at the rate offered.

    account_…: of one account of many items, in seconds.
    """

    store: str
    objections: int
    published: Spread
    hidden: Spread
    account_items: int
    account_published_s: float
    account_hidden_s: float


def measure(place: Place, load: Load, store: str, url: str, say: Say) -> StoreRun:
    """
    Fill *store*, at *url*, and let people object.

    Raises CommandError where something ends, or does not come to an end.
    """
    stores = f"{store}=training-users+training-content"
    with ExitStack() as stack:
        system = stack.enter_context(System("ours", place, OBJECTIONS_STORES=stores))
        subscriber = stack.enter_context(follower(place, store, url))
        receipts = _Receipts(place, store, [system, subscriber])
        stack.callback(receipts.close)
        records = list(_people(load))
        produce.preload(
            place.bootstrap, place.prefix, records, lambda n: say(f"{n} records written")
        )
        _wait_until_read(place, system, say)
        _object(place, [_objection(f"probe-{n}") for n in range(place.partitions * 8)], rate=0)
        say("filling the stores")
        receipts.wait_hidden("probe-", place.partitions * 8)
        say(f"{load.users} objections at {load.rate:,.0f}/s")
        _object(place, [_objection(f"u{n}") for n in range(load.users)], load.rate)
        receipts.wait_hidden("u", load.users)
        say(f"an account of {load.account_items} items")
        _object(place, [_objection(BIG)], rate=0)
        receipts.wait_hidden(BIG, 1)
        found = [each for name, each in receipts.found.items() if name.startswith("u")]
        big = receipts.found[BIG]
    return StoreRun(
        store,
        len(found),
        spread([_ms(each.received_at, each.published_at) for each in found]),
        spread([_ms(each.received_at, each.stores[store].hidden_at) for each in found]),
        load.account_items,
        _ms(big.received_at, big.published_at) / 1000,
        _ms(big.received_at, big.stores[store].hidden_at) / 1000,
    )


class _Receipts:
    """Reads `receipts`: the latest one of each objection, by its id."""

    def __init__(self, place: Place, store: str, programs: list[Program]) -> None:
        self.found: dict[str, Receipt] = {}
        self._store = store
        self._programs = programs
        self._consumer = reader(settings_at(place.bootstrap, place.prefix))
        topic = f"{place.prefix}receipts"
        self._consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(place.partitions)]
        )

    def close(self) -> None:
        self._consumer.close()

    def wait_hidden(self, prefix: str, count: int) -> None:
        """Return when *count* objections, their ids beginning with *prefix*, are hidden."""
        moved_s = time.monotonic()
        done: set[str] = set()
        while len(done) < count:
            for message in fetch(self._consumer, POLL_S):
                error, value = message.error(), message.value()
                if error is not None:
                    if error.code() not in (KafkaError._TRANSPORT, KafkaError._PARTITION_EOF):
                        raise KafkaException(error)
                    continue
                receipt = msgspec.json.decode(value or b"", type=Receipt)
                self.found[receipt.objection_id] = receipt
                moved_s = time.monotonic()
                hidden = receipt.stores[self._store].hidden_at is not None
                if hidden and receipt.objection_id.startswith(prefix):
                    done.add(receipt.objection_id)
            for program in self._programs:
                program.check()
            if time.monotonic() - moved_s > STALL_TIMEOUT_S:
                logs = "\n".join(program.log_tail() for program in self._programs)
                raise CommandError(f"{count - len(done)} of {count} are not hidden; {logs}")


def _wait_until_read(place: Place, system: System, say: Say) -> None:
    offsets = Offsets(place, system.group)
    try:
        moved_s, last = time.monotonic(), -1
        while True:
            done, all_ = offsets.committed()
            say(f"{done} of {all_} records decided")
            if done >= all_:
                return
            system.check()
            if done > last:
                moved_s, last = time.monotonic(), done
            elif time.monotonic() - moved_s > STALL_TIMEOUT_S:
                raise CommandError(f"{done} of {all_} records decided; {system.log_tail()}")
            time.sleep(0.2)
    finally:
        offsets.close()


def _people(load: Load) -> Iterator[Record]:
    """Yield what makes accounts and their items usable."""
    for user_id, items in [
        (BIG, load.account_items),
        *((f"u{number}", load.items) for number in range(load.users)),
    ]:
        age = {"birth_date": "1990-05-01", "country": "DE", "observed_at": "2026-01-01T00:00:00Z"}
        notice = {"notice_id": "n", "delivered_at": "2026-01-01T00:00:00Z"}
        yield _record("account-ages", user_id, age)
        yield _record("notices", user_id, notice)
        for number in range(items):
            content = {
                "content_id": f"{user_id}-{number}",
                "revision": 1,
                "product": "instagram",
                "kind": "post",
                "visibility": "public",
                "modality": "image",
                "created_at": "2026-02-01T00:00:00Z",
                "language": "de",
            }
            yield _record("content", user_id, content)


def _objection(user_id: str) -> Record:
    """Return the objection of a user, which has the user's id."""
    return _record("objections", user_id, {"objection_id": user_id, "action": "filed"})


def _record(topic: str, user_id: str, fields: dict[str, Any]) -> Record:
    return Record(topic, user_id.encode(), _encode({"user_id": user_id, **fields}), "")


def _object(place: Place, records: list[Record], rate: float) -> None:
    """Write *records*, at *rate* per second or (0) at once."""
    producer = produce.connect(place.bootstrap, linger_ms=0)
    begun_s = time.monotonic()
    for number, record in enumerate(records):
        while rate and (left_s := begun_s + number / rate - time.monotonic()) > 0:
            producer.poll(0)
            time.sleep(min(left_s, NAP_S))
        produce.put(producer, place.prefix, record)
    produce.flush(producer)


def _ms(since: str, until: str | None) -> float:
    assert until is not None
    passed = datetime.fromisoformat(until) - datetime.fromisoformat(since)
    return passed.total_seconds() * 1000

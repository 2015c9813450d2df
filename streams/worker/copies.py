"""
The local stores of some partitions, brought forward by what their changelogs hold.

One that may have missed something is begun anew.  Used by whoever takes partitions over, and by
whoever keeps warm copies of those of others.
"""

import logging
import time
from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import KafkaError

from streams.core.times import NEVER_MS
from streams.errors import Halt
from streams.kafka.denied import denied, is_denied
from streams.kafka.reader import Place
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Broken, Memory, Reached, Row, Store, remove
from streams.worker.names import CHANGELOGS, Followed
from streams.worker.open_letters import begin_index, index_rows

if TYPE_CHECKING:
    from confluent_kafka import Message

logger = logging.getLogger(__name__)

IDLE_SHARE: Final = 2  # of `delete.retention.ms`: idle for longer, a store may miss rows' ends


class Changelogs(NamedTuple):
    """
    What identifies the changelogs: topic ids, and how long a deleted row is remembered.

    output_ids: the ids of the outputs of decisions, as one text.
    partitions_n: of every topic but `purge-acks`.
    with_trail: whether there is a topic for the audit trail.
    followed: what is read like inputs.
    """

    topic_ids: dict[str, str]
    delete_retention_ms: int
    output_ids: str
    partitions_n: int
    with_trail: bool
    followed: Followed


class Copies:
    """
    The open stores, and how far each has got in each changelog, by the topic's name.

    Not thread-safe; whoever takes a store out of `stores` closes it.
    """

    def __init__(self, settings: Settings, memory: Memory, changelogs: Changelogs) -> None:
        self.stores: dict[int, Store] = {}
        self.reached: dict[int, dict[str, Reached]] = {}
        self.rows_n = 0  # read so far
        self._settings = settings
        self._memory = memory
        self._changelogs = changelogs
        self._names = {settings.topic(topic): topic for topic in CHANGELOGS}

    def open(self, number: int, log_ends: Mapping[str, int] | None = None) -> None:
        """
        Open a partition's store; one that may have missed something is begun anew.

        log_ends: of the changelogs, by name; without them a store ahead of them is not found out.
        Raises Halt.
        """
        path = self._settings.state_dir / self._settings.group / str(number)
        now_ms = int(time.time() * 1000)
        store: Store | None = None
        why: str | None = None
        try:
            store = Store(path, self._memory)
            reasons = (
                self._unfit(store, each, None if log_ends is None else log_ends[each], now_ms)
                for each in CHANGELOGS
            )
            why = next((reason for reason in reasons if reason is not None), None)
        except Broken as error:
            why = str(error)
        if why is not None:
            logger.warning("%s: the local store is thrown away: %s", path, why)
            if store is not None:
                _close(store)  # whatever it says of what is thrown away
            remove(path)
            store = Store(path, self._memory)
        assert store is not None
        if not store.last_used_ms():
            store.mark_used(now_ms)  # a new one: from now on it may miss the end of a row
            begin_index(store)
        self.stores[number] = store
        self.reached[number] = {
            topic: store.reached(topic) or Reached(self._changelogs.topic_ids[topic], 0)
            for topic in CHANGELOGS
        }

    def close(self, number: int) -> BaseException | None:
        """Close a store and forget it; return why that cannot be: it may be damaged."""
        return _close(self.stores.pop(number))

    def begin_anew(self, number: int) -> None:
        """Throw a store away and open it empty.  Raises Halt."""
        path = self.stores[number].path
        self.close(number)
        remove(path)
        self.open(number)

    def apply(self, messages: "Iterable[Message]", wanted: Container[Place]) -> dict[Place, int]:
        """
        Bring what was read of *wanted* into the stores; return how far each place has got.

        The end of a partition is told of, too.  Raises Halt for what cannot be read.
        """
        batches: dict[Place, list[Row]] = {}
        at: dict[Place, int] = {}
        for message in messages:
            place, offset = (message.topic() or "", message.partition() or 0), message.offset()
            if place not in wanted or offset is None or _is_failure(self._settings, message):
                continue
            at[place] = offset
            if message.error() is None:
                at[place] = offset + 1
                batches.setdefault(place, []).extend(_read_rows(message))
                self.rows_n += 1
        for place, offset in at.items():
            self._write(place, offset, batches.get(place, []))
        return at

    def _write(self, place: Place, offset: int, batch: list[Row]) -> None:
        """Write rows of a changelog, and how far they reach: an interrupted restore goes on."""
        changelog, number = self._names[place[0]], place[1]
        reached = self.reached[number][changelog]._replace(offset=offset)
        self.reached[number][changelog] = reached
        self.stores[number].write(batch, {changelog: reached})

    def _unfit(self, store: Store, topic: str, log_end: int | None, now_ms: int) -> str | None:
        """Return why *store* may lack something of changelog *topic*; None if it is fit."""
        idle_ms = now_ms - (store.last_used_ms() or now_ms)
        if idle_ms > self._changelogs.delete_retention_ms // IDLE_SHARE:
            return f"it was idle for {idle_ms // 1000} s and may have missed rows' ends in {topic}"
        reached = store.reached(topic)
        if reached is None:
            return None
        if reached.topic_id != self._changelogs.topic_ids[topic]:
            return f"it was made from another topic called {topic}"
        if log_end is not None and reached.offset > log_end:
            return f"it has got to {reached.offset} of {topic}, which ends at {log_end}"
        return None


def _close(store: Store) -> BaseException | None:
    """Close a store that is not handed over; return why that cannot be: it may be damaged."""
    try:
        store.close()
    except Exception as failure:  # noqa: BLE001  (rocksdict raises bare ones)
        return failure
    return None


def _is_failure(settings: Settings, message: "Message") -> bool:
    """Whether *message* is neither a row nor the end of a partition; Halt if it stays so."""
    error = message.error()
    if error is None or error.code() == KafkaError._PARTITION_EOF:
        return False
    if is_denied(error):
        raise Halt(denied(settings, error, f"reading {message.topic()}"))
    if error.fatal():
        raise Halt(f"restore: {error.str()}")
    logger.info("restore: %s", error.str())
    return True


def _read_rows(message: "Message") -> list[Row]:
    """Return the rows of the store that a changelog's record makes; say where a newer one lies."""
    try:
        return store_rows(message.key(), message.value())
    except rows.NewerRow as error:
        place = f"{message.topic()}/{message.partition()}/{message.offset()}"
        raise Halt(f"{place}: {error}") from error


def store_rows(key: bytes | None, value: bytes | None) -> list[Row]:
    """Return the rows of the store that a row of a changelog makes."""
    if key is None:
        return []
    if value is not None:
        rows.check(key, value)
    if key[:1] == rows.RECEIPT:
        return _receipt_rows(key, value)
    if key[:1] != rows.USER or value is None:
        return [(key, value)]
    due_ms = rows.next_change_ms(value)
    found: list[Row] = [(key, value), *index_rows(key, value)]
    if due_ms != NEVER_MS:
        found.append((rows.timer_key(due_ms, rows.user_of(key)), b""))
    return found


def _receipt_rows(key: bytes, value: bytes | None) -> list[Row]:
    """Return a receipt's row, and the one that finds it; one of an earlier number finds nothing."""
    index = None if value is None else rows.receipt_index(key, rows.decode_receipt(value))
    found: list[Row] = [(key, value), (rows.RECEIPT_OPEN + key, None)]
    return found if index is None else [*found, index]

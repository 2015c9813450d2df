"""
Knows the receipts: follows the topic `receipts` into a table on disk, sorted by user.

Made anew at every start, which takes as long as reading the topic once: so it is never older than
what Kafka says, whatever became of a former one.  Memory does not grow with it.
"""

import logging
import sqlite3
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import msgspec
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from streams.core.receipts import Action, Receipt
from streams.core.refusals import REFUSALS
from streams.kafka.reader import fetch, reader
from streams.settings import Settings
from streams.worker.names import RECEIPTS
from streams.worker.takeover import know

logger = logging.getLogger(__name__)

POLL_S: Final = 0.2
TELL_EVERY_S: Final = 60.0
OBJECTIONS_MAX: Final = 50  # of a user, the latest: what a page can show

ACTIONS: Final[tuple[Action, Action]] = ("filed", "withdrawn")

_TABLE: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE receipts (
  key BLOB PRIMARY KEY, user_id TEXT, objection_id TEXT, received_at TEXT, value BLOB
) WITHOUT ROWID;
CREATE INDEX by_user ON receipts (user_id, received_at);
"""

Receipts = dict[Action, Receipt]
Row = tuple[bytes, str, str, str, bytes]


class Desk(threading.Thread):
    """
    Reads all partitions of `receipts` until stopped; *folder* is its own.

    failure: done, with what ended it, when it ends by itself.
    """

    def __init__(self, settings: Settings, partitions_n: int, folder: Path) -> None:
        super().__init__(name="desk", daemon=True)
        self.failure: Future[None] = Future()
        self._settings = settings
        self._subjects = settings.subjects()
        self._topic = settings.topic(RECEIPTS)
        self._partitions_n = partitions_n
        self._unread = set(range(partitions_n))
        self._stopping = threading.Event()
        self._told_s = 0.0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "receipts.sqlite"
        for each in (path, *(path.with_name(f"{path.name}-{end}") for end in ("wal", "shm"))):
            each.unlink(missing_ok=True)
        self._written = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._written.executescript(_TABLE)
        self._looked_at = sqlite3.connect(path, isolation_level=None)

    @property
    def is_complete(self) -> bool:
        """Whether all that was there at the start has been read."""
        return not self._unread

    def ready(self) -> tuple[bool, str]:
        """Return whether receipts can be told, or what is missing."""
        if self._unread:
            return False, f"receipts: {len(self._unread)} partitions not read to their ends yet"
        return True, f"serving, receipts of {self._partitions_n} partitions"

    def stop(self) -> None:
        """End the thread, and let go of Kafka and the table; in the thread that made it."""
        self._stopping.set()
        if self.is_alive():
            self.join()
        self._looked_at.close()
        self._written.close()

    def of_user(self, user_id: str) -> dict[str, Receipts]:
        """Return the latest objections of a user: by id, the newest first."""
        rows = self._looked_at.execute(
            "SELECT value FROM receipts WHERE user_id = ? ORDER BY received_at DESC LIMIT ?",
            (self._subjects.of(user_id), 2 * OBJECTIONS_MAX),
        )
        found: dict[str, Receipts] = {}
        for (value,) in rows:
            receipt = msgspec.json.decode(value, type=Receipt)
            found.setdefault(receipt.objection_id, {})[receipt.action] = receipt
        return found

    def receipts(self, user_id: str, objection_id: str) -> Receipts:
        """Return the receipts of one objection, by what was done."""
        user_id = self._subjects.of(user_id)
        keys = [f"{user_id}/{objection_id}/{action}".encode() for action in ACTIONS]
        rows = self._looked_at.execute(
            "SELECT value FROM receipts WHERE key IN (?, ?) AND user_id = ? AND objection_id = ?",
            (*keys, user_id, objection_id),
        )
        receipts = [msgspec.json.decode(value, type=Receipt) for (value,) in rows]
        return {each.action: each for each in receipts}

    def run(self) -> None:
        """Follow the topic."""
        consumer = reader(self._settings, fetch_wait_max_ms=50)
        try:
            know(consumer, self._topic)
            consumer.assign(
                [
                    TopicPartition(self._topic, number, OFFSET_BEGINNING)
                    for number in range(self._partitions_n)
                ]
            )
            while not self._stopping.is_set():
                self._take(fetch(consumer, POLL_S))
        except BaseException as error:  # noqa: BLE001  (handed to the event loop)
            if not self._stopping.is_set():
                self.failure.set_exception(error)
        finally:
            consumer.close()

    def _take(self, messages: list[Message]) -> None:
        last: dict[bytes, Row | None] = {}  # of each key
        for message in messages:
            error = message.error()
            if error is not None:
                self._note(message, error)
                continue
            key, value = message.key(), message.value()
            if not isinstance(key, bytes):
                continue
            if value is not None:
                place = f"{self._topic}/{message.partition()}/{message.offset()}"
                self._subjects.check_record(message.headers(), place)
            if value is None:
                last[key] = None
                continue
            try:
                receipt = msgspec.json.decode(value, type=Receipt)
            except REFUSALS:
                self._tell(f"a record of {self._topic} is no receipt")
                continue
            names = (receipt.user_id, receipt.objection_id, receipt.received_at)
            last[key] = (key, *names, value)
        if last:
            self._write(last)

    def _write(self, last: dict[bytes, Row | None]) -> None:
        self._written.execute("BEGIN")
        self._written.executemany(
            "INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?, ?)",
            [row for row in last.values() if row is not None],
        )
        self._written.executemany(
            "DELETE FROM receipts WHERE key = ?",
            [(key,) for key, row in last.items() if row is None],
        )
        self._written.execute("COMMIT")

    def _note(self, message: Message, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._unread.discard(message.partition() or 0)
        elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return  # a consumer has to name a group: this one is neither joined nor asked
        elif error.fatal():
            raise KafkaException(error)
        else:
            self._tell(f"Kafka does not let {self._topic} be read: {error.str()}")

    def _tell(self, text: str) -> None:
        if time.monotonic() - self._told_s > TELL_EVERY_S:
            self._told_s = time.monotonic()
            logger.warning("%s", text)

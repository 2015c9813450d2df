"""
Makes good what a partition's state has lost: reads the outputs, writes seeds to the changelogs.

It runs before the partition is handed over, in the restore's thread, and writes transactions of
some thousand rows.  Each carries the group's offsets, unmoved, under the group's metadata, so
that a worker that has lost the partition cannot write; and one transactional id per partition
fences an earlier rebuild.  The first row says that a rebuild is under way and the last that it is
done: a half-done one is begun again, which is harmless, as epochs are only ever raised.
"""

import logging
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from streams.core import item as items
from streams.core import seeds, trail
from streams.core.policy import Policy
from streams.core.refusals import REFUSALS
from streams.core.trail import NO_RECORD, Head
from streams.errors import Halt
from streams.kafka.client_log import CLIENT_LOGGER
from streams.kafka.reader import back_from
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Row, Store
from streams.worker.committed import committed
from streams.worker.damage import Damage, folded
from streams.worker.names import (
    AUDIT_TRAIL,
    CONTENT,
    CONTENT_CHANGELOG,
    USERS_CHANGELOG,
    Followed,
)
from streams.worker.naming import naming_rows
from streams.worker.takeover import Cancelled
from streams.worker.trail import head_in, head_row

if TYPE_CHECKING:
    from confluent_kafka import Message

logger = logging.getLogger(__name__)

ROWS_PER_TRANSACTION: Final = 10_000  # committed long before a transaction times out
POLL_S: Final = 0.2  # how late a cancellation may be noticed
CALL_TIMEOUT_S: Final = 3.0  # then it is called again, unless the partition was lost
PROGRESS_S: Final = 5.0
TRIES: Final = 10
AGAIN_S: Final = 1.0
MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024  # as the changelogs take


class Ownership(NamedTuple):
    """What proves to Kafka that the partition is ours; *cancelled* once it is not."""

    group_metadata: object
    cancelled: threading.Event


class Rebuild:
    """
    The rebuild of partition *number*, whose *store* has got to the ends of its changelogs.

    committed: the group's offsets.  ends: of the outputs, and of the audit trail if there is one.
    output_ids: identifies the outputs.
    """

    def __init__(
        self,
        settings: Settings,
        ownership: Ownership,
        policy: Policy,
        number: int,
        store: Store,
        committed: Mapping[str, int],
        ends: Mapping[str, int],
        output_ids: str,
        followed: Followed,
    ) -> None:
        self._settings = settings
        self._ownership = ownership
        self._policy = policy
        self._subjects = settings.subjects()
        self._number = number
        self._store = store
        self._ends = ends
        self._output_ids = output_ids
        self._offsets = [
            TopicPartition(
                settings.topic(topic), number, committed.get(topic, folded(store, topic))
            )
            for topic in followed.all
        ]
        self._now_ms = int((time.time() + settings.clock_offset_s) * 1000)
        self._read_n = 0
        self._written_n = 0
        self._logged_s = time.monotonic()
        self._producer = Producer(
            settings.kafka(
                **{
                    "transactional.id": f"{settings.group}-rebuild-{number}",
                    "transaction.timeout.ms": settings.transaction_timeout_ms,
                    "enable.idempotence": True,
                    "compression.type": "lz4",
                    "message.max.bytes": MESSAGE_BYTES_MAX,
                }
            ),
            logger=CLIENT_LOGGER,
        )

    def run(self, consumer: Consumer, damage: Damage) -> None:
        """Make *damage* good; raises Halt where that cannot be, Cancelled when it is not ours."""
        logger.warning(
            "partition %d: rebuilding its state from the outputs; until all inputs that are left "
            "have been read again nothing more is allowed; whom no record restores is purged then",
            self._number,
        )
        self._insist("beginning", lambda: self._call(self._producer.init_transactions))
        chunk: list[tuple[str, Row]] = []
        for changelog, row in self._rows(consumer, damage):
            chunk.append((changelog, row))
            if len(chunk) >= ROWS_PER_TRANSACTION:
                self._write(chunk)
                chunk = []
        self._write(chunk)
        logger.warning(
            "partition %d: rebuilt: %d records of the outputs read, %d rows written",
            self._number,
            self._read_n,
            self._written_n,
        )

    def _rows(self, consumer: Consumer, damage: Damage) -> Iterator[tuple[str, Row]]:
        """Yield the rows of the whole rebuild, with the changelog each belongs to."""
        yield USERS_CHANGELOG, (rows.REBUILD_KEY, rows.encode_number(damage))
        for row in naming_rows(self._subjects):
            yield USERS_CHANGELOG, row
        if damage & (Damage.ITEMS | Damage.OUTPUTS):
            yield from self._known_users()
        if damage & Damage.OUTPUTS:
            # Of deleted accounts the state knows no items: only their records bring the tombstones.
            content = rows.position_key(CONTENT)
            yield CONTENT_CHANGELOG, (content, rows.encode_number(0))
        if damage & (Damage.USERS | Damage.ITEMS):
            for message in self._outputs(consumer, "eligibility"):
                yield from self._user(message, damage)
        if damage & Damage.ITEMS:
            for message in self._outputs(consumer, "training-content"):
                yield from self._item(message)
        if damage & Damage.USERS and self._ends.get(AUDIT_TRAIL):
            yield USERS_CHANGELOG, head_row(max(head_in(self._store), self._trail_head(consumer)))
        yield USERS_CHANGELOG, (rows.OUTPUTS_KEY, rows.encode_text(self._output_ids))
        yield USERS_CHANGELOG, (rows.REBUILD_KEY, rows.encode_number(Damage.NONE))

    def _known_users(self) -> Iterator[tuple[str, Row]]:
        """
        Raise the epochs of the users that are left.

        Their items' records are read again from the first on: answers to earlier revisions would
        fall behind what was published in the present epochs.
        """
        for key, data in self._store.scan(rows.USER):
            row = seeds.anew(rows.decode_user(data), self._now_ms, self._number)
            yield USERS_CHANGELOG, (key, rows.encode_user(row))

    def _user(self, message: "Message", damage: Damage) -> Iterator[tuple[str, Row]]:
        key, value = message.key(), message.value()
        if key is None or value is None:
            return
        row_key = rows.USER + key
        data = self._store.get(row_key)
        known = None if data is None else rows.decode_user(data)
        with _Readable(message):
            epoch = seeds.published_epoch(value)
            if known is not None and not known.seeded and epoch <= known.epoch:
                return
            later = 1 if damage & Damage.ITEMS else 0
            row = seeds.user_seed(value, known, self._policy, self._now_ms, self._number, later)
            data = rows.encode_user(row)
        yield USERS_CHANGELOG, (row_key, data)

    def _item(self, message: "Message") -> Iterator[tuple[str, Row]]:
        key, value = message.key(), message.value()
        subject = dict(message.headers() or ()).get("ce_subject")
        if key is None or not isinstance(subject, bytes):
            return
        with _Readable(message):
            row_key = rows.items_prefix(subject.decode()) + key
        known = self._store.get(row_key)
        if value is None:  # an earlier record of it may have made a seed
            yield CONTENT_CHANGELOG, (row_key, known)
            return
        with _Readable(message):
            item = seeds.item_seed(value)
            if known is not None:
                item = items.merge(rows.decode_item(known), item)
            data = rows.encode_item(item)
        yield CONTENT_CHANGELOG, (row_key, data)

    def _trail_head(self, consumer: Consumer) -> Head:
        """Return the head that the audit trail's last committed record makes."""
        for begin, end in back_from(0, self._ends[AUDIT_TRAIL]):
            last = None
            for message in self._records(consumer, AUDIT_TRAIL, begin, end):
                last = message
            if last is not None:
                with _Readable(last):
                    return trail.head_after(last.value() or b"")
        return NO_RECORD

    def _outputs(self, consumer: Consumer, output: str) -> "Iterator[Message]":
        """Yield all records of an output of decisions."""
        for message in self._records(consumer, output, 0, self._ends[output]):
            place = f"{message.topic()}/{message.partition()}/{message.offset()}"
            self._subjects.check_record(message.headers(), place)
            yield message

    def _records(
        self, consumer: Consumer, output: str, begin: int, end: int
    ) -> "Iterator[Message]":
        """Yield the committed records of an output from *begin* up to *end*."""
        place, cancelled = (self._settings.topic(output), self._number), self._ownership.cancelled
        if begin < end:
            logger.info("partition %d: reading %s up to %d", self._number, place[0], end)
        for message in committed(self._settings, consumer, place, begin, end, cancelled):
            self._read_n += 1
            yield message
            self._tell(f"{place[0]} {message.offset()} of {end}")

    def _write(self, chunk: list[tuple[str, Row]]) -> None:
        """Commit *chunk*, with the group's offsets as they are: they prove that we own it."""

        def once() -> None:
            self._producer.begin_transaction()
            for changelog, (key, value) in chunk:
                self._put(self._settings.topic(changelog), value, key)
            self._call(
                lambda timeout_s: self._producer.send_offsets_to_transaction(
                    self._offsets, self._ownership.group_metadata, timeout_s
                )
            )
            self._call(self._producer.commit_transaction)

        self._insist("writing", once)
        self._written_n += len(chunk)
        self._tell(f"{self._written_n} rows written")

    def _put(self, topic: str, value: bytes | None, key: bytes) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, self._number)
            except BufferError:
                self._check_ours()
                self._producer.poll(POLL_S)
            else:
                return

    def _call(self, call: Callable[[float], object]) -> None:
        """Make *call*, and again while Kafka does not answer: one that timed out goes on."""
        while True:
            try:
                call(CALL_TIMEOUT_S)
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                self._check_ours()
                logger.warning("partition %d: rebuild: %s", self._number, error.args[0].str())
            else:
                return

    def _insist(self, what: str, attempt: Callable[[], object]) -> None:
        """Make *attempt*; where it fails, as the group is moving, roll back and try again."""
        for _ in range(TRIES):
            self._check_ours()
            try:
                attempt()
            except KafkaException as error:
                found: KafkaError = error.args[0]
                logger.warning("partition %d: rebuild, %s: %s", self._number, what, found.str())
                if found.fatal():
                    break
                if found.txn_requires_abort():
                    self._call(self._producer.abort_transaction)
                self._ownership.cancelled.wait(AGAIN_S)
            else:
                return
        self._ownership.cancelled.wait(self._settings.session_timeout_ms / 1000)
        self._check_ours()
        raise Halt(
            f"partition {self._number}: the rebuild of its state was refused, see above; whoever "
            "owns the partition next begins it anew"
        )

    def _check_ours(self) -> None:
        if self._ownership.cancelled.is_set():
            raise Cancelled

    def _tell(self, how_far: str) -> None:
        if time.monotonic() - self._logged_s > PROGRESS_S:
            self._logged_s = time.monotonic()
            logger.info("partition %d: rebuilding: %s", self._number, how_far)


_UNREADABLE: Final = (*REFUSALS, ValueError, TypeError, KeyError, OverflowError, struct.error)


class _Readable:
    """Ends the process, naming the record, where it cannot be read."""

    def __init__(self, message: "Message") -> None:
        self._message = message

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, _UNREADABLE):
            message = self._message
            place = f"{message.topic()}/{message.partition()}/{message.offset()}"
            raise Halt(
                f"{place}: not a record of this service, so the state cannot be rebuilt from it"
            ) from error

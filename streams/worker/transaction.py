"""
One transaction per cycle: outputs, changelog rows, dead letters and input offsets, or nothing.

The offsets go under the consumer group's metadata (KIP-447), so that a worker which has lost its
partitions cannot commit, however long it was frozen.  Rows reach the local stores only after the
commit, with the changelog offsets they reach.  Runs in a thread of its own: every call blocks.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.core.outputs import Header
from streams.errors import CommandError, Halt
from streams.kafka import admin
from streams.kafka.client_options import beyond
from streams.kafka.denied import denied, is_denied
from streams.kafka.rdkafka_transactions import RdkafkaTransactions
from streams.kafka.reader import Place
from streams.kafka.transactions import Transactions
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Reached
from streams.worker.folded import Folded
from streams.worker.names import CONTENT_CHANGELOG, TELLS, USERS_CHANGELOG
from streams.worker.rights import lacking
from streams.worker.watchdog import Call

logger = logging.getLogger(__name__)

CALL_TIMEOUT_S: Final = 3.0  # then it is called again, or the worker is stopping
INSIST_S: Final = 60.0  # on one step of a transaction, over all its calls
PAUSE_S: Final = (0.1, 0.5, 2.0)  # between tries while Kafka does not answer

FENCED: Final = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)

TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})


class Aborted(Exception):
    """The transaction was rolled back: read its inputs again.  *fenced*: no longer the owner."""

    def __init__(self, reason: str, *, fenced: bool) -> None:
        super().__init__(reason)
        self.fenced = fenced


class Publisher:
    """Commits cycles; one at a time, from one thread."""

    def __init__(self, settings: Settings, transactional_id: str) -> None:
        self._settings = settings
        self._stopping = False
        self.call: Call | None = None  # under way now, for the watchdog
        self._transactional_id = transactional_id
        self._transactions = _transactions(settings, transactional_id)

    def start(self) -> None:
        """
        Get the producer ready; takes a second the first time.

        An earlier transaction of the same id, of a worker that was killed, is aborted by this.
        """
        self._insist("init_transactions", lambda: self._transactions.init(CALL_TIMEOUT_S))

    def stop(self) -> None:
        """Let no call be tried again from now on."""
        self._stopping = True

    def close(self) -> None:
        """Let go of Kafka."""
        self._transactions.close()

    def publish(self, cycle: list[Folded], group_metadata: object) -> None:
        """
        Commit *cycle* and bring its rows into the stores.

        Raises `Aborted` when nothing of it counts and `Halt` when that cannot be known.
        """
        began_ns = time.time_ns()
        try:
            self._transactions.begin()
            # First of all: who is no owner any more is refused before anything is written, which
            # the next owner, having looked at the ends of the outputs, would never answer.
            self._send_offsets(cycle, group_metadata)
            for part in cycle:
                self._put(part)
            self._insist("commit", lambda: self._transactions.commit(CALL_TIMEOUT_S))
        except KafkaException as error:
            self._abort(error.args[0])
        at_ms = int(time.time() * 1000)
        parts: dict[int, list[Folded]] = {}
        for part in cycle:
            parts.setdefault(part.partition.number, []).append(part)
        for of_partition in parts.values():
            self._persist(of_partition, began_ns, at_ms)

    def _put(self, part: Folded) -> None:
        put, topic_name = self._transactions.put, self._settings.topic
        number = part.partition.number
        places: dict[str, Place] = {}
        for output in part.outputs:
            place = places.get(output.topic)
            if place is None:
                place = places[output.topic] = topic_name(output.topic), number
            put(place, output.key, output.value, output.headers)
        for changelog, written in (
            (USERS_CHANGELOG, part.users_rows),
            (CONTENT_CHANGELOG, part.content_rows),
        ):
            place = topic_name(changelog), number
            for row_key, row in written:
                put(place, row_key, row, ())
        for each in part.tells:
            headers: list[Header] = []
            if each.traceparent is not None:
                headers.append(("traceparent", each.traceparent))
            value, key = rows.encode_tell(each.tell), each.user_id.encode()
            put((topic_name(TELLS), each.partition), key, value, headers)

    def _send_offsets(self, cycle: list[Folded], group_metadata: object) -> None:
        """
        Send the positions that moved, or else some: the coordinator judges if we are fenced.

        Their metadata tell who we are to a worker that meets what we have left open.
        """
        told = [(part.partition.number, part.told) for part in cycle if part.told]
        positions = {  # of two parts of a partition the later one's
            (topic, number): offset
            for number, offsets in told or [(cycle[0].partition.number, cycle[0].positions)]
            for topic, offset in offsets.items()
        }
        offsets = [
            TopicPartition(self._settings.topic(topic), number, offset, self._transactional_id)
            for (topic, number), offset in positions.items()
        ]
        self._insist(
            "send_offsets",
            lambda: self._transactions.send_offsets(offsets, group_metadata, CALL_TIMEOUT_S),
        )

    def _insist(self, what: str, call: Callable[[], object]) -> None:
        """
        Make *call* until it is done or cannot be: Kafka may be away for a while.

        Raises `Halt` when it is away for longer: by then Kafka has aborted the transaction.
        """
        tries, began_s = 0, time.monotonic()
        while True:
            self.call = Call(what)
            try:
                call()
            except KafkaException as error:
                found: KafkaError = error.args[0]
                self._check_worth_trying(what, error, time.monotonic() - began_s)
            else:
                return
            finally:
                self.call = None
            pause_s = PAUSE_S[min(tries, len(PAUSE_S) - 1)]
            tries += 1
            logger.warning("%s: %s; trying again in %s s", what, found, pause_s)
            time.sleep(pause_s)

    def _check_worth_trying(self, what: str, error: KafkaException, tried_s: float) -> None:
        """Raise what is to become of *error*, unless the call is to be made again."""
        found: KafkaError = error.args[0]
        if is_denied(found):
            raise Halt(self._denied(found)) from error
        if found.fatal():
            raise Halt(f"Kafka refused this worker for good ({what}): {found}") from error
        if not found.retriable() or self._stopping:
            raise error
        if tried_s > INSIST_S:
            raise Halt(
                f"{what}: Kafka has not done it for {INSIST_S:.0f} s: {found}. What counts, the "
                "next start finds out: start the worker again"
            ) from error

    def _abort(self, error: KafkaError) -> None:
        """Roll the transaction back and raise what came of it."""
        if is_denied(error):
            raise Halt(self._denied(error))
        if error.fatal():
            raise Halt(f"Kafka refused this worker for good: {error}")
        if error.code() in TOO_LARGE:
            raise Halt(f"a record is larger than its topic takes, see `objections topics`: {error}")
        if self._stopping:
            raise Halt(f"stopped while Kafka did not answer, nothing of it counts: {error}")
        logger.warning("rolling a transaction back: %s", error)
        try:
            self._insist("abort", lambda: self._transactions.abort(CALL_TIMEOUT_S))
        except KafkaException as failure:
            raise Halt(f"a transaction could not be rolled back: {failure}") from failure
        raise Aborted(str(error), fenced=error.code() in FENCED)

    def _denied(self, error: KafkaError) -> str:
        """Return what to say of a right that Kafka has refused."""
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            what = f"writing its outputs ({', '.join(self._lacking()) or 'see the lines before'})"
        elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            what = f"committing for group {self._settings.group}"
        else:
            what = f"using the transactional id {self._transactional_id}"
        return denied(self._settings, error, what)

    def _lacking(self) -> list[str]:
        """Return which rights lack: Kafka refuses a transaction, and does not tell why."""
        try:
            client = admin.connect(self._settings)
            present = admin.look(client, self._settings).topics
            return lacking(client, self._settings, present)
        except CommandError:
            return []

    def _persist(self, parts: list[Folded], began_ns: int, at_ms: int) -> None:
        """Write a partition's rows in one go: they say how far the changelogs are in the store."""
        partition = parts[0].partition
        for part in parts:
            part.delivered.began_ns, part.delivered.at_ms = began_ns, at_ms
            for topic in {output.topic for output in part.outputs}:
                end = self._transactions.ends[self._settings.topic(topic), partition.number]
                part.delivered.ends[topic] = end
        for changelog, written in (
            (USERS_CHANGELOG, any(part.users_rows for part in parts)),
            (CONTENT_CHANGELOG, any(part.content_rows for part in parts)),
        ):
            if written:
                offset = self._transactions.ends[self._settings.topic(changelog), partition.number]
                topic_id = partition.reached[changelog].topic_id
                partition.reached[changelog] = Reached(topic_id, offset)
        batch = [
            row
            for part in parts
            for row in (*part.users_rows, *part.content_rows, *part.local_rows)
        ]
        try:
            partition.store.write(batch, partition.reached)
        except Halt:
            raise
        except Exception as failure:  # rocksdict raises bare ones
            raise Halt(f"{partition.store.path}: rows could not be written: {failure}") from failure


def _transactions(settings: Settings, transactional_id: str) -> Transactions | RdkafkaTransactions:
    option = beyond(settings.kafka_options)
    if option is None:
        timeout_ms = settings.transaction_timeout_ms
        return Transactions(settings.kafka(), transactional_id, timeout_ms)
    logger.info("transactions are librdkafka's, which take longer: only it knows %s", option)
    return RdkafkaTransactions(settings, transactional_id)

"""
`objections worker` as a process that tests start, freeze, kill and look at from outside.

    apply_topics(kafka, prefix)
    with Worker(kafka, prefix, tmp_path / "state") as worker, Inputs(kafka, prefix) as inputs:
        inputs.send("objections", {"user_id": "u1", "objection_id": "o1", "action": "filed"})
        worker.wait_ready()
        wait_until_caught_up(kafka, prefix)
        assert_proven(kafka, prefix)

Whatever way a test ends, no worker is left behind, and a failure carries the end of its log.
"""

import http.client
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import msgspec
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # public

import topics
from streams import proof
from streams.core.policy import Policy
from streams.kafka import admin
from streams.kafka.local import HOST, LocalKafka, free_port
from streams.proof import INPUTS, OUTPUTS, Record
from streams.settings import Settings
from streams.state import rows

ROOT: Final = Path(__file__).parents[1]
WAIT_S: Final = 60.0  # for what happens within a second or two on a machine that is not busy
STOP_S: Final = 10.0
ANSWER_S: Final = 5.0  # of one HTTP or admin request
POLL_PAUSE_S: Final = 0.05
LOG_TAIL_LINES: Final = 40
PARTITIONS: Final = 4
SESSION_TIMEOUT_MS: Final = 2_000

CHANGELOG: Final = "objections-users-changelog"

# librdkafka's own lines: brokers and workers are taken from under clients on purpose.
_quiet: Final = logging.getLogger(f"{__name__}.kafka")
_quiet.disabled = True

# Kills the worker ($0) once our end of the pipe is closed, however we ended.
_WATCHER: Final = 'read -r word; [ "$word" = done ] || kill -9 "$0"'


def settings_of(kafka: LocalKafka, prefix: str, **variables: object) -> Settings:
    """Return the settings of a process on *prefix*; *variables* are without OBJECTIONS_."""
    return Settings.read(_environ(kafka.bootstrap, prefix, variables))


def apply_topics(kafka: LocalKafka, prefix: str, partitions: int = PARTITIONS) -> None:
    """Make all topics of *prefix*."""
    settings = settings_of(kafka, prefix)
    admin.apply(admin.connect(settings), settings, partitions)


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Return once *condition* holds; fails saying *what* was waited for."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {timeout_s:.0f} s in vain: {what}"
        time.sleep(POLL_PAUSE_S)


class Answer(NamedTuple):
    """What the worker's HTTP answered; status 0 when it did not."""

    status: int
    text: str
    headers: Mapping[str, str] = {}


class Worker:
    """
    One worker of the group of *prefix*; `with` starts it and, in the end, stops it.

    variables: further settings, without OBJECTIONS_ (`FANOUT_SLICE_ITEMS=10`).
    It may be started again after it ended: same state, same port, same log.
    """

    def __init__(
        self,
        kafka: LocalKafka | str,
        prefix: str,
        state_dir: Path,
        *,
        port: int | None = None,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
        **variables: object,
    ) -> None:
        bootstrap = kafka if isinstance(kafka, str) else kafka.bootstrap
        self.state_dir = state_dir
        self.port = free_port() if port is None else port
        self.log_path = state_dir.with_name(f"{state_dir.name}.log")
        self.environ = _environ(
            bootstrap,
            prefix,
            {
                "STATE_DIR": state_dir,
                "HTTP": f"{HOST}:{self.port}",
                "SESSION_TIMEOUT_MS": session_timeout_ms,
                "REBALANCE_TIMEOUT_MS": max(6_000, session_timeout_ms),
                **variables,
            },
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._ended_on_purpose = True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        status = None if self._process is None else self._process.poll()
        surprise = status is not None and not self._ended_on_purpose
        try:
            if error is None and self.running:
                self.thaw()
                self.terminate()
        finally:
            self._end()
        if error is not None:
            error.add_note(self.log_tail())
        elif surprise:
            raise AssertionError(f"the worker ended by itself with {status}; {self.log_tail()}")

    @property
    def running(self) -> bool:
        """Whether the process is there, also when it is frozen."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The worker's process id."""
        assert self._process is not None, "the worker was not started"
        return self._process.pid

    def start(self) -> None:
        """Start the process; does not wait for anything."""
        assert not self.running, "the worker is running already"
        self._end()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streams.commands", "worker"],
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._watcher = subprocess.Popen(
            ["sh", "-c", _WATCHER, str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._ended_on_purpose = False

    def wait_ready(self, timeout_s: float = WAIT_S) -> Self:
        """Return when /readyz says so; fails, with the log, when the worker ends instead."""
        deadline_s = time.monotonic() + timeout_s
        while (answer := self.get("/readyz")).status != http.client.OK:
            assert self.running, f"the worker ended with {self.status()}; {self.log_tail()}"
            assert time.monotonic() < deadline_s, f"not ready: {answer.text}; {self.log_tail()}"
            time.sleep(POLL_PAUSE_S)
        return self

    def kill9(self) -> None:
        """End the process with SIGKILL, frozen or not, and wait until it is gone."""
        self._ended_on_purpose = True
        self._end()

    def freeze(self) -> None:
        """Stop the process where it stands (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = STOP_S) -> int:
        """Ask the process to leave and return its exit status; fails when it takes long."""
        assert self._process is not None, "the worker was not started"
        self._ended_on_purpose = True
        self._process.send_signal(number)
        return self.wait_end(timeout_s)

    def wait_end(self, timeout_s: float = WAIT_S) -> int:
        """Return the exit status once the process has ended, by itself or not."""
        assert self._process is not None, "the worker was not started"
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            message = f"the worker is still there after {timeout_s:.0f} s; {self.log_tail()}"
            raise AssertionError(message) from None
        self._ended_on_purpose = True
        return status

    def status(self) -> int | None:
        """Return the exit status, None while the process runs."""
        return None if self._process is None else self._process.poll()

    def get(self, path: str) -> Answer:
        """Return what its HTTP answers to a GET of *path*."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ANSWER_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return Answer(response.status, response.read().decode(), dict(response.getheaders()))
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, str(error))
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Return all series of /metrics: `name{label="value"}` -> number."""
        answer = self.get("/metrics")
        assert answer.status == http.client.OK, f"/metrics: {answer}; {self.log_tail()}"
        lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
        return {series: float(number) for series, _, number in (x.rpartition(" ") for x in lines)}

    def metric(self, name: str) -> float:
        """Return the sum over all series of metric *name*."""
        return sum(n for series, n in self.metrics().items() if series.partition("{")[0] == name)

    def log(self) -> str:
        """Return all it has said, over all starts."""
        return self.log_path.read_text("utf-8", errors="replace") if self.log_path.exists() else ""

    def log_tail(self) -> str:
        """Return the end of its log, for failures."""
        tail = "\n".join(f"  {line}" for line in self.log().splitlines()[-LOG_TAIL_LINES:])
        return f"the end of {self.log_path}:\n{tail or '  (empty)'}"

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()  # no harm to one that has ended
            self._process.wait()
        if self._watcher is not None:
            self._watcher.communicate(b"done\n")
            self._watcher = None


def _environ(bootstrap: str, prefix: str, variables: Mapping[str, object]) -> dict[str, str]:
    environ = {
        name: text for name, text in os.environ.items() if not name.startswith("OBJECTIONS_")
    }
    ours = {"BOOTSTRAP": bootstrap, "TOPIC_PREFIX": prefix, **variables}
    return environ | {f"OBJECTIONS_{name}": str(value) for name, value in ours.items()}


class Sent(NamedTuple):
    """Where an input record has got to: the full topic name, and the broker's time stamp."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    @property
    def place(self) -> str:
        """The record's place as dead letters and causes name it."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Inputs:
    """
    A producer of input records as the contract wants it: murmur2, acknowledged by all.

    options: further ones of librdkafka, with `_` for `.` (`compression_type="zstd"`).
    """

    def __init__(self, kafka: LocalKafka, prefix: str, **options: object) -> None:
        self._settings = settings_of(kafka, prefix)
        ours = {"acks": "all", "partitioner": "murmur2_random", "linger_ms": 5}
        self.producer = Producer(self._settings.kafka(**{**ours, **options}), logger=_quiet)
        self._pending: dict[int, Message | None] = {}
        self._error: KafkaError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.producer.flush(ANSWER_S)

    def send(self, *records: tuple[str, object], **one: Any) -> list[Sent]:
        """
        Send records (topic as in the contract, value) and return where they are.

        A value is a dict, whose `user_id` becomes the key, or bytes or None.
        """
        for topic, value in records:
            self.queue(topic, value, **one)
        return self.flush()

    def queue(
        self,
        topic: str,
        value: object,
        key: bytes | str | msgspec.UnsetType | None = msgspec.UNSET,
        headers: Iterable[tuple[str, bytes | None]] = (),
        partition: int = -1,
    ) -> None:
        """Send one record without waiting; `flush` tells where it has got to."""
        if isinstance(key, msgspec.UnsetType):
            key = str(value["user_id"]) if isinstance(value, dict) else None
        data = value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)
        number = len(self._pending)
        self._pending[number] = None

        def delivered(error: KafkaError | None, message: Message) -> None:
            self._error = self._error or error
            self._pending[number] = message

        while True:
            try:
                self.producer.produce(
                    self._settings.topic(topic),
                    data,
                    key,
                    partition,
                    on_delivery=delivered,
                    headers=list(headers),
                )
            except BufferError:
                self.producer.poll(0.1)
            else:
                break
        self.producer.poll(0)

    def flush(self) -> list[Sent]:
        """Wait until all is acknowledged; return where it is, in the order it was sent."""
        left = self.producer.flush(WAIT_S)
        assert not left, f"{left} records were not acknowledged"
        assert self._error is None, self._error
        sent = [_sent(message) for message in self._pending.values()]
        self._pending = {}
        return sent


def _sent(message: Message | None) -> Sent:
    assert message is not None
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return Sent(topic, partition, offset, message.timestamp()[1])


class Watch:
    """
    Looks at a prefix from outside: the group's offsets, what the state owes, what was published.

    It remembers what it has read, so that looking again and again is quick.
    """

    def __init__(self, kafka: LocalKafka, prefix: str) -> None:
        self._settings = settings = settings_of(kafka, prefix)
        self._client = AdminClient(settings.kafka(), logger=_quiet)
        self._reader = Consumer(
            settings.kafka(
                group_id=f"{settings.topic_prefix}watch",
                isolation_level="read_committed",
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="earliest",
                fetch_wait_max_ms=10,
            ),
            logger=_quiet,
        )
        known = self._client.list_topics(timeout=ANSWER_S).topics
        self._partitions = {
            name: sorted(known[settings.topic(name)].partitions)
            for name in (*INPUTS, *OUTPUTS, "dead-letters", *topics.names("internal"))
        }
        self._positions = {(CHANGELOG, number): 0 for number in self._partitions[CHANGELOG]}
        self._read = {
            (name, number): 0
            for name in (*OUTPUTS, "dead-letters")
            for number in self._partitions[name]
        }
        self._outputs: dict[str, list[Record]] = {name: [] for name in (*OUTPUTS, "dead-letters")}
        self._jobs: set[bytes] = set()
        self._due_ms: dict[bytes, int] = {}

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_until_caught_up(
        self,
        *,
        clock_offset_s: float = 0.0,
        timeout_s: float = WAIT_S,
        workers: Iterable[Worker] = (),
    ) -> None:
        """Return when all input is processed and nothing is owed; see the function below."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            left = self._left(int((time.time() + clock_offset_s) * 1000))
            if not left:
                return
            ended = [each for each in workers if not each.running]
            if ended or time.monotonic() > deadline_s:
                logs = "\n".join(each.log_tail() for each in workers)
                raise AssertionError(f"not caught up, left are {left[:20]}\n{logs}")
            time.sleep(POLL_PAUSE_S)

    def _left(self, now_ms: int) -> list[str]:
        """Return what is not done yet."""
        try:
            # In this order: what the offsets cover is in the state, once nothing is open.
            left = self.unread() or self.open_transactions()
            return left or self.owed(now_ms) or self.open_transactions()
        except KafkaException as error:  # such as a coordinator that is just being loaded
            return [str(error)]

    def outputs(self) -> dict[str, list[Record]]:
        """Return all committed records of the three outputs and `dead-letters`, by their names."""
        for message in self._read_to_end(self._read):
            place, offset = self._place_of(message), message.offset() or 0
            headers: Any = message.headers() or ()
            record = Record(
                self._settings.topic(place[0]),
                place[1],
                offset,
                message.timestamp()[1],
                message.key(),
                message.value(),
                tuple(headers),
            )
            self._outputs[place[0]].append(record)
            self._read[place] = offset + 1
        return self._outputs

    def committed(self) -> dict[tuple[str, int], int]:
        """Return the group's offsets of all inputs; 0 where it has none."""
        places = [(name, number) for name in INPUTS for number in self._partitions[name]]
        asked = [TopicPartition(self._settings.topic(name), number) for name, number in places]
        future = self._client.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(self._settings.group, asked)], request_timeout=ANSWER_S
        )[self._settings.group]
        return {
            (tp.topic.removeprefix(self._settings.topic_prefix), tp.partition): max(tp.offset, 0)
            for tp in future.result().topic_partitions
        }

    def unread(self) -> list[str]:
        """Return the inputs that the group has not committed to their ends."""
        ends = self._ends(INPUTS, IsolationLevel.READ_COMMITTED)
        committed = self.committed()
        behind = {place: at for place, at in committed.items() if at < ends[place]}
        # Behind the last record there may be control records, and records of aborted transactions.
        left = {self._place_of(message) for message in self._read_to_end(behind)}
        return [f"{name}/{number} from {behind[name, number]} on" for name, number in left]

    def open_transactions(self) -> list[str]:
        """Return the partitions of outputs and state that hold records not yet committed."""
        names = [name for name in self._partitions if name not in INPUTS]
        stable = self._ends(names, IsolationLevel.READ_COMMITTED)
        log = self._ends(names, IsolationLevel.READ_UNCOMMITTED)
        return [f"open at {place}" for place, end in log.items() if stable[place] < end]

    def owed(self, now_ms: int) -> list[str]:
        """Return the fan-outs under way and the decisions due, by the committed state."""
        for message in self._read_to_end(self._positions):
            self._learn(message)
        due = [key for key, due_ms in self._due_ms.items() if due_ms <= now_ms]
        return [f"fan-out of {key[1:]!r}" for key in self._jobs] + [f"due: {key!r}" for key in due]

    def _learn(self, message: Message) -> None:
        key, value = message.key(), message.value()
        self._positions[self._place_of(message)] = (message.offset() or 0) + 1
        if not isinstance(key, bytes):
            return
        if key[:1] == rows.JOB:
            (self._jobs.discard if value is None else self._jobs.add)(key)
        elif key[:1] == rows.USER and isinstance(value, bytes):
            self._due_ms[key] = rows.next_change_ms(value)

    def _read_to_end(self, positions: Mapping[tuple[str, int], int]) -> list[Message]:
        """Return what a read_committed reader sees from *positions* on."""
        found: list[Message] = []
        left = set(positions)
        self._reader.assign(
            [TopicPartition(self._settings.topic(t), p, at) for (t, p), at in positions.items()]
        )
        deadline_s = time.monotonic() + WAIT_S
        while left:
            assert time.monotonic() < deadline_s, f"{left} could not be read to their ends"
            for message in self._reader.consume(5_000, 0.02):
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(self._place_of(message))
        self._reader.unassign()
        return found

    def _place_of(self, message: Message) -> tuple[str, int]:
        topic, partition = message.topic(), message.partition()
        assert topic is not None
        assert partition is not None
        return topic.removeprefix(self._settings.topic_prefix), partition

    def _ends(self, names: Iterable[str], level: IsolationLevel) -> dict[tuple[str, int], int]:
        places = [(name, number) for name in names for number in self._partitions[name]]
        wanted = {
            TopicPartition(self._settings.topic(name), number): OffsetSpec.latest()  # type: ignore[no-untyped-call]
            for name, number in places
        }
        futures = self._client.list_offsets(wanted, isolation_level=level, request_timeout=ANSWER_S)
        found = {(tp.topic, tp.partition): each.result().offset for tp, each in futures.items()}
        return {(name, no): found[self._settings.topic(name), no] for name, no in places}


def wait_until_caught_up(
    kafka: LocalKafka,
    prefix: str,
    *,
    clock_offset_s: float = 0.0,
    timeout_s: float = WAIT_S,
    workers: Iterable[Worker] = (),
) -> None:
    """
    Return when all input is processed and nothing is owed, by what Kafka holds committed.

    That is: the group's offsets are at the ends of the inputs (control and aborted records aside),
    no fan-out is under way, no decision is due and no transaction is open.  It asks no worker, so
    it holds over any number of them; *workers* are only looked at for the log of a failure.
    """
    with Watch(kafka, prefix) as watch:
        watch.wait_until_caught_up(
            clock_offset_s=clock_offset_s, timeout_s=timeout_s, workers=workers
        )


def read_outputs(kafka: LocalKafka, prefix: str) -> dict[str, list[Record]]:
    """Return all committed records of the three outputs and `dead-letters`, by their names."""
    with Watch(kafka, prefix) as watch:
        return watch.outputs()


def assert_proven(
    kafka: LocalKafka,
    prefix: str,
    *,
    clock_offset_s: float = 0.0,
    policy: Policy | None = None,
    once: bool = True,
) -> dict[str, list[Record]]:
    """
    Prove everything on *prefix* from its inputs, and return the outputs as they were read.

    The final outputs are what the pure core computes, the logs keep their promises, each bad
    record has its dead letter, and (*once*) nothing was published twice on `training-users` and
    `training-content`.  For that last one no `content` record may arrive in vain.
    (On `eligibility` a record that is read while grants are held repeats the decision that stands.)
    """
    settings = settings_of(kafka, prefix)
    inputs = proof.read(settings, INPUTS)
    outputs = read_outputs(kafka, prefix)
    now_ms = int((time.time() + clock_offset_s) * 1000)
    truth = proof.expected(inputs, policy or Policy(), now_ms)
    log = list(chain.from_iterable(outputs[name] for name in OUTPUTS))
    wrong = proof.differences(truth, *(proof.compacted(outputs[name]) for name in OUTPUTS))
    wrong += proof.log_violations(log)
    wrong += proof.dead_letter_differences(truth, outputs["dead-letters"])
    if once:
        wrong += proof.repetitions([*outputs["training-users"], *outputs["training-content"]])

    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:40])
    return outputs

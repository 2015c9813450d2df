"""
`objections worker` as a process that tests start, freeze, kill and look at from outside.

    apply_topics(kafka, prefix)
    with Worker(kafka, prefix, tmp_path / "state") as worker, Inputs(kafka, prefix) as inputs:
        inputs.send(("objections", {"user_id": "u1", "objection_id": "o1", "action": "filed"}))
        worker.wait_ready()
        wait_until_caught_up(kafka, prefix)
        assert_proven(kafka, prefix)

Whatever way a test ends, no worker is left behind, and a failure carries the end of its log.
"""

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, NamedTuple, Self

from streams.kafka.local import HOST, LocalKafka
from streams.kafka.ports import free_port
from tests.forked import ROOT, Forked
from tests.worker_inputs import Inputs, Sent
from tests.worker_settings import (
    ANSWER_S,
    PARTITIONS,
    POLL_PAUSE_S,
    WAIT_S,
    apply_topics,
    environ_of,
    settings_of,
    wait_for,
)
from tests.worker_watch import (
    Watch,
    assert_proven,
    read_outputs,
    read_receipts,
    wait_until_caught_up,
)

__all__ = [
    "PARTITIONS",
    "ROOT",
    "WAIT_S",
    "Answer",
    "Inputs",
    "Sent",
    "Watch",
    "Worker",
    "apply_topics",
    "assert_proven",
    "read_outputs",
    "read_receipts",
    "settings_of",
    "wait_for",
    "wait_until_caught_up",
]

STOP_S: Final = 10.0
LOG_TAIL_LINES: Final = 40
RUNS_S: Final = 0.004  # of a slowed worker, in turns: a tenth of the time
RESTS_S: Final = 0.036
SESSION_TIMEOUT_MS: Final = 2_000

# Kills the worker ($0) once our end of the pipe is closed, however we ended.
_WATCHER: Final = 'read -r word; [ "$word" = done ] || kill -9 "$0"'


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

    command: ClassVar[str] = "worker"  # of `objections`
    arguments: ClassVar[tuple[str, ...]] = ()
    forked: ClassVar[bool] = True  # it is there at once, see `tests.forked`

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
        self.environ = environ_of(
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
        self._process: subprocess.Popen[bytes] | Forked | None = None
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
        arguments = [self.command, *self.arguments]
        if self.forked:
            self._process = Forked(arguments, self.environ, self.log_path)
        else:
            self._process = self._started(arguments)
        self._watcher = subprocess.Popen(
            ["sh", "-c", _WATCHER, str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._ended_on_purpose = False

    def _started(self, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "streams.commands", *arguments],
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

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

    @contextmanager
    def slowed(self) -> Iterator[None]:
        """
        Let the process run for a tenth of the time only.

        What it does can then be caught half-way, however quick the machine is.
        """
        ended = threading.Event()

        def take_turns() -> None:
            while not ended.wait(RUNS_S):
                if (process := self._process) is not None:
                    process.send_signal(signal.SIGSTOP)
                    ended.wait(RESTS_S)
                    process.send_signal(signal.SIGCONT)

        turns = threading.Thread(target=take_turns, daemon=True)
        turns.start()
        try:
            yield
        finally:
            ended.set()
            turns.join()

    def terminate(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = STOP_S) -> int:
        """Ask the process to leave and return its exit status; fails when it takes long."""
        assert self._process is not None, "the worker was not started"
        self._ended_on_purpose = True
        self._process.send_signal(number)
        return self.wait_end(timeout_s)

    def leave(self) -> None:
        """Let the process leave, as one does who has nothing left to do."""
        status = self.terminate()
        assert status == 0, f"the worker left with {status}; {self.log_tail()}"

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

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Return what its HTTP answers to a GET of *path*."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ANSWER_S)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
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

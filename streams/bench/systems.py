"""
The systems under measurement: a process each, its processor time and its memory.

Ours is `objections worker`; the others are peers.py's.  Each runs in a session
of its own, so that a terminal's Ctrl-C reaches the measuring first, with a watcher that ends it
when we are gone in whatever way.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import psutil

from streams.bench.peers import PEERS, Launch, Place, check_program, python_path
from streams.errors import CommandError, UsageProblem
from streams.kafka.cache import Say, say_on_stderr
from streams.watcher import watch

OURS: Final = "ours"
NAMES: Final = (OURS, *PEERS)
STOP_TIMEOUT_S: Final = 15.0
_LOG_TAIL_LINES: Final = 15
_OBJECTIONS: Final = "from streams.commands import main; main()"

# They change decisions or topics: what is expected would not hold.
_NOT_PASSED_ON: Final = ("OBJECTIONS_CLOCK_OFFSET_S", "OBJECTIONS_POLICY", "OBJECTIONS_STORES")


class Usage(NamedTuple):
    """What a system's own processes have used: user and system time, and memory now."""

    cpu_s: float
    resident_bytes: int


class Program:
    """A program in a session of its own, its words in *folder*; `with` starts and ends it."""

    def __init__(
        self, name: str, command: list[str], environ: Mapping[str, str], cwd: Path, folder: Path
    ) -> None:
        self.name = name
        self._command, self._environ, self._cwd = command, environ, cwd
        self._log_path = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            with self._log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    self._command,
                    env=self._environ,
                    cwd=self._cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._watcher = watch(self._process.pid)
        except BaseException:  # an interrupt above all
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass  # Measured already: how it ends does not matter here.
        finally:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._watcher is not None:
            self._watcher.communicate(b"done\n")

    def check(self) -> None:
        """Raise CommandError, with the end of its log, when the system has ended by itself."""
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            message = f"{self.name} ended by itself with status {status}; {self.log_end()}"
            raise CommandError(message)

    def log_end(self) -> str:
        """Return the last lines the system said, for people."""
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(f"  {line}" for line in lines[-_LOG_TAIL_LINES:]) or "  (empty)"
        return f"the end of {self._log_path}:\n{tail}"

    def usage(self) -> Usage:
        """Return what the system has used since its start, processes of its own included."""
        assert self._process is not None
        cpu_s, resident_bytes = 0.0, 0
        try:
            root = psutil.Process(self._process.pid)
            for process in [root, *root.children(recursive=True)]:
                times = process.cpu_times()
                cpu_s += times.user + times.system
                resident_bytes += process.memory_info().rss
        except psutil.NoSuchProcess:
            self.check()
        return Usage(cpu_s, resident_bytes)


class System(Program):
    """One system running at *place*; *variables* are for ours alone."""

    def __init__(self, name: str, place: Place, **variables: str) -> None:
        self.group = f"{place.prefix}{'objections' if name == OURS else 'peer'}"
        launch = _ours(place) if name == OURS else PEERS[name].launch(place)
        environ = launch.environ | variables
        super().__init__(name, launch.command, environ, launch.folder, place.folder)


def follower(place: Place, store: str, url: str) -> Program:
    """Return an `objections subscribe` that keeps *store*, the one at *url*."""
    ours = _ours(place)
    command = [sys.executable, "-c", _OBJECTIONS, "subscribe", "--store", store, "--sink", url]
    return Program(f"store-{store}", command, ours.environ, ours.folder, place.folder)


def check_available(names: Sequence[str], say: Say = say_on_stderr) -> None:
    """Raise UsageProblem or Unreachable where a system of *names* cannot be run here."""
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        message = f"--peers holds {', '.join(unknown) or 'nothing'}, expected some of " + ", ".join(
            NAMES
        )
        raise UsageProblem(message)
    for name in names:
        if name != OURS:
            check_program(name)
            PEERS[name].prepare(say)


def _ours(place: Place) -> Launch:
    """Return how ours is started; variables that tune a worker are passed on."""
    passed_on = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    environ = passed_on | {
        "OBJECTIONS_BOOTSTRAP": place.bootstrap,
        "OBJECTIONS_TOPIC_PREFIX": place.prefix,
        "OBJECTIONS_GROUP": f"{place.prefix}objections",
        "OBJECTIONS_STATE_DIR": str(place.folder / "state"),
        "OBJECTIONS_HTTP": "127.0.0.1:0",
        "PYTHONPATH": python_path(),
    }
    return Launch([sys.executable, "-c", _OBJECTIONS, "worker"], environ, place.folder)

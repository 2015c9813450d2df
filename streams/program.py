"""
A program as a process of its own, the way anybody would run it, that ends with us.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from streams.errors import CommandError
from streams.watcher import Process, Signal, let_go, signals_held_back, start_watched

STOP_TIMEOUT_S: Final = 15.0
LOG_TAIL_LINES: Final = 15


class Program:
    """
    *command* with *environ*, in folder *cwd*, its words in *log_path*; `with` runs it.

    name: for people.  Its session is its own: a terminal's Ctrl-C reaches us, and we stop it.
    orphaned: the signal it gets when we are gone, in whatever way.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        log_path: Path,
        cwd: Path | None = None,
        *,
        orphaned: Signal = "TERM",
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._command, self._environ, self._cwd = command, environ, cwd
        self._orphaned: Signal = orphaned
        self._process: Process | None = None
        self._watcher: Process | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:  # Ctrl-C at this very moment
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def ask_to_stop(self) -> None:
        """Tell it to end, without waiting for it."""
        if self._process is not None:
            self._process.terminate()

    def check(self) -> None:
        """Raise CommandError, with the end of its log, when it has ended by itself."""
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            raise CommandError(f"{self.name} ended with status {status}; {self.log_tail()}")

    def log_tail(self) -> str:
        """Return the end of its log, for people."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (empty)"
        return f"the end of {self.log_path}:\n{tail}"

    def _start(self) -> None:
        with signals_held_back():
            self._process, self._watcher = start_watched(
                self._command,
                self.log_path,
                self._orphaned,
                environ=self._environ,
                cwd=self._cwd,
            )

    def _stop(self) -> None:
        """End it in order, or kill it when that takes long."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._watcher is not None:
            let_go(self._watcher)

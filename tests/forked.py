"""
`objections` as a process that is there at once: forked from one that has imported what it needs.

    process = Forked(["worker"], environ, log_path)

Importing it all takes a worker a second of processor time, and the tests start hundreds.  Who
forks has no threads and no clients.  What differs from a start of its own is the very end: Python
is left without being torn down; tests of that start the program itself.
"""

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["streams.worker.run", "streams.worker.app"])


class Forked:
    """A process that runs `objections` with *arguments*; to be used as `subprocess.Popen` is."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], log_path: Path):
        run = (list(arguments), dict(environ), str(log_path))
        self._process: ForkServerProcess = _context.Process(target=_run, args=run, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return what `poll` does once it has ended; raises TimeoutExpired."""
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("objections", timeout)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)


def _run(arguments: list[str], environ: dict[str, str], log_path: str) -> None:
    os.setsid()
    os.chdir(ROOT)
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.clear()
    os.environ.update(environ)
    from streams.commands import main

    main(arguments, prog_name="objections")

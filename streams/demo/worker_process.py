"""
`objections worker` as a process of its own, the way anybody would run it.
"""

import http.client
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from streams.errors import CommandError
from streams.watcher import watch

STOP_TIMEOUT_S: Final = 15.0
LOG_TAIL_LINES: Final = 15
_ANSWER_TIMEOUT_S: Final = 2.0


class WorkerProcess:
    """
    A worker with *environ* as its settings and its log in *log_path*; `with` runs it.

    It is in a session of its own: a terminal's Ctrl-C reaches us, and we stop it.
    """

    def __init__(self, environ: Mapping[str, str], http: str, log_path: Path) -> None:
        self.log_path = log_path
        self.http = http
        self._environ = dict(environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The worker's process id."""
        assert self._process is not None, "the worker is not running"
        return self._process.pid

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

    def _start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streams.commands", "worker"],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._watcher = watch(self._process.pid, "TERM")

    def _stop(self) -> None:
        """End the worker in order, or kill it when that takes long."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._watcher is not None:
            self._watcher.communicate(b"done\n")

    def check(self) -> None:
        """Raise CommandError, with the end of its log, when the worker has ended."""
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            raise CommandError(f"the worker ended with status {status}; {self.log_tail()}")

    def is_ready(self) -> bool:
        """Whether it says that it serves; raises CommandError when it has ended."""
        self.check()
        connection = http.client.HTTPConnection(self.http, timeout=_ANSWER_TIMEOUT_S)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def log_tail(self) -> str:
        """Return the end of its log, for people."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (empty)"
        return f"the end of {self.log_path}:\n{tail}"

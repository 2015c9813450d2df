"""
A worker as a process: started, frozen, killed and looked at from outside.
"""

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from streams.bench.peers import python_path
from streams.errors import CommandError
from streams.kafka.local import HOST
from streams.kafka.ports import free_port
from streams.watcher import Process, let_go, signals_held_back, start_watched

OBJECTIONS: Final = (sys.executable, "-c", "from streams.commands import main; main()")
ANSWER_S: Final = 5.0
STOP_S: Final = 20.0
LOG_TAIL_LINES: Final = 15


def environ_of(variables: Mapping[str, object]) -> dict[str, str]:
    """Return the environment of a process of ours with *variables*, without OBJECTIONS_."""
    others = {name: text for name, text in os.environ.items() if not name.startswith("OBJECTIONS_")}
    ours = {f"OBJECTIONS_{name}": str(value) for name, value in variables.items()}
    return others | ours | {"PYTHONPATH": python_path()}


class Worker:
    """
    One `objections worker`; it may be started again: same folder, same port, same log.

    variables: its settings, without OBJECTIONS_; they hold from the next start on.
    """

    def __init__(self, name: str, folder: Path, variables: Mapping[str, object]) -> None:
        self.name = name
        self.state_dir = folder / name
        self.log_path = folder / f"{name}.log"
        self.variables: dict[str, object] = {**variables, "HTTP": f"{HOST}:{free_port()}"}
        self._process: Process | None = None
        self._watcher: Process | None = None
        self._said_bytes = 0  # in the log when it was last started

    @property
    def wanted(self) -> bool:
        """Whether it was started, and not ended by us."""
        return self._process is not None

    @property
    def ended(self) -> int | None:
        """The exit status where it has ended by itself, None otherwise."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it; waits for nothing."""
        self.end()
        self._said_bytes = self.log_path.stat().st_size if self.log_path.exists() else 0
        environ = environ_of({**self.variables, "STATE_DIR": self.state_dir})
        with signals_held_back():
            self._process, self._watcher = start_watched(
                [*OBJECTIONS, "worker"], self.log_path, environ=environ, cwd=self.log_path.parent
            )

    def end(self) -> None:
        """End it with SIGKILL, frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._watcher is not None:
            let_go(self._watcher)
            self._watcher = None

    def leave(self) -> None:
        """Let it leave in order; raises CommandError where it does not within its time."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            message = f"{self.name} has not left within {STOP_S:.0f} s; {self.log_tail()}"
            raise CommandError(message) from None
        finally:
            self.end()
        too_soon = status == -signal.SIGTERM and not self.said()  # Python had not begun
        if status and not too_soon:
            raise CommandError(f"{self.name} has left with status {status}; {self.log_tail()}")

    def freeze(self) -> None:
        """Stop it where it stands."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def serving(self) -> int:
        """Return how many partitions it serves; 0 while it is not ready."""
        text = self._get("/readyz")
        return int(text.split()[1]) if text.startswith("serving") else 0

    def assigned(self) -> set[int]:
        """Return the partitions that the group has given it last, by what it says."""
        found = re.findall(r"assigned: partitions \[([\d, ]*)\]", self.said())
        return set(map(int, found[-1].split(","))) if found and found[-1] else set()

    def _get(self, path: str) -> str:
        host, _, port = str(self.variables["HTTP"]).partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    def said(self) -> str:
        """Return its log since it was last started."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_bytes()[self._said_bytes :].decode(errors="replace")

    def last_word(self) -> str:
        """Return the last line of its log."""
        return (self.said().strip().splitlines() or ["(nothing)"])[-1]

    def log_tail(self) -> str:
        """Return the end of its log, for people."""
        lines = "\n".join(f"  {line}" for line in self.said().splitlines()[-LOG_TAIL_LINES:])
        return f"the end of {self.log_path}:\n{lines or '  (empty)'}"

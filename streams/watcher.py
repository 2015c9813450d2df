"""
Programs that end with us, however we end: a pipe is closed even by kill -9.
"""

import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal

Signal = Literal["KILL", "TERM"]
Process = subprocess.Popen[bytes]


def start_watched(
    command: Sequence[str],
    log_path: Path,
    orphaned: Signal = "KILL",
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> tuple[Process, Process]:
    """
    Start *command* in a session of its own, its words in *log_path*; return it and its watcher.

    orphaned: the signal it gets when we are gone.  Call it, and keep what it returns, within
    `signals_held_back`; `let_go` of the watcher when the process has ended.
    """
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command,
            env=environ,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return process, _watch(process.pid, orphaned)


def let_go(watcher: Process) -> None:
    """Tell a watcher that there is nothing left to end."""
    watcher.communicate(b"done\n")


@contextmanager
def signals_held_back() -> Iterator[None]:
    """
    Let SIGINT and SIGTERM act only at the end.

    Within `Popen` they would leave a process behind that nobody knows.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # they act there
        return
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    for each in came:
        signal.raise_signal(each)


def _watch(pid: int, orphaned: Signal) -> Process:
    """Return a watcher that signals process *pid* once our end of its standard input is closed."""
    script = f'read -r word; [ "$word" = done ] || kill -{orphaned} "$0"'
    return subprocess.Popen(
        ["sh", "-c", script, str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

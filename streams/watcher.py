"""
Lets a child process end with us, however we end: a pipe is closed even by kill -9.
"""

import subprocess
from typing import Literal

Signal = Literal["KILL", "TERM"]


def watch(pid: int, signal: Signal = "KILL") -> "subprocess.Popen[bytes]":
    """
    Return a watcher that signals process *pid* once our end of its standard input is closed.

    A line "done" written there before tells it that there is nothing left to end.
    """
    script = f'read -r word; [ "$word" = done ] || kill -{signal} "$0"'
    return subprocess.Popen(
        ["sh", "-c", script, str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

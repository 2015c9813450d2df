"""
A helper process beside the system under measurement: started, waited for, and never left behind.

It ends with us: it is killed on leaving, and looks itself whether its parent is still there.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Self

from streams.errors import CommandError

START_TIMEOUT_S: Final = 60.0

# librdkafka does not survive a fork.
spawning: Final = multiprocessing.get_context("spawn")


def counter() -> Any:
    """Return a number that is written in one process and read in others."""
    return spawning.Value("Q", 0, lock=False)


class Child:
    """
    `target(*args, parent)` in a process of its own.

    It begins by `parent.tell("ready")`, which `with` waits for.
    """

    def __init__(self, name: str, target: Callable[..., None], *args: Any) -> None:
        self._name = name
        self._pipe, self._theirs = spawning.Pipe()
        self._process = spawning.Process(
            target=_run, args=(target, args, self._theirs, os.getpid()), name=name, daemon=True
        )

    def __enter__(self) -> Self:
        try:
            self._start()
            self._theirs.close()  # or its end would not be noticed
            self.receive(START_TIMEOUT_S)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kill()

    def tell(self, word: str) -> None:
        """Send *word* to the process."""
        self._pipe.send(word)

    def has_answered(self) -> bool:
        """Whether there is something to receive."""
        return self._pipe.poll()

    def receive(self, timeout_s: float) -> Any:
        """Return what the process sends; raises CommandError when it does not."""
        try:
            if self._pipe.poll(timeout_s):
                return self._pipe.recv()
        except EOFError:
            message = f"the process to {self._name} ended by itself; what it said stands above"
            raise CommandError(message) from None
        message = f"the process to {self._name} did not answer within {timeout_s:.0f} s"
        raise CommandError(message)

    def _start(self) -> None:
        """Start the process deaf to a terminal's Ctrl-C, which is for us, who then end it."""
        resource_tracker.ensure_running()  # it would unblock, once started
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()  # it inherits what is blocked
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _kill(self) -> None:
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()


class Parent:
    """The process that started this one, as seen from here."""

    def __init__(self, pipe: Connection, pid: int) -> None:
        self._pipe = pipe
        self._pid = pid

    @property
    def gone(self) -> bool:
        """Whether nobody is there any more to work for."""
        return os.getppid() != self._pid

    def tell(self, what: object) -> None:
        """Send *what*."""
        self._pipe.send(what)

    def has_spoken(self) -> bool:
        """Whether a word was sent."""
        return self._pipe.poll()

    def wait(self) -> None:
        """Wait for a word."""
        self._pipe.recv()


def _run(target: Callable[..., None], args: tuple[Any, ...], pipe: Connection, pid: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where what was blocked is not any more
    try:
        target(*args, Parent(pipe, pid))
    except (EOFError, BrokenPipeError):
        return  # the parent is gone

"""
Many people and programs at once, on connections that stay open, for little processor time.

A client library would take as long for a request as the form does, on the same two cores.  Requests
are made before the clock starts, and answers looked at after it has stopped.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

CONNECTIONS = 100  # open before the first one is needed
CONNECTIONS_MAX = 8_000  # as many as wait for an answer, up to here
ANSWER_S = 60.0  # after the last one was due

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\nContent-Length: "


@dataclass
class Answered:
    """What became of one request: *raw* is b"" where nothing came; *took_s* since it was due."""

    raw: bytes = b""
    took_s: float = 0.0

    @property
    def status(self) -> int:
        """Return the status, 0 for no answer."""
        return int(self.raw[9:12] or 0)

    @property
    def body(self) -> bytes:
        """Return what follows the headers."""
        return self.raw.partition(_HEAD_END)[2]

    def header(self, name: str) -> str:
        """Return a header's value."""
        head = self.raw.partition(_HEAD_END)[0]
        return head.partition(f"\r\n{name}: ".encode())[2].partition(b"\r\n")[0].decode()


class Crowd:
    """Sends *requests*, *rate* a second, whether or not earlier ones were answered."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes], rate: float) -> None:
        self.answers = [Answered() for _ in requests]
        self.took_s = 0.0
        self._host, self._port = host, port
        self._requests, self._rate = requests, rate
        self._begun_s = 0.0
        self._sent = 0
        self._open = len(requests)
        self._due: deque[int] = deque()
        self._idle: list[_Line] = []
        self._lines = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Return when all are answered, or the last one was due too long ago."""
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            await self.call()
        self._begun_s = time.perf_counter()
        loop.call_soon(self._tick)
        within_s = len(self._requests) / self._rate + ANSWER_S
        with contextlib.suppress(TimeoutError):  # those without an answer are told of as such
            await asyncio.wait_for(self._done.wait(), within_s)
        self.took_s = time.perf_counter() - self._begun_s
        for line in self._idle:
            line.hang_up()

    async def call(self) -> None:
        """Open a line, which takes what is due."""
        self._lines += 1
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: _Line(self), self._host, self._port
            )
        except OSError:  # what is due waits for the next one
            self._lines -= 1

    def free(self, line: "_Line") -> None:
        """Let *line* take what is due next."""
        if self._due:
            number = self._due.popleft()
            line.send(number, self._requests[number])
        else:
            self._idle.append(line)

    def answered(self, number: int, raw: bytes) -> None:
        """Note what came, b"" where the line broke."""
        due_s = self._begun_s + number / self._rate
        self.answers[number] = Answered(raw, time.perf_counter() - due_s)
        self._open -= 1
        if not self._open:
            self._done.set()

    def lost(self, line: "_Line") -> None:
        """Forget a line that broke; another one is opened when one is needed."""
        self._lines -= 1
        if line in self._idle:
            self._idle.remove(line)

    def _tick(self) -> None:
        due = int((time.perf_counter() - self._begun_s) * self._rate) + 1
        while self._sent < min(due, len(self._requests)):
            self._due.append(self._sent)
            self._sent += 1
        while self._due and self._idle:
            self.free(self._idle.pop())
        for _ in range(min(len(self._due) - len(self._calls), CONNECTIONS_MAX - self._lines)):
            task = asyncio.get_running_loop().create_task(self.call())
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
        if self._open:
            asyncio.get_running_loop().call_later(1 / self._rate, self._tick)


class _Line(asyncio.Protocol):
    """A connection: one request after the other."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._transport: asyncio.Transport | None = None
        self._number: int | None = None
        self._raw = b""

    def send(self, number: int, request: bytes) -> None:
        """Send a request."""
        assert self._transport is not None, "not connected"
        self._number = number
        self._transport.write(request)

    def hang_up(self) -> None:
        """Close it."""
        assert self._transport is not None, "not connected"
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._crowd.free(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._answered(b"")
        self._crowd.lost(self)

    def data_received(self, data: bytes) -> None:
        self._raw += data
        head = self._raw.find(_HEAD_END)
        at = self._raw.find(_LENGTH, 0, head) + len(_LENGTH)
        if head < 0 or len(self._raw) < head + len(_HEAD_END) + _number(self._raw, at):
            return
        raw, self._raw = self._raw, b""
        self._answered(raw)
        self._crowd.free(self)

    def _answered(self, raw: bytes) -> None:
        if self._number is not None:
            number, self._number = self._number, None
            self._crowd.answered(number, raw)


def _number(raw: bytes, at: int) -> int:
    return int(raw[at : raw.index(b"\r", at)])

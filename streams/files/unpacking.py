"""
The bytes of a file, or of standard input, unpacked.
"""

import gzip
import io
import os
import select
import sys
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from streams.errors import UsageProblem

AWAIT_S: Final = 0.2
BUFFER_BYTES: Final = 4 * 1024 * 1024
DAMAGE: Final = (OSError, EOFError, zlib.error)  # what reading a damaged file raises


def open_file(path: Path, stack: ExitStack) -> BinaryIO:
    """Return the file at *path*, closed with *stack*; raises OSError."""
    return stack.enter_context(path.open("rb", buffering=BUFFER_BYTES))


def unpacked(raw: BinaryIO, codec: str | None, stack: ExitStack) -> io.BufferedReader:
    """Return what *codec* (None, "gzip", "zstd") has packed into *raw*."""
    if codec is None:
        return cast("io.BufferedReader", raw)
    if codec == "gzip":
        stream = stack.enter_context(gzip.GzipFile(fileobj=raw))
        return io.BufferedReader(cast("Any", _Full(stream)), BUFFER_BYTES)
    return io.BufferedReader(_Full(arrow().CompressedInputStream(raw, "zstd")), BUFFER_BYTES)


def standard_input() -> io.BufferedReader:
    """Return standard input as it is."""
    try:
        handle = sys.stdin.fileno()
    except (OSError, ValueError):  # It was replaced, as tests do.
        return io.BufferedReader(cast("Any", sys.stdin.buffer), BUFFER_BYTES)
    return io.BufferedReader(_Awaited(handle), BUFFER_BYTES)


class _Awaited(io.RawIOBase):
    """
    Standard input, looked at again and again while nothing comes.

    A signal that arrives just before a read would else wait for the next row, for ever perhaps.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not select.select([self._handle], [], [], AWAIT_S)[0]:
            pass
        data = os.read(self._handle, len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Full(io.RawIOBase):
    """A stream that gives as much as is asked for, so that blocks are large."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def arrow() -> Any:
    """Return pyarrow; raises UsageProblem where it is not installed."""
    try:
        import pyarrow as pa
    except ImportError as error:
        message = (
            f"zstd needs more than the service itself ({error.name} is missing): "
            "pip install 'objection-streams[parquet]', or use gzip."
        )
        raise UsageProblem(message) from error
    return pa

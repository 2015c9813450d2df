"""
Lines of a stream in large blocks, and CSV rows with the lines they were made of.

In CSV a quote out of place ends everything, as nobody knows then where the next row begins, and
part of one could pass as another.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from streams.errors import UsageProblem

CHUNK_BYTES: Final = 1024 * 1024  # its rows stay in the processor's cache
FIELD_BYTES_MAX: Final = 256 * 1024 * 1024  # of one CSV field; an open quote is noticed by it
BOM: Final = b"\xef\xbb\xbf"


def blocks(stream: io.BufferedReader) -> Iterator[bytes]:
    """
    Yield what *stream* holds, in blocks of whole lines: CHUNK_BYTES, or what has come so far.
    """
    rest: list[bytes] = []
    while data := stream.read1(CHUNK_BYTES):
        end = data.rfind(b"\n") + 1
        if not end:
            rest.append(data)
            continue
        yield b"".join([*rest, data[:end]])
        rest = [data[end:]] if end < len(data) else []
    if rest:
        yield b"".join(rest)


class CsvChunk(NamedTuple):
    """
    Some rows of a CSV file, in its order; a blank line is one without cells.

    texts: the lines of each row as they came; bytes that are no UTF-8 are lone surrogates.
    numbers: the line that each begins in, from 1.
    """

    texts: list[str]
    cells: list[list[str]]
    numbers: Sequence[int]


class CsvRows:
    """
    A stream of rows under a header line; quoted fields may hold line ends.

    names: those of the columns.  header: its bytes.  Reading raises UsageProblem.
    """

    def __init__(self, stream: io.BufferedReader, name: str, delimiter: str) -> None:
        self.name = name
        self._delimiter = delimiter
        self.header = stream.read(len(BOM)) if _peek(stream) == BOM else b""
        self._blocks = blocks(stream)
        self._ahead: Iterator[str] = iter(())  # of a block that is read
        self._lines = 0  # behind us
        csv.field_size_limit(FIELD_BYTES_MAX)
        raw: list[str] = []
        self.names = next(self._rows(self._rest(), raw), [])
        self.header += as_bytes("".join(raw))
        self._lines = len(raw)

    def chunks(self) -> Iterator[CsvChunk]:
        """Yield the rows; once."""
        while lines := list(self._ahead) or _text_lines(next(self._blocks, b"")):
            found = self._line_by_line(lines)
            yield self._across_lines(lines) if found is None else found

    def _rest(self) -> Iterator[str]:
        """Yield the lines that are left, and leave those that are not taken."""
        yield from self._ahead
        for block in self._blocks:
            self._ahead = iter(_text_lines(block))
            yield from self._ahead

    def _line_by_line(self, lines: list[str]) -> CsvChunk | None:
        """Take each line for a row; None where a row goes on in the next line, or is wrong."""
        try:
            rows = list(csv.reader(lines, delimiter=self._delimiter, strict=True))
        except csv.Error:
            return None
        if len(rows) != len(lines):  # A row takes a line at least; so here each takes one.
            return None
        first = self._lines + 1
        self._lines += len(lines)
        return CsvChunk(lines, rows, range(first, first + len(lines)))

    def _across_lines(self, lines: list[str]) -> CsvChunk:
        """Take rows as they come; where *lines* end within one, its others are read too."""
        raw: list[str] = []
        found = CsvChunk([], [], numbers := [])
        begin = 0
        for row in self._rows(chain(lines, self._rest()), raw):
            found.cells.append(row)
            found.texts.append("".join(raw[begin:]))
            numbers.append(self._lines + 1 + begin)
            begin = len(raw)
            if begin >= len(lines):
                break
        self._lines += begin
        return found

    def _rows(self, lines: Iterable[str], raw: list[str]) -> Iterator[list[str]]:
        """Yield the rows in *lines*, taking no more of these than they need, noted in *raw*."""

        def noted() -> Iterator[str]:
            for line in lines:
                raw.append(line)
                yield line

        reader = csv.reader(noted(), delimiter=self._delimiter, strict=True)
        try:
            yield from reader
        except csv.Error as error:
            message = (
                f"{self.name}, line {self._lines + reader.line_num}: {error}. From there on "
                "nobody can tell where rows begin, so nothing of this file is used. Remedy: mend "
                "the quotes, or name the separator with --delimiter."
            )
            raise UsageProblem(message) from error


def _text_lines(block: bytes) -> list[str]:
    """Return lines as CSV knows them; bytes that are no UTF-8 come out as they went in."""
    return io.StringIO(block.decode("utf-8", "surrogateescape"), newline="").readlines()


def _peek(stream: io.BufferedReader) -> bytes:
    return stream.peek(len(BOM))[: len(BOM)]


def as_bytes(text: str) -> bytes:
    """Return the bytes that *text* of a CSV file was made of."""
    return text.encode("utf-8", "surrogateescape")


def listed(names: Iterable[Any]) -> str:
    """Return *names* for people."""
    return ", ".join(repr(str(name)) for name in names) or "none"

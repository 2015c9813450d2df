"""
JSONL and CSV: rows as the bytes they are, and their ids.

What is kept goes out byte for byte as it came in.  A row whose id cannot be read is malformed: it
is dropped and counted.  In CSV a quote out of place ends everything, as nobody knows then where
the next row begins, and part of one could pass as another.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, compress
from typing import Any, Final

import msgspec
import numpy as np

from streams.errors import UsageProblem
from streams.training.hashing import Hasher, Hashes
from streams.training.items import id_text

CHUNK_BYTES: Final = 4 * 1024 * 1024
FIELD_BYTES_MAX: Final = 256 * 1024 * 1024  # of one CSV field; an open quote is noticed by it
_BOM: Final = b"\xef\xbb\xbf"

Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


class Lines:
    """
    Some rows of a file, in its order.

    malformed: numbers of the lines, from 1, of rows that are no rows; they are not among `rows`.
    """

    def __init__(self, rows: Sequence[bytes], ids: Sequence[str], malformed: Sequence[int]) -> None:
        self._rows = rows
        self._ids = ids
        self.malformed = malformed

    def __len__(self) -> int:
        return len(self._rows)

    def hashes(self, hasher: Hasher) -> Hashes:
        """Return the hash of each row's id."""
        return hasher.of_texts(self._ids)

    def ids(self, mask: Mask) -> list[str]:
        """Return the ids of the rows that *mask* chooses."""
        return list(compress(self._ids, mask.tolist()))

    def kept(self, mask: Mask) -> bytes:
        """Return the rows that *mask* chooses, as they came."""
        return b"".join(compress(self._rows, mask.tolist()))


class JsonLines:
    """A stream of JSON objects, one a line; blank lines are no rows and are left out."""

    header = b""

    def __init__(self, stream: io.BufferedReader, name: str, column: str) -> None:
        self._stream = stream
        self._name = name
        self._column = column
        row = msgspec.defstruct(
            "Row", [("id", str | int | None, None)], rename={"id": column}, gc=False
        )
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(row).decode

    def __iter__(self) -> Iterator[Lines]:
        count = 0
        for block in _blocks(self._stream):
            lines = io.BytesIO(block).readlines()
            if not count:
                lines[0] = lines[0].removeprefix(_BOM)  # JSON has none
            chunk = self._chunk(lines, count)
            if not count and chunk.malformed and not len(chunk):
                raise UsageProblem(self._nothing(lines))
            count += len(lines)
            yield chunk

    def _chunk(self, lines: list[bytes], before: int) -> Lines:
        try:
            # Each line by itself: one object may not begin in one line and end in another.
            ids: list[Any] = [row.id for row in map(self._decode, lines)]
        except (msgspec.MsgspecError, UnicodeDecodeError):
            ids = [self._id(line) for line in lines]
        texts = list(map(id_text, ids))
        if all(texts):
            return Lines(lines, texts, [])
        bad = [
            before + number
            for number, (text, line) in enumerate(zip(texts, lines, strict=True), 1)
            if not text and line.strip()
        ]
        return Lines(list(compress(lines, texts)), [text for text in texts if text], bad)

    def _id(self, line: bytes) -> Any:
        try:
            return self._decode(line).id
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _nothing(self, lines: list[bytes]) -> str:
        for line in lines:
            try:
                row = msgspec.json.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            if isinstance(row, dict):
                return (
                    f"{self._name}: no row has an id in {self._column!r}; the first object has "
                    f"{_listed(row)}. Remedy: name the column of the content ids with --column."
                )
        return (
            f"{self._name}: expected JSON objects, one a line, and found none in the first "
            f"{len(lines)} lines. Remedy: name the format with --format."
        )


class Csv:
    """A stream of rows under a header line; quoted fields may hold line ends."""

    def __init__(self, stream: io.BufferedReader, name: str, column: str, delimiter: str) -> None:
        self._name = name
        self._delimiter = delimiter
        self.header = stream.read(len(_BOM)) if _peek(stream) == _BOM else b""
        self._blocks = _blocks(stream)
        self._ahead: Iterator[str] = iter(())  # of a block that is read
        self._lines = 0  # behind us
        csv.field_size_limit(FIELD_BYTES_MAX)
        raw: list[str] = []
        names = next(self._rows(self._rest(), raw), [])
        self.header += _bytes(raw)
        self._lines = len(raw)
        self._width = len(names)
        if names.count(column) != 1:
            found = "more than one column" if column in names else "no column"
            message = (
                f"{name}: {found} {column!r}; its header has {_listed(names)}. Remedy: name the "
                "column of the content ids with --column, the separator with --delimiter."
            )
            raise UsageProblem(message)
        self._column = names.index(column)

    def __iter__(self) -> Iterator[Lines]:
        while lines := list(self._ahead) or _text_lines(next(self._blocks, b"")):
            found = self._line_by_line(lines)
            yield self._across_lines(lines) if found is None else found

    def _rest(self) -> Iterator[str]:
        """Yield the lines that are left, and leave those that are not taken."""
        yield from self._ahead
        for block in self._blocks:
            self._ahead = iter(_text_lines(block))
            yield from self._ahead

    def _line_by_line(self, lines: list[str]) -> Lines | None:
        """Take each line for a row; None where a row goes on in the next line, or is wrong."""
        try:
            rows = list(csv.reader(lines, delimiter=self._delimiter, strict=True))
        except csv.Error:
            return None
        if len(rows) != len(lines):  # A row takes a line at least; so here each takes one.
            return None
        width, column = self._width, self._column
        ids = [row[column] if len(row) == width else "" for row in rows]
        bad = [] if all(ids) else [at for at, row in enumerate(rows) if row and not ids[at]]
        return self._chunk(list(map(_encoded, lines)), ids, bad, len(lines))

    def _across_lines(self, lines: list[str]) -> Lines:
        """Take rows as they come; where *lines* end within one, its others are read too."""
        raw: list[str] = []
        rows: list[bytes] = []
        ids: list[str] = []
        bad: list[int] = []
        begin = 0
        for row in self._rows(chain(lines, self._rest()), raw):
            good = len(row) == self._width and bool(row[self._column])
            ids.append(row[self._column] if good else "")
            if not good and row:
                bad.append(begin)
            rows.append(_bytes(raw[begin:]))
            begin = len(raw)
            if begin >= len(lines):
                break
        return self._chunk(rows, ids, bad, begin)

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
                f"{self._name}, line {self._lines + reader.line_num}: {error}. From there on "
                "nobody can tell where rows begin, so nothing of this file is used. Remedy: mend "
                "the quotes, or name the separator with --delimiter."
            )
            raise UsageProblem(message) from error

    def _chunk(self, rows: list[bytes], ids: list[str], bad: list[int], lines: int) -> Lines:
        """Return the good ones; *bad* are lines from 0 of this chunk, which took up *lines*."""
        numbers = [self._lines + 1 + each for each in bad]
        self._lines += lines
        if all(ids):
            return Lines(rows, ids, numbers)
        return Lines(list(compress(rows, ids)), [each for each in ids if each], numbers)


def _blocks(stream: io.BufferedReader) -> Iterator[bytes]:
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


def _text_lines(block: bytes) -> list[str]:
    """Return lines as CSV knows them; bytes that are no UTF-8 come out as they went in."""
    return io.StringIO(block.decode("utf-8", "surrogateescape"), newline="").readlines()


def _peek(stream: io.BufferedReader) -> bytes:
    return stream.peek(len(_BOM))[: len(_BOM)]


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "surrogateescape")


def _bytes(lines: Iterable[str]) -> bytes:
    return _encoded("".join(lines))


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(repr(str(name)) for name in names) or "none"

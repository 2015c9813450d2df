"""
JSONL and CSV: rows as the bytes they are, and their ids.

What is kept goes out byte for byte as it came in.  A row whose id cannot be read is malformed: it
is dropped and counted.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from typing import Any

import msgspec
import numpy as np

from streams.core.refusals import REFUSALS
from streams.errors import UsageProblem
from streams.files.lines import BOM, CsvRows, as_bytes, blocks, listed
from streams.training.hashing import Hasher, Hashes
from streams.training.items import id_text

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
        for block in blocks(self._stream):
            lines = io.BytesIO(block).readlines()
            if not count:
                lines[0] = lines[0].removeprefix(BOM)  # JSON has none
            chunk = self._chunk(lines, count)
            if not count and chunk.malformed and not len(chunk):
                raise UsageProblem(self._nothing(lines))
            count += len(lines)
            yield chunk

    def _chunk(self, lines: list[bytes], before: int) -> Lines:
        try:
            # Each line by itself: one object may not begin in one line and end in another.
            ids: list[Any] = [row.id for row in map(self._decode, lines)]
        except REFUSALS:
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
        except REFUSALS:
            return None

    def _nothing(self, lines: list[bytes]) -> str:
        for line in lines:
            try:
                row = msgspec.json.decode(line)
            except REFUSALS:
                continue
            if isinstance(row, dict):
                return (
                    f"{self._name}: no row has an id in {self._column!r}; the first object has "
                    f"{listed(row)}. Remedy: name the column of the content ids with --column."
                )
        return (
            f"{self._name}: expected JSON objects, one a line, and found none in the first "
            f"{len(lines)} lines. Remedy: name the format with --format."
        )


class Csv(CsvRows):
    """A stream of rows under a header line; quoted fields may hold line ends."""

    def __init__(self, stream: io.BufferedReader, name: str, column: str, delimiter: str) -> None:
        super().__init__(stream, name, delimiter)
        names = self.names
        if names.count(column) != 1:
            found = "more than one column" if column in names else "no column"
            message = (
                f"{name}: {found} {column!r}; its header has {listed(names)}. Remedy: name the "
                "column of the content ids with --column, the separator with --delimiter."
            )
            raise UsageProblem(message)
        self._column = names.index(column)

    def __iter__(self) -> Iterator[Lines]:
        width, column = len(self.names), self._column
        for texts, cells, numbers in self.chunks():
            ids = [row[column] if len(row) == width else "" for row in cells]
            rows = list(map(as_bytes, texts))
            if all(ids):
                yield Lines(rows, ids, [])
                continue
            bad = [numbers[at] for at, row in enumerate(cells) if row and not ids[at]]
            yield Lines(list(compress(rows, ids)), [each for each in ids if each], bad)

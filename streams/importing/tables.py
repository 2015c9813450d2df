"""
Files as columns: CSV, JSONL and Parquet, also packed, and standard input.

A row that cannot be read is told, and never stops its neighbours.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from streams.core.diagnose import parse_object
from streams.core.refusals import REFUSALS
from streams.errors import BadRecord, UsageProblem
from streams.files.kinds import STANDARD, kind_of
from streams.files.lines import BOM, CsvRows, as_bytes, blocks
from streams.files.unpacking import DAMAGE, open_file, standard_input, unpacked

LOOK_ROWS: Final = 1_000  # of JSONL, to know its columns
MAGIC: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


class Input(NamedTuple):
    """One file, or standard input."""

    path: Path
    format: str
    codec: str | None
    delimiter: str

    @property
    def shown(self) -> str:
        """Its name for people."""
        return "standard input" if self.path == STANDARD else str(self.path)


class Chunk(NamedTuple):
    """
    Some rows, in order.

    numbers: the line that each begins in, or its row in Parquet, from 1.
    columns: by their names in the file, as far as they were asked for; None is missing.
    bad: rows, from 0, that could not be read.
    raw: the bytes of a row, by its place from 0.
    """

    numbers: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    bad: Mapping[int, BadRecord]
    raw: Callable[[int], bytes]


class Table(NamedTuple):
    """
    A file that is being read.

    shown: its name for people.
    names: its columns; those of the first rows where they differ; empty where nobody knows.
    chunks: what it holds in the columns asked for; raises UsageProblem where it is damaged.
    done: the part of it that was read, 0 to 1; None where nobody knows.
    cells: whether text stands for numbers and lists.
    """

    shown: str
    names: list[str]
    chunks: Callable[[Sequence[str]], Iterator[Chunk]]
    done: Callable[[], float | None]
    cells: bool


def input_of(path: Path, format_said: str | None, delimiter: str | None) -> Input:
    """Return how *path* is to be read; raises UsageProblem."""
    if path == STANDARD:
        if format_said not in {"jsonl", "csv"}:
            message = (
                "standard input is read as jsonl or csv. Remedy: name the format with "
                "--format jsonl or --format csv."
            )
            raise UsageProblem(message)
        return Input(path, format_said, None, delimiter or ",")
    if not path.is_file():
        found = "is no file" if path.exists() else "does not exist"
        message = f"{path} {found}; expected a CSV, JSONL or Parquet file, or `-`."
        raise UsageProblem(message)
    return Input(path, *kind_of(path, format_said, delimiter))


@contextmanager
def opened(source: Input) -> Iterator[Table]:
    """Open a file; raises UsageProblem where it cannot be read."""
    with ExitStack() as stack:
        try:
            table = _opened(source, stack)
        except DAMAGE as error:
            raise _unreadable(source, error) from error

        def chunks(wanted: Sequence[str]) -> Iterator[Chunk]:
            try:
                yield from table.chunks(wanted)
            except DAMAGE as error:
                raise _unreadable(source, error) from error

        yield table._replace(chunks=chunks)


def _unreadable(source: Input, error: Exception) -> UsageProblem:
    return UsageProblem(f"{source.shown} cannot be read to its end: {error}")


def _opened(source: Input, stack: ExitStack) -> Table:
    if source.format == "parquet":
        from streams.importing import arrow_tables

        return arrow_tables.opened(source.path, stack)
    if source.path == STANDARD:
        plain = standard_input()
        codec = next((MAGIC[each] for each in MAGIC if plain.peek(4).startswith(each)), None)
        stream = plain if codec is None else unpacked(plain, codec, stack)

        def done() -> float | None:
            return None

    else:
        size = source.path.stat().st_size
        raw = open_file(source.path, stack)
        stream = unpacked(raw, source.codec, stack)

        def done() -> float | None:
            return raw.tell() / max(size, 1)

    if source.format == "jsonl":
        rows = JsonRows(stream)
        return Table(source.shown, rows.names, rows.chunks, done, cells=False)
    csv = CsvTable(CsvRows(stream, source.shown, source.delimiter))
    return Table(source.shown, csv.names, csv.chunks, done, cells=True)


class CsvTable:
    """CSV: an empty cell is missing; a row of another width than the header is bad."""

    def __init__(self, rows: CsvRows) -> None:
        self._rows = rows
        self.names = rows.names
        twice = sorted({each for each in self.names if self.names.count(each) > 1})
        if twice:
            message = (
                f"{rows.name}: its header has {', '.join(map(repr, twice))} more than once. "
                "Remedy: rename a column."
            )
            raise UsageProblem(message)

    def chunks(self, wanted: Sequence[str]) -> Iterator[Chunk]:
        """Yield the rows."""
        width = len(self.names)
        places = {name: at for at, name in enumerate(self.names) if name in wanted}
        refusal = BadRecord("row_width", f"row: expected {width} cells, as the header has")
        for texts, cells, numbers in self._rows.chunks():
            kept, bad = range(len(cells)), {}
            if not all(len(row) == width for row in cells):
                kept = [at for at, row in enumerate(cells) if row]  # type: ignore[assignment]
                bad = {at: refusal for at, old in enumerate(kept) if len(cells[old]) != width}
                cells = [  # noqa: PLW2901
                    cells[old] if len(cells[old]) == width else [""] * width for old in kept
                ]
                numbers = [numbers[old] for old in kept]  # noqa: PLW2901
            across = list(zip(*cells, strict=True)) or [()] * width
            columns = {name: [each or None for each in across[at]] for name, at in places.items()}

            def raw(at: int, texts: list[str] = texts, kept: Sequence[int] = kept) -> bytes:
                return as_bytes(texts[kept[at]])

            yield Chunk(numbers, columns, bad, raw)


class JsonRows:
    """JSONL: one object a line; blank lines are no rows."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._blocks = blocks(stream)
        self._first = next(self._blocks, b"").removeprefix(BOM)
        self.names = _names(io.BytesIO(self._first).readlines()[:LOOK_ROWS])

    def chunks(self, wanted: Sequence[str]) -> Iterator[Chunk]:
        """Yield the rows."""
        fields = [(f"c{at}", Any, None) for at, _ in enumerate(wanted)]
        row_type = msgspec.defstruct(
            "Row",
            fields,
            rename={f"c{at}": name for at, name in enumerate(wanted)},
            gc=False,
        )
        decode: Callable[[bytes], Any] = msgspec.json.Decoder(row_type).decode
        nothing = row_type()
        begin, block = 0, self._first
        while block:
            lines = io.BytesIO(block).readlines()
            bad: dict[int, BadRecord] = {}
            numbers: Sequence[int] = range(begin + 1, begin + len(lines) + 1)
            begin += len(lines)
            try:
                if not block.isascii():
                    block.decode()  # the decoder skips other fields without a look at their bytes
                rows = list(map(decode, lines))
            except REFUSALS:
                kept = [at for at, line in enumerate(lines) if line.strip()]
                numbers = [numbers[at] for at in kept]
                lines = [lines[at] for at in kept]
                rows = [_row(line, decode, nothing, at, bad) for at, line in enumerate(lines)]
            columns = {
                name: list(map(attrgetter(f"c{at}"), rows)) for at, name in enumerate(wanted)
            }
            yield Chunk(numbers, columns, bad, lines.__getitem__)
            block = next(self._blocks, b"")


def _row(
    line: bytes, decode: Callable[[bytes], Any], nothing: Any, at: int, bad: dict[int, BadRecord]
) -> Any:
    try:
        line.decode()
        return decode(line)
    except REFUSALS:
        try:
            parse_object(line)
            bad[at] = BadRecord("value_not_json", "value: expected a JSON object in UTF-8")
        except BadRecord as error:
            bad[at] = error
        return nothing


def _names(lines: list[bytes]) -> list[str]:
    """Return all names in the first objects; empty where none can be read."""
    names: dict[str, None] = {}
    for line in lines:
        try:
            names.update(dict.fromkeys(parse_object(line)))
        except BadRecord:
            continue
    return list(names)


def json_of(row: Mapping[str, Any]) -> bytes:
    """Return a row of Parquet as JSON, for people."""
    return msgspec.json.encode(row, enc_hook=str) if row else b"{}"

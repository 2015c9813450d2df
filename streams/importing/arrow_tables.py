"""
Parquet as columns of plain values.  Needs the extra `parquet`.

Times without a zone come out without an offset, and are refused as in every other format.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from streams.errors import UsageProblem
from streams.files.arrow import pa, pc, pq
from streams.importing.tables import Chunk, Table, json_of

BATCH_ROWS: Final = 32_768


def opened(path: Path, stack: ExitStack) -> Table:
    """Return the file at *path*; raises UsageProblem where it is no Parquet."""
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        message = f"{path} cannot be read as Parquet: {error}"
        raise UsageProblem(message) from error
    stack.callback(file.close)
    total = file.metadata.num_rows
    begin = 0

    def chunks(wanted: Sequence[str]) -> Iterator[Chunk]:
        nonlocal begin
        chosen = [each for each in wanted if each in file.schema_arrow.names]
        try:
            for batch in file.iter_batches(BATCH_ROWS, columns=chosen):
                columns = {name: values(batch.column(name)) for name in chosen}

                def raw(at: int, columns: dict[str, list[Any]] = columns) -> bytes:
                    return json_of({name: column[at] for name, column in columns.items()})

                numbers = range(begin + 1, begin + batch.num_rows + 1)
                begin += batch.num_rows
                yield Chunk(numbers, columns, {}, raw)
        except (OSError, pa.ArrowException) as error:
            message = f"{path} cannot be read to its end: {error}"
            raise UsageProblem(message) from error

    return Table(
        str(path), list(file.schema_arrow.names), chunks, lambda: begin / max(total, 1), cells=True
    )


def values(column: Any) -> list[Any]:
    """Return what *column* holds; bytes as text, times to the microsecond."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = pc.cast(column, pa.timestamp("us", kind.tz), safe=False)
    found: list[Any] = column.to_pylist()
    if any(each(kind) for each in _BYTES_KINDS):
        return [None if each is None else _text(each) for each in found]
    if any(each(kind) for each in _TEXT_KINDS):
        return [each or None for each in found]  # as an empty cell
    return found


_BYTES_KINDS: Final = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
_TEXT_KINDS: Final = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def _text(found: bytes) -> str | bool:
    """Return the text in *found*; what is none is something that no field takes for text."""
    try:
        return found.decode()
    except UnicodeDecodeError:
        return False

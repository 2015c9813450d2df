"""
Parquet: row groups as they come, filtered, and written with the types and codecs they had.

One row group is in memory at a time.  Kept are schema and its metadata, order of rows and columns,
each column's codec and dictionary, INT96 times, sorting columns, the format's version.  Not kept,
as Arrow does not tell or write them: a codec's level, bloom filters, encodings other than
dictionary and plain, page indexes.  Needs the extra `parquet`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from streams.errors import UsageProblem
from streams.files.arrow import pa, pc, pq
from streams.training.hashing import Hasher, Hashes
from streams.training.index import State
from streams.training.items import AllowedItems
from streams.training.lines import Mask

BATCH_ROWS: Final = 65_536


class Batch:
    """
    Some rows of a file, in its order.

    ends_group: whether they are the last of their row group.
    malformed: always empty; a row without an id is among the rows, its hash is nobody's.
    """

    malformed: tuple[int, ...] = ()

    def __init__(self, batch: Any, column: int, *, ends_group: bool) -> None:
        self._batch = batch
        self._ids = id_texts(batch.column(column))
        self.ends_group = ends_group

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def hashes(self, hasher: Hasher) -> Hashes:
        """Return the hash of each row's id."""
        return arrow_hashes(self._ids, hasher)

    def ids(self, mask: Mask) -> list[str]:
        """Return the ids of the rows that *mask* chooses."""
        return [
            each if isinstance(each, str) else (each or b"").decode("utf-8", "backslashreplace")
            for each in self._ids.filter(pa.array(mask)).to_pylist()
        ]

    def kept(self, mask: Mask) -> Any:
        """Return the rows that *mask* chooses."""
        return self._batch if mask.all() else _filtered(self._batch, mask)


class Parquet:
    """A file; `file` is pyarrow's."""

    def __init__(self, path: Path, column: str) -> None:
        try:
            self.file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            message = f"{path} cannot be read as Parquet: {error}"
            raise UsageProblem(message) from error
        self._path = path
        self._column = column_number(self.file.schema_arrow, column, str(path))

    def __iter__(self) -> Iterator[Batch]:
        try:
            for group in range(self.file.num_row_groups):
                left = self.file.metadata.row_group(group).num_rows
                for batch in self.file.iter_batches(BATCH_ROWS, row_groups=[group]):
                    left -= batch.num_rows
                    yield Batch(batch, self._column, ends_group=left == 0)
        except (OSError, pa.ArrowException) as error:
            message = f"{self._path} cannot be read to its end: {error}"
            raise UsageProblem(message) from error

    def close(self) -> None:
        self.file.close()


class ParquetSink:
    """Writes what was kept of *like* into *sink*, a row group for each that has rows left."""

    def __init__(self, sink: BinaryIO, like: Parquet) -> None:
        self._schema = like.file.schema_arrow
        self._group: list[Any] = []
        self._writer = pq.ParquetWriter(
            pa.PythonFile(sink, "w"), self._schema, **_options(like.file)
        )

    def write(self, batch: Batch, mask: Mask) -> None:
        """Take the rows of *batch* that *mask* chooses."""
        kept = batch.kept(mask)
        if kept.num_rows:
            self._group.append(kept)
        if batch.ends_group and self._group:
            table = pa.Table.from_batches(self._group, self._schema)
            self._group = []
            self._writer.write_table(table, row_group_size=table.num_rows)

    def close(self) -> None:
        """Write the end of the file."""
        assert not self._group
        self._writer.close()


def _options(file: Any) -> dict[str, Any]:
    """Return how *file* was written, as far as its metadata tell."""
    metadata = file.metadata
    options: dict[str, Any] = {
        "version": metadata.format_version if metadata.format_version in _VERSIONS else "2.6",
        "store_schema": b"ARROW:schema" in (metadata.metadata or {}),
        "use_deprecated_int96_timestamps": any(
            file.schema.column(each).physical_type == "INT96" for each in range(len(file.schema))
        ),
    }
    if not metadata.num_row_groups:
        return options
    group = metadata.row_group(0)
    columns = [group.column(each) for each in range(group.num_columns)]
    if not columns:
        return options
    options["compression"] = {
        each.path_in_schema: _CODECS.get(each.compression, each.compression) for each in columns
    }
    options["use_dictionary"] = [
        each.path_in_schema for each in columns if _has_dictionary(each)
    ] or False
    options["write_statistics"] = [
        each.path_in_schema for each in columns if each.is_stats_set
    ] or False
    if group.sorting_columns:
        options["sorting_columns"] = group.sorting_columns
    return options


def _has_dictionary(column: Any) -> bool:
    return any("DICTIONARY" in encoding for encoding in column.encodings)


_VERSIONS: Final = ("1.0", "2.4", "2.6")
_CODECS: Final = {"UNCOMPRESSED": "NONE"}


def column_number(schema: Any, column: str, name: str) -> int:
    """Return where *column* stands in *schema*; raises UsageProblem where it holds no ids."""
    found = schema.get_all_field_indices(column)
    if len(found) != 1:
        message = (
            f"{name}: {'more than one column' if found else 'no column'} {column!r}; there are "
            f"{', '.join(map(repr, schema.names)) or 'none'}. Remedy: name the column of the "
            "content ids with --column."
        )
        raise UsageProblem(message)
    kind = schema.field(found[0]).type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_kind(plain) for is_kind in _ID_KINDS):
        message = f"{name}: column {column!r} is of type {kind}, expected text, bytes or integers."
        raise UsageProblem(message)
    return int(found[0])


_ID_KINDS: Final = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_integer,
)


_BYTES_KINDS: Final = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)


def id_texts(array: Any) -> Any:
    """Return a column of ids as an array of large binaries or strings; nulls stay nulls."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_integer(array.type):
        array = pc.cast(array, pa.string())
    is_bytes = any(each(array.type) for each in _BYTES_KINDS)
    return pc.cast(array, pa.large_binary() if is_bytes else pa.large_string())


def arrow_hashes(texts: Any, hasher: Hasher) -> Hashes:
    """Return the hashes of an array of large strings or binaries, read where it lies."""
    count = len(texts)
    if texts.null_count:
        texts = pc.fill_null(
            texts, pa.scalar(b"" if "binary" in str(texts.type) else "", texts.type)
        )
    _, offsets, flat = texts.buffers()
    if not count or flat is None:
        return Hashes.nothing(count)
    begin = texts.offset
    ends = np.frombuffer(offsets, np.int64)[begin : begin + count + 1]
    return hasher.of_flat(np.frombuffer(flat, np.uint8), ends)


def allowed_part(batch: Any, items: AllowedItems, column: str) -> Any:
    """Return those rows of a RecordBatch or Table that may be used."""
    ids = id_texts(batch.column(column_number(batch.schema, column, "this batch")))
    states = items.states(arrow_hashes(ids, items.index.hasher))
    return _filtered(batch, states == State.ALLOWED)


def _filtered(batch: Any, mask: Mask) -> Any:
    """Return the rows of a RecordBatch or Table that *mask* chooses, with their types."""
    chosen = pa.array(mask)
    try:
        return batch.filter(chosen)
    except pa.ArrowNotImplementedError:
        # Arrow cannot filter views yet; as what they show it can.
        columns = [_unviewed(each).filter(chosen).cast(each.type) for each in batch.columns]
        return type(batch).from_arrays(columns, schema=batch.schema)


def _unviewed(array: Any) -> Any:
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    return array.cast(pa.large_binary()) if pa.types.is_binary_view(array.type) else array

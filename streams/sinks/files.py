"""
Tables kept as Parquet files that never change: what Delta, Iceberg and plain Parquet share.

Taking rows out means writing the rest of their files anew.  So that neither many small batches nor
many purges leave a crowd of small files, what is written takes files no larger than itself along:
their sizes grow like powers of two, and each row is written anew a logarithmic number of times.
"""

import contextlib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from streams.errors import Unreachable
from streams.sinks.lake_columns import ITEM_SCHEMA, STATE_SCHEMA, Flags
from streams.sinks.sink import Place, Position
from streams.sinks.tables import ItemChange, Rows, Tables

ITEMS: Final = "items"
STATE: Final = "state"
SCHEMAS: Final = {ITEMS: ITEM_SCHEMA, STATE: STATE_SCHEMA}
# Items of a person next to each other: an objection then touches few files.
SORTED_BY: Final = {ITEMS: "user_id", STATE: "account_high"}
# One purge writes one file anew: at this size in about 0.1 s.
FILE_ROWS_MAX: Final = 131_072
_REPEATING: Final = ["user_id", "product", "kind", "modality", "language"]


class DataFile(NamedTuple):
    """
    A file of a table.

    path: as the file system takes it.
    rows: how many it holds.
    handle: what the format calls it.
    """

    path: str
    partition: int
    rows: int
    handle: Any


class FileRows(Rows):
    """The rows of a partition number: those of its *files*, one file after the other."""

    def __init__(
        self, system: fs.FileSystem, schema: pa.Schema, partition: int, files: Sequence[DataFile]
    ) -> None:
        self.files = files
        self._system = system
        self._schema = schema
        self._partition = partition

    def read(self, columns: Iterable[str]) -> pa.Table:
        wanted = list(columns)
        schema = pa.schema([self._schema.field(name) for name in wanted])
        tables = [self._columns(file, wanted, []).cast(schema) for file in self.files]
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def file(self, file: DataFile) -> pa.Table:
        """Return all of one file; what repeats stays a dictionary, which is quicker to write."""
        return self._columns(file, self._schema.names, _REPEATING)

    def _columns(self, file: DataFile, names: list[str], dictionaries: list[str]) -> pa.Table:
        with (
            self._system.open_input_file(file.path) as source,
            pq.ParquetFile(source, read_dictionary=dictionaries) as parquet,
        ):
            table = parquet.read([name for name in names if name != "partition"])
        if "partition" in names:
            number = pa.array(np.full(file.rows, self._partition, np.int32))
            table = table.append_column("partition", number)
        return table.select(names)


class FileTables(Tables):
    """
    Two tables of files; a format says how files are listed and exchanged.

    root: where the tables' folders lie, as *system* takes it.
    statistics: of which columns files hold the least and greatest values; each takes time.
    """

    statistics: bool | list[str] = False

    def __init__(self, url: str, system: fs.FileSystem, root: str) -> None:
        self._url = url
        self._system = system
        self._root = root
        self._files: dict[str, dict[int, list[DataFile]]] = {}

    def partitions(self) -> set[int]:
        return set().union(*self._files.values())

    def items(self, partition: int) -> FileRows:
        return self._rows(ITEMS, partition)

    def state(self, partition: int) -> FileRows:
        return self._rows(STATE, partition)

    def add_state(self, added: Mapping[int, pa.Table]) -> None:
        changes = {}
        for partition, table in added.items():
            rows = self.state(partition)
            none = np.zeros(sum(file.rows for file in rows.files), np.bool_)
            changes[partition] = ItemChange(rows, none, table)
        self._change(STATE, changes, {})

    def drop_state(self, dropped: Mapping[int, tuple[Rows, Flags]]) -> None:
        changes = {
            partition: ItemChange(rows, gone, STATE_SCHEMA.empty_table())
            for partition, (rows, gone) in dropped.items()
        }
        self._change(STATE, changes, {})

    def change_items(
        self, changes: Mapping[int, ItemChange], reached: Mapping[Place, Position]
    ) -> None:
        self._change(ITEMS, changes, reached)

    def release(self) -> None:
        pass

    def close(self) -> None:
        self._files = {}

    def _rows(self, table: str, partition: int) -> FileRows:
        files = self._files[table].get(partition, [])
        return FileRows(self._system, SCHEMAS[table], partition, files)

    def _change(
        self, table: str, changes: Mapping[int, ItemChange], reached: Mapping[Place, Position]
    ) -> None:
        removed: list[DataFile] = []
        added: list[DataFile] = []
        for partition, change in changes.items():
            assert isinstance(change.rows, FileRows)
            old, tables = rewritten(change.rows, change.gone, change.added, SORTED_BY[table])
            removed += old
            added += [self._write(table, partition, one) for one in tables]
        partitions = changes.keys() | {place.partition for place in reached}
        self._exchange(table, partitions, removed, added, reached)

    def _write(self, table: str, partition: int, rows: pa.Table) -> DataFile:
        """Write a file that no table refers to yet."""
        path = self._new_path(table, partition, rows.num_rows)
        self._system.create_dir(path.rpartition("/")[0], recursive=True)
        with self._system.open_output_stream(path) as stream:
            pq.write_table(
                self._prepared(table, rows),
                stream,
                compression="zstd",
                compression_level=1,
                use_dictionary=_REPEATING,
                write_statistics=self.statistics,
                store_schema=False,
            )
        return DataFile(path, partition, rows.num_rows, self._handle(table, partition, path, rows))

    def _new_path(self, table: str, partition: int, rows: int) -> str:  # noqa: ARG002
        return f"{self._root}/{table}/partition={partition}/{uuid.uuid4()}.parquet"

    def _prepared(self, table: str, rows: pa.Table) -> pa.Table:  # noqa: ARG002
        """Return *rows* with the columns that a file is to have."""
        return rows.drop_columns(["partition"])

    def _handle(self, table: str, partition: int, path: str, rows: pa.Table) -> Any:
        """Return what the format needs to know about a new file."""

    def _exchange(
        self,
        table: str,
        partitions: Iterable[int],
        removed: Sequence[DataFile],
        added: Sequence[DataFile],
        reached: Mapping[Place, Position],
    ) -> None:
        """Put files in the place of others in one step; `Conflict` when *partitions* changed."""
        raise NotImplementedError

    def _paths(self, folder: str) -> dict[str, fs.FileInfo]:
        """Return every file below *folder*."""
        selector = fs.FileSelector(folder, allow_not_found=True, recursive=True)
        return {
            info.path: info
            for info in self._system.get_file_info(selector)
            if info.type == fs.FileType.File
        }

    def _discard(self, paths: Iterable[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):  # Somebody else tidies up as well.
                self._system.delete_file(path)


def rewritten(
    rows: FileRows, gone: Flags, added: pa.Table, sorted_by: str
) -> tuple[list[DataFile], Iterator[pa.Table]]:
    """Return the files to remove, and tables to write in their place; *added* among them."""
    removed: list[DataFile] = []
    untouched: list[DataFile] = []
    hit: list[tuple[DataFile, Flags]] = []
    start = 0
    for file in rows.files:
        part = gone[start : start + file.rows]
        start += file.rows
        if part.any():
            hit.append((file, ~part))
            removed.append(file)
        else:
            untouched.append(file)
    assert start == len(gone)
    sparse = [(file, kept) for file, kept in hit if kept.sum() < FILE_ROWS_MAX // 4]
    pooled_rows = added.num_rows + int(sum(kept.sum() for _, kept in sparse))
    taken: list[DataFile] = []
    for file in sorted(untouched, key=lambda file: file.rows):
        if file.rows > pooled_rows or pooled_rows + file.rows > FILE_ROWS_MAX:
            break
        taken.append(file)
        pooled_rows += file.rows

    def tables() -> Iterator[pa.Table]:
        dense = [pair for pair in hit if pair not in sparse]
        for file, kept in dense:
            yield rows.file(file).filter(pa.array(kept))
        pool = [added]
        pool += [rows.file(file).filter(pa.array(kept)) for file, kept in sparse]
        pool += [rows.file(file) for file in taken]
        pooled = pa.concat_tables([table.cast(added.schema) for table in pool])
        pooled = pooled.sort_by(sorted_by)
        for offset in range(0, pooled.num_rows, FILE_ROWS_MAX):
            yield pooled.slice(offset, FILE_ROWS_MAX)

    return removed + taken, tables()


def by_partition(files: Iterable[DataFile]) -> dict[int, list[DataFile]]:
    """Return *files* by their partition number."""
    grouped: dict[int, list[DataFile]] = defaultdict(list)
    for file in files:
        grouped[file.partition].append(file)
    return dict(grouped)


def located(url: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path or URL (`s3://bucket/store`), and the path in it."""
    try:
        if "://" in url:
            system, path = fs.FileSystem.from_uri(url)
            return system, path.rstrip("/")
        return fs.LocalFileSystem(), Path(url).expanduser().absolute().as_posix()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise Unreachable(
            f"{url}: no such place for a data store ({error}); expected a folder, or an URL such "
            "as s3://bucket/store with the credentials in the environment"
        ) from error

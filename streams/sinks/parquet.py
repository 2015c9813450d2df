"""
Plain Parquet files in a local folder as a store, for training jobs that read manifests.

Read `<folder>/items/**/*.parquet` with whatever reads Parquet: what may be used, and nothing else.
A file is never changed, only replaced; a job that lists the folder and then finds a file gone lists
it again.  For object stores take Delta Lake or Iceberg: a folder there has no renaming.
Needs the extra `parquet`.

Replacing several files is one step by a journal: once it is written, the exchange is finished by
whoever looks at the partition number next.  Files leave before others come, so that no reader finds
an item twice or a purged one; for that moment it may miss items.
"""

import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final

from streams.errors import Unreachable, UsageProblem

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import fs
except ImportError as error:
    raise UsageProblem(
        "Stores of Parquet files need pyarrow and numpy, which are not installed; "
        "install the extra: pip install 'objection-streams[parquet]'"
    ) from error

from streams.sinks.files import ITEMS, STATE, DataFile, FileTables
from streams.sinks.lake import ERASE_EVERY_S, LakeSink
from streams.sinks.lake_columns import ITEM_SCHEMA
from streams.sinks.locks import PartitionLocks
from streams.sinks.sink import Place, Position
from streams.sinks.tables import further

_JOURNAL: Final = "journal.json"
_POSITIONS: Final = "positions.json"
_NEW: Final = ".new"  # Ends the name of a file nobody may read yet.
_UUID_CHARACTERS: Final = 36


class ParquetSink(LakeSink):
    """
    A sink of Parquet files below *folder*, on a file system of this machine.

    erase_every_s: how often the bytes of purged items leave `state`; they leave `items` at once.
    """

    def __init__(self, folder: str, *, erase_every_s: float = ERASE_EVERY_S) -> None:
        super().__init__(_ParquetTables(folder), erase_every_s)


class _ParquetTables(FileTables):
    def __init__(self, folder: str) -> None:
        if "://" in folder:
            raise UsageProblem(
                f"{folder}: plain Parquet needs a local folder, as object stores rename nothing; "
                "take Delta Lake or Iceberg there"
            )
        self._folder = Path(folder).expanduser().absolute()
        super().__init__(folder, fs.LocalFileSystem(), self._folder.as_posix())
        self._locks = PartitionLocks(self._folder / STATE / "locks")

    def open(self) -> None:
        try:
            for table in (ITEMS, STATE):
                (self._folder / table).mkdir(parents=True, exist_ok=True)
            self._tidy()
        except OSError as error:
            raise Unreachable(
                f"{self._folder}: cannot open or make a folder of Parquet files there ({error}); "
                "expected a folder that may be written"
            ) from error

    def look(self, partitions: Iterable[int]) -> None:
        wanted = set(partitions)
        self._locks.hold(wanted)
        self._files = {ITEMS: {}, STATE: {}}
        for partition in wanted:
            self._finish(partition)
            for table in (ITEMS, STATE):
                self._files[table][partition] = self._listed(table, partition)

    def release(self) -> None:
        self._locks.release()

    def partitions(self) -> set[int]:
        return {
            int(path.name.removeprefix("partition="))
            for table in (ITEMS, STATE)
            for path in (self._folder / table).glob("partition=*")
            if path.name.removeprefix("partition=").isdecimal()
        }

    def shown_in(self) -> AbstractSet[int | None]:
        return {*self.partitions(), *([None] if self._strays() else [])}

    def shown(self, partition: int | None, columns: Iterable[str]) -> pa.Table:
        if partition is not None:
            return super().shown(partition, columns)
        wanted = list(columns)
        schema = pa.schema([ITEM_SCHEMA.field(name) for name in wanted])
        return pa.concat_tables(
            [_read(path, schema) for path in self._strays()] or [schema.empty_table()]
        )

    def drop_strays(self, content_ids: AbstractSet[str]) -> None:
        for path in self._strays():
            ids = _read(path, pa.schema([ITEM_SCHEMA.field("content_id")])).column(0)
            if not content_ids.isdisjoint(ids.to_pylist()):
                path.unlink(missing_ok=True)  # Whatever else is in it nobody has put there rightly.
                _sync(path.parent)

    def reached(self, candidates: Iterable[tuple[Place, Position]]) -> Mapping[Place, Position]:
        return {
            Place(topic, partition): position
            for partition in {place.partition for place, _ in candidates}
            for topic, position in self._positions(partition).items()
        }

    def erase(self) -> None:
        self._tidy()  # An exchange takes the old files away; only a crash leaves anything.

    def close(self) -> None:
        super().close()
        self._locks.release()

    def _tidy(self) -> None:
        for partition in self.partitions():
            try:
                self.look((partition,))
            finally:
                self.release()

    def _listed(self, table: str, partition: int) -> list[DataFile]:
        return [
            DataFile(path.as_posix(), partition, _rows_in(path), None)
            for path in sorted(_partition_folder(self._folder, table, partition).glob("*.parquet"))
        ]

    def _strays(self) -> list[Path]:
        """Return the files that readers find, and that lie in no partition number's folder."""
        folder = self._folder / ITEMS
        ours = {f"partition={partition}" for partition in self.partitions()}
        return sorted(
            path
            for path in folder.rglob("*.parquet")
            if path.name[0] not in "._"
            and not (path.parent.parent == folder and path.parent.name in ours)
        )

    def _new_path(self, table: str, partition: int, rows: int) -> str:
        folder = _partition_folder(self._folder, table, partition)
        return (folder / f".{uuid.uuid4()}-{rows}.parquet{_NEW}").as_posix()

    def _handle(self, table: str, partition: int, path: str, rows: pa.Table) -> Any:  # noqa: ARG002
        _sync(Path(path))
        return None

    def _exchange(
        self,
        table: str,
        partitions: Iterable[int],
        removed: Sequence[DataFile],
        added: Sequence[DataFile],
        reached: Mapping[Place, Position],
    ) -> None:
        for partition in partitions:
            positions = self._positions(partition)
            for place, position in reached.items():
                if place.partition == partition:
                    positions[place.topic] = further(positions.get(place.topic), position)
            journal = {
                "remove": [file.path for file in removed if file.partition == partition],
                "add": [file.path for file in added if file.partition == partition],
                "positions": positions,
            }
            folder = _partition_folder(self._folder, STATE, partition)
            folder.mkdir(parents=True, exist_ok=True)
            for name in (ITEMS, STATE):
                one = _partition_folder(self._folder, name, partition)
                if one.exists():
                    _sync(one)
            _write(folder / _JOURNAL, journal)
            self._finish(partition)
            self._files[table][partition] = self._listed(table, partition)

    def _finish(self, partition: int) -> None:
        """Finish an exchange that was begun, and take away what was never made part of one."""
        folders = [_partition_folder(self._folder, name, partition) for name in (ITEMS, STATE)]
        journal = folders[1] / _JOURNAL
        if journal.exists():
            content = json.loads(journal.read_text(encoding="utf-8"))
            for path in map(Path, content["remove"]):
                path.unlink(missing_ok=True)
            for path in map(Path, content["add"]):
                if path.exists():  # Or it was renamed before a crash.
                    path.replace(path.with_name(path.name.removeprefix(".").removesuffix(_NEW)))
            _write(folders[1] / _POSITIONS, content["positions"])
            for folder in folders:
                if folder.exists():
                    _sync(folder)
            journal.unlink()
            _sync(folders[1])
        for folder in folders:
            for path in folder.glob(f".*{_NEW}"):
                path.unlink()

    def _positions(self, partition: int) -> dict[str, Position]:
        path = _partition_folder(self._folder, STATE, partition) / _POSITIONS
        if not path.exists():
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
        return {topic: Position(*values) for topic, values in content.items()}


def _partition_folder(folder: Path, table: str, partition: int) -> Path:
    return folder / table / f"partition={partition}"


def _rows_in(path: Path) -> int:
    """Return how many rows a file has: its name says so, unless somebody else has put it there."""
    name, dash, rows = path.stem.rpartition("-")
    if dash and len(name) == _UUID_CHARACTERS and rows.isdecimal():
        return int(rows)
    return int(pq.read_metadata(path).num_rows)


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    """Return a file of anybody's as a table of *schema*; what it has no column for is null."""
    found = pq.read_table(path, partitioning=None)
    columns = [
        found.column(field.name).cast(field.type)
        if field.name in found.column_names
        else pa.nulls(found.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Put JSON in the place of *path*, durably."""
    new = path.with_name(f".{path.name}{_NEW}")
    new.write_text(json.dumps(content), encoding="utf-8")
    _sync(new)
    new.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

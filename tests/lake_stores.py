"""The stores of files as the suite of sinks wants them: made, read past the sink, and laid bare."""

import contextlib
import functools
import shutil
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table

from streams.sinks.delta import DeltaSink
from streams.sinks.iceberg import IcebergSink
from streams.sinks.lake_columns import ITEM_SCHEMA
from streams.sinks.lance import LanceSink
from streams.sinks.parquet import ParquetSink
from streams.testing.store import Factory


class FolderStore:
    """A store in a folder; a subclass says how to make its sink and how its users read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    @property
    def make(self) -> Factory:
        raise NotImplementedError

    def table(self) -> pa.Table:
        """Return the whole table `items`, without any filter."""
        raise NotImplementedError

    def plant(self, row: Mapping[str, Any]) -> None:
        self.append(pa.Table.from_pylist([{**row, "epoch": 50}], ITEM_SCHEMA))

    def append(self, rows: pa.Table) -> None:
        """Add *rows* to the table `items` as anybody might."""
        raise NotImplementedError

    def usable(self) -> dict[str, dict[str, Any]]:
        rows = self.table().to_pylist()
        found = {row["content_id"]: row for row in rows}
        assert len(found) == len(rows), "an item is there twice"
        return found

    def at_rest(self) -> Iterator[bytes]:
        for path in self.files():
            content = path.read_bytes()
            yield content
            if path.suffix in {".parquet", ".new"} and content.endswith(b"PAR1"):
                yield from (repr(row).encode() for row in pq.read_table(path).to_pylist())
            if path.suffix == ".avro":
                yield from _avro_blocks(content)

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def empty(self) -> None:
        shutil.rmtree(self.folder)
        self.folder.mkdir()


class DeltaStore(FolderStore):
    @property
    def make(self) -> Factory:
        return functools.partial(DeltaSink, str(self.folder))

    def table(self) -> pa.Table:
        return DeltaTable(self.folder / "items").to_pyarrow_table()

    def append(self, rows: pa.Table) -> None:
        write_deltalake(self.folder / "items", rows, mode="append")


class IcebergStore(FolderStore):
    @property
    def catalog_uri(self) -> str:
        return f"sqlite:///{self.folder}/catalog.db"

    @property
    def make(self) -> Factory:
        return functools.partial(IcebergSink, self.catalog_uri, str(self.folder))

    def table(self) -> pa.Table:
        return self._items().scan().to_arrow()

    def append(self, rows: pa.Table) -> None:
        self._items().append(rows)

    def _items(self) -> Table:
        catalog = load_catalog("objections", type="sql", uri=self.catalog_uri)
        return catalog.load_table("training.items")


class LanceStore(FolderStore):
    @property
    def make(self) -> Factory:
        return functools.partial(LanceSink, str(self.folder))

    def table(self) -> pa.Table:
        return lancedb.connect(self.folder).open_table("items").to_arrow()

    def append(self, rows: pa.Table) -> None:
        lancedb.connect(self.folder).open_table("items").add(rows)


class ParquetStore(FolderStore):
    @property
    def make(self) -> Factory:
        return functools.partial(ParquetSink, str(self.folder))

    def table(self) -> pa.Table:
        found = pa.dataset.dataset(self.folder / "items", format="parquet", partitioning="hive")
        return found.to_table() if found.files else pa.table({"content_id": []})

    def append(self, rows: pa.Table) -> None:
        number = rows.column("partition")[0].as_py()
        folder = self.folder / "items" / f"partition={number}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.drop_columns(["partition"]), folder / f"mine-{uuid.uuid4()}.parquet")


def _avro_blocks(content: bytes) -> Iterator[bytes]:
    """Return what the compressed blocks of an Avro file hold."""
    for block in content.split(content[-16:])[1:]:
        for start in range(2, 13):  # Behind two numbers of varying length.
            with contextlib.suppress(zlib.error):
                yield zlib.decompress(block[start:], -15)

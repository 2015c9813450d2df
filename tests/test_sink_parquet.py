"""The Parquet sink passes the suite of all sinks."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streams.sinks.lake_columns import ITEM_SCHEMA
from streams.testing.audits import AuditTests, audited, audited_sink, named, planted, settled
from streams.testing.output_log import Log
from streams.testing.sinks import SinkTests
from tests.lake_stores import ParquetStore


class TestParquet(SinkTests, AuditTests):
    examples = 4
    steps = 8

    @pytest.fixture
    def store(self, tmp_path: Path) -> ParquetStore:
        return ParquetStore(tmp_path / "store")


@pytest.mark.parametrize("where", [".", "partition=77", "elsewhere"])
def test_a_file_of_somebody_else_is_found(tmp_path: Path, where: str) -> None:
    """
    A file put anywhere below the folder is read by training jobs, so the audit finds and mends it.
    """
    store = ParquetStore(tmp_path / "store")
    log = Log()
    log.user("u1", 1)
    log.item("c1", "u1", 1, 1)
    with audited_sink(store) as sink:
        sink.apply(settled(log.changes))
        folder = store.folder / "items" / where
        folder.mkdir(exist_ok=True)
        rows = pa.Table.from_pylist([{**planted("never", "u1"), "epoch": 1}], ITEM_SCHEMA)
        pq.write_table(rows.drop_columns(["partition"]), folder / "mine.parquet")

        assert {("unknown", "never")} == named(audited(sink, log, repairing=True))
        assert 0 == audited(sink, log).found
        assert {"c1"} == set(store.usable())

"""What stores of files owe beyond the suite of all sinks: races, crashes, leftovers, errors."""

import random
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from streams.errors import Unreachable, UsageProblem
from streams.sinks import files
from streams.sinks.delta import DeltaSink
from streams.sinks.iceberg import IcebergSink
from streams.sinks.lake import LakeSink, _news
from streams.sinks.lake_columns import Fences, state_rows
from streams.sinks.lance import LanceSink
from streams.sinks.parquet import ParquetSink
from streams.sinks.sink import TRAINING_USERS, Batch, Change, Place, Position
from streams.sinks.tables import ItemChange
from streams.testing.output_log import Log, batch, marker, partition_of
from streams.testing.store import held
from tests.lake_stores import DeltaStore, FolderStore, IcebergStore, LanceStore, ParquetStore

STORES = [DeltaStore, IcebergStore, LanceStore, ParquetStore]


@pytest.fixture(params=STORES, ids=lambda store: store.__name__)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FolderStore:
    """Return a store of each kind."""
    made: FolderStore = request.param(tmp_path / "store")
    return made


def opened(store: FolderStore) -> LakeSink:
    """Return a sink of *store* that is open."""
    sink = store.make()
    assert isinstance(sink, LakeSink)
    sink.open()
    return sink


@pytest.mark.parametrize("lock_first", [True, False])
def test_an_account_and_its_item_by_two_writers(store: FolderStore, lock_first: bool) -> None:
    """
    An item written while another process hides its account is not found, whoever comes first.
    """
    log = Log()
    one, other = opened(store), opened(store)
    one.apply(batch([log.user("u1", 1)]))
    item = batch([log.item("c1", "u1", 1, 1)])
    lock = batch([log.user("u1", 2, allowed=False)])
    first, second = (lock, item) if lock_first else (item, lock)
    late = threading.Thread(target=other.apply, args=(second,))
    tables = one._tables
    change_items = tables.change_items

    def interrupted(changes: Mapping[int, ItemChange], reached: Mapping[Place, Position]) -> None:
        if not late.ident:
            late.start()
            late.join(1)  # Where locks keep it waiting it comes after us.
        change_items(changes, reached)

    tables.change_items = interrupted  # type: ignore[method-assign]
    one.apply(first)
    late.join()

    assert {} == store.usable()
    assert {**lock.reached, **item.reached} == one.positions()
    one.close()
    other.close()


@pytest.mark.parametrize("step", ["add_state", "change_items"])
def test_a_crash_between_the_tables(
    store: FolderStore, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A crash before either table is written leaves positions that bring the same changes again.
    """
    log = Log()
    sink = opened(store)
    sink.apply(
        batch(
            [
                log.user("u1", 1),
                log.user("u2", 1, allowed=False),
                *(log.item(name, "u1", 1, 1) for name in ("c1", "c2")),
                log.item("d1", "u2", 1, 1),
            ]
        )
    )
    before = sink.positions()
    again = batch(
        [
            log.item("c1", "u1", 2, 1, allowed=False),
            log.item("c3", "u1", 2, 1),
            log.user("u2", 3),
        ]
    )

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sink._tables, step, crash)
    with pytest.raises(KeyboardInterrupt):
        sink.apply(again)
    sink.close()
    sink = opened(store)
    assert before == sink.positions()
    sink.apply(again)

    assert {"c2", "c3", "d1"} == set(store.usable())
    assert {**before, **again.reached} == sink.positions()
    sink.close()


def test_ids_of_purged_items_are_nowhere(store: FolderStore) -> None:
    """
    After `erase` not even the ids of purged items lie in the files; fences hold hashes.
    """
    log = Log()
    sink = opened(store)
    sink.apply(batch([log.user("u1", 1)] + [log.item(f"content-{n}-x", "u1", 1, 1) for n in "abc"]))
    sink.apply(batch([log.item("content-b-x", "u1", 2, 1, allowed=False)]))
    sink.erase()

    assert {"content-a-x"} == held(store, ["content-a-x", "content-b-x"])
    sink.apply(batch([log.item("content-b-x", "u1", 1, 1)]))
    assert {"content-a-x", "content-c-x"} == set(store.usable())
    sink.close()


def test_what_a_killed_writer_left_is_erased(store: FolderStore) -> None:
    """
    A file that was written but never made part of a table is gone after `erase`.
    """
    log = Log()
    sink = opened(store)
    sink.apply(batch([log.user("u1", 1), log.item("c1", "u1", 1, 1)]))
    [example] = [
        path
        for path in store.files()
        if "items" in path.parts[-4:] or "items.lance" in path.parts
        if path.suffix in {".parquet", ".lance"} and "_delta_log" not in path.parts
    ]
    suffix = ".parquet.new" if isinstance(store, ParquetStore) else example.suffix
    left = example.with_name(f".left-1{suffix}" if suffix.endswith(".new") else f"left{suffix}")
    left.write_bytes(example.read_bytes())
    sink.apply(batch([log.item("c1", "u1", 2, 1, allowed=False)]))
    assert {marker("c1/1/1")} == held(store, [marker("c1/1/1")])
    sink.erase()

    assert set() == held(store, [marker("c1/1/1")])
    assert not left.exists()
    sink.close()


def test_erasing_beside_a_writer(store: FolderStore) -> None:
    """
    Files that another process is just about to commit are not taken away beneath it.
    """
    log = Log()
    one, other = opened(store), opened(store)
    one.apply(batch([log.user("u1", 1), log.item("c1", "u1", 1, 1)]))
    eraser = threading.Thread(target=other.erase)
    tables = one._tables
    place = "_exchange" if hasattr(tables, "_exchange") else "change_items"
    commit = getattr(tables, place)

    def interrupted(*arguments: object) -> None:
        if not eraser.ident:
            eraser.start()
            eraser.join(1)
        commit(*arguments)

    setattr(tables, place, interrupted)
    one.apply(batch([log.item("c2", "u1", 1, 1)]))
    eraser.join()

    assert {"c1", "c2"} == set(store.usable())
    one.apply(batch([log.user("u1", 2, allowed=False)]))
    one.apply(batch([log.user("u1", 3)]))
    assert {"c1", "c2"} == set(store.usable())
    one.close()
    other.close()


def test_many_small_batches_leave_few_files(store: FolderStore) -> None:
    """
    After very many batches of one item readers open a handful of files.
    """
    log = Log()
    sink = opened(store)
    sink.apply(batch([log.user("u1", 1)]))
    for number in range(40):
        sink.apply(batch([log.item(f"c{number}", "u1", 1, 1)]))
    sink.erase()
    data = [
        path
        for path in store.files()
        if path.suffix in {".parquet", ".lance"} and "_delta_log" not in path.parts
    ]

    assert 40 == len(store.usable())
    assert len(data) < 16
    sink.close()


def test_files_larger_than_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Purges all over a partition of many files, some of which become sparse, lose and leave nothing.
    """
    monkeypatch.setattr(files, "FILE_ROWS_MAX", 32)
    store = ParquetStore(tmp_path / "store")
    chance, log = random.Random(1), Log()
    sink = opened(store)
    sink.apply(batch([log.user("u1", 1)]))
    alive = [f"c{number}" for number in range(600)]
    sink.apply(batch([log.item(name, "u1", 1, 1) for name in alive]))
    chance.shuffle(alive)
    while alive:
        gone, alive = alive[:70], alive[70:]
        sink.apply(batch([log.item(name, "u1", 2, 1, allowed=False) for name in gone]))
        assert set(alive) == set(store.usable())
        sizes = [
            pq.read_metadata(path).num_rows for path in (store.folder / "items").rglob("*.parquet")
        ]
        assert max(sizes, default=0) <= 32
    sink.close()


def test_a_table_taken_back(tmp_path: Path) -> None:
    """
    When one of the two tables is restored to an earlier version, the positions go back with it.
    """
    log = Log()
    place = Place(TRAINING_USERS, partition_of("u1"))
    for name in ("items", "state"):
        store = DeltaStore(tmp_path / name)
        sink = opened(store)
        sink.apply(batch([log.user("u1", 1)]))
        early = sink.positions()[place]
        version = DeltaTable(store.folder / name).version()
        sink.apply(batch([log.user("u1", 2)]))
        assert early != sink.positions()[place]
        sink.close()
        for path in (store.folder / name / "_delta_log").iterdir():
            if path.stem.isdigit() and int(path.stem) > version:
                path.unlink()
        sink = opened(store)
        assert early == sink.positions()[place]
        sink.close()


def test_the_table_needs_no_filter(store: FolderStore) -> None:
    """
    A whole scan of the table has the fields of the contract, and nothing locked or purged.
    """
    log = Log()
    sink = opened(store)
    sink.apply(batch([log.user("u1", 1), log.item("c1", "u1", 1, 1), log.item("c2", "u2", 1, 1)]))
    found = store.table()

    assert ["c1"] == found.column("content_id").to_pylist()
    fields = "content_id user_id revision product kind modality language created_at epoch"
    assert set(fields.split()) <= set(found.column_names)
    sink.close()


@pytest.mark.parametrize(
    "make",
    [
        DeltaSink,
        LanceSink,
        ParquetSink,
        lambda path: IcebergSink(f"sqlite:///{path}/catalog.db", path),
    ],
    ids=["delta", "lance", "parquet", "iceberg"],
)
def test_a_place_that_cannot_be(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """
    A folder that cannot be made ends with status 3, names the place and what is expected.
    """
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(Unreachable, match=r"file/store.*expected") as caught:
        make(str(blocked / "store")).open()

    assert 3 == caught.value.exit_status


def test_plain_parquet_refuses_an_object_store() -> None:
    """
    A folder of files on an object store is refused with what to take instead.
    """
    with pytest.raises(UsageProblem, match="take Delta Lake or Iceberg"):
        ParquetSink("s3://bucket/store")


@pytest.mark.parametrize(
    "module, client, extra",
    [
        ("delta", "deltalake", "delta"),
        ("iceberg", "pyiceberg.catalog", "iceberg"),
        ("lance", "lancedb", "lancedb"),
        ("parquet", "pyarrow", "parquet"),
    ],
)
def test_a_client_that_is_not_installed(module: str, client: str, extra: str) -> None:
    """
    Without its client a sink says which extra to install.
    """
    code = f"import sys; sys.modules[{client!r}] = None; import streams.sinks.{module}"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert f"pip install 'objection-streams[{extra}]'" in ended.stderr


def test_nothing_of_old_generations_is_kept_twice(tmp_path: Path) -> None:
    """
    Confirming a store by a resync and erasing leaves one row of `state` for each key.
    """
    store = DeltaStore(tmp_path / "store")
    log = Log()
    sink = opened(store)
    sink.apply(batch([log.user("u1", 1)] + [log.item(f"c{n}", "u1", 1, 1) for n in range(9)]))
    for generation in (3, 5, 7):
        sink.apply(batch(log.changes, generation=generation))
    sink.erase()
    rows = DeltaTable(store.folder / "state").to_pyarrow_table()
    assert 10 + 2 == rows.num_rows  # and a position for each place
    assert {7} == set(rows.filter(pa.compute.less(rows["row_kind"], 2))["generation"].to_pylist())
    sink.close()


def test_a_batch_is_one_change_of_each_row() -> None:
    """
    The arithmetic of fences: a lower pair is dropped, an equal one only confirms.
    """
    log = Log()
    place = Place("training-content", partition_of("u1"))

    def rows(changes: list[Change], generation: int) -> Fences:
        whole: Batch = batch(changes, generation)
        return Fences.of(state_rows(place.partition, changes, whole.reached))

    record = log.item("c1", "u1", 2, 2)
    purge = log.item("c1", "u1", 2, 2, allowed=False)
    older = log.item("c1", "u1", 2, 1, allowed=False)
    stored = rows([record], 1)

    assert [None] == _news(stored, rows([record], 1))
    assert [False] == _news(stored, rows([record], 3))
    assert [True] == _news(stored, rows([purge], 1))
    assert [None] == _news(stored, rows([older], 3))
    assert [True] == _news(rows([purge], 1), rows([record], 3))
    assert np.all(stored.purged == np.array([False]))

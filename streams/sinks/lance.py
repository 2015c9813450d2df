"""
LanceDB as a store: the table `items` holds what may be used; `state` and `positions` are ours.

Open `items` with LanceDB and search it; no filter is needed, and only this sink may write its rows.
Needs the extra `lancedb`.

Each table commits alone, and an addition never waits for a deletion: items are hidden before others
are shown, and positions are noted last.  In a local folder, locks keep writers of one partition
number apart.  On an object store there are none: there one process must write both places of a
partition number, as subscribers of one group do, and only one may call `erase` at a time.
"""

import functools
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from streams.errors import Unreachable, UsageProblem

try:
    import lancedb
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    from lancedb.table import Table
except ImportError as error:
    raise UsageProblem(
        "LanceDB needs lancedb, which is not installed; "
        "install the extra: pip install 'objection-streams[lancedb]'"
    ) from error

from streams.sinks.lake import ERASE_EVERY_S, LOOKED_AT, LakeSink
from streams.sinks.lake_columns import ITEM_SCHEMA, STATE_SCHEMA, Flags
from streams.sinks.locks import PartitionLocks
from streams.sinks.sink import Place, Position
from streams.sinks.tables import Conflict, ItemChange, Rows, Tables, further

_ITEMS: Final = "items"
_STATE: Final = "state"
_POSITIONS: Final = "positions"
_SCHEMAS: Final = {
    _ITEMS: ITEM_SCHEMA,
    # A name for each row, as Lance's own row ids change when it compacts.
    _STATE: STATE_SCHEMA.append(pa.field("row", pa.int64())),
    _POSITIONS: pa.schema(
        [
            ("place", pa.string()),
            ("topic", pa.string()),
            ("partition", pa.int32()),
            ("topic_id", pa.string()),
            ("position_offset", pa.int64()),
            ("generation", pa.int64()),
        ]
    ),
}
_FRAGMENTS_MAX: Final = 64  # Each is a file that every read opens; then they are joined.
_SCAN_ROWS: Final = 131_072  # At once; LanceDB's default of 1,024 costs most of a scan.
_LIST_MAX: Final = 50_000  # Values in one predicate.


class LanceSink(LakeSink):
    """
    A sink of the tables of a LanceDB.

    uri: a path, or `s3://bucket/path` with the credentials in the environment.
    erase_every_s: how often purged bytes are removed; a reader of a version older than that ends
        with a missing file.
    """

    def __init__(self, uri: str, *, erase_every_s: float = ERASE_EVERY_S) -> None:
        super().__init__(_LanceTables(uri), erase_every_s)


class _LanceRows(Rows):
    """The rows of a partition number in the version that was looked at."""

    def __init__(self, scan: Callable[[tuple[str, ...]], pa.Table], partition: int) -> None:
        self._scan = scan
        self._partition = partition

    def read(self, columns: Iterable[str]) -> pa.Table:
        wanted = tuple(columns)
        found = self._scan(wanted)
        ours = pc.equal(found.column("partition"), self._partition)
        return found.filter(ours).select(list(wanted))


class _LanceTables(Tables):
    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._tables: dict[str, Table] = {}
        self._looked: set[int] = set()
        self._scanned: dict[tuple[str, ...], pa.Table] = {}
        self._locks = (
            None if "://" in uri else PartitionLocks(Path(uri).expanduser().absolute() / "locks")
        )

    def open(self) -> None:
        try:
            database = lancedb.connect(self._uri)
            for name, schema in _SCHEMAS.items():
                self._tables[name] = database.create_table(name, schema=schema, exist_ok=True)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).split("\n", 1)[0]
            raise Unreachable(
                f"{self._uri}: cannot open or make a LanceDB there ({reason}); "
                "expected a folder that may be written"
            ) from error

    def look(self, partitions: Iterable[int]) -> None:
        self._looked = set(partitions)
        self._scanned = {}
        if self._locks is not None:
            self._locks.hold(self._looked)
        for name in (_ITEMS, _STATE, _POSITIONS):
            self._tables[name].checkout_latest()  # type: ignore[no-untyped-call]

    def release(self) -> None:
        self._scanned = {}
        if self._locks is not None:
            self._locks.release()

    def partitions(self) -> set[int]:
        return {
            number
            for table in self._tables.values()
            for number in table.search()
            .select(["partition"])
            .limit(None)
            .to_arrow()
            .column("partition")
            .unique()
            .to_pylist()
        }

    def items(self, partition: int) -> _LanceRows:
        return _LanceRows(functools.partial(self._scan, _ITEMS), partition)

    def state(self, partition: int) -> _LanceRows:
        return _LanceRows(functools.partial(self._scan, _STATE), partition)

    def add_state(self, added: Mapping[int, pa.Table]) -> None:
        if not added:
            return
        rows = pa.concat_tables(list(added.values()))
        names = np.frombuffer(secrets.token_bytes(8 * rows.num_rows), np.int64)
        with _translated():
            self._tables[_STATE].add(rows.append_column("row", pa.array(names)))
            self._join(_STATE)

    def drop_state(self, dropped: Mapping[int, tuple[Rows, Flags]]) -> None:
        with _translated():
            for rows, gone in dropped.values():
                names = rows.read(["row"]).column("row").filter(pa.array(gone)).to_pylist()
                self._delete(_STATE, "row", [str(name) for name in names])

    def change_items(
        self, changes: Mapping[int, ItemChange], reached: Mapping[Place, Position]
    ) -> None:
        with _translated():
            for partition, change in changes.items():
                if change.gone.any():
                    ids = change.rows.read(LOOKED_AT).column("content_id")  # Scanned already.
                    quoted = [
                        "'" + content_id.replace("'", "''") + "'"
                        for content_id in ids.filter(pa.array(change.gone)).to_pylist()
                    ]
                    self._delete(_ITEMS, "content_id", quoted, f"partition = {partition} AND ")
            if added := [change.added for change in changes.values() if change.added.num_rows]:
                self._tables[_ITEMS].add(pa.concat_tables(added))
            self._join(_ITEMS)
            if reached:
                self._note(reached)

    def reached(self, candidates: Iterable[tuple[Place, Position]]) -> Mapping[Place, Position]:  # noqa: ARG002
        with _translated():
            rows = self._tables[_POSITIONS].to_arrow().to_pylist()
        return {
            Place(row["topic"], row["partition"]): Position(
                row["topic_id"], row["position_offset"], row["generation"]
            )
            for row in rows
        }

    def erase(self) -> None:
        if self._locks is not None:
            self._locks.everything()
        try:
            with _translated():
                for name in _SCHEMAS:
                    table = self._tables[name]
                    table.checkout_latest()  # type: ignore[no-untyped-call]
                    if name != _POSITIONS and table.count_rows():
                        # Writes all rows anew: joining alone leaves large fragments with few
                        # deletions as they are.
                        table.update(where="true", values_sql={"epoch": "epoch"})
                    # Twice: it brings indexes up to date after it has removed what is old.
                    self._optimize(name, timedelta(0))
                    self._optimize(name, timedelta(0))
        finally:
            self.release()

    def close(self) -> None:
        self._tables = {}
        self.release()

    def _scan(self, name: str, columns: tuple[str, ...]) -> pa.Table:
        """
        Return *columns* and the partition of the rows of all partition numbers looked at.

        One scan for them all, as each goes through the whole table; in the same order each time.
        """
        if (found := self._scanned.get((name, *columns))) is not None:
            return found
        fields = list(dict.fromkeys(("partition", *columns)))
        query = self._tables[name].search().select(fields).with_row_id(True)
        if self._looked:
            query = query.where(f"partition IN ({', '.join(map(str, sorted(self._looked)))})")
        with _translated():
            found = query.limit(None).to_batches(_SCAN_ROWS).read_all()
        ids = found.column("_rowid").to_numpy()
        if (ids[1:] < ids[:-1]).any():
            found = found.take(pa.array(np.argsort(ids)))
        self._scanned[name, *columns] = found
        return found

    def _delete(self, name: str, column: str, values: list[str], prefix: str = "") -> None:
        for start in range(0, len(values), _LIST_MAX):
            listed = ",".join(values[start : start + _LIST_MAX])
            self._tables[name].delete(f"{prefix}{column} IN ({listed})")

    def _note(self, reached: Mapping[Place, Position]) -> None:
        noted = self.reached(())
        rows = [
            {
                "place": f"{place.topic}/{place.partition}",
                "topic": place.topic,
                "partition": place.partition,
                "topic_id": position.topic_id,
                "position_offset": position.offset,
                "generation": position.generation,
            }
            for place, given in reached.items()
            for position in (further(noted.get(place), given),)
        ]
        merge: Any = self._tables[_POSITIONS].merge_insert("place")
        merge.when_matched_update_all().when_not_matched_insert_all().execute(
            pa.Table.from_pylist(rows, schema=_SCHEMAS[_POSITIONS])
        )
        self._join(_POSITIONS)

    def _join(self, name: str) -> None:
        """Join the fragments when they are many."""
        if self._tables[name].version % _FRAGMENTS_MAX == 0:
            self._optimize(name, timedelta(days=1))

    def _optimize(self, name: str, older_than: timedelta) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # It warns of what the locks prevent.
            self._tables[name].optimize(
                cleanup_older_than=older_than,
                # What a crashed writer left has no version to be older than.
                delete_unverified=self._locks is not None and not older_than,
            )


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what Lance says when another writer was first into `Conflict`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if "conflict" in str(error).lower() or "not found" in str(error).lower():
            raise Conflict(str(error).split("\n", 1)[0]) from error
        raise

"""
Apache Iceberg as a store: the table `items` holds what may be used, `state` what is remembered.

Query `<namespace>.items` of the catalog with whatever reads Iceberg; no filter is needed, and only
this sink may write it.  Needs the extra `iceberg`.

Positions are properties of the table, changed in the same step as the items.  The catalog lets one
commit at a time through; a commit that came late is made again with the same files as long as
nobody committed anything about its partition numbers.
"""

import contextlib
import json
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from streams.errors import CheckFailed, Unreachable, UsageProblem

try:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog, load_catalog
    from pyiceberg.exceptions import (
        CommitFailedException,
        NamespaceAlreadyExistsError,
        NoSuchTableError,
        TableAlreadyExistsError,
    )
    from pyiceberg.io.pyarrow import parquet_file_to_data_file
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.transforms import IdentityTransform
    from pyiceberg.types import BooleanType, IntegerType, LongType, NestedField, StringType
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise UsageProblem(
        "Apache Iceberg needs pyiceberg with its SQL catalog, which is not installed; "
        "install the extra: pip install 'objection-streams[iceberg]'"
    ) from error

from streams.sinks.files import ITEMS, SCHEMAS, STATE, DataFile, FileTables, by_partition, located
from streams.sinks.lake import ATTEMPTS_MAX, ERASE_EVERY_S, LakeSink
from streams.sinks.sink import Place, Position
from streams.sinks.tables import Conflict, further

NAMESPACE: Final = "training"
_PROPERTIES: Final = {
    "format-version": "2",
    # No smallest and greatest values of ids in manifests, which outlive the files.
    "write.metadata.metrics.default": "none",
    "write.metadata.metrics.column.partition": "full",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "8",
    "commit.retry.num-retries": "0",  # What is committed again is decided here.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}
_POSITION: Final = "objections.position."
_CHANGE: Final = "objections.change."  # The last commit about a partition number.
_BARRIER: Final = "objections.barrier"
_SNAPSHOTS_MAX: Final = 20  # PyIceberg copies all of them several times with each commit.
_TYPES: Final = {
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.bool_(): BooleanType(),
    pa.string(): StringType(),
}


class IcebergSink(LakeSink):
    """
    A sink of two Iceberg tables.

    catalog_uri: of a SQL catalog (`sqlite:////folder/catalog.db`, `postgresql+psycopg://…`).
    warehouse: a path, or `s3://bucket/path` with the credentials in the environment.
    erase_every_s: how often purged bytes are removed; a reader of a snapshot older than that ends
        with a missing file.
    properties: more of the catalog's, as PyIceberg names them (`type`: `rest` for another kind).
    """

    def __init__(
        self,
        catalog_uri: str,
        warehouse: str,
        *,
        namespace: str = NAMESPACE,
        erase_every_s: float = ERASE_EVERY_S,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            _IcebergTables(
                {"type": "sql", "uri": catalog_uri, **(properties or {})}, warehouse, namespace
            ),
            erase_every_s,
        )


class _IcebergTables(FileTables):
    statistics = True  # PyIceberg warns of each column without; it takes the partition from there.

    def __init__(self, properties: Mapping[str, str], warehouse: str, namespace: str) -> None:
        super().__init__(warehouse, *located(warehouse))
        self._warehouse = warehouse if "://" in warehouse else f"file://{self._root}"
        self._properties = {**properties, "warehouse": self._warehouse}
        self._namespace = namespace
        self._tables: dict[str, Table] = {}
        self._roots: dict[str, str] = {}  # Where each table lies, as the file system takes it.

    def open(self) -> None:
        try:
            catalog = load_catalog("objections", **self._properties)
            with contextlib.suppress(NamespaceAlreadyExistsError):
                catalog.create_namespace(self._namespace)
            for name, schema in SCHEMAS.items():
                self._tables[name] = self._table(catalog, name, schema)
                self._roots[name] = located(self._tables[name].location())[1]
        except (OSError, SQLAlchemyError) as error:
            reason = str(error).split("\n", 1)[0]
            raise Unreachable(
                f"{self._properties['uri']}: cannot open the Iceberg catalog, or its warehouse "
                f"{self._warehouse} ({reason}); expected a catalog's URI such as "
                "sqlite:////folder/catalog.db in a folder that exists"
            ) from error

    def look(self, partitions: Iterable[int]) -> None:  # noqa: ARG002
        for name in (ITEMS, STATE):
            self._tables[name].refresh()
            self._files[name] = by_partition(self._listed(name))

    def reached(self, candidates: Iterable[tuple[Place, Position]]) -> Mapping[Place, Position]:  # noqa: ARG002
        found: dict[Place, Position] = {}
        for name, value in self._tables[ITEMS].properties.items():
            if name.startswith(_POSITION):
                topic, _, partition = name.removeprefix(_POSITION).rpartition(".")
                found[Place(topic, int(partition))] = Position(*json.loads(value))
        return found

    def erase(self) -> None:
        for name in (ITEMS, STATE):
            table = self._tables[name]
            listed = self._paths(self._roots[name])
            # Whoever is writing one of the listed files now loses against this commit and writes
            # another: what it does not refer to is needed by nobody.
            self._commit(name, lambda: None, [], [], {_BARRIER: str(uuid.uuid4())})
            self._expire(name, 0)
            table.refresh()
            self._discard(listed.keys() - self._referenced(name))

    def _table(self, catalog: Catalog, name: str, schema: pa.Schema) -> Table:
        identifier = f"{self._namespace}.{name}"
        with contextlib.suppress(NoSuchTableError):
            return catalog.load_table(identifier)
        try:
            return catalog.create_table(
                identifier,
                Schema(
                    *(
                        NestedField(number, field.name, _TYPES[field.type], required=False)
                        for number, field in enumerate(schema, 1)
                    )
                ),
                location=f"{self._warehouse}/{self._namespace}/{name}",
                partition_spec=PartitionSpec(
                    PartitionField(1, 1000, IdentityTransform(), "partition")
                ),
                properties=_PROPERTIES,
            )
        except TableAlreadyExistsError:  # Made by another writer meanwhile.
            return catalog.load_table(identifier)

    def _listed(self, name: str) -> list[DataFile]:
        table = self._tables[name]
        return [
            DataFile(
                self._path(name, task.file.file_path),
                task.file.partition[0],
                task.file.record_count,
                task.file,
            )
            for task in table.scan().plan_files()
        ]

    def _path(self, name: str, uri: str) -> str:
        """Return where a file of a table lies, as the file system takes it."""
        return self._roots[name] + uri.removeprefix(self._tables[name].location().rstrip("/"))

    def _uri(self, name: str, path: str) -> str:
        return self._tables[name].location().rstrip("/") + path.removeprefix(self._roots[name])

    def _referenced(self, name: str) -> set[str]:
        """Return every file that the table needs, but for earlier metadata, which hold no rows."""
        table = self._tables[name]
        if others := [ref for ref in table.metadata.refs if ref != "main"]:
            raise CheckFailed(
                f"the Iceberg table {self._namespace}.{name} has the tags or branches "
                f"{', '.join(sorted(others))}, which keep purged items readable; remove them"
            )
        uris = {table.metadata_location} | {
            one.metadata_file for one in table.metadata.metadata_log
        }
        for snapshot in table.snapshots():
            uris.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(table.io):
                uris.add(manifest.manifest_path)
                uris |= {
                    entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io)
                }
        return {self._path(name, uri) for uri in uris}

    def _expire(self, name: str, kept: int) -> None:
        """Forget all snapshots but the newest and the *kept* before it."""
        table = self._tables[name]
        for _ in range(ATTEMPTS_MAX):
            table.refresh()
            current = table.current_snapshot()
            old = sorted(
                (s for s in table.snapshots() if current and s.snapshot_id != current.snapshot_id),
                key=lambda snapshot: snapshot.sequence_number or 0,
            )
            ids = [snapshot.snapshot_id for snapshot in old[: len(old) - kept]]
            if not ids:
                return
            try:
                table.maintenance.expire_snapshots().by_ids(ids).commit()
            except CommitFailedException:
                _pause()
            else:
                return
        raise Conflict(f"snapshots of {name} could not be expired")

    def _new_path(self, table: str, partition: int, rows: int) -> str:  # noqa: ARG002
        return f"{self._roots[table]}/data/partition={partition}/{uuid.uuid4()}.parquet"

    def _prepared(self, table: str, rows: pa.Table) -> pa.Table:
        ids = {field.name: str(field.field_id) for field in self._tables[table].schema().fields}
        fields = [
            field.with_metadata({"PARQUET:field_id": ids[field.name]}) for field in rows.schema
        ]
        return pa.Table.from_arrays(rows.columns, schema=pa.schema(fields))

    def _handle(self, table: str, partition: int, path: str, rows: pa.Table) -> Any:  # noqa: ARG002
        one = self._tables[table]
        return parquet_file_to_data_file(one.io, one.metadata, self._uri(table, path))

    def _exchange(
        self,
        table: str,
        partitions: Iterable[int],
        removed: Sequence[DataFile],
        added: Sequence[DataFile],
        reached: Mapping[Place, Position],
    ) -> None:
        names = [_BARRIER, *(f"{_CHANGE}{partition}" for partition in partitions)]

        def last() -> list[str | None]:
            return [self._tables[table].properties.get(name) for name in names]

        before = last()

        def check() -> None:
            """See that nobody committed anything about *partitions* since they were looked at."""
            if last() != before:
                self._discard(file.path for file in added)
                raise Conflict(f"{table} was changed")

        # Of this partition number, so nobody changes them without changing what is checked above.
        noted = self.reached(()) if table == ITEMS else {}
        properties = {
            f"{_POSITION}{place.topic}.{place.partition}": json.dumps(
                further(noted.get(place), position)
            )
            for place, position in reached.items()
        } | {name: str(uuid.uuid4()) for name in names[1:]}
        self._commit(table, check, removed, added, properties)
        if len(self._tables[table].metadata.snapshots) > _SNAPSHOTS_MAX:
            # Commits that replace files add manifests and join none; this one joins them.
            self._commit(table, lambda: None, [], [], {})
            self._expire(table, _SNAPSHOTS_MAX // 2)

    def _commit(
        self,
        name: str,
        check: Callable[[], None],
        removed: Sequence[DataFile],
        added: Sequence[DataFile],
        properties: Mapping[str, str],
    ) -> None:
        """Commit; when another was first, *check* that this may be done again."""
        table = self._tables[name]
        for _ in range(ATTEMPTS_MAX):
            try:
                with table.transaction() as transaction:
                    transaction.set_properties(dict(properties))
                    update = transaction.update_snapshot()
                    with update.overwrite() if removed else update.merge_append() as snapshot:
                        for file in removed:
                            snapshot.delete_data_file(file.handle)
                        for file in added:
                            snapshot.append_data_file(file.handle)
            except (CommitFailedException, FileNotFoundError):
                # Another was first, or has erased the snapshot this one builds on.
                _pause()
                table.refresh()
                check()
            else:
                return
        raise Conflict(f"{name} was changed {ATTEMPTS_MAX} times")


def _pause() -> None:
    time.sleep(random.uniform(0, 0.05))

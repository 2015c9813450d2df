"""
A Delta Lake as a store: the table `items` holds what may be used, `state` what is remembered.

Query `<uri>/items` with whatever reads Delta; no filter is needed, and only this sink may write it.
Needs the extra `delta`.

Positions are application transactions of the commit that changes the items.  A further one for
each partition number is what makes writers of the same number see each other.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from streams.errors import Unreachable, UsageProblem

try:
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable, Transaction
    from deltalake.exceptions import CommitFailedError, DeltaError
    from deltalake.transaction import AddAction, RemoveAction
except ImportError as error:
    raise UsageProblem(
        "Delta Lake needs deltalake, which is not installed; "
        "install the extra: pip install 'objection-streams[delta]'"
    ) from error

from streams.sinks.files import (
    ITEMS,
    SCHEMAS,
    STATE,
    DataFile,
    FileTables,
    by_partition,
    located,
)
from streams.sinks.lake import ERASE_EVERY_S, LakeSink
from streams.sinks.sink import Place, Position
from streams.sinks.tables import Conflict

_CONFIGURATION: Final = {
    # No smallest and greatest values of ids in the log, which outlives the files.
    "delta.dataSkippingStatsColumns": "partition",
    "delta.checkpointInterval": "50",
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": "interval 0 days",
}


class DeltaSink(LakeSink):
    """
    A sink of the Delta tables below a folder or URL.

    uri: a path, or `s3://bucket/path` with the credentials in the environment.
    erase_every_s: how often purged bytes are removed; a reader of a version older than that ends
        with a missing file.
    """

    def __init__(self, uri: str, *, erase_every_s: float = ERASE_EVERY_S) -> None:
        super().__init__(_DeltaTables(uri), erase_every_s)


class _DeltaTables(FileTables):
    def __init__(self, uri: str) -> None:
        super().__init__(uri, *located(uri))
        self._tables: dict[str, DeltaTable] = {}

    def open(self) -> None:
        try:
            for name, schema in SCHEMAS.items():
                self._tables[name] = DeltaTable.create(
                    self._place(name),
                    schema,
                    mode="ignore",
                    partition_by=["partition"],
                    configuration=_CONFIGURATION,
                )
        except (OSError, DeltaError) as error:
            reason = str(error).split("\n", 1)[0]
            raise Unreachable(
                f"{self._url}: cannot open or make Delta tables there ({reason}); "
                "expected a folder that may be written"
            ) from error

    def look(self, partitions: Iterable[int]) -> None:  # noqa: ARG002
        for name in (ITEMS, STATE):
            self._tables[name].update_incremental()
            self._files[name] = by_partition(self._listed(name))

    def reached(self, candidates: Iterable[tuple[Place, Position]]) -> Mapping[Place, Position]:
        found: dict[Place, Position] = {}
        for place, seen in sorted(candidates, key=lambda pair: pair[1].generation):
            offset = self._tables[ITEMS].transaction_version(_application(place, seen))
            if offset is not None:
                found[place] = seen._replace(offset=offset)
        return found

    def erase(self) -> None:
        for name in (ITEMS, STATE):
            folder = f"{self._root}/{name}"
            listed = {p for p in self._paths(folder) if not p.startswith(f"{folder}/_delta_log/")}
            numbers = {int(p.split("/partition=")[1].split("/")[0]) for p in listed}
            # Whoever is writing one of the listed files now loses against this commit and writes
            # another: what it does not refer to is needed by nobody.
            self._exchange(name, numbers, [], [], {})
            self._tables[name].update_incremental()
            self._discard(listed - {file.path for file in self._listed(name)})
            self._tables[name].create_checkpoint()
            self._tables[name].cleanup_metadata()

    def _place(self, name: str) -> str:
        return f"{self._url.rstrip('/')}/{name}" if "://" in self._url else f"{self._root}/{name}"

    def _listed(self, name: str) -> list[DataFile]:
        actions = pa.table(self._tables[name].get_add_actions(flatten=True))
        return [
            DataFile(
                f"{self._root}/{name}/{action['path']}",
                action["partition.partition"],
                action["num_records"],
                (action["path"], action["size_bytes"]),
            )
            for action in actions.to_pylist()
        ]

    def _handle(self, table: str, partition: int, path: str, rows: pa.Table) -> Any:  # noqa: ARG002
        relative = path.removeprefix(f"{self._root}/{table}/")
        return relative, self._system.get_file_info(path).size

    def _exchange(
        self,
        table: str,
        partitions: Iterable[int],
        removed: Sequence[DataFile],
        added: Sequence[DataFile],
        reached: Mapping[Place, Position],
    ) -> None:
        now_ms = int(time.time() * 1000)
        delta = self._tables[table]
        actions: list[AddAction | RemoveAction] = []
        for file in removed:
            path, size = file.handle
            values: dict[str, str | None] = {"partition": str(file.partition)}
            actions.append(RemoveAction(path, True, now_ms, size, values))
        for file in added:
            path, size = file.handle
            stats = f'{{"numRecords": {file.rows}}}'
            values = {"partition": str(file.partition)}
            actions.append(AddAction(path, size, values, now_ms, data_change=True, stats=stats))
        transactions = [
            Transaction(f"objections/partition/{partition}", delta.version() + 1)
            for partition in partitions
        ] + [
            Transaction(name, max(position.offset, delta.transaction_version(name) or 0))
            for place, position in reached.items()
            for name in (_application(place, position),)
        ]
        try:
            delta.create_write_transaction(
                actions,
                "append",
                SCHEMAS[table],
                ["partition"],
                commit_properties=CommitProperties(
                    app_transactions=transactions, max_commit_retries=20
                ),
            )
        except CommitFailedError as error:
            self._discard(file.path for file in added)
            raise Conflict(str(error)) from error


def _application(place: Place, position: Position) -> str:
    """Return the id of the application transaction that holds the offset."""
    return f"objections/{place.topic}/{place.partition}/{position.generation}/{position.topic_id}"

"""
For training jobs: only items that may be used now, and which of those may no longer.

On the command line, `objections filter MANIFEST -o OUT` and `objections filter --verify OUT`.
In Python, rows or Arrow batches pass through `allowed`:

    from streams.training import AllowedItems, allowed

    items = AllowedItems.read()                   # settings from OBJECTIONS_ variables
    for row in allowed(rows, items):              # mappings with a "content_id"
        train(row["text"])

    for batch in allowed(parquet_file.iter_batches(), items, column="id"):
        train(batch)                              # pyarrow.RecordBatch or Table

    "c-77" in items                               # one item
    items.mask(["c-77", "c-78"])                  # many, as a numpy array of bools
    items.refresh()                               # take in what was purged meanwhile

`AllowedItems.read` reads `training-users` and `training-content` up to the ends they have then,
committed records only, and joins no consumer group.  An item passes while its own record *and* that
of its product and user stand; what is not known does not pass.  A long job calls `refresh` between
epochs or shards: what passed before does not come back by itself.  `cache_folder=` keeps the index
on disk, so that the next job reads only what has come since.

pyarrow (the extra `parquet`) is needed for Parquet, Arrow batches and zstd alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from streams.training.index import State
from streams.training.items import AllowedItems, of_row

__all__ = ["AllowedItems", "State", "allowed"]

CHUNK_ROWS: Final = 1_024

Row = TypeVar("Row")


def allowed(
    rows: Iterable[Row], items: AllowedItems | None = None, *, column: str = "content_id"
) -> Iterator[Row]:
    """
    Yield those of *rows* that may be used, in their order.

    rows: mappings, of which whole ones are kept; or `pyarrow.RecordBatch`es or `Table`s, which are
    filtered, and left out where nothing remains.  Taken CHUNK_ROWS at a time.
    items: what is allowed; by default read once, with the settings of the environment.
    column: where the content ids are.  A row without one does not pass.

    Raises what `AllowedItems.read` does; UsageProblem when a batch has no such column; TypeError
    for rows of another kind.
    """
    found = AllowedItems.read() if items is None else items
    ahead = iter(rows)
    while chunk := list(islice(ahead, 1)):
        if isinstance(chunk[0], Mapping):
            chunk += islice(ahead, CHUNK_ROWS - 1)
            yield from _of_rows(chunk, found, column)
        else:
            yield from _of_batch(chunk[0], found, column)


def _of_rows(rows: list[Any], items: AllowedItems, column: str) -> Iterator[Any]:
    mask = items.mask(of_row(row, column) for row in rows)
    return (row for row, passes in zip(rows, mask.tolist(), strict=True) if passes)


def _of_batch(batch: Any, items: AllowedItems, column: str) -> Iterator[Any]:
    if not (hasattr(batch, "schema") and hasattr(batch, "filter")):
        message = f"a row is a {type(batch).__name__}, expected a mapping, a RecordBatch or a Table"
        raise TypeError(message)
    from streams.training import parquet

    passing = parquet.allowed_part(batch, items, column)
    if passing.num_rows:
        yield passing

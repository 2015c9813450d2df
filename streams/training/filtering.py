"""
Filters manifests into a data set: all of it, with its positions beside it, or nothing.

Everything is written under a temporary name first, flushed to the disk and renamed; the positions
come last.  However a run ends, OUT is whole, or is not there.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

import streams
from streams.core.times import rfc3339
from streams.errors import UsageProblem
from streams.files.durable import sync_folder, write_durably
from streams.files.kinds import STANDARD, kind_of
from streams.files.unpacking import BUFFER_BYTES
from streams.training import positions
from streams.training.index import State
from streams.training.items import AllowedItems
from streams.training.manifests import (
    HashingFile,
    Source,
    opened,
    packing,
)
from streams.training.positions import DataSet, File, Rows

SHOWN_LINES: Final = 5  # numbers of malformed lines that are told

Progress = Callable[[str, int], None]  # what is read, rows of it so far


class Plan(NamedTuple):
    """
    What is to be done.

    out: a file; a folder where a manifest is one, or there are several.
    positions_path: where the positions go; None for nowhere (standard output).
    format_said, delimiter: as the user gave them, for `--verify` to read OUT the same way.
    """

    sources: Sequence[Source]
    out: Path
    positions_path: Path | None
    column: str
    force: bool
    format_said: str | None
    delimiter: str | None

    @property
    def is_folder(self) -> bool:
        """Whether OUT is a folder."""
        return self.sources[0].name != ""


class Filtered(NamedTuple):
    """malformed: file and line of the first few rows that were no rows."""

    rows: Rows
    malformed: list[str]


def check(plan: Plan, manifests: Sequence[Path]) -> None:
    """Raise UsageProblem where *plan* cannot be; changes nothing."""
    out = plan.out
    if out == STANDARD:
        if plan.is_folder or plan.sources[0].format == "parquet":
            message = "only one JSONL or CSV manifest goes to standard output: name a file with -o."
            raise UsageProblem(message)
    else:
        _check_out(plan, manifests)
    for source in plan.sources:
        if source.path != STANDARD:  # what has been read of that is gone
            with opened(source, plan.column):
                pass


def _check_out(plan: Plan, manifests: Sequence[Path]) -> None:
    out = plan.out
    resolved = out.resolve()
    for manifest in manifests:
        if manifest == STANDARD:
            continue
        other = manifest.resolve()
        if resolved == other or resolved in other.parents or other in resolved.parents:
            message = (
                f"OUT ({out}) and the manifest {manifest} are the same or lie in each other. "
                "Remedy: name another OUT."
            )
            raise UsageProblem(message)
    if not resolved.parent.is_dir():
        message = f"{out.parent} is no folder: OUT cannot be made in there. Remedy: make it first."
        raise UsageProblem(message)
    existing = [each for each in (out, plan.positions_path) if each is not None and each.exists()]
    if existing and not plan.force:
        message = (
            f"{' and '.join(map(str, existing))} exists. Remedy: name another OUT, or replace it "
            "with --force."
        )
        raise UsageProblem(message)
    if out.exists() and out.is_dir() != plan.is_folder:
        message = (
            f"OUT ({out}) is a {'folder' if out.is_dir() else 'file'}, and what is written is a "
            f"{'folder' if plan.is_folder else 'file'}. Remedy: name another OUT."
        )
        raise UsageProblem(message)
    if not plan.is_folder:
        source = plan.sources[0]
        form, _, _ = kind_of(out, plan.format_said, plan.delimiter)
        if form != source.format:
            message = (
                f"OUT ({out}) is {form} by its name, and the manifest is {source.format}: rows are "
                "kept as they are. Remedy: name OUT like the manifest."
            )
            raise UsageProblem(message)


def run(
    plan: Plan, items: AllowedItems, progress: Progress = lambda _name, _rows: None
) -> Filtered:
    """Write the data set and its positions; raises UsageProblem, with nothing left behind."""
    done = Filtered(Rows(), [])
    if plan.out == STANDARD:
        stdout = sys.stdout.buffer
        file = _filter_into(stdout, plan.sources[0], None, plan, items, done, progress)
        stdout.flush()
        files = [file]
    else:
        with _renamed(plan) as temporary:
            files = [
                _filter_file(temporary, each, plan, items, done, progress) for each in plan.sources
            ]
    if plan.positions_path is not None:
        content = DataSet(
            tool=f"{streams.DISTRIBUTION} {streams.__version__}",
            filtered_at=rfc3339(time.time_ns() // 1_000_000),
            column=plan.column,
            delimiter=plan.delimiter if plan.is_folder else plan.sources[0].delimiter,
            format=plan.format_said,
            positions=items.positions,
            rows=done.rows,
            files=files,
        )
        write_durably(plan.positions_path, positions.encode(content))
    return done


@contextmanager
def _renamed(plan: Plan) -> Iterator[Path]:
    """Return a temporary name beside OUT; OUT is what lies there once the block is done."""
    out = plan.out
    temporary = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        if plan.is_folder:
            temporary.mkdir()
        yield temporary
        if out.exists() and not plan.force:
            message = f"{out} has come into being meanwhile and is left as it is."
            raise UsageProblem(message)
        if plan.positions_path is not None:
            # They spoke of another OUT; without them, what lies there is not finished.
            plan.positions_path.unlink(missing_ok=True)
        if plan.is_folder and out.exists():
            shutil.rmtree(out)
        temporary.replace(out)
        sync_folder(out.resolve().parent)
    except OSError as error:
        message = f"{out} cannot be written: {error}. Nothing of this run is left behind."
        raise UsageProblem(message) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _filter_file(
    temporary: Path,
    source: Source,
    plan: Plan,
    items: AllowedItems,
    done: Filtered,
    progress: Progress,
) -> File:
    path = temporary / source.name if plan.is_folder else temporary
    path.parent.mkdir(parents=True, exist_ok=True)
    shape_of = path if plan.is_folder else plan.out
    codec = kind_of(shape_of, plan.format_said, plan.delimiter)[1]
    with path.open("wb", buffering=BUFFER_BYTES) as raw:
        file = _filter_into(raw, source, codec, plan, items, done, progress)
        raw.flush()
        os.fsync(raw.fileno())
    return File(source.name or plan.out.name, file.sha256, file.rows)


def _filter_into(
    raw: BinaryIO,
    source: Source,
    codec: str | None,
    plan: Plan,
    items: AllowedItems,
    done: Filtered,
    progress: Progress,
) -> File:
    """Write what is kept of *source* into *raw*, and count."""
    shown = source.name or str(source.path)
    kept_before = done.rows.kept
    hashed = HashingFile(raw)
    with opened(source, plan.column) as manifest, packing(hashed, codec) as packed:
        sink = manifest.sink(packed)
        rows = 0
        for chunk in manifest.chunks:
            hashes = chunk.hashes(items.index.hasher)
            states = items.states(hashes)
            sink.write(chunk, states == State.ALLOWED)
            done.rows.malformed += int((~hashes.is_something()).sum()) + len(chunk.malformed)
            _count(done, states, len(chunk.malformed))
            for number in chunk.malformed[: SHOWN_LINES - len(done.malformed)]:
                done.malformed.append(f"{shown}:{number}")
            rows += len(chunk) + len(chunk.malformed)
            progress(shown, rows)
        sink.close()
    return File(source.name, hashed.sha256, done.rows.kept - kept_before)


def _count(
    done: Filtered, states: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", bad: int
) -> None:
    numbers = np.bincount(states, minlength=len(State)).tolist()
    rows = done.rows
    rows.read += len(states) + bad
    rows.kept += numbers[State.ALLOWED]
    rows.purged += numbers[State.PURGED]
    rows.account_locked += numbers[State.LOCKED]
    rows.unknown = rows.read - rows.kept - rows.purged - rows.account_locked - rows.malformed

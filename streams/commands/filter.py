"""`objections filter`: keep what may be used of a manifest; later, find what was purged since."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from streams.commands.common import bootstrap_option, read_settings
from streams.errors import CheckFailed, UsageProblem

if TYPE_CHECKING:
    from streams.training.filtering import Filtered, Plan
    from streams.training.items import AllowedItems
    from streams.training.verify import Verified

SHOW_AGAIN_S: Final = 0.2
STANDARD_NAME: Final = "-"


@click.command("filter")
@click.argument("manifests", metavar="MANIFEST...", nargs=-1, required=True)
@bootstrap_option
@click.option(
    "-o",
    "--out",
    metavar="OUT",
    help="The data set to write: a file, `-`, or a folder for several.",
)
@click.option(
    "--verify",
    "verifying",
    is_flag=True,
    help="Tell which items of the data set were purged since.",
)
@click.option("--column", help="Where the content ids are.  [default: content_id]")
@click.option(
    "--format",
    "format_said",
    type=click.Choice(["parquet", "jsonl", "csv"]),
    help="What the manifest is, where its name does not tell.",
)
@click.option("--delimiter", help="Between the fields of a CSV.  [default: `,`; a tab for .tsv]")
@click.option(
    "--cache",
    "cache_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for an index, so that the next run reads only what has come since.",
)
@click.option(
    "--positions",
    "positions_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the positions go, or are.  [default: OUT.positions.json]",
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.option(
    "--list",
    "list_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --verify: write the ids of purged items to this file, not to standard output.",
)
def filter_command(
    manifests: tuple[str, ...],
    bootstrap: str | None,
    out: str | None,
    verifying: bool,
    column: str | None,
    format_said: str | None,
    delimiter: str | None,
    cache_folder: Path | None,
    positions_path: Path | None,
    force: bool,
    list_path: Path | None,
) -> None:
    """
    Keep the rows of a manifest whose items may be used for training now.

    MANIFEST is a Parquet, JSONL or CSV file with a column of content ids, several of them, a folder
    of them, or `-` for JSONL or CSV from standard input; .gz and .zst are unpacked.  Rows stay as
    they are; an item that is not known is dropped.  OUT.positions.json, written last, says which
    positions of the topics OUT stands for.

    \b
    objections filter items.parquet -o train.parquet
    objections filter --verify train.parquet    # exit status 1: purged since

    With --verify, exit status 1 also means that it cannot be known: OUT was changed, or the topics
    were made anew.
    """  # noqa: D301  (click wants the character)
    # A terminal's Ctrl-C and a supervisor's SIGTERM mean the same: leave nothing half done.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if delimiter is not None and len(delimiter) != 1:
        message = f"--delimiter is {delimiter!r}, expected one character."
        raise UsageProblem(message)
    if verifying:
        _refuse({"-o": out, "--column": column, "--format": format_said, "--force": force or None})
        if len(manifests) != 1 or manifests[0] == STANDARD_NAME:
            message = "--verify takes one data set: the OUT of an earlier run."
            raise UsageProblem(message)
        _verify(Path(manifests[0]), bootstrap, cache_folder, positions_path, list_path)
        return
    _refuse({"--list": list_path}, "goes with --verify only")
    if out is None:
        message = "expected -o OUT, the data set to write, or --verify."
        raise UsageProblem(message)
    from streams.training.filtering import Plan
    from streams.training.manifests import sources
    from streams.training.positions import beside

    paths = [Path(each) for each in manifests]
    if positions_path is None and out != STANDARD_NAME:
        positions_path = beside(Path(out))
    plan = Plan(
        sources(paths, format_said, delimiter),
        Path(out),
        positions_path,
        column or "content_id",
        force,
        format_said,
        delimiter,
    )
    _filter(plan, paths, bootstrap, cache_folder)


def _refuse(options: dict[str, object], why: str = "does not go with --verify") -> None:
    for name, value in options.items():
        if value is not None:
            message = f"{name} {why}."
            raise UsageProblem(message)


def _filter(
    plan: "Plan", paths: list[Path], bootstrap: str | None, cache_folder: Path | None
) -> None:
    from streams.training import filtering
    from streams.training.items import AllowedItems

    filtering.check(plan, paths)
    settings = read_settings(bootstrap)
    with _progress() as show:
        begun_s = time.monotonic()
        items = AllowedItems.read(
            settings, cache_folder=cache_folder, progress=show.offsets, say=show.note
        )
        show.note(_read_text(items, time.monotonic() - begun_s))
        begun_s = time.monotonic()
        done = filtering.run(plan, items, show.rows)
        took_s = time.monotonic() - begun_s
    for line in _filtered_text(plan, done, took_s):
        click.echo(line, err=plan.out.name == STANDARD_NAME)


def _read_text(items: "AllowedItems", took_s: float) -> str:
    records = items.built.records
    where = " on top of the stored index" if items.built.from_cache else ""
    return f"{records:,} records read{where} in {took_s:.1f} s; {len(items):,} items are allowed."


def _filtered_text(plan: "Plan", done: "Filtered", took_s: float) -> Iterator[str]:
    rows = done.rows
    rate = f", {rows.read / took_s:,.0f} rows/s" if took_s > 0.1 else ""
    yield f"Kept {rows.kept:,} of {rows.read:,} rows{rate}."
    if rows.dropped:
        yield (
            f"Dropped {rows.dropped:,}: {rows.purged:,} purged, {rows.account_locked:,} of a "
            f"locked account, {rows.unknown:,} unknown, {rows.malformed:,} malformed."
        )
    if done.malformed:
        more = ", …" if rows.malformed > len(done.malformed) else ""
        yield f"Malformed, the first at {', '.join(done.malformed)}{more}"
    if plan.positions_path is not None:
        yield f"{plan.out} stands for the positions in {plan.positions_path}."


def _verify(
    out: Path,
    bootstrap: str | None,
    cache_folder: Path | None,
    positions_path: Path | None,
    list_path: Path | None,
) -> None:
    from streams.training.verify import verify

    settings = read_settings(bootstrap)
    with _progress() as show:
        found = verify(
            settings,
            out,
            positions_path=positions_path,
            cache_folder=cache_folder,
            progress=show.offsets,
            say=show.note,
        )
    _tell_purged(found, list_path)
    if found.purged:
        message = (
            f"{len(found.purged):,} items in {found.rows:,} rows of {out} have been purged since "
            f"it was filtered ({found.read} read). Remedy: leave them out, or filter again."
        )
        raise CheckFailed(message)
    click.echo(f"No item of {out} has been purged since it was filtered ({found.read} read).")


def _tell_purged(found: "Verified", list_path: Path | None) -> None:
    lines = "".join(f"{each}\n" for each in found.purged)
    if list_path is None:
        click.echo(lines, nl=False)
        return
    from streams.files.durable import write_durably

    try:
        write_durably(list_path, lines.encode("utf-8", "backslashreplace"))
    except OSError as error:
        message = f"{list_path} cannot be written: {error}"
        raise UsageProblem(message) from error


class _Progress:
    """A line that passes, where there is a terminal, and notes that stay."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()
        self._shown_s = 0.0

    def offsets(self, topic: str, done: int, total: int) -> None:
        self._pass(f"reading {topic}: {done:,} of {total:,} ({done * 100 // max(total, 1)} %)")

    def rows(self, name: str, rows: int) -> None:
        self._pass(f"filtering {name}: {rows:,} rows")

    def note(self, text: str) -> None:
        self.clear()
        click.echo(text, err=True)

    def clear(self) -> None:
        if self._shows:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _pass(self, text: str) -> None:
        now_s = time.monotonic()
        if self._shows and now_s - self._shown_s > SHOW_AGAIN_S:
            self._shown_s = now_s
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)


@contextmanager
def _progress() -> Iterator[_Progress]:
    show = _Progress()
    try:
        yield show
    finally:
        show.clear()

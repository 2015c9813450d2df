"""
What the demo tells people: what is happening, how far it is, and the table at the end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from streams.demo.figures import Figures

DIFFERENCES_SHOWN: Final = 20
SECOND_MS: Final = 1_000

INTRODUCTION: Final = """\
[bold]An objection must reach every place that holds its author's data, and soon.[/bold]

This replays 20,000 posts and comments that 286 accounts of a public project really wrote, with \
their true times.  Everything else about them is made up: ages, countries, languages, products, \
notices, objections.  One worker decides who and what may be used for AI training and publishes \
it on Kafka; two data stores on disk, a feature table in SQLite and a training index in a Delta \
Lake, follow what is published.  Then people object.
"""


class Report:
    """Writes to a terminal, or plain lines where there is none."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def introduce(self) -> None:
        """Say what is going to happen."""
        self._console.print(INTRODUCTION)

    def say(self, line: str) -> None:
        """Print a line as it is, to be copied whole."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator["Bar"]:
        """Show a bar for *what*, of *total* steps."""
        with Progress(
            TextColumn("  {task.description:<46}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        ) as shown:
            yield Bar(shown, what, total)

    def announce_objections(self, allowed: int, objections: int) -> None:
        """Say what comes now."""
        self._console.print(
            f"\n{allowed:,} items may be used.  Now {objections} objections are filed, some to a "
            "few products only, some withdrawn; some people turn out to be under age, items "
            "arrive late, also of the largest account after it has objected.\n",
            highlight=False,
        )

    def table(self, figures: Figures) -> None:
        """Print what came of it."""
        self._console.print()
        self._console.print(_counts(figures))
        if figures.latencies:
            self._console.print(_latencies(figures))
        self._console.print(
            "Of the objections that had items to purge, from the broker's time stamp of the "
            "objection on.  Hidden: no query of the store's users returns the items; erased: no "
            "file holds them any more.  Stores acknowledge both, and receipts tell it:\n",
            style="dim",
            highlight=False,
        )
        for line in figures.receipt:
            self.say(line)
        self.say("")

    def proven(self, figures: Figures) -> None:
        """Say that the check found nothing."""
        self._console.print(
            f"[bold green]Proven:[/bold green] recomputed from the input topics, all decisions "
            f"and both stores are as they must be: no item of {figures.items_known:,} that may "
            f"not be used is left, none of the {figures.items_allowed:,} that may is missing.",
            highlight=False,
        )

    def wrong(self, figures: Figures) -> None:
        """Print what the check found."""
        found = figures.differences
        self._console.print(f"[bold red]Wrong:[/bold red] {len(found)} differences")
        for line in found[:DIFFERENCES_SHOWN]:
            self.say(f"  {line}")
        if len(found) > DIFFERENCES_SHOWN:
            self.say(f"  ... and {len(found) - DIFFERENCES_SHOWN} more")


class Bar:
    """One progress bar."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=total)

    def reached(self, done: int) -> None:
        """Show that *done* steps are done."""
        self._progress.update(self._task, completed=done)


def _counts(figures: Figures) -> Table:
    table = Table(title="What happened", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    largest = f"{figures.largest_account_items_purged:,} of the largest account"
    partial = f"{figures.objections_partial:,} to some products only"
    shown = (
        ("Accounts", figures.users_known, ""),
        (
            "  no reason against them",
            figures.users_eligible,
            _at_first(figures.users_eligible_before),
        ),
        ("Items", figures.items_known, "private messages not counted"),
        ("  allowed", figures.items_allowed, _at_first(figures.items_allowed_before)),
        ("  purged", figures.items_purged, largest),
        ("Objections", figures.objections_filed, partial),
        ("  withdrawn", figures.objections_withdrawn, "some then filed anew"),
        ("Turned out under age", figures.under_age, "accounts"),
        ("Items that came late", figures.late_items, "while people objected"),
        ("Items made non-public", figures.hidden_items, "by their authors"),
    )
    for name, count, note in shown:
        table.add_row(name, f"{count:,}", note)
    return table


def _at_first(count: int) -> str:
    return f"{count:,} before the objections"


def _latencies(figures: Figures) -> Table:
    table = Table(title="From an objection to ...", title_justify="left")
    table.add_column("")
    for heading in ("p50", "p99", "worst", "objections"):
        table.add_column(heading, justify="right")
    for name, each in figures.latencies.items():
        times = (_time(ms) for ms in (each.p50_ms, each.p99_ms, each.worst_ms))
        table.add_row(name, *times, f"{each.objections:,}")
    return table


def _time(time_ms: int) -> str:
    return f"{time_ms} ms" if time_ms < SECOND_MS else f"{time_ms / 1000:.1f} s"

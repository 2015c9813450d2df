"""`objections audit report`: what became of objections, for those who ask by law."""

import signal
import time
from pathlib import Path
from typing import Final

import click

from streams.commands.common import bootstrap_option, passing_line, read_settings
from streams.errors import UsageProblem

DAY_S: Final = 86_400
OVERDUE_HOURS: Final = 24.0
_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command()
@bootstrap_option
@click.option("--html", "html_path", metavar="FILE", type=_FILE, help="Write a page.")
@click.option("--csv", "csv_path", metavar="FILE", type=_FILE, help="Write a table.")
@click.option(
    "--since", metavar="TIME", help="RFC 3339, or a date in UTC; default: 30 days before --until."
)
@click.option("--until", metavar="TIME", help="Up to, and without, this time; default: now.")
@click.option(
    "--overdue-hours",
    default=OVERDUE_HOURS,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Named as overdue: what is open for longer.",
)
def report(
    bootstrap: str | None,
    html_path: Path | None,
    csv_path: Path | None,
    since: str | None,
    until: str | None,
    overdue_hours: float,
) -> None:
    """
    Report on the objections of a period: by channel and country, and how soon each was published;
    half, 99 % and longest delay to published, hidden and erased in each store; what is overdue, by
    receipt; and records that could not be read.

    All of it is computed from the topics.  --html writes a page that needs nothing else and prints,
    --csv a table; at least one is wanted.  Neither names a user; objections that are overdue are
    named by their ids.  Delays are those of receipts: an objection whose reach grew by later
    records has the times of the last of them.  Reads OBJECTIONS_STORES to know which stores only
    hide.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if html_path is None and csv_path is None:
        raise UsageProblem("neither --html nor --csv, expected one or both")
    until_ms = int(time.time() * 1000) if until is None else _instant_ms("--until", until)
    since_ms = until_ms - 30 * DAY_S * 1000 if since is None else _instant_ms("--since", since)
    if since_ms >= until_ms:
        raise UsageProblem("--since is not before --until, expected a period")
    for path in (html_path, csv_path):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageProblem(f"{path}: there is no such folder. Remedy: make it.")
    settings = read_settings(bootstrap)
    from streams.audit.report import report as make
    from streams.audit.report_files import html, table
    from streams.files.durable import write_durably

    with passing_line() as say:
        found = make(settings, since_ms, until_ms, overdue_hours * 3_600, say)
    for path, text in ((html_path, html(found)), (csv_path, table(found))):
        if path is None:
            continue
        try:
            write_durably(path.absolute(), text.encode())
        except OSError as error:
            raise UsageProblem(f"{path} cannot be written: {error}") from error
        click.echo(path)
    click.echo(
        f"{found.objections:,} objections, {found.withdrawals:,} withdrawals, "
        f"{len(found.overdue):,} overdue"
    )


def _instant_ms(option: str, text: str) -> int:
    from datetime import UTC, datetime

    from streams.core.times import to_ms

    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageProblem(_unreadable(option, text)) from error
    if found.tzinfo is None:
        if len(text) > len("2026-01-01"):
            raise UsageProblem(_unreadable(option, text))
        found = found.replace(tzinfo=UTC)
    return to_ms(found)


def _unreadable(option: str, text: str) -> str:
    return (
        f"{option} is {text!r}, expected a date (2026-04-15) or a time with its offset "
        "(2026-04-15T09:00:00Z)"
    )

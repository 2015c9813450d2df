"""`objections audit`: compares what a data store holds with what the topics say."""

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from streams.commands.common import bootstrap_option, read_settings
from streams.errors import CheckFailed, UsageProblem

if TYPE_CHECKING:
    from streams.audit.findings import Report

SHOW_AGAIN_S: Final = 0.2
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


@click.command()
@bootstrap_option
@click.option("--sink", "url", required=True, metavar="URL", help="The store, as in `subscribe`.")
@click.option(
    "--store",
    metavar="NAME",
    help="Its name in acknowledgements; else its own positions say how far it is.",
)
@click.option("--repair", is_flag=True, help="Mend what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(min=0),
    help="How many findings of each kind are named; all are counted, and mended.",
)
def audit(
    bootstrap: str | None,
    url: str,
    store: str | None,
    repair: bool,
    as_json: bool,
    limit: int,
) -> None:
    """
    Compare what a data store holds with the topics, beside whatever writes to it.

    \b
    forbidden  found in the store, and purged in the topics (the item, or its account)
    unknown    found in the store, and never in the topics
    outdated   found with other fields, or of another account, than the topic says
    missing    allowed by the topics, and not found
    memory     the store remembers another pair of the key than the topic's

    Exit status 1 when something forbidden or unknown was found, mended or not.  What the store has
    not acknowledged yet is no finding: `late` counts items that should go by it, `on their way`
    those that should come, `lag` the records behind.  With --store, places are named whose purges
    are hidden and, past the sink's schedule, not erased; bytes themselves are not looked for.
    """  # noqa: D301  (click wants the character)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if store is not None and not _NAME.fullmatch(store):
        text = f"--store is {store!r}, expected its name in acknowledgements, as in `subscribe`"
        raise UsageProblem(text)
    settings = read_settings(bootstrap)
    from streams.audit.run import Wanted
    from streams.audit.run import audit as run
    from streams.sinks.contents import AuditedSink
    from streams.sinks.urls import make_sink, place_of, shown

    place = place_of(url)
    if place is not None and not place.exists():
        text = f"{place} does not exist. Remedy: name the store that `subscribe` fills with --sink."
        raise UsageProblem(text)
    sink = make_sink(url)
    if not isinstance(sink, AuditedSink):
        text = f"the sink {shown(url)} cannot be audited: it does not show what it holds"
        raise UsageProblem(text)
    with _progress() as say:
        report = run(settings, sink, Wanted(shown(url), store, limit, repair), say)
    _print(report, as_json)
    if report.failed:
        mended = " (mended: see above)" if repair else ". Remedy: --repair"
        text = f"{report.failed:,} keys were in the store that must not be{mended}"
        raise CheckFailed(text)


def _print(report: "Report", as_json: bool) -> None:
    import msgspec

    from streams.audit.findings import last_line, lines_of

    if as_json:
        content = {**msgspec.to_builtins(report, enc_hook=str), "failed": report.failed}
        click.echo(msgspec.json.format(msgspec.json.encode(content), indent=2))
        return
    for line in lines_of(report):
        click.echo(line)
    click.echo(last_line(report))


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show a passing line, where there is a terminal."""
    import time

    shows, shown_s = sys.stderr.isatty(), 0.0

    def say(text: str) -> None:
        nonlocal shown_s
        if shows and time.monotonic() - shown_s > SHOW_AGAIN_S:
            shown_s = time.monotonic()
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)

    try:
        yield say
    finally:
        if shows:
            click.echo("\r\x1b[K", nl=False, err=True)

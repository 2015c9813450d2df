"""`objections subscribe`: follows the outputs into a data store."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from streams.commands.common import bootstrap_option, read_settings
from streams.errors import UsageProblem
from streams.serving import log_to_stderr
from streams.setting_values import STORE_TOPICS
from streams.sinks.urls import SINKS, make_eraser, make_sink

if TYPE_CHECKING:
    from streams.tracing import Spans

SERVICE: Final = "objections-subscribe"  # among others that send spans

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_FOLLOWABLE = tuple(name for name in STORE_TOPICS if name != "eligibility")


@click.command(
    epilog="Sinks: "
    + "; ".join(f"{scheme}: {kind.meaning}" for scheme, kind in SINKS.items())
    + ". Files: sqlite:///absolute/path or sqlite:relative/path."
)
@bootstrap_option
@click.option("--sink", "url", required=True, metavar="URL", help="The store to write to.")
@click.option(
    "--store",
    required=True,
    metavar="NAME",
    help="Its name in acknowledgements and receipts, as in OBJECTIONS_STORES.",
)
@click.option(
    "--topics",
    default="+".join(_FOLLOWABLE),
    show_default=True,
    metavar="TOPIC+TOPIC",
    help="What the store follows.",
)
@click.option("--group", metavar="GROUP", help="Consumer group.  [default: one of the store's own]")
@click.option(
    "--once", is_flag=True, help="End when the store holds all there was at the start, and said so."
)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file that is there while the store is ready: at the log's end of its start, or beyond.",
)
def subscribe(
    bootstrap: str | None,
    url: str,
    store: str,
    topics: str,
    group: str | None,
    once: bool,
    ready_file: Path | None,
) -> None:
    """
    Follow the outputs into a data store, and acknowledge what it has applied, until Ctrl-C.

    Several processes with the same --store share the partitions.  A new store is filled from the
    beginning; one that was away too long, or went back to a backup, is compared with all of it.
    """
    names = tuple(part.strip() for part in topics.split("+"))
    _check(store, names)
    settings = read_settings(bootstrap)
    from streams.subscriber import Subscriber
    from streams.tracing import open_spans

    log_to_stderr()
    spans = open_spans(SERVICE, os.environ)
    with _shown(store) as show, _flag(ready_file) as mark, _closed_after(spans):

        def progress(found: Any) -> None:
            show(found)
            mark(found.ready)

        subscriber = Subscriber(
            make_sink(url),
            store,
            settings=settings,
            topics=names,
            group=group,
            eraser=make_eraser(url),
            progress=progress,
            spans=spans,
        )
        _stop_by_signals(subscriber.stop)
        subscriber.run(once=once)


def _check(store: str, names: tuple[str, ...]) -> None:
    if not _NAME.fullmatch(store):
        message = (
            f"--store is {store!r}, expected a name of letters, digits, dots, dashes and "
            "underscores, as in OBJECTIONS_STORES"
        )
        raise UsageProblem(message)
    if not set(names) <= set(_FOLLOWABLE) or len(set(names)) < len(names):
        message = f"--topics is {'+'.join(names)!r}, expected {' or '.join(_FOLLOWABLE)}, or both"
        raise UsageProblem(message)


def _stop_by_signals(stop: Callable[[], None]) -> None:
    """Let Ctrl-C and SIGTERM end it in order; a second one ends it at once."""

    def asked(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, asked)


@contextmanager
def _closed_after(spans: "Spans | None") -> Iterator[None]:
    """Send the spans that are left, in the end."""
    try:
        yield
    finally:
        if spans is not None:
            spans.close()


@contextmanager
def _flag(path: Path | None) -> Iterator[Callable[[bool], None]]:
    """Keep the file at *path* there while it is ready."""
    if path is None:
        yield lambda _: None
        return
    path.unlink(missing_ok=True)

    def mark(ready: bool) -> None:
        if ready:
            path.touch()
        else:
            path.unlink(missing_ok=True)

    try:
        yield mark
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _shown(store: str) -> Iterator[Callable[[Any], None]]:
    """Show a bar while it catches up, where there is a terminal, and lines that stay."""
    said_ready = False

    def say(found: Any) -> None:
        nonlocal said_ready
        if found.ready != said_ready and found.places:
            said_ready = found.ready
            text = "is ready" if said_ready else "catches up"
            click.echo(
                f"{store} {text}: {found.places} partitions, {found.applied} changes", err=True
            )

    if not sys.stderr.isatty():
        yield say
        return
    try:
        from rich.progress import Progress
    except ImportError:
        yield say
        return
    with Progress(transient=True) as bar:
        task = bar.add_task(f"{store} catches up", total=None)

        def show(found: Any) -> None:
            bar.update(task, completed=found.done, total=found.total, visible=not found.ready)
            say(found)

        yield show

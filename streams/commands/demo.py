"""`objections demo`: see objections purge items from two stores, on a real Kafka."""

import json
import os
import signal
from pathlib import Path

import click

from streams.commands.common import bootstrap_option
from streams.errors import UsageProblem


@click.command()
@bootstrap_option
@click.option(
    "--partitions",
    type=click.IntRange(min=1),
    help="Partitions of the topics.  [default: 4, or as many as topics already there have]",
)
@click.option("--keep", is_flag=True, help="Leave it all running until Ctrl-C; say where it is.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures to this file too.",
)
def demo(bootstrap: str | None, partitions: int | None, keep: bool, json_path: Path | None) -> None:
    """
    See objections purge items from two data stores, on a real Kafka, and have it proven.

    Real activity is replayed, people and objections are made up.  Without --bootstrap and
    OBJECTIONS_BOOTSTRAP a Kafka is started on this machine; the first run fetches it.  On a running
    Kafka all happens in new topics, deleted at the end, unless OBJECTIONS_TOPIC_PREFIX is set.
    Takes less than a minute.  Exit status 1 when something is in a store that must not be, or
    missing.
    """
    try:
        import deltalake  # noqa: F401
        import pyarrow.parquet  # noqa: F401
        from rich.console import Console
    except ImportError as error:
        message = (
            f"the demo needs more than the service itself ({error.name} is missing): "
            "pip install 'objection-streams[demo]'"
        )
        raise UsageProblem(message) from error
    from streams.demo.figures import Figures
    from streams.demo.report import Report
    from streams.demo.run import Options, run_demo

    def write(figures: Figures) -> None:
        if json_path is not None:
            json_path.write_text(json.dumps(figures.as_json(), indent=2) + "\n", encoding="utf-8")

    # A terminal's Ctrl-C and a supervisor's SIGTERM mean the same: stop in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bootstrap = bootstrap or os.environ.get("OBJECTIONS_BOOTSTRAP", "").strip() or None
    run_demo(Options(bootstrap, partitions, keep), Report(Console()), write)

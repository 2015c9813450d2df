"""`objections worker`: decides on users and items, and publishes it."""

import click

from streams.commands.common import bootstrap_option, read_settings


@click.command()
@bootstrap_option
def worker(bootstrap: str | None) -> None:
    """
    Decide on users and items, and publish it, until Ctrl-C or SIGTERM.

    Several workers of one group share the partitions.  Settings are OBJECTIONS_ variables; each
    worker needs a folder of its own, OBJECTIONS_STATE_DIR.
    """
    settings = read_settings(bootstrap)
    from streams.worker.run import run_worker

    run_worker(settings)

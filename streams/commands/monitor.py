"""`objections monitor`: how late propagation is, in all partitions, worker or none."""

import json
import time

import click

from streams.commands.common import bootstrap_option, read_settings
from streams.errors import CheckFailed, UsageProblem


@click.command()
@bootstrap_option
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Where to serve; else OBJECTIONS_HTTP, else 127.0.0.1:6066, as the worker does.",
)
@click.option("--once", is_flag=True, help="Look once, print a table, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print JSON, for machines.")
@click.option(
    "--max-age-s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="With --once: exit status 1 when anything waits longer, to be published or for a store.",
)
def monitor(
    bootstrap: str | None,
    http: str | None,
    once: bool,
    as_json: bool,
    max_age_s: float | None,
) -> None:
    """
    Tell how late propagation is, for all partitions, owned by a live worker or not.

    Serves /metrics, /healthz and /readyz until Ctrl-C: lag and age of the oldest record that is not
    published, of each input and partition; age of the oldest output that a store of
    OBJECTIONS_STORES has not acknowledged.  It joins no group, and while Kafka is away what was
    known last grows on.  It is told the workers' OBJECTIONS_GROUP, _TOPIC_PREFIX and _STORES.
    """
    if not once and (as_json or max_age_s is not None):
        raise UsageProblem("--json and --max-age-s go with --once: the server tells by /metrics")
    settings = read_settings(bootstrap, http)
    if not once:
        from streams.monitor.serve import run_monitor

        run_monitor(settings)
        return
    from streams.monitor import table
    from streams.monitor.once import look_once

    sight = look_once(settings, lambda text: click.echo(text, err=True))
    now_ms = int(time.time() * 1000)
    if as_json:
        click.echo(json.dumps(table.as_json(sight, now_ms)))
    else:
        click.echo("\n".join(table.lines(sight, now_ms)))
    if max_age_s is not None and (late := table.waiting(sight, now_ms, max_age_s)):
        raise CheckFailed("\n".join(late))

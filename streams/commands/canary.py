"""`objections canary`: a made-up account objects all day, and every store's way is measured."""

import click

from streams.commands.common import bootstrap_option, read_settings


@click.command()
@bootstrap_option
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Where to serve; else OBJECTIONS_HTTP, else 127.0.0.1:6066, as the worker does.",
)
@click.option(
    "--every-s",
    type=click.FloatRange(min=1, max=300),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Pause between two objections; each is in the next partition.",
)
def canary(bootstrap: str | None, http: str | None, every_s: float) -> None:
    """
    Measure the whole way from an objection to every data store, all day.

    Lets a made-up account be allowed and object, and waits until every store of OBJECTIONS_STORES
    has acknowledged that it hides it; then the next one, in the next partition.  Its ids begin
    with objections-canary-; they are new every day, and deleted at the end.  Serves /metrics,
    /healthz and /readyz until Ctrl-C.  It is told the workers' OBJECTIONS_TOPIC_PREFIX, _GROUP,
    _STORES, _POLICY and _SUBJECT_KEY.
    """
    settings = read_settings(bootstrap, http)
    from streams.canary.serve import run_canary

    run_canary(settings, every_s)

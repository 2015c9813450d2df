"""`objections intake`: the form to object with, and its API."""

from dataclasses import replace

import click

from streams.commands.common import bootstrap_option, read_settings
from streams.errors import SettingsError
from streams.setting_values import address


@click.command()
@bootstrap_option
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Where to serve the form; else OBJECTIONS_INTAKE_HTTP, else 127.0.0.1:6067.",
)
def intake(bootstrap: str | None, http: str | None) -> None:
    """
    Serve the form to object with, its API, and receipts.

    The signed link of a notice says who objects: OBJECTIONS_INTAKE_KEY signs it, and `objections
    notices --form URL` makes links.  An objection is confirmed only once Kafka has it on all
    replicas.  Receipts are followed in `receipts`, into a folder of OBJECTIONS_STATE_DIR.
    /metrics, /healthz and /readyz are on OBJECTIONS_HTTP, away from people.
    """
    settings = read_settings(bootstrap)
    if http is not None:
        try:
            settings = replace(settings, intake_http=address(http))
        except ValueError as error:
            raise SettingsError([f"--http is {http!r}, expected {error}."]) from error
    from streams.intake.run import run_intake

    run_intake(settings)

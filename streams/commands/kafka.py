"""`objections kafka`: a real Kafka on this machine for development, from pip packages alone."""

import signal
import tempfile
from pathlib import Path

import click

from streams.commands.common import bootstrap_option, read_settings
from streams.errors import UsageProblem
from streams.kafka.local import HOST, LocalKafka
from streams.setting_values import address


@click.command
@bootstrap_option
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    help=f"Short for --bootstrap {HOST}:PORT.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the data here; given again, it is found again. Default: a new temporary folder.",
)
def kafka(bootstrap: str | None, port: int | None, folder: Path | None) -> None:
    """
    Run a local Kafka for development, until Ctrl-C.

    Its data folder and, once it answers, its address are printed. It listens on this machine only.
    The first run fetches Apache Kafka; later ones need no network.
    """
    port = _port(bootstrap, port)
    # A terminal's Ctrl-C and a supervisor's SIGTERM mean the same: stop in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="objections-kafka-"))
        click.echo(f"data: {folder} (temporary; kept when Kafka stops, delete it at will)")
    else:
        click.echo(f"data: {folder.absolute()} (kept when Kafka stops)")
    with LocalKafka(folder, port=port) as local:
        click.echo(f"ready: {local.bootstrap} (Ctrl-C stops it)")
        try:
            local.wait()
        except KeyboardInterrupt:
            click.echo("stopping ...")
    click.echo("stopped")


def _port(bootstrap: str | None, port: int | None) -> int:
    """
    Return where to listen.

    Raises UsageProblem when an address is asked for that is not this machine's own.
    """
    if port is not None:
        if bootstrap is not None:
            message = "--port and --bootstrap both say where to listen; expected one of them."
            raise UsageProblem(message)
        return port
    wanted = read_settings(bootstrap).bootstrap
    host, wanted_port = address(wanted.partition(",")[0])
    if "," in wanted or host not in {HOST, "localhost"}:
        message = (
            f"the bootstrap address is {wanted}, expected {HOST}:PORT: a local Kafka listens on "
            "this machine only; give --port to start one beside the Kafka you have set."
        )
        raise UsageProblem(message)
    return wanted_port

"""What the commands under `objections bench` share: options, a Kafka, progress, the last word."""

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from streams.commands.common import read_settings
from streams.errors import CheckFailed, UsageProblem

Command = TypeVar("Command", bound=Callable[..., Any])


class Rates(click.ParamType):
    """Events per second, several separated by commas."""

    name = "rates"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            rates = tuple(float(text) for text in str(value).split(","))
        except ValueError:
            rates = ()
        if not rates or min(rates) <= 0:
            self.fail(f"{value!r}, expected events per second as in 200,2000", param, ctx)
        return rates


def kafka_options(command: Command) -> Command:
    """Give *command* what all need to run on a Kafka."""
    for option in (
        click.option(
            "--json",
            "json_path",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write every run, the medians and the ratios to this file.",
        ),
        click.option(
            "--kafka-warmup",
            type=click.FloatRange(min=0),
            default=40.0,
            show_default=True,
            help="Seconds of other load on a Kafka started here, until its Java is compiled.",
        ),
        click.option("--partitions", type=click.IntRange(1, 256), default=4, show_default=True),
        click.option(
            "--bootstrap",
            metavar="HOST:PORT",
            help="Kafka to run on; else one is started, and ended afterwards. "
            "Where OBJECTIONS_KAFKA_ variables say how to connect, ours alone can.",
        ),
    ):
        command = option(command)
    return command


def repeats_option(default: int) -> Callable[[Command], Command]:
    """Return the option `--repeats`."""
    return click.option(
        "--repeats",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        help="Runs of each system, in turn.",
    )


def offered_options(rates: str, seconds: float, warmup: float) -> Callable[[Command], Command]:
    """Return the options of what is offered at fixed rates, with these defaults."""

    def add(command: Command) -> Command:
        for option in (
            click.option(
                "--warmup",
                type=click.FloatRange(min=0),
                default=warmup,
                show_default=True,
                help="Seconds at the beginning whose records are not measured.",
            ),
            click.option(
                "--seconds",
                type=click.FloatRange(min=1),
                default=seconds,
                show_default=True,
                help="How long each rate is offered, warm-up included.",
            ),
            click.option(
                "--rates",
                type=Rates(),
                default=rates,
                show_default=True,
                help="Events offered per second, one run for each.",
            ),
        ):
            command = option(command)
        return command

    return add


def check_warmup(warmup_s: float, seconds: float) -> None:
    """Raise UsageProblem where nothing would be left to be measured."""
    if warmup_s >= seconds:
        message = f"--warmup is {warmup_s:g} s, expected less than --seconds ({seconds:g} s)."
        raise UsageProblem(message)


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in *text*, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def check_psutil() -> None:
    """Raise UsageProblem where processor time cannot be read."""
    if find_spec("psutil") is None:
        message = (
            "processor time and memory are read with psutil, which is not installed: "
            "pip install psutil, or objection-streams[dev]."
        )
        raise UsageProblem(message)


Say = Callable[[str, str], None]


@contextmanager
def running_kafka(
    bootstrap: str | None, partitions: int, warmup_s: float, say: Say
) -> Iterator[tuple[str, Path]]:
    """Return a Kafka's address and a folder; what is started and made ends with it."""
    from streams.bench.connection import kafka_of_our_own
    from streams.bench.run import fresh_place
    from streams.bench.warmup import warm_up
    from streams.kafka.local import LocalKafka

    # A terminal's Ctrl-C and a supervisor's SIGTERM mean the same: stop everything.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(
        prefix="objections-bench-", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        if bootstrap is not None:
            yield read_settings(bootstrap).bootstrap, folder
            return
        say("starting Kafka", "")
        with kafka_of_our_own(), LocalKafka(folder / "kafka", c1_only=False) as kafka:
            if warmup_s:
                with fresh_place(kafka.bootstrap, partitions, folder, "warm-up") as place:
                    warm_up(place, warmup_s, lambda text: say(text, ""))
            yield kafka.bootstrap, folder


@contextmanager
def progress() -> Iterator[Say]:
    """Show a passing line, where there is a terminal, and lines that stay."""
    shows = sys.stderr.isatty()

    def say(passing: str, stays: str = "") -> None:
        if shows:
            click.echo(f"\r\x1b[K{passing}", nl=False, err=True)
        if stays:
            click.echo(stays, err=True)

    try:
        yield say
    finally:
        say("")


def counted(say: Say, repeat: int, repeats: int) -> Callable[[str], None]:
    """Return a *say* for passing lines that tells which repeat it is."""
    return lambda text: say(f"{repeat + 1}/{repeats} {text}", "")


def print_all(lines: list[str], json_path: Path | None, content: dict[str, Any]) -> None:
    """Print *lines*; write *content* where a file is wanted."""
    for line in lines:
        click.echo(line)
    if json_path is not None:
        encoded = msgspec.json.format(msgspec.json.encode(content), indent=2)
        json_path.write_bytes(encoded + b"\n")


def check(differences: dict[str, tuple[str, ...]], unfinished: Sequence[str] = ()) -> None:
    """Say whether all have come to the right end; raises CheckFailed if not."""
    found = [f"{name}: {line}" for name, lines in differences.items() for line in lines]
    if found:
        message = "\n".join(["what stands in the end differs from what the input says:", *found])
        raise CheckFailed(message)
    if unfinished:
        click.echo(f"Not compared, as it did not come to an end: {', '.join(unfinished)}.")
    if len(differences) > len(unfinished):
        what = "the others" if unfinished else "all"
        click.echo(f"What {what} allow in the end is what the pure core computes from the input.")

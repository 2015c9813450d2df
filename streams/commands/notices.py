"""`objections notices`: who has still to be told, for whoever sends the notices."""

import csv
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from streams.commands.common import bootstrap_option, passing_line, read_settings
from streams.errors import UsageProblem

if TYPE_CHECKING:
    from streams.notices.owed import Owed
    from streams.settings import Settings

Row = dict[str, str]

COLUMNS: Final = ("user_id", "country")
DAY_S: Final = 86_400


@click.command()
@bootstrap_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write there, whole or not at all, for its owner's eyes only; else standard output.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl"]),
    help="By default jsonl, and csv where FILE ends in .csv.",
)
@click.option(
    "--form",
    "form_url",
    metavar="URL",
    help="Where people reach `objections intake`: adds a column link, signed for each user.",
)
@click.option(
    "--valid-days",
    type=click.IntRange(1, 3_660),
    default=366,
    show_default=True,
    help="With --form: how long the links hold.",
)
def notices(
    bootstrap: str | None,
    output: Path | None,
    form: str | None,
    form_url: str | None,
    valid_days: int,
) -> None:
    """
    List who has still to be told: open accounts in covered countries without a notice.

    Columns are user_id and country (of the highest assurance level).  Covered is what
    OBJECTIONS_POLICY covers; a policy with `notices_from` counts no earlier delivery.  Deliveries
    that no worker has read yet count.  Of users whose country is unknown only the number is told.
    Once a notice is delivered, send it to the topic `notices`; the window runs from there.
    With --form OBJECTIONS_INTAKE_KEY signs the links; who has one may object for its user.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = read_settings(bootstrap)
    from streams.notices.owed import Export
    from streams.policy_file import policy_of

    is_csv = form == "csv" or (form is None and output is not None and output.suffix == ".csv")
    now_ms = int((time.time() + settings.clock_offset_s) * 1000)
    policy = policy_of(settings.policy)
    row_of = _plain if form_url is None else _linking(settings, form_url, valid_days)
    columns = COLUMNS if form_url is None else (*COLUMNS, "link")
    with passing_line() as say, _file(output) as file:
        export = Export(settings, policy, now_ms, say)
        write = _csv_writer(file, columns) if is_csv else _jsonl_writer(file)
        for each in export.run():
            write(row_of(each))
    count = export.count
    click.echo(f"{count.owed:,} users have still to be told", err=True)
    if count.unknown:
        click.echo(
            f"of {count.unknown:,} more no country is known: they are not listed, and not eligible",
            err=True,
        )
    if count.not_taken_in:
        click.echo(
            f"{count.not_taken_in:,} records of ages and notices wait for a worker: who is new in "
            "them is listed once one has read them",
            err=True,
        )


def _plain(owed: "Owed") -> Row:
    return {"user_id": owed.user_id, "country": owed.country}


def _linking(settings: "Settings", form_url: str, valid_days: int) -> "Callable[[Owed], Row]":
    """Return what makes rows with links; raises UsageProblem where they cannot be made."""
    if not form_url.startswith(("https://", "http://")):
        text = f"--form is {form_url!r}, expected https://..., where people reach the form"
        raise UsageProblem(text)
    if not settings.intake_key:
        text = "--form needs OBJECTIONS_INTAKE_KEY, the one that `objections intake` is given"
        raise UsageProblem(text)
    from streams.intake.tokens import Signer

    signer = Signer(settings.intake_key)
    expires_s = int(time.time()) + valid_days * DAY_S

    def linked(owed: "Owed") -> Row:
        link = f"{form_url.rstrip('/')}/o/{signer.link_token(owed.user_id, expires_s)}"
        return {**_plain(owed), "link": link}

    return linked


def _csv_writer(file: IO[str], columns: Sequence[str]) -> Callable[[Row], None]:
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    return writer.writerow


def _jsonl_writer(file: IO[str]) -> Callable[[Row], None]:
    import msgspec

    encode = msgspec.json.Encoder().encode

    def write(row: Row) -> None:
        file.write(encode(row).decode() + "\n")

    return write


@contextmanager
def _file(path: Path | None) -> Iterator[IO[str]]:
    """Give a file that is renamed to *path* once all is in it; standard output for None."""
    if path is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    from streams.files.durable import durable_file

    with ExitStack() as stack:
        try:
            file = stack.enter_context(durable_file(path, mode=0o600))
        except OSError as error:
            text = f"{path} cannot be written: {error}. Remedy: name another file with -o."
            raise UsageProblem(text) from error
        words = TextIOWrapper(file, encoding="utf-8", newline="")
        yield words
        words.detach()  # it has flushed, and the file is not its to close

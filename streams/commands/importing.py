"""`objections import FILE…`: brings in objections, ages, notices and content from files."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from streams.commands.common import bootstrap_option, read_settings
from streams.commands.import_job import Job
from streams.commands.import_progress import shown
from streams.errors import CheckFailed, UsageProblem

if TYPE_CHECKING:
    from streams.importing.mapping import Rules
    from streams.importing.tables import Input, Table

STANDARD_NAME: Final = "-"
STANDARD_REJECTS: Final = "standard-input"
SHOWN_MISSING: Final = 10
WAIT_S: Final = 30.0
TOPICS: Final = ("objections", "account-ages", "notices", "account-links", "content")


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@bootstrap_option
@click.option(
    "--topic",
    type=click.Choice(TOPICS),
    help="What the rows are.  [default: as the file's name or its columns tell]",
)
@click.option(
    "--format",
    "format_said",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    help="What the file is, where its name does not tell.",
)
@click.option("--delimiter", help="Between the cells of a CSV.  [default: `,`; a tab for .tsv]")
@click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="The column that holds a field, where its name differs: `--map user_id=UserID`.",
)
@click.option(
    "--set",
    "constants",
    multiple=True,
    metavar="FIELD=VALUE",
    help="For rows that have nothing there: `--set action=filed`. Objections without a channel "
    "get `import`.",
)
@click.option(
    "--id-from",
    metavar="COLUMN,COLUMN",
    help="Make an id for rows without one, of the user's id and these columns: the same each time, "
    "so that importing twice doubles nothing.",
)
@click.option(
    "--list-separator",
    default=";",
    show_default=True,
    help="Between the products in one cell of CSV or Parquet.",
)
@click.option(
    "--utc-offset",
    metavar="+HH:MM",
    default="",
    help="For times that have none; else these rows are refused.",
)
@click.option("--dry-run", is_flag=True, help="Check all rows, write nothing, ask no Kafka.")
@click.option(
    "--rate",
    type=click.FloatRange(min=1),
    metavar="ROWS",
    help="Rows a second, at most.  [default: as fast as the workers keep up beside live traffic]",
)
@click.option(
    "--full-speed", is_flag=True, help="As fast as Kafka takes it: content waits meanwhile."
)
@click.option(
    "--rejects",
    "rejects_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where refused rows go.  [default: FILE.rejected.jsonl]",
)
@click.option(
    "--resume/--restart",
    default=True,
    help="Go on where an interrupted import has stopped, or begin anew.  [default: --resume]",
)
@click.option("--verify", "verifying", is_flag=True, help="Send nothing: tell what has arrived.")
@click.option(
    "--missing",
    "missing_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all rows without a receipt to this file, as JSONL.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=WAIT_S,
    show_default=True,
    metavar="SECONDS",
    help="Wait so long, at most, for the workers to be done with it. 0: do not verify at the end.",
)
def import_command(files: tuple[str, ...], bootstrap: str | None, **options: Any) -> None:
    """
    Bring records that exist in files into the service.

    FILE is CSV, JSONL or Parquet, also .gz and .zst, or `-` for standard input (packed or not).
    Every row is judged by the worker's own rules; a refused one never stops its neighbours, and
    goes to FILE.rejected.jsonl with its line and the reason.  FILE.import.json keeps how far Kafka
    has acknowledged it, so that the next run goes on: after Ctrl-C no row is sent twice, after
    kill -9 at most 50,000, which changes nothing, as ids are the same.

    \b
    objections import --dry-run old-forms.csv --topic objections --map user_id=UserID
    objections import old-forms.csv --topic objections --map user_id=UserID \\
        --set action=filed --id-from FormNumber
    objections import --verify old-forms.csv ...    # every row has a receipt, or is named

    At the end it waits for the workers: every objection has its receipt then, or is named as
    missing.  Exit status 1: rows were refused, or something is missing.
    """  # noqa: D301  (click wants the character)
    sources, rules_for = _checked(files, options)
    failures: list[str] = []
    with shown() as show, _uncollected():
        for source in sources:
            job = Job(source, rules_for, options, show)
            if options["dry_run"]:
                job.dry_run()
            elif options["verifying"]:
                job.verify(read_settings(bootstrap))
            else:
                job.bring_in(read_settings(bootstrap))
            failures += job.failures
    if failures:
        raise CheckFailed("\n".join(failures))


def _checked(
    files: Sequence[str], options: dict[str, Any]
) -> "tuple[list[Input], Callable[[Table], Rules]]":
    """Return what is to be read and how; raises UsageProblem."""
    for one, other in (
        ("dry_run", "verifying"),
        ("rate", "full_speed"),
        ("dry_run", "missing_path"),
    ):
        if options[one] and options[other]:
            names = {"verifying": "verify", "missing_path": "missing"}
            message = (
                f"--{names.get(one, one).replace('_', '-')} does not go with "
                f"--{names.get(other, other).replace('_', '-')}."
            )
            raise UsageProblem(message)
    delimiter = options["delimiter"]
    if delimiter is not None and len(delimiter) != 1:
        message = f"--delimiter is {delimiter!r}, expected one character."
        raise UsageProblem(message)
    if not options["list_separator"]:
        message = "--list-separator is empty, expected what stands between products."
        raise UsageProblem(message)
    several = len(set(files)) < len(files) or (len(files) > 1 and options["rejects_path"])
    if several or (len(files) > 1 and options["missing_path"]):
        message = "--rejects and --missing are for one FILE, and each FILE is named once."
        raise UsageProblem(message)
    from streams.importing.fields import guess_topic
    from streams.importing.mapping import Rules
    from streams.importing.tables import input_of

    columns = _pairs("--map", options["mapped"])
    constants = _pairs("--set", options["constants"])
    id_from = [each.strip() for each in (options["id_from"] or "").split(",") if each.strip()]
    sources = [input_of(Path(each), options["format_said"], delimiter) for each in files]

    def rules_for(table: "Table") -> "Rules":
        there = {field for field, column in columns.items() if column in table.names}
        topic = options["topic"] or guess_topic(table.shown, there | set(table.names))
        return Rules(
            topic=topic,
            columns=columns,
            constants=constants,
            id_from=id_from,
            list_separator=options["list_separator"],
            utc_offset=options["utc_offset"],
        )

    return sources, rules_for


@contextmanager
def _uncollected() -> Iterator[None]:
    """Spare Python's collector the millions of rows, none of which is in a cycle."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        field, sign, value = each.partition("=")
        if not sign or not field or not value or field in found:
            message = (
                f"{option} is {each!r}, expected FIELD={option[2:].upper()}, once for a field."
            )
            raise UsageProblem(message)
        found[field] = value
    return found

"""`objections import FILE…`: brings in objections, ages, notices and content from files."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from streams.commands.common import bootstrap_option, read_settings
from streams.commands.import_progress import Shown, shown
from streams.errors import CheckFailed, UsageProblem

if TYPE_CHECKING:
    from streams.importing.expected import Expected, Missing
    from streams.importing.mapping import Rules
    from streams.importing.run import Done
    from streams.importing.tables import Input, Table
    from streams.settings import Settings

STANDARD_NAME: Final = "-"
STANDARD_REJECTS: Final = "standard-input"
SHOWN_MISSING: Final = 10
WAIT_S: Final = 30.0
TOPICS: Final = ("objections", "account-ages", "notices", "content")


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
            job = _Job(source, rules_for, options, show)
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


class _Job:
    """What is done with one file; `failures` are lines for the end."""

    def __init__(
        self,
        source: "Input",
        rules_for: "Callable[[Table], Rules]",
        options: dict[str, Any],
        show: Shown,
    ) -> None:
        self._source = source
        self._rules_for = rules_for
        self._options = options
        self._show = show
        self.failures: list[str] = []

    def dry_run(self) -> None:
        """Judge all, write nothing but a file of refused rows that was asked for."""
        from streams.importing import run

        with self._said_rejects() as rejects:
            done = run.read_only(self._source, self._rules_for, self._show, rejects)
        name, refused = self._source.shown, done.tally.rows
        self._tell_refused(done, f"{done.rules.topic} in {name}")
        good = done.rows - refused
        self._say(f"{name}: {good:,} of {done.rows:,} rows are good {done.rules.topic}.")

    def verify(self, settings: "Settings") -> None:
        """Tell what has arrived."""
        from streams.importing import run
        from streams.importing.expected import Expected

        with Expected() as expected, self._said_rejects() as rejects:
            done = run.read_only(self._source, self._rules_for, self._show, rejects, expected)
            self._tell_refused(done, "rows that no worker would take")
            self._verify(settings, done, expected, at_end=False)

    def bring_in(self, settings: "Settings") -> None:
        """Send what is not sent yet, and see it arrive."""
        from streams.importing import run
        from streams.importing.expected import Expected
        from streams.importing.interrupts import Interrupts
        from streams.importing.rejects import Rejects

        interrupts = Interrupts()
        interrupts.install()
        options = self._options
        with Expected() as expected:
            done = run.Import(
                settings,
                self._source,
                self._rules_for,
                speed=run.Speed(options["rate"], options["full_speed"]),
                restart=not options["resume"],
                rejects=Rejects(self._rejects_path),
                expected=expected if options["wait_s"] else None,
                interrupts=interrupts,
                show=self._show,
            ).run()
            self._tell_done(done)
            self._tell_refused(done, f"they are in {self._rejects_path}")
            if options["wait_s"]:
                self._verify(settings, done, expected, at_end=True)

    @property
    def _rejects_path(self) -> Path:
        from streams.importing.rejects import SUFFIX

        said: Path | None = self._options["rejects_path"]
        path = self._source.path
        name = STANDARD_REJECTS if path.name == STANDARD_NAME else path.name
        return said or path.with_name(name + SUFFIX)

    def _said_rejects(self) -> Any:
        """Return where refused rows go if they go anywhere, for `with`."""
        from contextlib import closing, nullcontext

        from streams.importing.rejects import Rejects

        said = self._options["rejects_path"]
        return nullcontext() if said is None else closing(Rejects(said))

    def _tell_done(self, done: "Done") -> None:
        name, topic = self._source.shown, done.rules.topic
        if done.went_on_after:
            self._say(f"{name}: went on after row {done.went_on_after:,}.")
        if not done.sent and done.went_on_after:
            self._say(f"{name}: was imported before, nothing was left to send.")
            return
        new = done.rows - done.went_on_after
        rate = f", {new / done.took_s:,.0f} rows/s" if done.took_s > 0.1 else ""
        self._say(
            f"{name}: {done.sent:,} of {new:,} rows sent to {topic} in {done.took_s:.1f} s{rate}."
        )

    def _tell_refused(self, done: "Done", where: str) -> None:
        for line in done.tally.table():
            self._say(line)
        doubtful = done.tally.doubtful
        if doubtful.rows:
            lines = ", ".join(map(str, doubtful.lines))
            self._say(
                f"{doubtful.rows:,} rows name products that are not known: such an objection "
                f"covers all products (lines {lines}{', …' if doubtful.rows > 5 else ''})."
            )
        if done.tally.rows:
            self.failures.append(
                f"{self._source.shown}: {done.tally.rows:,} of {done.rows:,} rows were refused: "
                f"{where}."
            )

    def _verify(
        self, settings: "Settings", done: "Done", expected: "Expected", *, at_end: bool
    ) -> None:
        from streams.importing.cluster import Cluster

        cluster = Cluster(settings)
        topic = cluster.topic(done.rules.topic)
        if at_end and not cluster.members():
            self._say(
                f"No worker of group {settings.group} is running: what is imported waits. Look "
                "again, once one is, with --verify."
            )
            return
        wait_s = self._options["wait_s"] if at_end else 0.0
        if done.rules.topic == "objections":
            self._verify_receipts(settings, expected, wait_s)
            return
        self._verify_ends(cluster, done, topic, wait_s)

    def _verify_receipts(self, settings: "Settings", expected: "Expected", wait_s: float) -> None:
        from streams.importing.verifying import missing_receipts

        with missing_receipts(settings, expected, wait_s, self._show.text) as missing:
            count = self._tell_missing(missing)
        if count:
            self.failures.append(
                f"{self._source.shown}: {count:,} of {expected.rows:,} objections have no receipt: "
                "they were not imported, or no worker has come to them yet."
            )
        else:
            self._say(f"{self._source.shown}: all {expected.rows:,} objections have a receipt.")

    def _tell_missing(self, missing: "Sequence[Missing] | Any") -> int:
        import msgspec

        path: Path | None = self._options["missing_path"]
        count = 0
        try:
            with path.open("wb") if path is not None else _nowhere() as file:
                for count, (line, key) in enumerate(missing, 1):
                    if count <= SHOWN_MISSING:
                        self._say(f"missing: line {line}, {key}")
                    if file is not None:
                        file.write(msgspec.json.encode({"line": line, "receipt": key}) + b"\n")
        except OSError as error:
            message = f"{path} cannot be written: {error}"
            raise UsageProblem(message) from error
        if count > SHOWN_MISSING:
            where = "all with --missing FILE" if path is None else f"all are in {path}"
            self._say(f"… and {count - SHOWN_MISSING:,} more; {where}")
        return count

    def _verify_ends(self, cluster: Any, done: "Done", topic: Any, wait_s: float) -> None:
        from streams.importing import place as places
        from streams.importing.verifying import unread

        name = self._source.shown
        place = done.place
        if place is None and self._source.path.name != STANDARD_NAME:
            place = places.read(places.beside(self._source.path))
        if place is None or not place.finished or place.topic != topic:
            self.failures.append(
                f"{name}: {done.rules.topic} have no receipts, and no finished import of this file "
                f"into {topic.name} is known ({places.beside(self._source.path)}), so nobody can "
                "tell. Remedy: import it."
            )
            return
        ends = {(done.rules.topic, number): end for number, end in enumerate(place.ends)}
        left = unread(cluster, ends, wait_s)
        if left:
            self.failures.append(f"{name}: the workers have still {left:,} records to read.")
        else:
            self._say(f"{name}: the workers are done with all {done.rows:,} rows.")

    def _say(self, text: str) -> None:
        self._show.clear()
        click.echo(text)


def _nowhere() -> Any:
    from contextlib import nullcontext

    return nullcontext()

"""What `objections import` does with one file, and says about it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from streams.commands.import_progress import Shown
from streams.errors import UsageProblem

if TYPE_CHECKING:
    from streams.importing.cluster import Cluster
    from streams.importing.expected import Expected, Missing
    from streams.importing.mapping import Rules
    from streams.importing.run import Done
    from streams.importing.tables import Input, Table
    from streams.settings import Settings

STANDARD_NAME: Final = "-"
STANDARD_REJECTS: Final = "standard-input"
SHOWN_MISSING: Final = 10


class Job:
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

        with Expected(settings.subjects()) as expected, self._said_rejects() as rejects:
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
        with Expected(settings.subjects()) as expected:
            importing = run.Import(
                settings,
                self._source,
                self._rules_for,
                speed=run.Speed(options["rate"], options["full_speed"]),
                restart=not options["resume"],
                rejects=Rejects(self._rejects_path),
                expected=expected if options["wait_s"] else None,
                interrupts=interrupts,
                show=self._show,
            )
            try:
                done = importing.run()
            except KeyboardInterrupt:
                self._say(self._interrupted_text(importing.acknowledged))
                raise
            self._tell_done(done)
            self._tell_refused(done, f"they are in {self._rejects_path}")
            if options["wait_s"]:
                self._verify(settings, done, expected, at_end=True)

    def _interrupted_text(self, rows: int) -> str:
        text = f"{self._source.shown}: {rows:,} rows are acknowledged"
        if self._source.path.name == STANDARD_NAME:
            return f"{text}; of a pipe nothing more is known."
        return f"{text}; the same command goes on there."

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

        with Cluster(settings) as cluster:
            self._verify_on(cluster, settings, done, expected, at_end=at_end)

    def _verify_on(
        self,
        cluster: "Cluster",
        settings: "Settings",
        done: "Done",
        expected: "Expected",
        *,
        at_end: bool,
    ) -> None:
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

    def _verify_ends(self, cluster: "Cluster", done: "Done", topic: Any, wait_s: float) -> None:
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

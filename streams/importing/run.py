"""
Imports one file: reads, judges and sends its rows, and keeps how far it has got.

Going on after an interruption is reading from the beginning without sending what is acknowledged:
so the refused rows, and what must have a receipt, are known whole each time.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, NamedTuple

import streams
from streams.core.times import rfc3339
from streams.errors import Unreachable, UsageProblem
from streams.files.kinds import STANDARD
from streams.importing import place as places
from streams.importing.cluster import Cluster, Observer
from streams.importing.expected import Expected
from streams.importing.interrupts import Interrupts
from streams.importing.judging import Judged, Tally, count, judge
from streams.importing.mapping import Mapper, Records, Rules
from streams.importing.pace import Pace
from streams.importing.place import Place
from streams.importing.rejects import Rejects
from streams.importing.send import SLICE_ROWS, Sender
from streams.importing.tables import Chunk, Input, Table, opened
from streams.settings import Settings

IDLE_S: Final = 0.005

RulesFor = Callable[[Table], Rules]
Show = Callable[["Progress"], None]


class Progress(NamedTuple):
    """
    How far it is, for people.

    done: the part that was read, 0 to 1; None where nobody knows.
    begun_rows: where this run began to send.
    """

    shown: str
    rows: int
    begun_rows: int
    done: float | None
    note: str


class Speed(NamedTuple):
    """rate: rows per second, None as the workers allow; full: without regard to anybody."""

    rate: float | None
    full: bool


class Done(NamedTuple):
    """
    What has come of a file.

    rows: all of it.  sent: those that this run has sent.  went_on_after: rows of earlier runs.
    """

    rules: Rules
    rows: int
    sent: int
    went_on_after: int
    took_s: float
    tally: Tally
    place: Place | None


class Reading:
    """One file, read and judged, chunk by chunk."""

    def __init__(self, source: Input, show: Show, rejects: Rejects | None) -> None:
        self.source = source
        self.show = show
        self.tally = Tally()
        self.rows = 0
        self.rejects = rejects

    def rules(self, table: Table, rules_for: RulesFor) -> Rules:
        """Return how its rows are mapped; raises UsageProblem where they give no record."""
        rules = rules_for(table)
        rules.check()
        problem = rules.missing(table.names, self.source.shown) if table.names else None
        if problem is not None:
            raise UsageProblem(problem)
        return rules

    def judge(self, mapper: Mapper, topic: str, chunk: Chunk) -> Records:
        """Return the records of *chunk*; those that are refused are None, and told."""
        now_ms = time.time_ns() // 1_000_000
        records = mapper.records(chunk.columns, len(chunk.numbers), chunk.bad)
        judged = judge(topic, records, now_ms)
        self._tell(chunk, judged)
        for at in judged.bad:
            records.keys[at] = None
        return records

    def refuse(self, chunk: Chunk, judged: Judged) -> None:
        """Tell of rows that were refused later than by the decoder."""
        self._tell(chunk, judged)

    def _tell(self, chunk: Chunk, judged: Judged) -> None:
        for at, error in sorted(judged.bad.items()):
            self.tally.add(error, chunk.numbers[at])
            if self.rejects is not None:
                self.rejects.add(chunk.numbers[at], error, chunk.raw(at))
        for at in judged.doubtful:
            count(self.tally.doubtful, chunk.numbers[at])


def read_only(
    source: Input,
    rules_for: RulesFor,
    show: Show,
    rejects: Rejects | None,
    expected: Expected | None = None,
) -> Done:
    """Judge all rows and send none; *expected* is told of objections."""
    begun_s = time.monotonic()
    reading = Reading(source, show, rejects)
    with opened(source) as table:
        rules = reading.rules(table, rules_for)
        mapper = Mapper(rules, cells=table.cells)
        for chunk in table.chunks(rules.wanted()):
            records = reading.judge(mapper, rules.topic, chunk)
            if expected is not None and rules.topic == "objections":
                expected.add(chunk.numbers, records)
            reading.rows += len(chunk.numbers)
            show(Progress(source.shown, reading.rows, 0, table.done(), "checking"))
    return Done(rules, reading.rows, 0, 0, time.monotonic() - begun_s, reading.tally, None)


class Import:
    """
    Sends the rows of one file.

    speed: how fast.  restart: without regard to what an earlier run has kept.
    Raises UsageProblem, and Unreachable where Kafka does not take rows.
    """

    def __init__(
        self,
        settings: Settings,
        source: Input,
        rules_for: RulesFor,
        *,
        speed: Speed,
        restart: bool,
        rejects: Rejects,
        expected: Expected | None,
        interrupts: Interrupts,
        show: Show,
    ) -> None:
        self._settings = settings
        self._source = source
        self._rules_for = rules_for
        self._speed = speed
        self._restart = restart
        self._expected = expected
        self._interrupts = interrupts
        self._reading = Reading(source, show, rejects)
        self._sent = 0
        self.acknowledged = 0  # rows, so far
        self._began_s = 0.0

    def run(self) -> Done:
        """Import it; an interruption leaves all it has sent acknowledged and counted."""
        reading = self._reading
        try:
            with opened(self._source) as table:
                return self._run(table)
        finally:
            if reading.rejects is not None:
                reading.rejects.close()

    def _run(self, table: Table) -> Done:
        rules = self._reading.rules(table, self._rules_for)
        with Cluster(self._settings) as cluster:
            return self._bring_in(table, rules, cluster)

    def _bring_in(self, table: Table, rules: Rules, cluster: Cluster) -> Done:
        place = self._place(cluster, rules)
        went_on_after = self.acknowledged = place.rows
        if place.finished:
            self._read_all(table, rules)
            return self._done(place, went_on_after)
        pace = None if self._speed.full else Pace(time.monotonic(), self._speed.rate)
        with ExitStack() as stack:
            observer = None
            if pace is not None and self._speed.rate is None:
                observer = stack.enter_context(Observer(cluster, pace))
            quick = pace is None or pace.free
            sender = Sender(self._settings, place.topic.name, quick=quick, rows=place.rows)
            self._began_s = time.monotonic()
            self._send_all(table, place, sender, pace, observer)
        place.finished = True
        place.ends = [end for _, end in sorted(cluster.ends((rules.topic,)).items())]
        self._keep(place)
        return self._done(place, went_on_after)

    def _done(self, place: Place, went_on_after: int) -> Done:
        took_s = time.monotonic() - self._began_s if self._began_s else 0.0
        reading = self._reading
        return Done(
            place.rules, reading.rows, self._sent, went_on_after, took_s, reading.tally, place
        )

    def _place(self, cluster: Cluster, rules: Rules) -> Place:
        """Return where to go on, or the beginning."""
        source = self._source
        is_file = source.path != STANDARD
        now = Place(
            tool=f"{streams.DISTRIBUTION} {streams.__version__}",
            input=places.identity(source.path) if is_file else places.Identity(0, ""),
            format=source.format,
            delimiter=source.delimiter,
            topic=cluster.topic(rules.topic),
            rules=rules,
        )
        kept = None
        if is_file and not self._restart:
            kept = places.read(places.beside(source.path))
        if kept is None:
            self._keep(now)  # Where that is not possible, it is said before anything is sent.
            return now
        places.going_on(kept, now, places.beside(source.path))
        return kept

    def _keep(self, place: Place) -> None:
        place.at = rfc3339(time.time_ns() // 1_000_000)
        if self._source.path != STANDARD:
            places.write(places.beside(self._source.path), place)

    def _read_all(self, table: Table, rules: Rules) -> None:
        """Judge what an earlier run has sent."""
        mapper = Mapper(rules, cells=table.cells)
        for chunk in table.chunks(rules.wanted()):
            self._judged(mapper, rules, chunk)
            self._reading.rows += len(chunk.numbers)

    def _judged(self, mapper: Mapper, rules: Rules, chunk: Chunk) -> Records:
        records = self._reading.judge(mapper, rules.topic, chunk)
        if self._expected is not None and rules.topic == "objections":
            self._expected.add(chunk.numbers, records)
        return records

    def _send_all(
        self,
        table: Table,
        place: Place,
        sender: Sender,
        pace: Pace | None,
        observer: Observer | None,
    ) -> None:
        reading, shield = self._reading, self._interrupts.shield
        mapper = Mapper(place.rules, cells=table.cells)
        handed = begun = place.rows
        try:
            for chunk in table.chunks(place.rules.wanted()):
                records = self._judged(mapper, place.rules, chunk)
                rows = len(chunk.numbers)
                at = min(max(handed - reading.rows, 0), rows)
                while at < rows:
                    wanted = min(rows - at, SLICE_ROWS)
                    allowed = wanted if pace is None else pace.allow(time.monotonic(), wanted)
                    if not allowed:
                        time.sleep(IDLE_S)
                    with shield():
                        if allowed:
                            self._send(sender, chunk, records, at, allowed)
                            at += allowed
                            handed = reading.rows + at
                        if sender.passed(handed):
                            self._acknowledged(place, sender)
                    note = "" if observer is None else _note(pace)
                    done = table.done()
                    if done is not None:  # of the chunk that was read, some may still be to go
                        done *= handed / max(reading.rows + rows, 1)
                    reading.show(Progress(self._source.shown, handed, begun, done, note))
                reading.rows += rows
            with shield():
                sender.finish(handed)
                self._acknowledged(place, sender)
        except Unreachable:
            sender.abandon()
            raise
        except (KeyboardInterrupt, UsageProblem):
            # Nothing that was handed over is sent again by the next run.
            with shield():
                sender.finish(handed)
                self._acknowledged(place, sender)
            raise

    def _acknowledged(self, place: Place, sender: Sender) -> None:
        if place.rows != sender.acknowledged:
            place.rows = self.acknowledged = sender.acknowledged
            self._keep(place)

    def _send(self, sender: Sender, chunk: Chunk, records: Records, at: int, rows: int) -> None:
        end = at + rows
        keys = records.keys[at:end]
        refused = sender.send(keys, records.values[at:end])
        if refused:
            bad = {at + each: error for each, error in refused.items()}
            self._reading.refuse(chunk, Judged(bad, []))
        self._sent += len(keys) - keys.count(None) - len(refused)


def _note(pace: Pace | None) -> str:
    if pace is None or pace.free:
        return "no worker is running"
    if pace.paused:
        return "waits for the workers"
    return f"at the workers' pace, {pace.rate:,.0f} rows/s at most"

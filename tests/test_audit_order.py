"""
An audit beside a subscriber that is always at work in the worst moment: while the store is read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from streams.sinks.contents import Key, Shown
from streams.sinks.sqlite import SqliteSink
from streams.testing.audits import audited, planted, settled
from streams.testing.output_log import Log
from tests.test_sink_sqlite import SqliteStore


class Busy(SqliteSink):
    """
    A store to which things come between the word it gave and each look, and after that look.

    Each look finds an item that is purged before the look has ended, and a new one.
    """

    def __init__(self, path: Path, log: Log) -> None:
        super().__init__(path)
        self.log = log
        self.epoch = 1
        self.purged_by_look = {3: "lost"}  # what else is purged before which look

    def shown(self) -> Iterator[Sequence[Shown]]:
        self.epoch += 1
        self.apply(
            settled(
                [
                    self.log.item("restless", "u1", self.epoch, 1),
                    self.log.item(f"new-{self.epoch}", "u1", self.epoch, 1),
                ]
            )
        )
        if purged := self.purged_by_look.get(self.epoch // 2):
            self.apply(settled([self.log.item(purged, "u1", self.epoch, 1, allowed=False)]))
        pages = list(super().shown())
        self.epoch += 1
        self.apply(settled([self.log.item("restless", "u1", self.epoch, 1, allowed=False)]))
        yield from pages


def test_what_comes_while_the_store_is_read_is_no_finding(tmp_path: Path) -> None:
    """
    A purge that comes after a look is late, and an item that comes before it is known; neither is
    taken for a leftover, in the first look or the second, and what is wrong is still found.
    """
    log = Log()
    log.user("u1", 1)
    log.item("lost", "u1", 1, 1)
    sink = Busy(tmp_path / "store.sqlite", log)
    sink.open()
    sink.apply(settled(log.changes))
    quiet = audited(sink, log)
    assert (0, 1) == (quiet.found, quiet.late), quiet.findings

    # Missing in the first look; by the second it is purged.
    sink.expel("training-content", [("lost", "")])
    purged = audited(sink, log)
    assert (0, 1) == (purged.found, purged.late), purged.findings

    sink.expel("training-content", [("new-2", "")])
    wrong = audited(sink, log)
    sink.close()
    assert [("missing", "new-2")] == [(each.kind, each.key) for each in wrong.findings]


class Granting(SqliteSink):
    """A store to which a record comes just before its key is expelled."""

    def __init__(self, path: Path, log: Log) -> None:
        super().__init__(path)
        self.log = log

    def expel(self, topic: str, found: Sequence[tuple[Key, str]]) -> None:
        self.apply(settled([self.log.item("planted", "u1", 2, 1)]))
        super().expel(topic, found)


def test_a_record_that_comes_while_its_key_is_expelled_is_back(tmp_path: Path) -> None:
    """
    What the subscriber brings between a look and the repair is not lost by the repair.
    """
    log = Log()
    log.user("u1", 1)
    store = SqliteStore(tmp_path / "store.sqlite")
    sink = Granting(store.path, log)
    sink.open()
    sink.apply(settled([*log.changes, log.item("other", "u1", 1, 1)]))
    store.plant(planted("planted", "u1"))
    report = audited(sink, log, repairing=True)
    clean = audited(sink, log)
    sink.close()

    assert 1 == report.failed
    assert {"unknown": 1} == report.mended
    assert 0 == clean.found, clean.findings
    assert {"other", "planted"} == set(store.usable())

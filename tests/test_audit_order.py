"""
An audit beside a subscriber that is always at work in the worst moment: while the store is read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from streams.sinks.contents import Shown
from streams.sinks.sqlite import SqliteSink
from streams.testing.audits import audited, settled
from streams.testing.output_log import Log


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

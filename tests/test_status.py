"""What a worker tells of its own lateness, by milestones that are told to it one by one."""

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from streams.metrics import Metrics
from streams.settings import Settings
from streams.worker.fetch import Fetch
from streams.worker.folded import Fanned
from streams.worker.intake import Fetched
from streams.worker.names import CONTENT, OBJECTIONS, WITHOUT_LINKS
from streams.worker.rounds import Place, Round
from streams.worker.status import WorkerStatus
from streams.worker.stores import Stores


@dataclass
class Lagging:
    """A fetch that says what it is told to."""

    behind: dict[Place, int] = field(default_factory=dict)
    since_s: dict[Place, float] = field(default_factory=dict)

    def lag(self) -> dict[Place, int]:
        return self.behind

    def unread_since_s(self) -> dict[Place, float]:
        return self.since_s


@dataclass(frozen=True)
class Record:
    """As much of a record as its lateness needs."""

    at: int
    at_ms: int

    def timestamp(self) -> tuple[int, int]:
        return 1, self.at_ms

    def offset(self) -> int:
        return self.at


@dataclass(frozen=True)
class Numbered:
    """As much of a partition."""

    number: int = 0


@dataclass(frozen=True)
class Part:
    """As much of a cycle's part."""

    positions: dict[str, int]
    partition: Numbered = Numbered()
    fanned: tuple[Fanned, ...] = ()
    handled: tuple[()] = ()


def serving(fetch: Lagging) -> WorkerStatus:
    """Return the status of a worker that serves partition 0."""
    status = WorkerStatus(
        Settings(),
        cast("Fetch", fetch),
        Metrics([]),
        cast("Stores", None),
        "worker",
        WITHOUT_LINKS,
    )
    status.assigned(frozenset({0}), member=True)
    status.serves(0)
    return status


def taken(topic: str, *records: Record) -> Round:
    """Return a round of one batch."""
    messages = cast("Any", list(records))
    return Round(1, {topic: [Fetched(topic, 0, messages, records[0].at)]})


def age_s(status: WorkerStatus, topic: str) -> float:
    """Return the age told of *topic*, in whole seconds."""
    return round(status.oldest_unpropagated()[topic, 0])


def ago_ms(seconds: float) -> int:
    """Return the time stamp of *seconds* ago."""
    return int((time.time() - seconds) * 1000)


def test_partitions_are_told_by_what_they_do() -> None:
    """
    From the assignment on a partition is being restored, then it serves; none is left when given
    up.
    """
    status = serving(Lagging())
    assert {"serving": 1, "restoring": 0} == status.partition_states()

    status.assigned(frozenset({0, 1, 2}), member=True)
    status.serves(2)
    assert {"serving": 1, "restoring": 2} == status.partition_states()

    status.assigned(frozenset(), member=False)
    assert {"serving": 0, "restoring": 0} == status.partition_states()


def test_what_is_rolled_back_is_as_old_as_it_was() -> None:
    """
    While Kafka is away transactions are rolled back, and nothing can be read again: the record that
    was on its way still waits, and it grows no younger.
    """
    status = serving(Lagging())
    status.taken(taken(OBJECTIONS, Record(7, ago_ms(100)), Record(8, ago_ms(50))))
    status.rolled_back()

    assert 100 == age_s(status, OBJECTIONS)
    status.taken(taken(OBJECTIONS, Record(7, ago_ms(100)), Record(8, ago_ms(50))))
    status.rolled_back()
    assert 100 == age_s(status, OBJECTIONS)


def test_what_was_rolled_back_is_published_in_the_end() -> None:
    """
    Once it has been read again and committed, nothing waits any more.
    """
    status = serving(Lagging())
    status.taken(taken(OBJECTIONS, Record(7, ago_ms(100))))
    status.rolled_back()
    status.taken(taken(OBJECTIONS, Record(7, ago_ms(100))))

    status._arrived(cast("Any", Part({OBJECTIONS: 8})))

    assert 0 == age_s(status, OBJECTIONS)


def test_what_is_not_read_is_as_old_as_it_can_be() -> None:
    """
    Of each input by itself: one that is read to its end is not late because another is not.
    """
    fetch = Lagging({(CONTENT, 0): 2, (OBJECTIONS, 0): 0}, {(CONTENT, 0): time.time() - 60})
    status = serving(fetch)

    assert 60 == age_s(status, CONTENT)
    assert 0 == age_s(status, OBJECTIONS)


def test_another_assignment_begins_anew() -> None:
    """
    What this worker had on its way is somebody else's now.
    """
    status = serving(Lagging())
    status.taken(taken(OBJECTIONS, Record(7, ago_ms(100))))
    status.assigned(frozenset({0}), member=True)
    status.serves(0)

    assert 0 == age_s(status, OBJECTIONS)


def test_a_partition_is_given_up_while_the_end_of_a_fan_out_is_committed() -> None:
    """
    The commit that ends afterwards ends a fan-out nobody here waits for any more: no harm is done.
    """
    status = serving(Lagging())
    part = cast("Any", Part({}, fanned=(Fanned(OBJECTIONS, ago_ms(100)),)))
    status.on_folded([part])
    assert 100 == age_s(status, OBJECTIONS)

    status.assigned(frozenset(), member=False)
    status._finished(part)
    status.assigned(frozenset({0}), member=True)
    status.serves(0)

    assert 0 == age_s(status, OBJECTIONS)


@dataclass
class FanningOut:
    """As many fan-outs of a partition as their progress needs."""

    items: int

    def pending_items(self) -> int:
        return self.items


def test_a_fan_out_is_measured_by_the_most_that_was_pending() -> None:
    """
    The page tells how far the fan-outs of a partition are since there were none.
    """
    status, fanouts = serving(Lagging()), FanningOut(0)
    status.partitions = cast("Any", {0: SimpleNamespace(fanouts=fanouts)})
    peaks = []
    for fanouts.items in (40, 100, 30, 0, 20):
        status.fanout_pending()
        peaks.append(status.peaks.get(0))

    assert peaks == [40, 100, 100, None, 20]

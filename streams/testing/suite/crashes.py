"""
Killed, or not alone.
"""

import random
import time
from collections.abc import Iterable, Mapping
from typing import Final

from streams.sinks.sink import TRAINING_CONTENT, Batch, Change, Place, Position
from streams.testing import child
from streams.testing.output_log import (
    PARTITIONS,
    batch,
    invented,
)
from streams.testing.store import StoreUnderTest, opened
from streams.testing.suite.checks import SHORT, SinkChecks

KILLED_BATCHES: Final = 12


class CrashChecks(SinkChecks):
    """Nothing is lost by a kill, nor between several processes."""

    def test_killed_while_it_writes(self, store: StoreUnderTest) -> None:
        """
        Killed at any moment, what was applied stands, and the rest of the log completes it.
        """
        log = invented(KILLED_BATCHES * 20, seed=6)
        parts = [batch(log.changes[start : start + 20]) for start in range(0, len(log.changes), 20)]
        rounds, applied = random.Random(7), 0
        with opened(store):
            pass  # made, so that kills hit writes
        for _ in range(3):
            process = child.start(store.make, parts[applied:])
            child.wait_for(process, child.OPEN)
            child.wait_for(process, "1")
            time.sleep(rounds.random() * 0.03)
            child.kill(process)
            applied += 2
            with opened(store) as sink:
                found = dict(sink.positions())
                for place, position in reached_by(parts[:applied]).items():
                    assert found[place].offset >= position.offset, f"{place} lost what it had"
            purged = purged_for_good(log.changes, found)
            assert set() == purged & set(store.usable())
        with opened(store) as sink:
            found = dict(sink.positions())
            sink.apply(batch([each for each in log.changes if is_new(each, found)]))
            self.check(store, log.changes)

    def test_several_processes(self, store: StoreUnderTest) -> None:
        """
        Processes that write places of their own at the same time lose nothing of each other's.
        """
        log = invented(SHORT * 4, seed=8)
        with opened(store):
            pass
        shares = [
            [each for each in log.changes if each.partition == partition]
            for partition in range(PARTITIONS)
        ]
        processes = [
            child.start(
                store.make,
                [batch(share[start : start + 15]) for start in range(0, len(share), 15)],
            )
            for share in shares
        ]
        for process in processes:
            child.finish(process)

        with opened(store) as sink:
            assert batch(log.changes).reached == dict(sink.positions())
            self.check(store, log.changes)


def reached_by(parts: Iterable[Batch]) -> dict[Place, Position]:
    """Return where *parts*, one after the other, lead."""
    found: dict[Place, Position] = {}
    for part in parts:
        found.update(part.reached)
    return found


def is_new(change: Change, positions: Mapping[Place, Position]) -> bool:
    """Whether *change* lies beyond *positions*."""
    position = positions.get(Place(change.topic, change.partition))
    return position is None or change.offset >= position.offset


def purged_for_good(changes: Iterable[Change], positions: Mapping[Place, Position]) -> set[str]:
    """Return the items whose tombstone is applied and that get no record later in the log."""
    last = {each.key: each for each in changes if each.topic == TRAINING_CONTENT}
    return {key for key, each in last.items() if each.value is None and not is_new(each, positions)}

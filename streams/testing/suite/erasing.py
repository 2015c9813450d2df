"""
What is purged leaves no bytes.
"""

from streams.sinks.sink import TRAINING_CONTENT, Place
from streams.testing.output_log import Log, batch, marker, partition_of
from streams.testing.store import StoreUnderTest, held, opened
from streams.testing.suite.checks import SinkChecks


class ErasureChecks(SinkChecks):
    """Values of purged items are in no file after `erase`."""

    def test_bytes_of_what_is_purged_are_gone(self, store: StoreUnderTest) -> None:
        """
        After `erase` no file holds a value of a purged item, and those of the others are there.
        """
        log = Log()
        log.user("u1", 1)
        purged = [f"c{number}" for number in range(40)]
        for name in purged:
            log.item(name, "u1", 1, 1)
        kept = [f"k{number}" for number in range(40)]
        for name in kept:
            log.item(name, "u1", 1, 1)
        with opened(store) as sink:
            sink.apply(batch(log.changes))
            before = held(store, [marker(f"{name}/1/1") for name in (*purged, *kept)])
            assert 80 == len(before), "at_rest() does not see what the store holds"
            sink.apply(batch([log.item(name, "u1", 2, 1, allowed=False) for name in purged]))
            assert set(kept) == set(store.usable())
            if sink.erase_every_s:
                sink.erase()

            assert set() == held(store, [marker(f"{name}/1/1") for name in purged])
            assert 40 == len(held(store, [marker(f"{name}/1/1") for name in kept]))
        # Nor does closing, or opening again, bring bytes to light.
        with opened(store):
            assert set() == held(store, [marker(f"{name}/1/1") for name in purged])
            self.check(store, log.changes)

    def test_bytes_of_what_a_sweep_removed_are_gone(self, store: StoreUnderTest) -> None:
        """
        After `erase` nothing is left of rows that a resync found to be gone from the log.
        """
        log = Log()
        log.user("u1", 1)
        for name in ("c1", "c2"):
            log.item(name, "u1", 1, 1)
        with opened(store) as sink:
            sink.apply(batch(log.changes))
            sink.apply(batch(log.changes[:2], generation=3))
            sink.sweep(Place(TRAINING_CONTENT, partition_of("u1")), 3)
            if sink.erase_every_s:
                sink.erase()

            assert {marker("c1/1/1")} == held(store, [marker("c1/1/1"), marker("c2/1/1")])

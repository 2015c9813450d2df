"""
What comes late or again changes nothing.
"""

import pytest

from streams.sinks.sink import TRAINING_CONTENT, Batch
from streams.testing.output_log import Log, batch, invented, seen_of
from streams.testing.store import StoreUnderTest, opened
from streams.testing.suite.checks import SHORT, SinkChecks


class FenceChecks(SinkChecks):
    """Lower pairs are dropped, and a tombstone wins a tie."""

    def test_older_pairs_are_dropped(self, store: StoreUnderTest) -> None:
        """
        A change with a lower (epoch, revision) than one applied changes nothing.
        """
        log = Log()
        user = log.user("u1", 4)
        newest = log.item("c1", "u1", 4, 2)
        older = [
            log.item("c1", "u1", 4, 1),
            log.item("c1", "u1", 3, 9),
            log.item("c1", "u1", 4, 1, allowed=False),
            log.item("c1", "u1", 3, 2**63 - 1, allowed=False),
            log.user("u1", 3, allowed=False),
        ]
        with opened(store) as sink:
            sink.apply(batch([user, newest]))
            for each in older:
                sink.apply(batch([each]))
                assert {"c1"} == set(store.usable()), f"{each} counted"
            self.check(store, [user, newest])

    @pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
    @pytest.mark.parametrize("tombstone_first", [True, False])
    def test_a_tombstone_wins_a_tie(
        self, store: StoreUnderTest, together: bool, tombstone_first: bool
    ) -> None:
        """
        At an equal (epoch, revision) a tombstone wins over a record, in either order.
        """
        log = Log()
        log.user("u1", 1)
        log.item("c1", "u1", 1, 1)
        log.item("c2", "u2", 1, 1)
        log.user("u2", 1)
        records = list(log.changes)
        purges = [log.item("c1", "u1", 1, 1, allowed=False), log.user("u2", 1, allowed=False)]
        order = [purges, records] if tombstone_first else [records, purges]
        with opened(store) as sink:
            if together:
                sink.apply(batch([*order[0], *order[1]]))
            else:
                sink.apply(batch(order[0]))
                sink.apply(batch(order[1]))

            assert set() == set(store.usable())

    def test_a_batch_applied_twice(self, store: StoreUnderTest) -> None:
        """
        A batch that comes again changes nothing, nor do parts of it.
        """
        log = invented(SHORT, seed=2)
        whole = batch(log.changes)
        with opened(store) as sink:
            for _ in range(2):
                sink.apply(whole)
                self.check(store, log.changes)
            sink.apply(Batch(log.changes[SHORT // 3 : SHORT // 2], whole.reached))
            self.check(store, log.changes)

    def test_a_replay_never_brings_back(self, store: StoreUnderTest) -> None:
        """
        The log read again from its beginning shows, at no point of it, an item that is purged.
        """
        log = invented(SHORT, seed=3)
        purged = set(seen_of(log.changes)) ^ {
            each.key for each in log.changes if each.topic == TRAINING_CONTENT
        }
        with opened(store) as sink:
            sink.apply(batch(log.changes))
        with opened(store) as sink:
            for start in range(0, SHORT, 10):
                sink.apply(batch(log.changes[start : start + 10]))
                assert set() == purged & set(store.usable())
            self.check(store, log.changes)

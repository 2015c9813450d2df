"""
How far a store has got, and what a resync takes away.
"""

from streams.sinks.sink import TRAINING_CONTENT, TRAINING_USERS, Batch, Place, Position
from streams.testing.output_log import PARTITIONS, TOPIC_ID, Log, batch, invented, partition_of
from streams.testing.store import StoreUnderTest, opened
from streams.testing.suite.checks import SHORT, SinkChecks


class PositionChecks(SinkChecks):
    """Positions are stored with the data; a resync removes what the log has no more."""

    def test_positions_come_back(self, store: StoreUnderTest) -> None:
        """
        Positions are stored with the data, also where there is none, and stand after reopening.
        """
        log = invented(SHORT, seed=4)
        with opened(store) as sink:
            assert {} == dict(sink.positions())
            whole = batch(log.changes)
            sink.apply(whole)
            assert whole.reached == dict(sink.positions())
        # Only the control records of transactions were behind.
        further = {
            place: position._replace(offset=position.offset + 3)
            for place, position in whole.reached.items()
        }
        one = next(iter(further))
        with opened(store) as sink:
            assert whole.reached == dict(sink.positions())
            sink.apply(Batch([], {one: further[one]}))
            assert {**whole.reached, one: further[one]} == dict(sink.positions())
        with opened(store) as sink:
            sink.apply(Batch([], further))
            assert further == dict(sink.positions())
        self.check(store, log.changes)

    def test_positions_of_a_new_topic(self, store: StoreUnderTest) -> None:
        """
        A place begun anew, in a higher generation, has the lower offset and the new topic's id.
        """
        place = Place(TRAINING_CONTENT, 0)
        anew = Position("another-id", 0, 3)
        with opened(store) as sink:
            sink.apply(Batch([], {place: Position(TOPIC_ID, 4711, 2)}))
            sink.apply(Batch([], {place: anew}))
            assert {place: anew} == dict(sink.positions())
        with opened(store) as sink:
            assert {place: anew} == dict(sink.positions())

    def test_a_resync_removes_what_the_log_has_no_more(self, store: StoreUnderTest) -> None:
        """
        After a resync only what the log still has is left: of items, and of accounts.
        """
        log = Log()
        lost = [
            log.user("gone", 1),
            log.item("g1", "gone", 1, 1),
            log.item("k2", "kept", 1, 1),
        ]
        kept = [log.user("kept", 1), log.item("k1", "kept", 1, 1), log.item("g2", "gone", 1, 1)]
        with opened(store) as sink:
            sink.apply(batch(log.changes))
            assert {"g1", "g2", "k1", "k2"} == set(store.usable())
            # Tombstones of `lost` came and went while nobody looked.
            sink.apply(batch(kept, generation=3))
            self.check(store, log.changes)
            for topic in (TRAINING_USERS, TRAINING_CONTENT):
                for partition in range(PARTITIONS):
                    sink.sweep(Place(topic, partition), 3)

            assert {"k1"} == set(store.usable())
            # The item's record stands: it is found should its account be allowed again.
            sink.apply(batch([log.user("gone", 5)], generation=3))
            assert {"k1", "g2"} == set(store.usable())
        assert len(lost) == 3

    def test_a_sweep_leaves_other_places_alone(self, store: StoreUnderTest) -> None:
        """
        A sweep removes rows of its own topic and partition only, and nothing a second time.
        """
        users = [name for name in (f"u{n}" for n in range(9)) if partition_of(name) == 0][:2]
        others = [name for name in (f"u{n}" for n in range(9)) if partition_of(name) == 1][:1]
        log = Log()
        for name in (*users, *others):
            log.user(name, 1)
            log.item(f"of-{name}", name, 1, 1)
        confirmed = log.item("new", users[0], 2, 1)
        with opened(store) as sink:
            sink.apply(batch(log.changes[:-1]))
            sink.apply(batch([confirmed], generation=3))
            for _ in range(2):
                sink.sweep(Place(TRAINING_CONTENT, 0), 3)

                assert {f"of-{others[0]}", "new"} == set(store.usable())

    def test_a_dropped_equal_still_confirms(self, store: StoreUnderTest) -> None:
        """
        A resync confirms rows by records that say nothing new; tombstones remain remembered.
        """
        log = Log()
        log.user("u1", 1)
        log.item("c1", "u1", 1, 1)
        log.item("c2", "u1", 2, 1, allowed=False)
        with opened(store) as sink:
            sink.apply(batch(log.changes))
            sink.apply(batch(log.changes, generation=3))
            for topic in (TRAINING_USERS, TRAINING_CONTENT):
                sink.sweep(Place(topic, partition_of("u1")), 3)
            assert {"c1"} == set(store.usable())
            sink.apply(batch([log.item("c2", "u1", 1, 5)], generation=3))

            assert {"c1"} == set(store.usable())

    def test_back_to_a_backup(self, store: StoreUnderTest) -> None:
        """
        A store that holds an old state and gets the log again from there ends in the right state.
        """
        log = invented(SHORT, seed=5)
        with opened(store) as sink:
            sink.apply(batch(log.changes[: SHORT // 2]))
        with opened(store) as sink:
            sink.apply(batch(log.changes, generation=3))
            for place in batch(log.changes).reached:
                sink.sweep(place, 3)
            self.check(store, log.changes)

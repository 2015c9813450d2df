"""
The suite that every sink passes: subclass `SinkTests`, and say how to make and to look into one.

    class TestMySink(SinkTests):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)  # a `StoreUnderTest`

The checks do not use what they check: what a store holds is read past the sink, and what it must
hold is worked out by a model.  Each test begins with an empty store.
"""

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.sinks.sink import (
    TRAINING_CONTENT,
    TRAINING_USERS,
    Batch,
    Change,
    Place,
    Position,
    Sink,
)
from streams.testing import child
from streams.testing.machine import run_machine
from streams.testing.output_log import (
    FIELDS,
    PARTITIONS,
    PRODUCT,
    TOPIC_ID,
    Log,
    Model,
    Seen,
    batch,
    marker,
    partition_of,
    seen,
)

KILLED_BATCHES: Final = 12
SHORT: Final = 60  # changes of the invented logs


class Factory(Protocol):
    """Makes a sink on the one store of a test, not yet opened; other processes get it pickled."""

    def __call__(self) -> Sink: ...


class StoreUnderTest(Protocol):
    """
    A store that nobody has written to, and ways to look into it past the sink.

    make: see `Factory`; two sinks of one store may be open at once.
    """

    @property
    def make(self) -> Factory: ...

    def usable(self) -> Mapping[str, Mapping[str, Any]]:
        """
        Return what a query of the store's users returns, by content_id.

        Fields are named as in `training-content`; those that the store has no column for may be
        left out (see `SinkTests.fields`).
        """

    def at_rest(self) -> Iterable[bytes]:
        """
        Return all bytes the store keeps, logs and old versions included.

        As they lie there, and of compressed or encoded files also what they decode to.
        """

    def empty(self) -> None:
        """Take everything away again; no sink is open."""


class SinkTests:
    """
    What `streams.sinks.sink` asks of a sink.

    fields: of an item, that the store keeps; at least its user, product and language.
    examples, steps: of the state machine; fewer for a store whose every write takes long.
    """

    fields: tuple[str, ...] = FIELDS
    examples: int = 25
    steps: int = 15

    @pytest.fixture
    def store(self) -> StoreUnderTest:
        raise NotImplementedError("a subclass of SinkTests needs the fixture `store`")

    # Records and tombstones.

    def test_what_is_allowed_can_be_found(self, store: StoreUnderTest) -> None:
        """
        An item is found once its record and that of its account stand, whichever came first.
        """
        log = Log()
        log.user("u1", 1)
        log.item("c1", "u1", 1, 1, kind="comment", modality="image")
        log.item("c2", "u2", 1, 1, language=None)
        with opened(store) as sink:
            sink.apply(batch(log.changes))
            self.check(store, log.changes)
            sink.apply(batch([log.user("u2", 1)]))
            self.check(store, log.changes)

        assert {"c1", "c2"} == set(store.usable())

    def test_a_tombstone_purges(self, store: StoreUnderTest) -> None:
        """
        An item's tombstone takes it away and leaves the others; a later record brings it back.
        """
        log = Log()
        first = [log.user("u1", 1), log.item("c1", "u1", 1, 1), log.item("c2", "u1", 1, 1)]
        with opened(store) as sink:
            sink.apply(batch(first))
            sink.apply(batch([log.item("c1", "u1", 2, 1, allowed=False)]))
            assert {"c2"} == set(store.usable())
            sink.apply(batch([log.item("c1", "u1", 3, 1)]))
            self.check(store, log.changes)
            assert {"c1", "c2"} == set(store.usable())

    def test_a_tombstone_of_something_unknown(self, store: StoreUnderTest) -> None:
        """
        Tombstones of items and accounts never seen are remembered: older records are dropped.
        """
        log = Log()
        old = [log.user("u1", 1), log.item("c1", "u1", 1, 7), log.item("c2", "u1", 1, 1)]
        late = [log.item("c1", "u1", 2, 2**63 - 1, allowed=False)]
        late.append(log.user("u2", 5, allowed=False))
        with opened(store) as sink:
            sink.apply(batch(late))
            sink.apply(batch(old))
            self.check(store, log.changes)

            assert {"c2"} == set(store.usable())

    def test_a_newer_record_replaces_the_older(self, store: StoreUnderTest) -> None:
        """
        Of several records of an item the one with the highest (epoch, revision) is found, whole.
        """
        log = Log()
        changes = [
            log.user("u1", 1),
            log.item("c1", "u1", 1, 1, kind="comment"),
            log.item("c1", "u1", 1, 9, kind="post"),
            log.item("c1", "u1", 2, 3, language=None, modality="video"),
        ]
        with opened(store) as sink:
            for each in changes:
                sink.apply(batch([each]))
                self.check(store, log.changes[: log.changes.index(each) + 1])

    def test_much_in_one_batch(self, store: StoreUnderTest) -> None:
        """
        Many changes of the same keys in one batch end as if they had come one by one.
        """
        log = invented(SHORT * 5, seed=1)
        with opened(store) as sink:
            sink.apply(batch(log.changes))
            self.check(store, log.changes)

    # Fences.

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

    # Two locks.

    def test_an_account_is_hidden_at_once(self, store: StoreUnderTest) -> None:
        """
        The tombstone of an account hides all its items in that product, and those of nobody else.
        """
        log = Log()
        log.user("u1", 1)
        log.user("u1", 1, product="facebook")
        log.user("u2", 1)
        for number in range(30):
            log.item(f"c{number}", "u1", 1, 1)
        log.item("f1", "u1", 1, 1, product="facebook")
        log.item("d1", "u2", 1, 1)
        with opened(store) as sink:
            sink.apply(batch(log.changes))
            assert 32 == len(store.usable())
            sink.apply(batch([log.user("u1", 2, allowed=False)]))
            self.check(store, log.changes)

            assert {"f1", "d1"} == set(store.usable())

    def test_what_still_stands_is_shown_again(self, store: StoreUnderTest) -> None:
        """
        A record of the account shows those of its items again whose own record stands by then.
        """
        log = Log()
        shown = [log.user("u1", 1), *(log.item(f"c{n}", "u1", 1, 1) for n in range(4))]
        with opened(store) as sink:
            sink.apply(batch(shown))
            sink.apply(batch([log.user("u1", 2, allowed=False)]))
            assert set() == set(store.usable())
            # While it is hidden: one purged, one changed, one new.
            sink.apply(
                batch(
                    [
                        log.item("c0", "u1", 2, 1, allowed=False),
                        log.item("c1", "u1", 2, 2, kind="comment"),
                        log.item("c9", "u1", 2, 1),
                    ]
                )
            )
            assert set() == set(store.usable())
            sink.apply(batch([log.user("u1", 3)]))
            self.check(store, log.changes)

            assert {"c1", "c2", "c3", "c9"} == set(store.usable())

    def test_an_item_without_its_account_is_hidden(self, store: StoreUnderTest) -> None:
        """
        Items whose account was never heard of, or is purged, are not found when they arrive.
        """
        log = Log()
        log.item("c1", "u1", 1, 1)
        log.user("u2", 3, allowed=False)
        log.item("c2", "u2", 3, 1)
        with opened(store) as sink:
            sink.apply(batch(log.changes))

            assert {} == store.usable()

    # Positions.

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

    # Resync.

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

    # Erasing.

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

    # Crashes and company.

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

    # All of it together.

    @settings(
        max_examples=10,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.differing_executors,  # Each store's class inherits this very test.
        ],
    )
    @given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, SHORT), max_size=4))
    def test_any_cuts_end_the_same(self, store: StoreUnderTest, seed: int, cuts: list[int]) -> None:
        """
        However a log is cut into batches, and from wherever it is repeated, the end is the same.
        """
        store.empty()
        log = invented(SHORT, seed)
        with opened(store) as sink:
            for cut in cuts:
                sink.apply(batch(log.changes[: cut + 1]))
            sink.apply(batch(log.changes[min(cuts, default=0) :]))
            if cuts:
                self.check(store, log.changes)
            else:
                sink.apply(batch(log.changes))
                self.check(store, log.changes)

    def test_machine(self, store: StoreUnderTest) -> None:
        """
        In any order of writes, replays, restarts, resyncs and erasures the store is as the model.
        """
        run_machine(store, self.only, self.examples, self.steps)

    def check(self, store: StoreUnderTest, changes: Iterable[Change]) -> None:
        """Compare what can be found with the model of *changes*."""
        assert self.only(seen_of(changes)) == self.only(seen(store.usable()))

    def only(self, rows: Seen) -> Seen:
        """Return *rows* with the fields that this store keeps."""
        columns = [FIELDS.index(name) for name in self.fields]
        return {key: tuple(row[column] for column in columns) for key, row in rows.items()}


@contextmanager
def opened(store: StoreUnderTest) -> Iterator[Sink]:
    """Return a sink that is open, and close it in the end."""
    sink = store.make()
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def invented(changes: int, seed: int) -> Log:
    """Return a log in which few accounts and items change often; pairs never fall."""
    log = Log()
    invent(log, changes, seed)
    return log


def invent(log: Log, changes: int, seed: int) -> None:
    """Go on with *log* in that manner."""
    chance = random.Random(seed)
    pairs = {(each.topic, each.key): (each.epoch, each.revision) for each in log.changes}
    for number in range(len(log.changes), len(log.changes) + changes):
        user = f"u{chance.randrange(4)}"
        item = f"{user}-c{chance.randrange(5)}"
        allowed = chance.random() < 0.6
        on_user = chance.random() < 0.3
        known = (TRAINING_USERS, f"{PRODUCT}/{user}") if on_user else (TRAINING_CONTENT, item)
        epoch, revision = pairs.get(known, (0, 0))
        if chance.random() < 0.8 or not epoch:
            epoch, revision = number + 1, chance.randrange(3)
        else:
            revision += 1
        pairs[known] = epoch, revision
        if on_user:
            log.user(user, epoch, allowed=allowed)
        else:
            log.item(item, user, epoch, revision, allowed=allowed)


def seen_of(changes: Iterable[Change]) -> Seen:
    """Return what can be found after *changes*."""
    model = Model()
    model.apply(changes)
    return model.usable()


def held(store: StoreUnderTest, markers: Iterable[str]) -> set[str]:
    """Return those of *markers* that lie in the store's bytes."""
    wanted = {each.encode(): each for each in markers}
    found: set[str] = set()
    for blob in store.at_rest():
        found |= {text for sought, text in wanted.items() if sought in blob}
    return found


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

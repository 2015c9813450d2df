"""
A state machine: any order of writes, replays, restarts, resyncs and erasures against the model.

The log is that of the outputs: pairs of a key never fall, and compaction may take away what is
superseded, and tombstones with it while the store does not look.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from streams.sinks.sink import Change, Place
from streams.testing.output_log import Log, Model, Seen, batch, partition_of, seen

if TYPE_CHECKING:
    from streams.testing.store import StoreUnderTest

USERS = ("u1", "u2", "u3")
users = st.sampled_from(USERS)
numbers = st.integers(0, 2)


def run_machine(
    store: "StoreUnderTest", only: Callable[[Seen], Seen], examples: int, steps: int
) -> None:
    """Run the machine on *store*; *only* leaves the fields that it keeps."""

    class Machine(_Machine):
        def __init__(self) -> None:
            super().__init__(store, only)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class _Machine(RuleBasedStateMachine):
    def __init__(self, store: "StoreUnderTest", only: Callable[[Seen], Seen]) -> None:
        super().__init__()
        self._store = store
        self._only = only
        self._log = Log()
        self._model = Model()
        self._readable: list[Change] = []  # the log, as far as compaction has left it
        self._pending: list[Change] = []  # of it, what the store has not seen
        self._epochs: dict[str, int] = {}
        self._generation = 1

    @initialize()
    def begin(self) -> None:
        self._store.empty()
        self._sink = self._store.make()
        self._sink.open()

    @rule(user=users, allowed=st.booleans())
    def decide_account(self, user: str, allowed: bool) -> None:
        """An account is allowed or purged, in a new epoch."""
        self._epochs[user] = self._epochs.get(user, 0) + 1
        self._write(self._log.user(user, self._epochs[user], allowed=allowed))

    @rule(user=users, number=numbers, allowed=st.booleans(), newer=st.booleans())
    def decide_item(self, user: str, number: int, allowed: bool, newer: bool) -> None:
        """An item is allowed or purged, in a new epoch or with its account's."""
        self._epochs[user] = self._epochs.get(user, 0) + newer
        name = f"{user}-{number}"
        last = [each for each in self._log.changes if each.key == name]
        revision = last[-1].revision if last else 0
        if last and last[-1].epoch == self._epochs[user]:
            revision += 1
        self._write(self._log.item(name, user, self._epochs[user], revision, allowed=allowed))

    @rule()
    def follow(self) -> None:
        """The store gets what it has not seen."""
        self._sink.apply(batch(self._pending, self._generation))
        self._model.apply(self._pending, self._generation)
        self._pending = []

    @rule(start=st.integers(0, 40), length=st.integers(1, 20))
    def replay(self, start: int, length: int) -> None:
        """The store gets a piece of the log again, as after a crash before its commit."""
        known = [each for each in self._readable if each not in self._pending]
        piece = known[start : start + length]
        again = batch(piece, self._generation)
        reached = {place: self._sink.positions()[place] for place in again.reached}
        self._sink.apply(again._replace(reached=reached))
        self._model.apply(piece, self._generation)

    @rule()
    def restart(self) -> None:
        """The sink is closed, and opened again."""
        self._sink.close()
        self._sink = self._store.make()
        self._sink.open()

    @rule()
    def erase(self) -> None:
        """The store erases, and nothing that stands is touched."""
        self._sink.erase()

    @precondition(lambda self: self._readable)
    @rule(forgotten=st.sets(users))
    def resync(self, forgotten: set[str]) -> None:
        """The store was away while the log was compacted, and tombstones of some users went."""
        last = {(each.topic, each.key): each for each in self._readable}
        self._readable = [
            each
            for each in self._readable
            if last[each.topic, each.key] is each
            and not (each.value is None and each.user_id in forgotten)
        ]
        self._pending = []
        self._generation += 2
        self._sink.apply(batch(self._readable, self._generation))
        self._model.apply(self._readable, self._generation)
        places = {Place(each.topic, partition_of(each.user_id)) for each in self._log.changes}
        for place in sorted(places):
            self._sink.sweep(place, self._generation)
            self._model.sweep(place, self._generation)

    @invariant()
    def is_as_the_model(self) -> None:
        """What can be found is what the model allows."""
        if hasattr(self, "_sink"):
            assert self._only(self._model.usable()) == self._only(seen(self._store.usable()))

    def teardown(self) -> None:
        if hasattr(self, "_sink"):
            self._sink.close()

    def _write(self, change: Change) -> None:
        self._readable.append(change)
        self._pending.append(change)

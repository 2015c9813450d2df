"""
The suite that every sink passes: subclass `SinkTests`, and say how to make and to look into one.

    class TestMySink(SinkTests):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)  # see `streams.testing.store`

The checks do not use what they check: what a store holds is read past the sink, and what it must
hold is worked out by a model.  Each test begins with an empty store.
"""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.testing.machine import run_machine
from streams.testing.output_log import batch, invented
from streams.testing.store import StoreUnderTest, opened
from streams.testing.suite.checks import SHORT
from streams.testing.suite.crashes import CrashChecks
from streams.testing.suite.erasing import ErasureChecks
from streams.testing.suite.fences import FenceChecks
from streams.testing.suite.locks import LockChecks
from streams.testing.suite.positions import PositionChecks


class SinkTests(LockChecks, FenceChecks, PositionChecks, ErasureChecks, CrashChecks):
    """
    What `streams.sinks.sink` asks of a sink.

    fields: of an item, that the store keeps; at least its user, product and language.
    examples, steps: of the state machine; fewer for a store whose every write takes long.
    """

    examples: int = 25
    steps: int = 15

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

"""
What the canary has measured, as Prometheus text; fed by its thread, read by the event loop.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import Final, Literal

from streams.latencies import Latencies
from streams.metric_table import (
    CANARY_ERASED,
    CANARY_HIDDEN,
    CANARY_PUBLISHED,
    CANARY_TURNS,
    CANARY_UNERASED,
    CANARY_WAITING,
)
from streams.metrics import Exposition, Family, counter, gauge, histogram

Outcome = Literal["hidden", "not_allowed"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("hidden", "not_allowed")


class Numbers(Exposition):
    """
    Latencies of turns, and how long what was filed is waiting now.

    erasing: those of *stores* that tell of erasing.
    """

    def __init__(
        self,
        stores: Iterable[str],
        erasing: Iterable[str],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock_s = clock_s
        self._lock = Lock()
        self._published = Latencies()
        self._hidden = {store: Latencies() for store in stores}
        self._erased = {store: Latencies() for store in erasing}
        self._unerased_s: dict[tuple[str, int], float] = {}  # when filed, by store and partition
        self._waiting: set[str] = set()
        self._filed_s = 0.0
        self._turns: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        super().__init__()

    def filed(self, stores: Iterable[str]) -> None:
        """An objection is being filed, which *stores* have to hide."""
        with self._lock:
            self._filed_s = self._clock_s()
            self._waiting = set(stores)

    def published(self) -> None:
        """Its tombstones are published."""
        with self._lock:
            self._published.observe(self._age_ms())

    def hidden(self, store: str) -> None:
        """*store* has hidden it."""
        with self._lock:
            self._hidden[store].observe(self._age_ms())
            self._waiting.discard(store)

    def erasing(self, store: str, number: int) -> None:
        """*store* has hidden what was filed last in partition *number*, and is to erase it."""
        with self._lock:
            self._unerased_s[store, number] = self._filed_s

    def erased(self, store: str, number: int) -> None:
        """*store* has erased it."""
        with self._lock:
            filed_s = self._unerased_s.pop((store, number))
            self._erased[store].observe(int((self._clock_s() - filed_s) * 1000))

    def turned(self, outcome: Outcome) -> None:
        """A turn has ended."""
        with self._lock:
            self._turns[outcome] += 1

    def given_up(self) -> None:
        """The turn has ended without an outcome, and nothing is waited for."""
        with self._lock:
            self._waiting.clear()

    def waiting_s(self) -> dict[str, float]:
        """Return for each store for how long what was filed has waited; 0 where it is hidden."""
        with self._lock:
            age_s = self._age_ms() / 1000
            return {store: age_s if store in self._waiting else 0.0 for store in self._hidden}

    def unerased_s(self) -> dict[str, float]:
        """Return for each store that erases the age of the oldest that it has not; 0 for none."""
        with self._lock:
            now_s = self._clock_s()
            found = dict.fromkeys(self._erased, 0.0)
            for (store, _), filed_s in self._unerased_s.items():
                found[store] = max(found[store], now_s - filed_s)
            return found

    def turns(self) -> dict[Outcome, int]:
        """Return how many turns have ended, by outcome."""
        with self._lock:
            return dict(self._turns)

    def collect(self) -> Iterator[Family]:
        """Yield a family for each of CANARY_METRICS."""
        waiting_s, unerased_s, turns = self.waiting_s(), self.unerased_s(), self.turns()
        with self._lock:
            published = histogram(CANARY_PUBLISHED, {(): self._published})
            hidden = histogram(CANARY_HIDDEN, {(name,): it for name, it in self._hidden.items()})
            erased = histogram(CANARY_ERASED, {(name,): it for name, it in self._erased.items()})
        yield published
        yield hidden
        yield gauge(CANARY_WAITING, {(store,): age_s for store, age_s in waiting_s.items()})
        yield erased
        yield gauge(CANARY_UNERASED, {(store,): age_s for store, age_s in unerased_s.items()})
        yield counter(CANARY_TURNS, {(outcome,): number for outcome, number in turns.items()})

    def _age_ms(self) -> int:
        return int((self._clock_s() - self._filed_s) * 1000)

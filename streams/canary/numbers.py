"""
What the canary has measured, as Prometheus text; fed by its thread, read by the event loop.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import Final, Literal

from streams.latencies import Latencies
from streams.metrics import (
    CANARY_HIDDEN,
    CANARY_PUBLISHED,
    CANARY_TURNS,
    CANARY_WAITING,
    Exposition,
    Family,
    counter,
    gauge,
    histogram,
)

Outcome = Literal["hidden", "not_allowed"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("hidden", "not_allowed")


class Numbers(Exposition):
    """Latencies of turns, and how long what was filed is waiting now."""

    def __init__(
        self, stores: Iterable[str], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock_s = clock_s
        self._lock = Lock()
        self._published = Latencies()
        self._hidden = {store: Latencies() for store in stores}
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

    def turns(self) -> dict[Outcome, int]:
        """Return how many turns have ended, by outcome."""
        with self._lock:
            return dict(self._turns)

    def collect(self) -> Iterator[Family]:
        """Yield a family for each of CANARY_METRICS."""
        waiting_s, turns = self.waiting_s(), self.turns()
        with self._lock:
            published = histogram(CANARY_PUBLISHED, {(): self._published})
            hidden = histogram(CANARY_HIDDEN, {(name,): it for name, it in self._hidden.items()})
        yield published
        yield hidden
        yield gauge(CANARY_WAITING, {(store,): age_s for store, age_s in waiting_s.items()})
        yield counter(CANARY_TURNS, {(outcome,): number for outcome, number in turns.items()})

    def _age_ms(self) -> int:
        return int((self._clock_s() - self._filed_s) * 1000)

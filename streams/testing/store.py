"""
A store that a test looks into past its sink.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from streams.sinks.sink import Sink


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


@contextmanager
def opened(store: StoreUnderTest) -> Iterator[Sink]:
    """Return a sink that is open, and close it in the end."""
    sink = store.make()
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def held(store: StoreUnderTest, markers: Iterable[str]) -> set[str]:
    """Return those of *markers* that lie in the store's bytes."""
    wanted = {each.encode(): each for each in markers}
    found: set[str] = set()
    for blob in store.at_rest():
        found |= {text for sought, text in wanted.items() if sought in blob}
    return found

"""
Calls to a store that may be busy, or away for a while.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from streams.errors import Busy, Unreachable
from streams.sinks.sink import Sink

logger = logging.getLogger(__name__)

TRIES: Final = 7  # with pauses that double, half a minute
FIRST_TRIES: Final = 4  # some seconds: somebody may wait at a terminal
FIRST_PAUSE_S: Final = 0.5

T = TypeVar("T")


class Stopped(Exception):
    """Asked to stop while waiting for the store."""


class Reopened(Exception):
    """The store was away; what it holds now is to be looked at anew."""


class Calls:
    """
    Calls the *sink* again when it asks for a pause, and opens it again when it was away.

    Raises Stopped when *stopping* is set meanwhile, Reopened after it was away, and Unreachable
    when it stays away.
    """

    def __init__(self, sink: Sink, stopping: threading.Event) -> None:
        self._sink = sink
        self._stopping = stopping

    def open(self) -> None:
        """Open the sink."""
        self._patiently(self._sink.open, FIRST_TRIES)

    def call(self, ask: Callable[[], T]) -> T:
        """Return what *ask* returns."""
        while True:
            try:
                return ask()
            except Busy as busy:
                logger.info("the store asks for a pause: %s", busy)
                self._pause(busy.retry_after_s)
            except Unreachable as error:
                logger.warning("the store is away: %s", error)
                self._pause(FIRST_PAUSE_S)
                self._patiently(self._reopen, TRIES)
                raise Reopened from error

    def _reopen(self) -> None:
        self._sink.close()
        self._sink.open()

    def _patiently(self, ask: Callable[[], None], tries_max: int) -> None:
        pause_s, tries = FIRST_PAUSE_S, 1
        while True:
            try:
                ask()
                return
            except Busy as busy:
                self._pause(busy.retry_after_s)
            except Unreachable:
                if tries == tries_max:
                    raise
                self._pause(pause_s)
                pause_s, tries = 2 * pause_s, tries + 1

    def _pause(self, pause_s: float) -> None:
        if self._stopping.wait(pause_s):
            raise Stopped

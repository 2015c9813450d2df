"""
When a store erases what it has purged: now and then, beside the subscriber where it can.
"""

import logging
import threading
import time
from collections.abc import Mapping
from typing import Final

from streams.errors import Busy, Unreachable
from streams.sinks.sink import Place, Sink
from streams.subscriber.following import Followed
from streams.subscriber.places import is_settled

logger = logging.getLogger(__name__)

RETRY_S: Final = 5.0  # after a failure, where the store says nothing else


class Eraser:
    """
    Calls `erase` every *sink.erase_every_s* while something purged is left.

    beside: another sink on the same store, used in a thread of its own, so that a long erasure
    delays no purge; with None the subscriber waits for it.
    """

    def __init__(self, sink: Sink, beside: Sink | None) -> None:
        self._sink = beside or sink
        self._beside = beside is not None
        self._opened = not self._beside
        self._due_s = time.monotonic() + sink.erase_every_s
        self._thread: threading.Thread | None = None
        self._upto: dict[Place, int] = {}
        self._failure: Exception | None = None

    @property
    def every_s(self) -> float:
        """Seconds from one erasure to the next; 0 where there is never anything to erase."""
        return self._sink.erase_every_s

    def turn(self, followed: Mapping[Place, Followed], *, at_once: bool) -> None:
        """Begin or end an erasure when it is time to, and note in *followed* what is erased."""
        if self.every_s == 0:
            return
        if self._thread is not None:
            if not self._thread.is_alive():
                self._thread = None
                self._end(followed)
            return
        # Of a place in a resync nothing is erased before what it has lost is swept.
        waiting = [
            place for place, each in followed.items() if each.unerased and is_settled(each.position)
        ]
        if not waiting or (time.monotonic() < self._due_s and not at_once):
            return
        self._upto = {place: followed[place].position.offset for place in waiting}
        for place in waiting:
            # What is purged from now on is for the next time; erased stays until this one ends.
            followed[place].unerased = False
            followed[place].erasing = True
        self._failure = None
        self._due_s = time.monotonic() + self.every_s
        if self._beside:
            self._thread = threading.Thread(target=self._erase, daemon=True, name="erase")
            self._thread.start()
        else:
            self._erase()
            self._end(followed)

    def close(self) -> None:
        """Wait for an erasure under way, and let go of the sink that is ours alone."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._beside and self._opened:
            self._sink.close()
            self._opened = False

    def _erase(self) -> None:
        try:
            if not self._opened:
                self._sink.open()
                self._opened = True
            self._sink.erase()
        except Exception as error:  # noqa: BLE001 - told by `_end`, in the subscriber's thread
            self._failure = error

    def _end(self, followed: Mapping[Place, Followed]) -> None:
        failure = self._failure
        for place, offset in self._upto.items():
            each = followed.get(place)
            if each is None or not each.erasing:
                continue  # given up meanwhile, or taken over anew
            each.erasing = False
            if failure is None:
                each.erased = max(each.erased, offset)
            else:
                each.unerased = True
        if failure is None:
            return
        if isinstance(failure, Busy):
            self._due_s = time.monotonic() + failure.retry_after_s
        elif isinstance(failure, Unreachable):
            self._due_s = time.monotonic() + RETRY_S
            self._reopen()
        else:
            raise failure
        logger.warning("nothing could be erased yet: %s", failure)

    def _reopen(self) -> None:
        if self._beside:
            self._sink.close()
            self._opened = False

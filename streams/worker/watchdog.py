"""
Ends a worker whose client library does not come back from a call.

Each call of a transaction has a time-out of some seconds, and librdkafka 2.16 keeps none of them
while it waits for the group's coordinator (its issue 5456).  When that broker is gone it waits for
ever (5511): seen with three brokers, one killed.  The thread in that call cannot be woken, so no
orderly end would ever end; the process must, and whoever supervises it starts another.
"""

import logging
import os
import threading
from collections.abc import Callable
from typing import Final, NoReturn

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
# Looks, not seconds: a worker that was itself frozen has not waited for anybody.
LOOKS_MAX: Final = 20


class Call:
    """One call to Kafka, as it is under way."""

    def __init__(self, what: str) -> None:
        self.what = what


class Watchdog(threading.Thread):
    """
    Looks once a second whether the same call is under way; calls *end* when it is for too long.

    A thread of its own, which also looks while the worker starts and stops.
    """

    def __init__(
        self, under_way: Callable[[], Call | None], end: Callable[[str], object] | None = None
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._under_way = under_way
        self._end = end_process if end is None else end
        self._seen: Call | None = None
        self._looks = 0
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopped.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Look once."""
        call = self._under_way()
        self._looks = self._looks + 1 if call is self._seen else 0
        self._seen = call
        if call is not None and self._looks >= LOOKS_MAX:
            self._end(
                f"{call.what}: a call to Kafka has not come back for {LOOKS_MAX * LOOK_S:.0f} s, "
                "long after its time-out, and cannot be woken; it is not known whether its "
                "transaction counts, which the next start finds out. Start the worker again"
            )


def end_process(why: str) -> NoReturn:
    """End the process here and now, with status 1."""
    logger.critical("%s", why)
    os._exit(1)

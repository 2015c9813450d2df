"""
Where the Kafka clients' own lines go: to logging, each kind once in a while.

A client that cannot reach Kafka says so several times a second; once is enough to act on.
"""

import logging
import re
import time
from typing import Final

REPEAT_S: Final = 30.0
KINDS_MAX: Final = 1_000

_PARTICULARS: Final = re.compile(r"[0-9]+|rdkafka#\S+")


class OnceInAWhile(logging.Filter):
    """Lets a line pass if none that differs from it in numbers alone has lately."""

    def __init__(self) -> None:
        super().__init__()
        self._said_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether *record* is to be said."""
        kind = _PARTICULARS.sub("", record.getMessage())
        now_s = time.monotonic()
        if now_s - self._said_s.get(kind, -REPEAT_S) < REPEAT_S:
            return False
        if len(self._said_s) >= KINDS_MAX:
            self._said_s.clear()
        self._said_s[kind] = now_s
        return True


CLIENT_LOGGER: Final = logging.getLogger("streams.kafka.client")
CLIENT_LOGGER.addFilter(OnceInAWhile())
# Not to the terminal of who configures no logging: there our own error says it once.
CLIENT_LOGGER.addHandler(logging.NullHandler())
for _name in ("aiokafka", "aiokafka.conn", "aiokafka.cluster"):
    logging.getLogger(_name).addFilter(OnceInAWhile())

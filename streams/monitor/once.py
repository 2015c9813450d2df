"""One look for `objections monitor --once`: reads what it needs, and ends."""

import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaException

from streams.errors import Unreachable
from streams.monitor.sight import Sight
from streams.monitor.watcher import Watcher, count_partitions
from streams.settings import Settings

READ_S: Final = 0.2
TELL_EVERY_S: Final = 1.0
SILENCE_S: Final = 15.0  # without Kafka telling anything new


def look_once(settings: Settings, tell: Callable[[str], None]) -> Sight:
    """
    Return a look that tells everything; *tell* is told now and then how far reading has got.

    Raises Unreachable where Kafka does not answer.
    """
    failures: list[BaseException] = []
    with Watcher(settings, count_partitions(settings), failures.append) as watcher:
        heard_s = told_s = time.monotonic()
        read_n = -1
        while True:
            watcher.look()
            if not (missing := watcher.missing()):
                return watcher.sight
            if failures:
                raise failures[0]
            try:
                watcher.fanouts.follow(READ_S)
            except KafkaException as error:
                raise _unreachable(settings, error.args[0].str()) from error
            now_s = time.monotonic()
            if (at := sum(watcher.fanouts.at.values())) != read_n:
                read_n, heard_s = at, now_s
            elif now_s - heard_s > SILENCE_S:
                raise _unreachable(settings, missing)
            if now_s - told_s > TELL_EVERY_S:
                told_s = now_s
                tell(f"{missing}; {read_n:,} rows so far")


def _unreachable(settings: Settings, why: str) -> Unreachable:
    return Unreachable(
        f"Kafka at {settings.bootstrap} did not let the monitor see everything ({why}). Remedy: "
        "see that it is up, or name another with --bootstrap or OBJECTIONS_BOOTSTRAP."
    )

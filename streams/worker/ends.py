"""
Asks Kafka every second where the inputs end, beside the fetches, which may not get through.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from confluent_kafka import Consumer, KafkaException

from streams.kafka.reader import ends, reader
from streams.settings import Settings
from streams.worker.backlog import LOOK_EVERY_S
from streams.worker.names import Followed
from streams.worker.rounds import Look

logger = logging.getLogger(__name__)

ANSWER_S: Final = 1.0
SOONEST_S: Final = 0.01  # between two looks, however often they are asked for
RENEWED_AFTER: Final = 3  # failures in a row


class Ends(threading.Thread):
    """
    The thread that asks.

    on_looks: called in it with a look for each partition that has one.
    on_failed: called in it with an error after which nothing is asked any more.
    """

    def __init__(
        self,
        settings: Settings,
        on_looks: Callable[[dict[int, Look]], None],
        on_failed: Callable[[BaseException], None],
        followed: Followed,
    ) -> None:
        super().__init__(name="ends", daemon=True)
        self._followed = followed
        self._settings = settings
        self._on_looks = on_looks
        self._on_failed = on_failed
        self._partitions: frozenset[int] = frozenset()
        self._stopping = threading.Event()
        self._asked = threading.Event()
        self._consumer: Consumer | None = None
        self._failures = 0

    def watch(self, partitions: Iterable[int]) -> None:
        """Ask for the inputs of *partitions*, and of no others."""
        self._partitions = frozenset(partitions)

    def ask(self) -> None:
        """Ask now, not only within a second."""
        self._asked.set()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._asked.set()

    def run(self) -> None:
        """Ask until stopped."""
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001  (nothing would be granted any more)
            self._on_failed(error)
        finally:
            self._let_go()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._asked.wait(LOOK_EVERY_S)
            self._asked.clear()
            if not self._stopping.is_set() and self._partitions:
                self._on_looks(self._look(self._partitions))
                self._stopping.wait(SOONEST_S)

    def _look(self, partitions: frozenset[int]) -> dict[int, Look]:
        asked_s = time.monotonic()
        try:
            if self._consumer is None:
                self._consumer = reader(self._settings)
            limits = self._ends(self._consumer, partitions, self._followed.all)
            found = self._ends(self._consumer, partitions, self._followed.users)
        except KafkaException as error:
            logger.debug("the ends of the inputs: %s", error)
            self._failures += 1
            if self._failures % RENEWED_AFTER == 0:
                self._let_go()
            return {}
        self._failures = 0
        return {number: Look(asked_s, limits[number], found[number]) for number in partitions}

    def _ends(
        self, consumer: Consumer, partitions: frozenset[int], topics: tuple[str, ...]
    ) -> dict[int, dict[str, int]]:
        """Return the ends for readers of committed records."""
        names = {topic: self._settings.topic(topic) for topic in topics}
        places = [(name, number) for name in names.values() for number in partitions]
        found = ends(consumer, places, ANSWER_S)
        return {
            number: {topic: found[name, number] for topic, name in names.items()}
            for number in partitions
        }

    def _let_go(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

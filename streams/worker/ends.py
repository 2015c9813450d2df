"""
Asks Kafka every second where the inputs end, beside the fetches, which may not get through.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # both are public
    AdminClient,
    OffsetSpec,
)

from streams.errors import CommandError
from streams.kafka import admin
from streams.settings import Settings
from streams.worker.backlog import LOOK_EVERY_S
from streams.worker.names import INPUTS, USER_TOPICS
from streams.worker.rounds import Look

logger = logging.getLogger(__name__)

ANSWER_S: Final = 1.0
SOONEST_S: Final = 0.01  # between two looks, however often they are asked for


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
    ) -> None:
        super().__init__(name="ends", daemon=True)
        self._settings = settings
        self._on_looks = on_looks
        self._on_failed = on_failed
        self._partitions: frozenset[int] = frozenset()
        self._stopping = threading.Event()
        self._asked = threading.Event()
        self._client: AdminClient | None = None

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

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._asked.wait(LOOK_EVERY_S)
            self._asked.clear()
            if not self._stopping.is_set() and self._partitions:
                self._on_looks(self._look(self._partitions))
                self._stopping.wait(SOONEST_S)

    def _look(self, partitions: frozenset[int]) -> dict[int, Look]:
        asked_s = time.monotonic()
        limits = self._ends(partitions, INPUTS)
        ends = self._ends(partitions, USER_TOPICS)
        return {
            number: Look(asked_s, limits[number], ends[number])
            for number in partitions
            if len(limits[number]) == len(INPUTS) and len(ends[number]) == len(USER_TOPICS)
        }

    def _ends(
        self, partitions: frozenset[int], topics: tuple[str, ...]
    ) -> dict[int, dict[str, int]]:
        """Return the ends that are known, for readers of committed records."""
        names = {self._settings.topic(topic): topic for topic in topics}
        wanted = {
            TopicPartition(name, number): OffsetSpec.latest()
            for number in partitions
            for name in names
        }
        found: dict[int, dict[str, int]] = {number: {} for number in partitions}
        try:
            self._client = self._client or admin.connect(self._settings)
            futures = self._client.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_S
            )
        except (KafkaException, CommandError) as error:
            self._failed(error)
            return found
        for tp, future in futures.items():
            try:
                found[tp.partition][names[tp.topic]] = future.result().offset
            except KafkaException as error:
                self._failed(error)
        return found

    def _failed(self, error: Exception) -> None:
        # A client that has once seen a partition without a leader goes on saying so.
        self._client = None
        logger.debug("the ends of the inputs: %s", error)

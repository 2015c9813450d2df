"""
Whether Kafka still answers a subscriber's clients: where it does not for long, new ones are made.

A client that nobody answers any more says nothing, and looks like one for which there is no news.
"""

import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaException

from streams.kafka.patience import Patience
from streams.kafka.reader import Place, extent

ASK_EVERY_S: Final = 10.0  # while nothing comes in
ANSWER_S: Final = 2.0
DEAF_S: Final = 30.0


class Deaf(Exception):
    """Kafka has not answered a client for long; it may be away, or the client not find it."""


class Hearing:
    """Asks *consumer* for the ends of *place* now and then, while it fetches nothing."""

    def __init__(self, consumer: Consumer, place: Place) -> None:
        self._consumer = consumer
        self._place = place
        self._patience = Patience(DEAF_S)
        self._asked_s = time.monotonic()

    def fetched(self, messages: Sequence[object]) -> None:
        """Note what was fetched last; raises Deaf."""
        now_s = time.monotonic()
        if messages:
            self._patience.answered()
            self._asked_s = now_s
        elif now_s - self._asked_s >= ASK_EVERY_S:
            self._ask()
            self._asked_s = time.monotonic()

    def _ask(self) -> None:
        try:
            extent(self._consumer, self._place, ANSWER_S)
        except KafkaException as error:
            if self._patience.is_over():
                raise Deaf(error.args[0].str()) from error
        else:
            self._patience.answered()

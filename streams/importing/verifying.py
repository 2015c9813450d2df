"""
Whether what a file holds has arrived: each objection has a receipt, other records were read.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Self

from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

from streams.errors import CheckFailed
from streams.importing.cluster import Cluster
from streams.importing.expected import Expected, Missing
from streams.importing.pace import SLACK_RECORDS, Place
from streams.kafka.reader import Silent, read_to_ends, reader
from streams.kafka.receipts import ANSWER_TIMEOUT_S, POLL_S, RECEIPTS, unreachable
from streams.settings import Settings

LOOK_AGAIN_S: Final = 0.25
SILENCE_MAX_S: Final = 30.0  # a dead worker's transaction holds readers up

Say = Callable[[str], None]


class Receipts:
    """Reads the keys of `receipts`, further each time; joins no group.  `with` lets go of Kafka."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._subjects = settings.subjects()
        self._consumer = reader(settings, fetch_wait_max_ms=100)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def read(self, expected: Expected) -> None:
        """Tell *expected* of all receipts up to the end of now."""
        try:
            self._read(expected)
        except KafkaException as error:
            raise unreachable(self._settings, error.args[0].str()) from error
        except Silent as silent:
            raise unreachable(self._settings, str(silent)) from silent

    def _read(self, expected: Expected) -> None:
        assigned = self._consumer.assignment()
        if assigned:
            self._consumer.assign(self._consumer.position(assigned))
        else:
            assigned = self._places()
            self._consumer.assign(assigned)
        places = [(each.topic, each.partition) for each in assigned]
        count = 0
        for records in read_to_ends(self._consumer, places, wait_s=POLL_S, silence_s=SILENCE_MAX_S):
            for each in records:
                place = f"{each.topic()}/{each.partition()}/{each.offset()}"
                self._subjects.check_record(each.headers(), place)
            keys = [each.key() for each in records if each.value() is not None]
            expected.seen([key for key in keys if key is not None])
            count += len(keys)
            self._say(f"reading {RECEIPTS}: {count:,}")

    def _places(self) -> list[TopicPartition]:
        name = self._settings.topic(RECEIPTS)
        metadata = self._consumer.list_topics(name, timeout=ANSWER_TIMEOUT_S).topics[name]
        if metadata.error is not None or not metadata.partitions:
            message = f"{name} is not there on {self._settings.bootstrap}"
            raise CheckFailed(f"{message}: make the topics with `objections topics apply`.")
        return [TopicPartition(name, each, OFFSET_BEGINNING) for each in metadata.partitions]


@contextmanager
def missing_receipts(
    settings: Settings, expected: Expected, wait_s: float, say: Say
) -> Iterator[Iterator[Missing]]:
    """Yield the rows without a receipt, after waiting at most *wait_s* for there to be none."""
    expected.settle()
    deadline_s = time.monotonic() + wait_s
    with Receipts(settings, say) as receipts:
        while True:
            receipts.read(expected)
            if next(expected.missing(), None) is None or time.monotonic() >= deadline_s:
                break
            time.sleep(LOOK_AGAIN_S)
    yield expected.missing()


def unread(cluster: Cluster, ends: dict[Place, int], wait_s: float) -> int:
    """Return how many records before *ends* no worker is done with, after *wait_s* at most."""
    deadline_s = time.monotonic() + wait_s
    while True:
        committed = cluster.committed()
        left = sum(
            max(end - committed.get(place, 0), 0)
            for place, end in ends.items()
            if end - committed.get(place, 0) > SLACK_RECORDS
        )
        if not left or time.monotonic() >= deadline_s:
            return left
        time.sleep(LOOK_AGAIN_S)

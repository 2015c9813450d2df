"""
What both kinds of run share: fresh topics, what a system has committed, the final comparison.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

import topics
from streams.bench.connection import options_at, settings_at
from streams.bench.peers import Place
from streams.bench.systems import System
from streams.bench.watch import Seen, Watcher
from streams.bench.workload import Allowed
from streams.errors import CommandError, Unreachable
from streams.kafka import admin

logger = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 120.0  # until a system's first output
STALL_TIMEOUT_S: Final = 60.0  # without any output while there is work to do
QUIET_S: Final = 1.5  # without any output when all is committed: the system has ended its work
ANSWER_TIMEOUT_S: Final = 10.0
SHOWN_DIFFERENCES: Final = 5

Say = Callable[[str], None]  # shows progress to people


class Committed(NamedTuple):
    """Input records a system's group has committed, and how many there are."""

    done: int
    all: int


class Offsets:
    """Asks Kafka how far the consumer group of a system has got, without joining it."""

    def __init__(self, place: Place, group: str) -> None:
        self._bootstrap = place.bootstrap
        self._consumer = Consumer(
            {
                **options_at(place.bootstrap),
                "group.id": group,
                "enable.auto.commit": False,
                # Else the answer waits for transactions that are under way.
                "isolation.level": "read_uncommitted",
            }
        )
        self._partitions = [
            TopicPartition(f"{place.prefix}{name}", number)
            for name in topics.names("input")
            for number in range(place.partitions)
        ]

    def committed(self) -> Committed:
        """Return how far the group has got.  Raises Unreachable."""
        try:
            found = self._consumer.committed(self._partitions, ANSWER_TIMEOUT_S)
            ends = [
                self._consumer.get_watermark_offsets(each, ANSWER_TIMEOUT_S)[1]
                for each in self._partitions
            ]
        except KafkaException as error:
            message = (
                f"Kafka at {self._bootstrap} does not tell how far the system has got: "
                f"{error.args[0].str()}. Remedy: see whether it still runs, and begin again."
            )
            raise Unreachable(message) from error
        return Committed(sum(max(each.offset, 0) for each in found), sum(ends))

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


@contextmanager
def fresh_place(bootstrap: str, partitions: int, folder: Path, label: str) -> Iterator[Place]:
    """Make topics under a prefix of their own, and delete them afterwards."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}-{label}."
    settings = settings_at(bootstrap, prefix)
    client = admin.connect(settings)
    own_folder = folder / prefix
    own_folder.mkdir(parents=True)
    admin.apply(client, settings, partitions)
    try:
        yield Place(bootstrap, prefix, partitions, own_folder)
    finally:
        delete_topics(client, prefix)


def delete_topics(client: AdminClient, prefix: str) -> None:
    """
    Delete the topics that have *prefix* in their names, as a peer's own may begin otherwise.

    Says so where it cannot, and hides no other error.
    """
    try:
        found = client.list_topics(timeout=ANSWER_TIMEOUT_S).topics
        left = [name for name in found if prefix in name]
        for future in client.delete_topics(left).values() if left else ():
            future.result(ANSWER_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        logger.warning("topics %s* could not be deleted: %s", prefix, error)


def wait_for_answers(system: System, watcher: Watcher, wanted: int, timeout_s: float) -> None:
    """Wait until *wanted* content ids are answered, or just anything if it is 0."""
    deadline_s = time.monotonic() + timeout_s
    while watcher.answered < wanted or not watcher.first_ns:
        system.check()
        if time.monotonic() > deadline_s:
            message = (
                f"{system.name} has answered {watcher.answered} of {wanted or 'any'} records "
                f"after {timeout_s:.0f} s; {system.log_tail()}"
            )
            raise CommandError(message)
        time.sleep(0.01)


def is_quiet(watcher: Watcher) -> bool:
    """Whether no output has come for a while."""
    return time.time_ns() - watcher.last_ns > QUIET_S * 1e9


def differences(seen: Seen, allowed: Allowed) -> list[str]:
    """Return how what stands in the outputs differs from what is *allowed*, a line each."""
    found = []
    for name, stands, wanted in (
        ("training-content", seen.items, allowed.items),
        ("training-users", seen.products, allowed.products),
    ):
        for what, keys in (
            ("allowed, but must not be", stands - wanted),
            ("not allowed, but must be", wanted - stands),
        ):
            if keys:
                some = ", ".join(sorted(keys)[:SHOWN_DIFFERENCES])
                found.append(f"{name}: {len(keys)} {what}: {some}")
    return found

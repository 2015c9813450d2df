"""
Who of a consumer group owns which partitions, as the group's coordinator tells.
"""

import struct
import time
from collections.abc import Iterator
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.kafka.client_log import CLIENT_LOGGER
from streams.kafka.group_members import members_of
from streams.monitor.sight import Owner
from streams.settings import Settings
from streams.worker.names import INPUTS

EVERY_S: Final = 3.0
ASK_S: Final = 1.0

# Source: Kafka's ConsumerProtocolAssignment.json; what follows (user data) is not needed.
_SHORT: Final = struct.Struct(">h")
_INT: Final = struct.Struct(">i")


class Members:
    """Asks now and then; one thread's."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = self._connect()
        self._group, self._topic = settings.group, settings.topic(INPUTS[0])
        self._owners: dict[int, Owner] | None = None
        self._asked_s: float | None = None

    def owners(self) -> dict[int, Owner] | None:
        """
        Return who owns which partition, as of lately; those that nobody owns are missing.

        None where Kafka did not tell.
        """
        if self._asked_s is None or time.monotonic() - self._asked_s > EVERY_S:
            try:
                self._owners = _owners(self._client, self._group, self._topic)
            except KafkaException:
                self._owners = None
                self._client = self._connect()  # see streams.kafka.patience
            self._asked_s = time.monotonic()
        return self._owners

    def _connect(self) -> AdminClient:
        return AdminClient(self._settings.kafka(), logger=CLIENT_LOGGER)


def _owners(client: AdminClient, group: str, topic: str) -> dict[int, Owner]:
    return {
        number: Owner(str(member.client_id), str(member.client_host).removeprefix("/"))
        for member in members_of(client, group, ASK_S)
        for name, numbers in _assigned(member.assignment)  # type: ignore[arg-type]  # bytes, other than the stub has it
        if name == topic
        for number in numbers
    }


def _assigned(data: bytes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the topics and partitions of an assignment; nothing while a member has none yet."""
    if not data:
        return
    at = _SHORT.size  # behind the version
    (topics_n,) = _INT.unpack_from(data, at)
    at += _INT.size
    for _ in range(topics_n):
        (length,) = _SHORT.unpack_from(data, at)
        at += _SHORT.size
        name = data[at : at + length].decode()
        at += length
        (numbers_n,) = _INT.unpack_from(data, at)
        at += _INT.size
        yield name, struct.unpack_from(f">{numbers_n}i", data, at)
        at += numbers_n * _INT.size

"""
A real Kafka of one or several brokers on this machine, for faults: never for figures.

Each node is a `LocalKafka` in a folder of its own, broker and controller at once.
Internal topics have as many replicas as there are nodes, and take writes while most of them live.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import Unreachable
from streams.kafka import jars
from streams.kafka.cache import Say, say_on_stderr
from streams.kafka.client_log import CLIENT_LOGGER
from streams.kafka.local import LocalKafka, new_cluster_id
from streams.kafka.local_properties import Node
from streams.kafka.ports import free_ports

IN_SYNC_S: Final = 60.0
_ANSWER_S: Final = 5.0
_POLL_PAUSE_S: Final = 0.05


class LocalCluster:
    """
    So many brokers under *folder*; `with LocalCluster(folder, 3) as cluster:` runs them.

    properties: broker properties of all that add to or replace ours.
    proxied: ports of a second listener of each, as `LocalKafka` has them.

    Not thread-safe: one thread at a time starts and stops.
    """

    def __init__(
        self,
        folder: Path,
        brokers: int,
        *,
        properties: Mapping[str, str] | None = None,
        proxied: Sequence[tuple[int, int]] | None = None,
        say: Say = say_on_stderr,
    ) -> None:
        numbers = range(1, brokers + 1)
        ports = free_ports(2 * brokers, besides=set(chain(*(proxied or ()))))
        controllers = dict(zip(numbers, ports[brokers:], strict=True))
        cluster_id = new_cluster_id()
        self._say = say
        self.brokers = tuple(
            LocalKafka(
                folder / f"broker-{number}",
                port=ports[number - 1],
                properties=properties,
                proxied=None if proxied is None else proxied[number - 1],
                node=Node(number, controllers, cluster_id),
                say=say,
            )
            for number in numbers
        )

    @property
    def bootstrap(self) -> str:
        """What clients take as `bootstrap.servers`."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def broker(self, number: int) -> LocalKafka:
        """Return the broker that Kafka knows by *number*, from 1 on."""
        return self.brokers[number - 1]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """
        Start those that are not running, and return when all have answered.

        At once, as none is ready before most of them are there.  Errors as `LocalKafka.start` has.
        """
        jars.class_path(self._say)  # or each would want to fetch it
        self._each(lambda broker: None if broker.running else broker.start())

    def kill(self) -> None:
        """
        End all with SIGKILL; `start` again finds what they had written.

        There is no orderly stop: the last nodes would ask a quorum for leave that is gone.
        """
        for broker in self.brokers:
            broker.kill()

    def wait_until_in_sync(self) -> None:
        """Return when all replicas of all partitions have caught up; raises Unreachable."""
        client = AdminClient({"bootstrap.servers": self.bootstrap}, logger=CLIENT_LOGGER)
        deadline_s = time.monotonic() + IN_SYNC_S
        while behind := _behind(client):
            if time.monotonic() > deadline_s:
                message = f"replicas are behind after {IN_SYNC_S:.0f} s: {', '.join(behind[:10])}"
                raise Unreachable(message)
            time.sleep(_POLL_PAUSE_S)

    def _each(self, act: Callable[[LocalKafka], None]) -> None:
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            for done in [pool.submit(act, broker) for broker in self.brokers]:
                done.result()


def _behind(client: AdminClient) -> list[str]:
    """Return the partitions whose replicas are not all in sync, or why that is not known."""
    try:
        known = client.list_topics(timeout=_ANSWER_S).topics
    except KafkaException as error:
        return [str(error)]
    return [
        f"{name}/{number}"
        for name, topic in known.items()
        for number, partition in topic.partitions.items()
        if len(partition.isrs) < len(partition.replicas) or partition.leader < 0
    ]

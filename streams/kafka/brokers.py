"""
A cluster's brokers and coordinators, asked until they answer.

Connections, TLS, SASL and metadata are aiokafka's.  A connection that is lost, a leader or a
coordinator that has moved or is not ready is waited for, however long: who asks bounds the time,
and `trouble` tells what it was.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError, KafkaException

from streams.kafka.client_options import client_options
from streams.kafka.denied import RIGHTS
from streams.kafka.reader import Place
from streams.kafka.transaction_requests import codes

GROUP, TRANSACTION = 0, 1  # kinds of coordinators

PAUSE_S: Final = 0.05  # before a Kafka that was not ready is asked again
BUSY_PAUSE_S: Final = 0.002  # ... or that was still ending the last transaction
_METADATA_AGE_MS: Final = 60_000

# By Kafka's protocol guide.
BUSY: Final = KafkaError.CONCURRENT_TRANSACTIONS
_NOT_READY: Final = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.UNKNOWN_TOPIC_OR_PART,  # it has not heard of it yet
        KafkaError.REQUEST_TIMED_OUT,
    }
)
_MOVED: Final = frozenset({KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR})
_BECAUSE_OF_ANOTHER: Final = KafkaError.OPERATION_NOT_ATTEMPTED


class Brokers:
    """Asks for one event loop.  *options* are librdkafka's."""

    def __init__(self, options: Mapping[str, Any], timeout_ms: int) -> None:
        self.trouble = ""
        self._options = options
        self._timeout_ms = timeout_ms  # of one request, after which its connection is let go
        self._client: AIOKafkaClient | None = None
        self._coordinators: dict[int, int] = {}

    async def close(self) -> None:
        """Let go of all connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def ask(self, kind: int, key: str, request: Any) -> Any:
        """
        Return the answer of the coordinator of *kind* for *key* to *request*.

        Raises KafkaException where asking again is of no use.
        """
        while True:
            try:
                client = await self._connected()
                node = self._coordinators.get(kind)
                if node is None:
                    node = self._coordinators[kind] = await client.coordinator_lookup(kind, key)
                # The transaction's has a connection of its own: it goes on while the group's
                # is asked.
                group = ConnectionGroup.COORDINATION if kind else ConnectionGroup.DEFAULT
                answer = await client.send(node, request, group=group)
                failed = set(codes(answer)) - {0}
            except (errors.KafkaError, OSError) as error:
                code = self._code(error)
                if code in RIGHTS:
                    raise KafkaException(KafkaError(code, self.trouble)) from error
                self._coordinators.pop(kind, None)
                await asyncio.sleep(PAUSE_S)
                continue
            if not failed:
                return answer
            await self._wait_or_raise(kind, type(request).__name__, failed)

    async def _wait_or_raise(self, kind: int, what: str, failed: set[int]) -> None:
        passing = _MOVED | _NOT_READY | {BUSY, _BECAUSE_OF_ANOTHER}
        code = min(failed - passing or failed - {_BECAUSE_OF_ANOTHER} or failed)
        self.trouble = f"{what}: {KafkaError(code).name()}"
        if code == BUSY:
            await asyncio.sleep(BUSY_PAUSE_S)
        elif code in _MOVED | _NOT_READY:
            if code in _MOVED:
                self._coordinators.pop(kind, None)
            await asyncio.sleep(PAUSE_S)
        else:
            raise KafkaException(KafkaError(code, self.trouble))

    async def leaders(self, places: Iterable[Place]) -> dict[int, list[Place]]:
        """Return which of *places* each broker leads; those without a leader are left out."""
        client = await self._connected()
        found: dict[int, list[Place]] = {}
        for place in places:
            leader = client.cluster.leader_for_partition(TopicPartition(*place))
            if leader is None or leader == -1:
                self.trouble = f"{place[0]} [{place[1]}] has no leader"
                client.add_topic(place[0])
            else:
                found.setdefault(leader, []).append(place)
        return found

    async def look_again(self) -> None:
        """Ask anew who leads what."""
        client = await self._connected()
        try:
            await asyncio.wait_for(client.force_metadata_update(), self._timeout_ms / 1000)
        except TimeoutError:
            await self.close()

    async def send(self, node: int, request: Any) -> Any:
        """Return the answer of a broker; None when there is none."""
        client = await self._connected()
        try:
            return await client.send(node, request)
        except (errors.KafkaError, OSError) as error:
            self._code(error)
            return None

    async def _connected(self) -> AIOKafkaClient:
        while self._client is None:
            options = client_options(self._options)
            client = AIOKafkaClient(
                **options,
                request_timeout_ms=self._timeout_ms,
                metadata_max_age_ms=_METADATA_AGE_MS,
            )
            try:
                await client.bootstrap()
            except (errors.KafkaError, OSError) as error:
                self._code(error)
                await client.close()
                await asyncio.sleep(PAUSE_S)
            else:
                self._client = client
        return self._client

    def _code(self, error: Exception) -> int:
        """Note what has gone wrong; return Kafka's code for it, or -1."""
        self.trouble = str(error) or type(error).__name__
        return error.errno if isinstance(error, errors.BrokerResponseError) else -1

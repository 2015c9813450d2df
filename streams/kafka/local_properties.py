"""
What a local Kafka is told: its properties, as values.  Pure.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

HOST: Final = "127.0.0.1"


class Node(NamedTuple):
    """
    One node of a cluster.

    number: from 1 on.  controllers: where each node's controller listens, by its number.
    cluster_id: the same for all of them.
    """

    number: int
    controllers: Mapping[int, int]
    cluster_id: str

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return len(self.controllers) < 2


ALONE: Final = Node(1, {}, "")

_SHARED: Final = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    # Fewer than the default 50: made at first use, and somebody is waiting then.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "1",
    # A misspelt topic is an error, not a new topic.
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # Default 9 s, in which a killed broker may not come back: the controller takes it for alive.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Default 128 MiB; 2 MiB are enough for a hundred thousand keys at a time.
    "log.cleaner.dedupe.buffer.size": "2097152",
}

LOG4J: Final = """\
<Configuration status="WARN">
  <Appenders>
    <Console name="out"><PatternLayout pattern="%d %p %m (%c)%n%throwable"/></Console>
  </Appenders>
  <Loggers>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
  </Loggers>
</Configuration>
"""


def properties_of(
    node: Node,
    protocol: str,
    port: int,
    controller_port: int,
    proxied: tuple[int, int] | None,
    data: Path,
) -> dict[str, str]:
    """Return all properties of a node; the arguments as `LocalKafka` has them."""
    properties = {
        **_SHARED,
        "node.id": str(node.number),
        "listeners": f"{protocol}://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"{protocol}://{HOST}:{port}",
        "inter.broker.listener.name": protocol,
        "listener.security.protocol.map": f"{protocol}:{protocol},CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        **(_alone(controller_port) if node.alone else _with_others(node)),
    }
    if proxied is not None:
        taken, told = (f",PROXIED://{HOST}:{port}" for port in proxied)
        properties["listeners"] += taken
        properties["advertised.listeners"] += told
        properties["listener.security.protocol.map"] += ",PROXIED:PLAINTEXT"
    return properties


def _alone(controller_port: int) -> dict[str, str]:
    """Return how internal topics are kept on one node, which cannot have more replicas."""
    return {
        "controller.quorum.bootstrap.servers": f"{HOST}:{controller_port}",
        **_internal(replicas=1, in_sync=1),
    }


def _with_others(node: Node) -> dict[str, str]:
    """Return how they are kept on several: as production does, so that one may be lost."""
    voters = [f"{number}@{HOST}:{port}" for number, port in node.controllers.items()]
    replicas = len(voters)
    return {
        "controller.quorum.voters": ",".join(voters),
        **_internal(replicas=replicas, in_sync=replicas // 2 + 1),
        # Default 30 s, in which nothing can be written that wants a lost broker's copy.
        "replica.lag.time.max.ms": "3000",
        # Default 300 s: leaders, and coordinators, go back to where they were meant to be.
        "leader.imbalance.check.interval.seconds": "10",
    }


def _internal(*, replicas: int, in_sync: int) -> dict[str, str]:
    return {
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": str(in_sync),
    }

"""
What the topics should be against what a cluster has: values in, differences out.

No I/O: `streams.kafka.admin` looks at the cluster.  Each rule about one setting of one topic is
data in `topics/*/topic.yaml`; here are those that compare topics with each other or with the
number of brokers.  Source: contract.md, "Topics".
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

import topics
from topics import Config

Level = Literal["danger", "warning", "note"]

APPLY = "run `objections topics apply`"
BY_HAND = "set it with kafka-configs"
FIXED_COUNT = (
    "the count is fixed for the life of a prefix: take a new OBJECTIONS_TOPIC_PREFIX, or, if this "
    f"topic was never used, delete it and {APPLY}"
)
MORE_REPLICAS = f"move its replicas with kafka-reassign-partitions, then {APPLY}"

REPLICATION_MAX = 3  # Survives two brokers; more costs without a promise that needs it.
SIZE_KEY = "max.message.bytes"
MIN_INSYNC_KEY = "min.insync.replicas"
# A dead letter carries its record and seven headers, a row its key and names of fields.
SIZE_HEADROOM_BYTES = 64 * 1024
# Kafka's own topics the service leans on: offsets and transactions.
KAFKA_TOPICS = ("__consumer_offsets", "__transaction_state")

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """
    A topic as the cluster has it.

    replication: the least number of replicas any of its partitions has.
    config: every setting in force, the broker's defaults included.
    """

    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """
    What was found: our topics by their name without the prefix, Kafka's own by replication.

    brokers: how many are alive.
    """

    brokers: int
    topics: Mapping[str, FoundTopic]
    kafka_topics: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """
    One thing that is not as defined.

    topic: its full name.
    level: `danger` breaks a promise, `warning` costs availability, `note` is harmless.
    mend: the value `apply` gives the setting *what*; None where apply cannot or need not help.
    """

    topic: str
    what: str
    found: str
    expected: str
    level: Level
    because: str
    remedy: str = APPLY
    mend: str | None = None

    def __str__(self) -> str:
        found, expected = shown(self.what, self.found), shown(self.what, self.expected)
        text = f"{self.topic}: {self.what} is {found}, expected {expected}. {self.because}"
        return f"{text} Remedy: {self.remedy}." if self.remedy else text


def dangers(differences: list[Difference]) -> list[Difference]:
    """Return those that endanger a promise."""
    return [difference for difference in differences if difference.level == "danger"]


def compare(cluster: Cluster, prefix: str) -> list[Difference]:
    """Return all differences, topic by topic in the order of `topics.names()`."""
    shared = shared_partitions(cluster)
    found: list[Difference] = []
    for name in topics.names():
        full = f"{prefix}{name}"
        if name not in cluster.topics:
            found.append(_missing(full))
            continue
        topic = cluster.topics[name]
        found += _partitions(full, topic, wanted_partitions(name, shared))
        found += _replicas(full, topic, cluster.brokers)
        for key, config in topics.definition(name).config.items():
            found += _setting(full, key, config, topic.config.get(key))
        found += _size(full, name, cluster)
    return [*found, *_kafka_topics(cluster)]


def shared_partitions(cluster: Cluster) -> int | None:
    """
    Return the partition count the shared topics have; None when none of them exists.

    When they differ, the commonest: the fewest topics are then in the wrong.
    """
    counts = Counter(
        cluster.topics[name].partitions
        for name in topics.names()
        if topics.definition(name).partitions == "shared" and name in cluster.topics
    )
    return counts.most_common(1)[0][0] if counts else None


def wanted_partitions(name: str, shared: int | None) -> int | None:
    """Return how many partitions topic *name* has to have, given the shared count."""
    fixed = topics.definition(name).partitions
    return shared if fixed == "shared" else fixed


def wanted_replication(brokers: int) -> int:
    """Return how many replicas a topic needs on a cluster of so many brokers."""
    return max(1, min(REPLICATION_MAX, brokers))


def wanted_min_insync(replication: int) -> int:
    """
    Return `min.insync.replicas`: 2 where that leaves a broker to spare, else 1.

    With 2 an acknowledged record is on two brokers, so that losing one loses no objection.
    """
    return 2 if replication >= REPLICATION_MAX else 1


def wanted_size_bytes(name: str, cluster: Cluster) -> int:
    """
    Return `max.message.bytes` of a topic that must hold whatever passes the inputs.

    That is the definition's, or more when a cluster's inputs take larger records.
    """
    return max(int(topics.definition(name).config[SIZE_KEY].value), _inputs_size_bytes(cluster))


def holds_inputs(name: str) -> bool:
    """Return whether records of topic *name* contain input records, or what grew out of them."""
    definition = topics.definition(name)
    return definition.role != "input" and SIZE_KEY in definition.config


def shown(key: str, value: str) -> str:
    """Return *value* as people read it: `604800000 (7 d)`, `-1 (without end)`."""
    if not key.startswith("retention.") and not key.endswith(".ms"):
        return value
    if value == "-1":
        return "-1 (without end)"
    if key.endswith(".ms") and value.isdigit():
        amount = int(value)
        for unit, unit_ms in (("d", DAY_MS), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
            if amount and amount % unit_ms == 0:
                return f"{value} ({amount // unit_ms} {unit})"
    return value


def _missing(full: str) -> Difference:
    because = "The service reads and writes all of its topics; none is made by the way."
    return Difference(full, "topic", "missing", "there", "danger", because)


def _partitions(full: str, topic: FoundTopic, wanted: int | None) -> Iterator[Difference]:
    if wanted is None or topic.partitions == wanted:
        return
    name = "partitions"
    because = "A record's partition decides who owns its user, and one owner must own all."
    if wanted == 1:
        because = "It is read whole by every worker and found by stores as a single partition."
    yield Difference(full, name, str(topic.partitions), str(wanted), "danger", because, FIXED_COUNT)


def _replicas(full: str, topic: FoundTopic, brokers: int) -> Iterator[Difference]:
    least = wanted_replication(brokers)
    found_insync = int(topic.config.get(MIN_INSYNC_KEY, "1"))
    insync = wanted_min_insync(topic.replication)
    found, expected = str(found_insync), str(insync)
    if topic.replication < least:
        because = f"Of {brokers} brokers one may be lost, and acknowledged records with it."
        if least >= REPLICATION_MAX:
            because += f" ({MIN_INSYNC_KEY} {found} is to become 2 then.)"
        found_replicas, wanted = str(topic.replication), f"at least {least}"
        yield Difference(
            full, "replication", found_replicas, wanted, "danger", because, MORE_REPLICAS
        )
    if found_insync > topic.replication:
        because = f"With {topic.replication} replicas nothing can be written."
        yield Difference(full, MIN_INSYNC_KEY, found, expected, "danger", because, APPLY, expected)
    elif found_insync < insync:
        because = "A record acknowledged by one broker alone is lost with it."
        yield Difference(full, MIN_INSYNC_KEY, found, expected, "danger", because, APPLY, expected)
    elif found_insync == topic.replication > 1:
        because = "When one broker is down, nothing can be written."
        remedy = f"{BY_HAND}, or add a replica"
        yield Difference(full, MIN_INSYNC_KEY, found, expected, "warning", because, remedy)


def _setting(full: str, key: str, config: Config, found: str | None) -> Iterator[Difference]:
    if found is not None and _same(found, config.value):
        return
    if found is not None and not _endangers(config, found):
        if key != SIZE_KEY:
            because = "Harmless, and left as it is."
            yield Difference(full, key, found, config.value, "note", because, "")
        return
    text = "unknown to the broker" if found is None else found
    yield Difference(full, key, text, config.value, "danger", config.because, APPLY, config.value)


def _same(found: str, wanted: str) -> bool:
    """Return whether two values mean the same; lists (`compact,delete`) have no order."""
    return {part.strip() for part in found.split(",")} == set(wanted.split(","))


def _endangers(config: Config, found: str) -> bool:
    match config.danger:
        case "differs":
            return True
        case "lower":
            return _amount(found) < _amount(config.value)
        case "higher":
            return _amount(found) > _amount(config.value)
        case "nothing":
            return False


def _amount(value: str) -> float:
    """Return a broker's number; -1 is without end."""
    return inf if value == "-1" else float(value)


def _size(full: str, name: str, cluster: Cluster) -> Iterator[Difference]:
    if not holds_inputs(name) or SIZE_KEY not in cluster.topics[name].config:
        return
    found, wanted = cluster.topics[name].config[SIZE_KEY], str(wanted_size_bytes(name, cluster))
    if int(found) < _inputs_size_bytes(cluster):
        because = "It must hold the largest record an input takes, and its headers."
        yield Difference(full, SIZE_KEY, found, wanted, "danger", because, APPLY, wanted)
    elif int(found) < int(wanted):
        because = (
            f"Room for large records is scarcer: {topics.definition(name).config[SIZE_KEY].because}"
        )
        yield Difference(full, SIZE_KEY, found, wanted, "note", because, "")


def _inputs_size_bytes(cluster: Cluster) -> int:
    """Return the size a topic needs to hold any record the cluster's inputs take."""
    sizes = [
        int(cluster.topics[name].config.get(SIZE_KEY, "0"))
        for name in topics.names("input")
        if name in cluster.topics
    ]
    return max(sizes, default=0) + SIZE_HEADROOM_BYTES


def _kafka_topics(cluster: Cluster) -> Iterator[Difference]:
    least = wanted_replication(cluster.brokers)
    for name, replication in sorted(cluster.kafka_topics.items()):
        if replication < least:
            # The worker's state repeats its offsets: losing them costs time, not an objection.
            because = "With its broker lost, workers stand still."
            yield Difference(
                name, "replication", str(replication), f"at least {least}", "warning", because,
                "move its replicas with kafka-reassign-partitions",
            )  # fmt: skip

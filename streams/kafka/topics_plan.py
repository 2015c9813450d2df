"""
What `apply` would do to a cluster: values in, a plan out.

It makes what is missing and mends settings that endanger a promise.  It never deletes, never
shortens what people have made longer, and never changes a partition count: a key's partition
depends on the count, and so does who owns a user.
"""

from dataclasses import dataclass

import topics
from streams.errors import UsageProblem
from streams.kafka.topics_compare import (
    MIN_INSYNC_KEY,
    SIZE_KEY,
    Cluster,
    Difference,
    compare,
    holds_inputs,
    shared_partitions,
    shown,
    wanted_min_insync,
    wanted_partitions,
    wanted_replication,
    wanted_size_bytes,
)

DEFAULT_PARTITIONS = 12


@dataclass(frozen=True, slots=True)
class Create:
    """A topic to make; *topic* is its full name."""

    topic: str
    partitions: int
    replication: int
    config: dict[str, str]

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in self.config.items())
        return (
            f"{self.topic}: partitions {self.partitions}, replication {self.replication}, "
            f"{settings}"
        )


@dataclass(frozen=True, slots=True)
class SetConfig:
    """A setting to change; *topic* is the full name."""

    topic: str
    key: str
    old: str
    new: str
    because: str

    def __str__(self) -> str:
        old, new = shown(self.key, self.old), shown(self.key, self.new)
        return f"{self.topic}: {self.key} {old} -> {new}. {self.because}"


@dataclass(frozen=True, slots=True)
class Plan:
    """
    All there is to do, and what is not done.

    partitions: the shared count, of topics made or found.
    cannot: dangers that need people.
    left: warnings and harmless differences, not touched.
    """

    partitions: int
    create: tuple[Create, ...]
    set: tuple[SetConfig, ...]
    cannot: tuple[Difference, ...]
    left: tuple[Difference, ...]

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.create or self.set)


def make_plan(
    cluster: Cluster, prefix: str, partitions: int | None = None, replication: int | None = None
) -> Plan:
    """
    Return what would bring *cluster* to the definitions.

    partitions: the shared count; None takes that of topics already there, else the default.
    replication: of topics to make; None takes three, or as many as there are brokers.
    Raises UsageProblem when the cluster cannot be brought to what was asked for.
    """
    found = shared_partitions(cluster)
    _check_asked(cluster, found, partitions, replication)
    count = found or partitions or DEFAULT_PARTITIONS
    replicas = replication or wanted_replication(cluster.brokers)
    differences = [
        difference
        for difference in compare(cluster, prefix)
        if difference.what != "topic"  # A missing one is created.
    ]
    return Plan(
        partitions=count,
        create=tuple(
            _create(name, prefix, cluster, count, replicas)
            for name in topics.names()
            if name not in cluster.topics
        ),
        set=tuple(
            SetConfig(found.topic, found.what, found.found, found.mend, found.because)
            for found in differences
            if found.mend is not None
        ),
        cannot=tuple(
            found for found in differences if found.level == "danger" and found.mend is None
        ),
        left=tuple(found for found in differences if found.level != "danger"),
    )


def _check_asked(
    cluster: Cluster, found: int | None, partitions: int | None, replication: int | None
) -> None:
    if partitions is not None and partitions < 1:
        message = f"--partitions is {partitions}, expected at least 1."
        raise UsageProblem(message)
    if partitions is not None and found is not None and partitions != found:
        message = (
            f"--partitions is {partitions}, but the topics of this prefix have {found}. The count "
            "is fixed for the life of a prefix: leave the option out, or set "
            "OBJECTIONS_TOPIC_PREFIX to a new prefix."
        )
        raise UsageProblem(message)
    if replication is not None and not 1 <= replication <= cluster.brokers:
        message = (
            f"--replication is {replication}, expected from 1 to the number of brokers "
            f"({cluster.brokers})."
        )
        raise UsageProblem(message)


def _create(name: str, prefix: str, cluster: Cluster, count: int, replication: int) -> Create:
    config = {key: config.value for key, config in topics.definition(name).config.items()}
    if holds_inputs(name):
        config[SIZE_KEY] = str(wanted_size_bytes(name, cluster))
    config[MIN_INSYNC_KEY] = str(wanted_min_insync(replication))
    partitions = wanted_partitions(name, count)
    assert partitions is not None, "a count was given"
    return Create(f"{prefix}{name}", partitions, replication, config)

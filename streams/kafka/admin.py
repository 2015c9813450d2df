"""
Looks at a cluster's topics, and brings them to their definitions.

The I/O around `topics_compare` and `topics_plan`, for the command `topics`, the worker and the
demo.  Raises Unreachable when Kafka does not answer, UsageProblem when it does not let us in and
CommandError with its words when it refuses.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # all of it is public
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicMetadata,
)

import topics
from streams.errors import CheckFailed, CommandError, Unreachable, UsageProblem
from streams.kafka.client_log import CLIENT_LOGGER
from streams.kafka.denied import denied, is_denied, not_let_in, perhaps_hidden
from streams.kafka.topics_compare import KAFKA_TOPICS, Cluster, Difference, FoundTopic, compare
from streams.kafka.topics_plan import Create, Plan, SetConfig, make_plan
from streams.settings import Settings

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

ANSWER_TIMEOUT_S = 5.0  # Longer than any healthy cluster takes, short for somebody waiting.
CHANGE_TIMEOUT_S = 30.0  # Making topics waits for the controller and all brokers.
LOOK_AGAIN_S = 0.05
TRIES = 3  # where the broker that was asked is gone before it has answered

_UNREACHABLE = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._DESTROY_BROKER,
        KafkaError._RESOLVE,
        KafkaError._SSL,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
    }
)


class LastWords:
    """
    What librdkafka's callbacks have said of why there is no connection.

    error: the last reason.  refusal: what to say where we were not let in; it stands, as one that
    was refused is also told of connections that break off.  Both may be empty.
    """

    def __init__(self, settings: Settings) -> None:
        self.error = ""
        self.refusal = ""
        self._settings = settings

    def remember(self, error: KafkaError) -> None:
        """Take an error, as `error_cb`."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # A count, without a reason.
            self.error = error.str()
            self.refusal = not_let_in(self._settings, error) or self.refusal


class Client(AdminClient):
    """
    An admin client that remembers why it has no connection; its time-outs do not say.

    It ends with the last reference to it.  If its callback knew it, only a collection would end it,
    and a process that makes a new client after each failure runs out of threads' keys (1,024).
    """

    def __init__(self, settings: Settings) -> None:
        said = self._said = LastWords(settings)
        config: dict[str, Any] = settings.kafka(error_cb=said.remember)
        super().__init__(config, logger=CLIENT_LOGGER)

    @property
    def last_error(self) -> str:
        """Why there was no connection, lately; may be empty."""
        return self._said.error

    @property
    def not_let_in(self) -> str:
        """What to say where Kafka knows neither user nor password, or we not it; may be empty."""
        return self._said.refusal


def connect(settings: Settings) -> AdminClient:
    """Return a client of the cluster the settings name; whether it answers shows on first use."""
    return Client(settings)


def look(admin: AdminClient, settings: Settings, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Cluster:
    """Return the cluster's brokers and what it has of our topics, whatever their state."""
    return _asked(lambda: _look(admin, settings, timeout_s))


def _look(admin: AdminClient, settings: Settings, timeout_s: float) -> Cluster:
    metadata = _metadata(admin, settings, timeout_s)
    present = {
        name: metadata.topics[settings.topic(name)]
        for name in topics.names()
        if _exists(metadata, settings.topic(name))
    }
    configs = _configs(admin, settings, [settings.topic(name) for name in present])
    found = {
        name: FoundTopic(
            partitions=len(topic.partitions),
            replication=_replication(topic),
            config=configs[settings.topic(name)],
        )
        for name, topic in present.items()
        if settings.topic(name) in configs
    }
    kafka_topics = {
        name: _replication(metadata.topics[name])
        for name in KAFKA_TOPICS
        if _exists(metadata, name)
    }
    return Cluster(len(metadata.brokers), found, kafka_topics)


def check(admin: AdminClient, settings: Settings) -> list[Difference]:
    """Return how the cluster differs from the definitions; see `topics_compare.dangers`."""
    return compare(look(admin, settings), settings.topic_prefix)


def count_partitions(
    settings: Settings, names: Iterable[str], *, timeout_s: float, otherwise: str = ""
) -> int:
    """
    Return the partitions that each topic of *names* has.

    otherwise: what follows where they differ.  Raises Unreachable, and CheckFailed, naming them,
    where topics are missing or differ.
    """
    return count_present(settings, names, timeout_s=timeout_s, otherwise=otherwise).partitions_n


class Counted(NamedTuple):
    """The partitions that topics have, and the names, as in the contract, of all there are."""

    partitions_n: int
    present: frozenset[str]


def count_present(
    settings: Settings, names: Iterable[str], *, timeout_s: float, otherwise: str = ""
) -> Counted:
    """Return the same as `count_partitions`, and which topics there are; optional ones may lack."""
    cluster = look(connect(settings), settings, timeout_s=timeout_s)
    counts = {
        settings.topic(name): cluster.topics[name].partitions if name in cluster.topics else 0
        for name in names
        if name in cluster.topics or not topics.definition(name).optional
    }
    missing = [name for name, count in counts.items() if not count]
    if missing:
        raise CheckFailed(
            f"Kafka at {settings.bootstrap} has no {', '.join(missing)}. Remedy: name the right "
            f"OBJECTIONS_TOPIC_PREFIX, or see `objections topics check`.{perhaps_hidden(settings)}"
        )
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise CheckFailed(
            f"partition counts differ ({shown}){otherwise}. Remedy: see `objections topics check`."
        )
    return Counted(next(iter(counts.values())), frozenset(cluster.topics))


def plan(
    admin: AdminClient,
    settings: Settings,
    partitions: int | None = None,
    replication: int | None = None,
) -> Plan:
    """Return what `apply` would do; arguments and errors as for `topics_plan.make_plan`."""
    return make_plan(look(admin, settings), settings.topic_prefix, partitions, replication)


def apply(
    admin: AdminClient,
    settings: Settings,
    partitions: int | None = None,
    replication: int | None = None,
) -> Plan:
    """
    Make and mend the topics, wait until the cluster shows it, and return what was done.

    A second call finds nothing to do.  Two at once do no harm: all topics are made by one request,
    and whoever comes second takes them as they are.
    """
    done = plan(admin, settings, partitions, replication)
    if done.create:
        _asked(lambda: _create(admin, settings, done.create))
    if done.set:
        _asked(lambda: _set(admin, settings, done.set))
    if done.changes:
        _wait_until_shown(admin, settings)
    return done


def _create(admin: AdminClient, settings: Settings, wanted: tuple[Create, ...]) -> None:
    futures = admin.create_topics(
        [
            NewTopic(
                new.topic,
                num_partitions=new.partitions,
                replication_factor=new.replication,
                config=new.config,
            )
            for new in wanted
        ],
        operation_timeout=CHANGE_TIMEOUT_S,
        request_timeout=CHANGE_TIMEOUT_S,
    )
    for name, future in futures.items():
        try:
            _result(future, settings, f"making topic {name}")
        except _RefusedError as error:
            if error.code != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def _set(admin: AdminClient, settings: Settings, wanted: tuple[SetConfig, ...]) -> None:
    resources: dict[str, ConfigResource] = {}
    for change in wanted:
        resource = resources.setdefault(
            change.topic, ConfigResource(ResourceType.TOPIC, change.topic)
        )
        # One request a topic, all or nothing: no retention counts before its policy does.
        resource.add_incremental_config(
            ConfigEntry(change.key, change.new, incremental_operation=AlterConfigOpType.SET)
        )
    futures = admin.incremental_alter_configs(
        list(resources.values()), request_timeout=CHANGE_TIMEOUT_S
    )
    for altered, future in futures.items():
        _result(future, settings, f"configuring topic {altered.name}")


def _wait_until_shown(admin: AdminClient, settings: Settings) -> None:
    """Wait for every topic to have its leaders and settings, as brokers learn of them late."""
    deadline_s = time.monotonic() + CHANGE_TIMEOUT_S
    while True:
        metadata = _metadata(admin, settings)
        if all(_has_leaders(metadata, settings.topic(name)) for name in topics.names()):
            missing = plan(admin, settings)
            if not missing.changes:
                return
        if time.monotonic() > deadline_s:
            message = (
                f"Kafka at {settings.bootstrap} took the changes but does not show all of them "
                f"after {CHANGE_TIMEOUT_S:.0f} s. Remedy: see that all brokers are up, then run "
                "`objections topics check`."
            )
            raise CommandError(message)
        time.sleep(LOOK_AGAIN_S)


def _metadata(
    admin: AdminClient, settings: Settings, timeout_s: float = ANSWER_TIMEOUT_S
) -> ClusterMetadata:
    try:
        return admin.list_topics(timeout=timeout_s)
    except KafkaException as error:
        why = _last_error(admin)
        if isinstance(admin, Client) and admin.not_let_in:
            raise UsageProblem(admin.not_let_in) from error
        raise _translated(error, settings, "asking for the topics", why) from error


def _last_error(admin: AdminClient) -> str:
    admin.poll(0)  # Callbacks run here.
    return admin.last_error if isinstance(admin, Client) else ""


def _exists(metadata: ClusterMetadata, full_name: str) -> bool:
    topic = metadata.topics.get(full_name)
    return topic is not None and bool(topic.partitions)


def _has_leaders(metadata: ClusterMetadata, full_name: str) -> bool:
    return _exists(metadata, full_name) and all(
        partition.leader >= 0 for partition in metadata.topics[full_name].partitions.values()
    )


def _replication(topic: TopicMetadata) -> int:
    return min(len(partition.replicas) for partition in topic.partitions.values())


def _configs(
    admin: AdminClient, settings: Settings, full_names: list[str]
) -> dict[str, Mapping[str, str]]:
    """Return each topic's settings in force; a topic deleted meanwhile is left out."""
    if not full_names:
        return {}
    futures = admin.describe_configs(
        [ConfigResource(ResourceType.TOPIC, name) for name in full_names],
        request_timeout=ANSWER_TIMEOUT_S,
    )
    found: dict[str, Mapping[str, str]] = {}
    for resource, future in futures.items():
        try:
            entries = _result(future, settings, f"reading the settings of topic {resource.name}")
        except _RefusedError as error:
            if error.code != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            continue
        found[resource.name] = {
            key: entry.value for key, entry in entries.items() if entry.value is not None
        }
    return found


class _GoneError(Unreachable):
    """The broker that was asked is no more, as far as librdkafka knows; another may answer."""


def _asked(ask: Callable[[], T]) -> T:
    """
    Return what *ask* does, which may be done twice.

    While a cluster starts, metadata may leave out a broker that is there: librdkafka then drops
    what it has asked that one.
    """
    for _ in range(TRIES - 1):
        with suppress(_GoneError):
            return ask()
    return ask()


class _RefusedError(CommandError):
    """Kafka answered, and refused."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def _result(future: "Future[Any]", settings: Settings, what: str) -> Any:
    try:
        return future.result(timeout=CHANGE_TIMEOUT_S + ANSWER_TIMEOUT_S)
    except KafkaException as error:
        raise _translated(error, settings, what) from error


def _translated(
    error: KafkaException, settings: Settings, what: str, why: str = ""
) -> CommandError:
    reason: KafkaError = error.args[0]
    if reason.code() in _UNREACHABLE:
        kind = _GoneError if reason.code() == KafkaError._DESTROY_BROKER else Unreachable
        return kind(
            f"Kafka at {settings.bootstrap} cannot be reached: no answer while {what} "
            f"({why or reason.str()}). Remedy: start it, or name another with --bootstrap or "
            "OBJECTIONS_BOOTSTRAP."
        )
    if is_denied(reason):
        return _RefusedError(denied(settings, reason, what), reason.code())
    return _RefusedError(
        f"Kafka at {settings.bootstrap} refused {what}: {reason.name()}: {reason.str()}",
        reason.code(),
    )

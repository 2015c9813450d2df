"""
What an import asks Kafka: the topic's ids and ends, and how far the workers' group has got.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from confluent_kafka import (
    KafkaError,
    KafkaException,
    TopicCollection,
)

from streams.errors import CheckFailed, CommandError, Unreachable, UsageProblem
from streams.importing.fields import TOPICS
from streams.importing.pace import Pace, Place, Waiting
from streams.importing.place import Topic
from streams.kafka import admin
from streams.kafka.denied import denied, is_denied, perhaps_hidden
from streams.kafka.reader import committed, ends, reader
from streams.settings import Settings

ANSWER_S: Final = 5.0
LOOK_EVERY_S: Final = 0.05
MEMBERS_EVERY_S: Final = 2.0
PATIENCE_S: Final = 15.0  # with a Kafka that answers, but not yet for its groups
_PASSING: Final = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)


class Cluster:
    """
    The cluster of *settings*; `with` lets go of it.

    Raises Unreachable, and UsageProblem where topics are missing.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = admin.connect(settings)
        # Else the answer waits for transactions that are under way.
        self._group = reader(settings, isolation="read_uncommitted")
        self._heard = False
        self.partitions: dict[str, int] = {}  # by topic, as the contract names it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._group.close()

    def topic(self, name: str) -> Topic:
        """Return which topic *name* is."""
        full = self._settings.topic(name)
        described = self._ask(self._describe)
        if name not in described:
            message = (
                f"Kafka at {self._settings.bootstrap} has no topic {full}. Remedy: name the right "
                "cluster (--bootstrap) and prefix (OBJECTIONS_TOPIC_PREFIX), or make the topics: "
                f"`objections topics apply`.{perhaps_hidden(self._settings)}"
            )
            raise UsageProblem(message)
        self.partitions = {each: len(found.partitions) for each, found in described.items()}
        cluster_id = self._ask(
            lambda: self._client.describe_cluster(request_timeout=ANSWER_S).result().cluster_id
        )
        return Topic(full, str(described[name].topic_id), str(cluster_id))

    def ends(self, names: tuple[str, ...] = TOPICS) -> dict[Place, int]:
        """Return where the partitions of *names* end."""
        found: dict[Place, int] = self._ask(lambda: self._ends(names))
        return found

    def committed(self) -> dict[Place, int]:
        """Return how far the workers' group has got, by topic as the contract names it."""
        found: dict[Place, int] = self._ask(self._committed)
        return found

    def members(self) -> int:
        """Return how many workers there are."""
        return int(self._ask(self._members))

    def _describe(self) -> dict[str, Any]:
        full_names = {self._settings.topic(name): name for name in TOPICS}
        asked = self._client.describe_topics(
            TopicCollection(list(full_names)), request_timeout=ANSWER_S
        )
        found = {}
        for full, future in asked.items():
            try:
                found[full_names[full]] = future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        return found

    def _ends(self, names: tuple[str, ...]) -> dict[Place, int]:
        places = {
            (self._settings.topic(name), number): (name, number)
            for name in names
            for number in range(self.partitions.get(name, 0))
        }
        found = ends(self._group, places, ANSWER_S)
        return {places[place]: offset for place, offset in found.items()}

    def _committed(self) -> dict[Place, int]:
        full_names = {self._settings.topic(name): name for name in TOPICS}
        places = [
            (full, number)
            for full, name in full_names.items()
            for number in range(self.partitions.get(name, 0))
        ]
        found = committed(self._group, places, ANSWER_S)
        return {(full_names[full], number): offset for (full, number), offset in found.items()}

    def _members(self) -> int:
        (future,) = self._client.describe_consumer_groups(
            [self._settings.group], request_timeout=ANSWER_S
        ).values()
        try:
            return len(future.result().members)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            raise

    def _ask(self, question: Callable[[], Any]) -> Any:
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                found = question()
            except KafkaException as error:
                reason = error.args[0]
                if is_denied(reason):
                    what = f"what an import asks of {self._settings.group}'s topics and offsets"
                    raise CheckFailed(denied(self._settings, reason, what)) from error
                # One that has answered before is busy, one that has not is not there.
                busy = self._heard and reason.code() == KafkaError._TIMED_OUT
                if not (busy or reason.code() in _PASSING) or time.monotonic() > deadline_s:
                    raise self._unreachable(reason) from error
            else:
                self._heard = True
                return found
            time.sleep(LOOK_EVERY_S)

    def _unreachable(self, reason: KafkaError) -> CommandError:
        self._client.poll(0)  # Its callbacks run here: time-outs do not say why.
        if isinstance(self._client, admin.Client) and self._client.not_let_in:
            return UsageProblem(self._client.not_let_in)
        why = getattr(self._client, "last_error", "") or reason.str() or reason.name()
        return Unreachable(
            f"Kafka at {self._settings.bootstrap} did not answer: {why}. Remedy: see that it "
            "is up, or name another with --bootstrap or OBJECTIONS_BOOTSTRAP."
        )


class Observer:
    """Tells *pace*, from a thread of its own, how long records wait for the workers."""

    def __init__(self, cluster: Cluster, pace: Pace) -> None:
        self._cluster = cluster
        self._pace = pace
        self._waiting = Waiting()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._observe, name="observe workers", daemon=True)
        self.workers = cluster.members()
        pace.free = not self.workers
        self.waits_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _observe(self) -> None:
        asked_s = heard_s = time.monotonic()
        while not self._ended.wait(LOOK_EVERY_S):
            now_s = time.monotonic()
            try:
                if now_s - asked_s > MEMBERS_EVERY_S:
                    asked_s = now_s
                    self.workers = self._cluster.members()
                    if self.workers:  # Once there, they are waited for when they are away.
                        self._pace.free = False
                self._look()
                heard_s = now_s
            except Unreachable:
                # What is not known counts as waiting; the producer says whether Kafka is away.
                self._pace.looked(now_s, now_s - heard_s)

    def _look(self) -> None:
        committed: Mapping[Place, int] = self._cluster.committed()
        now_s = time.monotonic()
        self.waits_s = self._waiting.waits_s(now_s, committed)
        self._pace.looked(now_s, self.waits_s)
        self._waiting.looked(time.monotonic(), self._cluster.ends())

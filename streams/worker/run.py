"""
Runs a worker from start to end: waits for Kafka, refuses what is unsafe, leaves cleanly.
"""

import asyncio
import faulthandler
import fcntl
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvloop
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

import topics
from streams.core.policy import Policy
from streams.errors import CheckFailed, CommandError, Unreachable, UsageProblem
from streams.kafka import admin
from streams.kafka.denied import perhaps_hidden
from streams.kafka.topics_compare import FIXED_COUNT, Cluster
from streams.metrics import Metrics
from streams.policy_file import policy_of
from streams.serving import Ending
from streams.settings import Settings
from streams.tracing import Spans, open_spans
from streams.worker.app import ObjectionWorker, make_app, read_instance
from streams.worker.copies import Changelogs
from streams.worker.http import check_token
from streams.worker.names import (
    AUDIT_TRAIL,
    CHANGELOGS,
    DECISIONS,
    LINK_TOPICS,
    OUTPUTS,
    USERS_CHANGELOG,
    followed,
)
from streams.worker.receipt_notes import Following
from streams.worker.rights import check_rights

logger = logging.getLogger(__name__)

ADULT_AGE: Final = Policy().adult_age
SERVICE: Final = "objections-worker"  # among others that send spans
FIRST_ANSWER_S: Final = 1.5  # who waits at a terminal wants to hear soon that there is no Kafka
FIRST_PAUSE_S: Final = 0.5
LAST_PAUSE_S: Final = 15.0


def run_worker(settings: Settings) -> None:
    """
    Run a worker until a signal ends it.

    Raises CommandError (exit statuses 1 to 3) or Halt, with the reason.
    """
    check_token(settings)
    policy = policy_of(settings.policy)
    signal.signal(signal.SIGTERM, _interrupt)
    faulthandler.enable()  # a crash within a client library would leave no word in the log
    with _own(settings.state_dir):
        _announce(settings, policy)
        try:
            _run(settings, policy)
        except KeyboardInterrupt:
            logger.info("stopped before anything was begun")


def _run(settings: Settings, policy: Policy) -> None:
    spans = open_spans(SERVICE, os.environ)
    try:
        changelogs = _look(settings)
        instance = read_instance(settings.state_dir)
        spare_the_collector()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, policy, changelogs, instance, spans))
    finally:
        if spans is not None:
            spans.close()


def _look(settings: Settings) -> Changelogs:
    """Look whether the topics are as they must be, by a client that is gone before work begins."""
    client = admin.connect(settings)
    cluster = wait_for_kafka(client, settings)
    check_topics(cluster, settings)
    check_rights(client, settings, cluster.topics)
    if not followed(cluster.topics).links:
        logger.warning(
            "%s do not exist: LINKS OF ACCOUNTS ARE NOT FOLLOWED until they are made with "
            "`objections topics apply` and this worker is started again",
            " and ".join(map(settings.topic, LINK_TOPICS)),
        )
    if AUDIT_TRAIL not in cluster.topics:
        logger.warning(
            "%s does not exist: NO AUDIT TRAIL IS KEPT until it is made with `objections topics "
            "apply` and this worker is started again",
            settings.topic(AUDIT_TRAIL),
        )
    return identify(client, settings, cluster)


def wait_for_kafka(client: AdminClient, settings: Settings) -> Cluster:
    """Return the cluster as found; says so at once when it cannot be reached, and keeps trying."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return admin.look(client, settings, timeout_s=FIRST_ANSWER_S)
        except Unreachable as error:
            logger.warning("%s; trying again in %.1f s", error, pause_s)
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, LAST_PAUSE_S)


def check_topics(cluster: Cluster, settings: Settings) -> None:
    """Raise CheckFailed, naming the topics, where the promises cannot be kept on *cluster*."""
    missing = [name for name in topics.names() if name not in cluster.topics]
    if all(topics.definition(name).optional for name in missing):
        missing = []
    problems = [f"{settings.topic(name)} does not exist" for name in missing]
    without = [name for name in LINK_TOPICS if name not in cluster.topics]
    if len(without) == 1:
        problems.append(
            f"{settings.topic(without[0])} does not exist, of the two that tell of linked accounts"
        )
    counts = {
        name: found.partitions
        for name, found in cluster.topics.items()
        if topics.definition(name).partitions == "shared"
    }
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{settings.topic(name)} {count}" for name, count in counts.items())
        problems.append(f"partition counts differ: {shown}: {FIXED_COUNT}")
    for name, found in cluster.topics.items():
        if found.config.get("message.timestamp.type") != "LogAppendTime":
            problems.append(f"{settings.topic(name)}: message.timestamp.type is not LogAppendTime")
    recorded = _recorded_partitions(settings)
    if recorded is not None and recorded != counts.get("objections"):
        problems.append(
            f"{settings.topic('objections')} has {counts.get('objections')} partitions, the state "
            f"in {settings.state_dir} was made with {recorded}: the count is fixed for the life of "
            "a prefix; use a new OBJECTIONS_TOPIC_PREFIX, or the state of this one"
        )
    if problems:
        advice = "mend it with `objections topics apply`, look with `objections topics check`"
        if missing and (hidden := perhaps_hidden(settings)):
            advice += f";{hidden}"
        raise CheckFailed("\n".join([*problems, advice]))
    _record_partitions(settings, counts["objections"])


def identify(client: AdminClient, settings: Settings, cluster: Cluster) -> Changelogs:
    """Return what tells the changelogs from others that had their names before."""
    names = {settings.topic(name): name for name in (*CHANGELOGS, *DECISIONS)}
    found = client.describe_topics(TopicCollection(list(names)))
    ids = {names[full]: str(future.result().topic_id) for full, future in found.items()}
    retention = cluster.topics[USERS_CHANGELOG].config["delete.retention.ms"]
    return Changelogs(
        {name: ids[name] for name in CHANGELOGS},
        int(retention),
        " ".join(ids[name] for name in DECISIONS),
        cluster.topics[USERS_CHANGELOG].partitions,
        AUDIT_TRAIL in cluster.topics,
        followed(cluster.topics),
    )


def spare_the_collector() -> None:
    """Let Python's cyclic collector look less often: the hot path makes no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


async def _serve(
    settings: Settings,
    policy: Policy,
    changelogs: Changelogs,
    instance: str,
    spans: Spans | None,
) -> None:
    ending = Ending()
    app = make_app(settings)
    metrics = Metrics(
        [settings.topic(name) for name in changelogs.followed.all],
        [settings.topic(name) for name in OUTPUTS],
        {each.name: Following.of(each).phases for each in settings.stores},
    )
    worker = ObjectionWorker(app, settings, policy, changelogs, metrics, instance, spans)
    app.finalize()
    await worker.start()
    faust_started = asyncio.ensure_future(app.start())  # done at the first assignment
    try:
        await ending.wait(worker.failure)
        logger.info("stopping: the cycle in hand is finished first")
    finally:
        await worker.stop()
        await app.stop()
        faust_started.cancel()
    ending.check()


@contextmanager
def _own(state_dir: Path) -> Iterator[None]:
    """Hold the folder of the local stores: two workers on it would break both."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # dates of birth are in it
        lock = (state_dir / "lock").open("w")
    except OSError as error:
        raise UsageProblem(f"OBJECTIONS_STATE_DIR: {state_dir} cannot be used: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageProblem(
                f"OBJECTIONS_STATE_DIR: {state_dir} is in use by another worker; give each its own"
            ) from error
        yield


def _recorded_partitions(settings: Settings) -> int | None:
    """Return the partition count the state was made with; None where there is no state."""
    path = settings.state_dir / settings.group / "partitions"
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: {error}; remove the file to have it made again") from error


def _record_partitions(settings: Settings, count: int) -> None:
    path = settings.state_dir / settings.group / "partitions"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(count))


def _announce(settings: Settings, policy: Policy) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for name in ("faust", "mode", "aiokafka", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logger.info(
        "worker of group %s, state in %s, Kafka at %s",
        settings.group,
        settings.state_dir,
        settings.bootstrap,
    )
    logger.info("policy %d, %s", policy.version, settings.policy or "as built in")
    if settings.subject_key is not None:
        logger.info(
            "users go by pseudonyms (OBJECTIONS_SUBJECT_KEY, fingerprint %s)",
            settings.subjects().fingerprint,
        )
    if policy.adult_age < ADULT_AGE:
        logger.warning("THE POLICY COUNTS PEOPLE AS ADULTS FROM %d YEARS ON", policy.adult_age)
    if settings.kafka_options:
        logger.info("Kafka options: %s", settings.shown_kafka_options())
    for store in settings.stores:
        followed = f"group {store.group}" if store.group else "its acknowledgements"
        logger.info("store %s: %s of %s", store.name, followed, " and ".join(store.topics))
    if settings.clock_offset_s:
        logger.warning(
            "THE CLOCK IS OFF BY %+.0f s (OBJECTIONS_CLOCK_OFFSET_S): decisions that depend on "
            "time are a rehearsal",
            settings.clock_offset_s,
        )


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt

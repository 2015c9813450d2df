"""
Where a demo runs: its Kafka, topics, folder and settings; and how all of it goes away again.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException

import topics
from streams.demo.report import Report
from streams.demo.stores import FEATURE_STORE, TRAINING_INDEX, DeltaStore, SqliteStore, Store
from streams.errors import CommandError
from streams.kafka import admin
from streams.kafka.local import HOST, LocalKafka
from streams.kafka.ports import free_port
from streams.kafka.topics_compare import shared_partitions
from streams.settings import KAFKA_PREFIX, Settings

DEFAULT_PARTITIONS: Final = 4
DELETE_TIMEOUT_S: Final = 30.0
FOLLOWED: Final = "training-users+training-content"

# Of the surroundings' settings these would tell another story than the demo's.
_NOT_TAKEN: Final = (
    "OBJECTIONS_CLOCK_OFFSET_S",
    "OBJECTIONS_GROUP",
    "OBJECTIONS_POLICY",
    "OBJECTIONS_STORES",
)


@dataclass(frozen=True, slots=True)
class Place:
    """
    Everything a demo needs to run.

    environ: what the processes of this place are started with; *settings* says the same.
    http: HOST:PORT where its worker is to answer.
    """

    folder: Path
    settings: Settings
    environ: Mapping[str, str]
    partitions: int
    http: str
    stores: tuple[Store, ...]


@contextmanager
def make_place(bootstrap: str | None, partitions: int | None, report: Report) -> Iterator[Place]:
    """
    Yield a place with a Kafka that has the topics; stop and remove what was made for it.

    bootstrap: a running Kafka; None starts one.  On a running one everything happens under a
    prefix that nobody has, and its topics are deleted in the end, unless
    OBJECTIONS_TOPIC_PREFIX names one.  After an error folder and topics are left to look at.
    """
    folder = Path(tempfile.mkdtemp(prefix="objections-demo-"))
    stores = (
        SqliteStore(FEATURE_STORE, folder / "features.sqlite"),
        DeltaStore(TRAINING_INDEX, folder / "index"),
    )
    prefix = os.environ.get("OBJECTIONS_TOPIC_PREFIX", "").strip()
    try:
        with ExitStack() as stack:
            environ = {name: text for name, text in os.environ.items() if name not in _NOT_TAKEN}
            throw_away = not prefix and bootstrap is not None
            if bootstrap is None:
                environ = _without_kafka_options(environ)
                bootstrap = stack.enter_context(_own_kafka(folder, report)).bootstrap
            if throw_away:
                prefix = f"demo-{uuid.uuid4().hex[:8]}."
            environ |= {
                "OBJECTIONS_BOOTSTRAP": bootstrap,
                "OBJECTIONS_TOPIC_PREFIX": prefix,
                "OBJECTIONS_STATE_DIR": str(folder / "state"),
                "OBJECTIONS_HTTP": f"{HOST}:{free_port()}",
                "OBJECTIONS_STORES": ";".join(f"{each.name}={FOLLOWED}" for each in stores),
            }
            settings = Settings.read(environ)
            if throw_away:
                stack.enter_context(_thrown_away(settings))
            count = _make_topics(settings, partitions)
            yield Place(folder, settings, environ, count, environ["OBJECTIONS_HTTP"], stores)
    except Exception:
        if any(folder.iterdir()):
            report.say(f"Logs and stores are left in {folder}")
        else:
            folder.rmdir()
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _without_kafka_options(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* for a Kafka of our own: credentials of another one are not for it."""
    return {name: text for name, text in environ.items() if not name.startswith(KAFKA_PREFIX)}


def _own_kafka(folder: Path, report: Report) -> LocalKafka:
    report.say("Starting a Kafka on this machine ...")
    return LocalKafka(folder / "kafka", say=report.say)


def _make_topics(settings: Settings, partitions: int | None) -> int:
    """Make the topics as far as they are missing; return their number of partitions."""
    client = admin.connect(settings)
    count = partitions or shared_partitions(admin.look(client, settings)) or DEFAULT_PARTITIONS
    return admin.apply(client, settings, count).partitions


@contextmanager
def _thrown_away(settings: Settings) -> Iterator[None]:
    """Delete the topics of a prefix that was made up for this run, unless it fails."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        _delete_topics(settings)
        raise
    _delete_topics(settings)


def _delete_topics(settings: Settings) -> None:
    """Delete the topics; the group's offsets in them, and so the group, go along with them."""
    client = admin.connect(settings)
    names = [settings.topic(name) for name in topics.names()]
    try:
        for future in client.delete_topics(names, operation_timeout=DELETE_TIMEOUT_S).values():
            future.result(DELETE_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        message = f"topics beginning with {settings.topic_prefix!r} could not be deleted: {error}"
        raise CommandError(message) from error

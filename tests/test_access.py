"""
Who may do what: a real Kafka that demands TLS and passwords, with the rights of deploy/acls.

Each role does its whole job with them, and can do nothing else.
"""

import json
import time
from collections.abc import Iterable, Iterator
from typing import Final

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

import topics
from streams.kafka.reader import reader
from tests.access_scene import PREFIX, ROLES, STRANGER, TABLE_PREFIX, Access, access
from tests.monitor_scene import Monitor
from tests.worker_process import Worker
from tests.worker_settings import QUIET, WAIT_S, wait_for

SINK: Final = "store.sqlite"

# What the issue of rights is about, said apart from deploy/acls: who may read, who may write.
READERS: Final = {
    "objections": "worker auditor operator monitor",
    "account-ages": "worker auditor operator monitor",
    "notices": "worker auditor operator monitor",
    "content": "worker auditor operator monitor",
    "eligibility": "worker auditor",
    "training-users": "worker subscriber auditor monitor",
    "training-content": "worker subscriber auditor monitor",
    "purge-acks": "worker subscriber auditor monitor",
    "receipts": "importer auditor",
    "dead-letters": "auditor operator",
    "objections-users-changelog": "worker auditor operator monitor",
    "objections-content-changelog": "worker auditor",
}
WRITERS: Final = {
    "objections": "importer operator",
    "account-ages": "importer operator",
    "notices": "importer operator",
    "content": "importer operator",
    "eligibility": "worker",
    "training-users": "worker",
    "training-content": "worker",
    "purge-acks": "subscriber",
    "receipts": "worker",
    "dead-letters": "worker",
    "objections-users-changelog": "worker",
    "objections-content-changelog": "worker",
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """Return the Kafka that refuses."""
    with access(tmp_path_factory.mktemp("access")) as found:
        yield found


@pytest.fixture(scope="module")
def worker(scene: Access) -> Iterator[Worker]:
    """Return a worker with its role's rights, which has decided on what the importer brought."""
    with scene.worker("state") as found:
        found.wait_ready()
        for topic in ("account-ages", "notices", "objections", "content"):
            done = scene.run("importer", "import", scene.file(topic), "--topic", topic)
            assert 0 == done.status, done
        yield found


def test_every_topic_is_in_the_tables() -> None:
    """
    The tables say of every topic who may read and who may write it.
    """
    assert set(topics.names()) == READERS.keys() == WRITERS.keys()


def test_worker_and_importer_do_their_jobs(scene: Access, worker: Worker) -> None:
    """
    The worker is ready and publishes what follows from the importer's records.
    """
    found = read_all(scene, "auditor", ("eligibility", "training-content"))

    assert {"ann", "bob"} == {key for topic, key in found if topic == "eligibility"}
    assert found["training-content", "a1"] is not None
    assert found["training-content", "b1"] is None
    assert (200, "serving") == (worker.get("/readyz").status, worker.get("/readyz").text[:7])
    assert "authorization" not in worker.log().lower()


def test_subscriber_and_auditor_do_their_jobs(scene: Access, worker: Worker) -> None:
    """
    A store is filled and acknowledged; it is audited; a user, an objection are explained.
    """
    sink = f"sqlite:{scene.folder / SINK}"
    filled = scene.run("subscriber", "subscribe", "--sink", sink, "--store", "index", "--once")
    audited = scene.run("auditor", "audit", "--sink", sink, "--store", "index", "--json")
    explained = scene.run("auditor", "explain", "bob", "--json")
    receipt = scene.run("auditor", "receipt", "o-bob")
    checked = scene.run("auditor", "topics", "check")

    assert 0 == filled.status, filled
    assert 0 == audited.status, audited
    assert 1 == json.loads(audited.output)["items_found"]
    assert 0 == explained.status, explained
    assert "o-bob" in explained.output
    assert 0 == receipt.status, receipt
    assert checked.status in (0, 1), checked  # replication 1 is a finding
    assert "refused" not in checked.errors


def test_operator_does_its_job(scene: Access, worker: Worker) -> None:
    """
    Dead letters are listed.
    """
    listed = scene.run("operator", "dead-letters", "list")

    assert 0 == listed.status, listed


def test_monitor_does_its_job(scene: Access, worker: Worker) -> None:
    """
    The monitor is ready, with its rights and without the worker's.
    """
    variables = scene.secured.variables("monitor", STORES="index=training-users+training-content")
    with Monitor(scene.secured.kafka, PREFIX, scene.folder / "monitor", **variables) as monitor:
        monitor.wait_ready()
        assert 0 == monitor.metric("objections_consumer_lag_records")


@pytest.mark.parametrize("role", [*ROLES, STRANGER])
def test_reads_what_its_role_reads_and_nothing_else(scene: Access, role: str) -> None:
    """
    Of each topic Kafka gives a role what the table says: all of it, or a refusal.
    """
    allowed = {name for name, who in READERS.items() if role in who.split()}

    assert allowed == readable(scene, role)


@pytest.mark.parametrize("role", [*ROLES, STRANGER])
def test_writes_what_its_role_writes_and_nothing_else(scene: Access, role: str) -> None:
    """
    Kafka takes a role's records for the topics the table says, and for no other.
    """
    allowed = {name for name, who in WRITERS.items() if role in who.split()}

    assert allowed == writable(scene, role)


@pytest.mark.parametrize("role", [role for role in (*ROLES, STRANGER) if role != "worker"])
def test_only_workers_use_the_workers_group_and_transactions(scene: Access, role: str) -> None:
    """
    Nobody else can join their group, or fence their producers.
    """
    settings = scene.secured.settings(role, TABLE_PREFIX)
    producer = Producer(settings.kafka(transactional_id=f"{settings.group}-x"), logger=QUIET)
    consumer = reader(settings, logger=QUIET)
    consumer.subscribe([settings.topic("objections")])

    def is_refused() -> bool:
        message = consumer.poll(1.0)
        error = None if message is None else message.error()
        return error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED

    with pytest.raises(KafkaException) as fenced:
        producer.init_transactions(WAIT_S)
    wait_for(is_refused, "the group's refusal", 20)
    consumer.close()

    assert KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED == fenced.value.args[0].code()


def readable(scene: Access, role: str) -> set[str]:
    """Return the topics of TABLE_PREFIX that *role* can read; each is heard of."""
    settings = scene.secured.settings(role, TABLE_PREFIX)
    consumer = Consumer(
        settings.kafka(
            group_id="unused",
            enable_auto_commit=False,
            enable_partition_eof=True,
            isolation_level="read_committed",
        ),
        logger=QUIET,
    )
    names = {settings.topic(name): name for name in topics.names()}
    said: dict[str, bool] = {}
    for full, name in names.items():  # of what it may not even see nothing more is said
        error = consumer.list_topics(full, timeout=WAIT_S).topics[full].error
        if error is not None:
            assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, error
            said[name] = False
    seen = [full for full, name in names.items() if name not in said]
    consumer.assign([TopicPartition(full, 0, OFFSET_BEGINNING) for full in seen])
    deadline_s = time.monotonic() + WAIT_S
    try:
        while len(said) < len(names):
            assert time.monotonic() < deadline_s, f"nothing heard of {names.keys() - said.keys()}"
            message = consumer.poll(0.5)
            if message is None or message.topic() not in names:
                continue
            error = message.error()
            denied = error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
            assert error is None or denied or error.code() == KafkaError._PARTITION_EOF, error
            said[names[message.topic() or ""]] = not denied
    finally:
        consumer.close()
    return {name for name, is_let in said.items() if is_let}


def writable(scene: Access, role: str) -> set[str]:
    """Return the topics of TABLE_PREFIX that take a record of *role*; each has answered."""
    settings = scene.secured.settings(role, TABLE_PREFIX)
    producer = Producer(settings.kafka(acks="all"), logger=QUIET)
    said: dict[str, KafkaError | None] = {}

    def delivered(error: KafkaError | None, message: Message) -> None:
        said[(message.topic() or "").removeprefix(TABLE_PREFIX)] = error

    for name in topics.names():
        producer.produce(settings.topic(name), b"{}", b"k", 0, on_delivery=delivered)
    producer.flush(WAIT_S)
    assert set(topics.names()) == said.keys()
    codes = {error.code() for error in said.values() if error is not None}
    assert codes <= {KafkaError.TOPIC_AUTHORIZATION_FAILED}, said
    return {name for name, error in said.items() if error is None}


def read_all(scene: Access, role: str, names: Iterable[str]) -> dict[tuple[str, str], bytes | None]:
    """Return the last value of each key of the topics *names* of PREFIX, as *role* reads them."""
    settings = scene.secured.settings(role, PREFIX)
    consumer = reader(settings, logger=QUIET)
    full = {settings.topic(name): name for name in names}
    places = [
        TopicPartition(each, number, OFFSET_BEGINNING) for each in full for number in range(2)
    ]
    consumer.assign(places)
    found: dict[tuple[str, str], bytes | None] = {}
    ended = 0
    deadline_s = time.monotonic() + WAIT_S
    while ended < len(places):
        assert time.monotonic() < deadline_s
        message = consumer.poll(0.5)
        if message is None:
            continue
        error = message.error()
        if error is not None:
            assert error.code() == KafkaError._PARTITION_EOF, error
            ended += 1
            continue
        key = message.key()
        assert isinstance(key, bytes)
        found[full[message.topic() or ""], key.decode()] = message.value()
    consumer.close()
    return found

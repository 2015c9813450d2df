"""
What a worker does about the transaction that one before it has left open.
"""

from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streams.kafka.local import LocalKafka
from streams.settings import Settings
from streams.worker.left_open import roll_back, transactional_id
from tests.restore_scene import objection
from tests.worker_process import (
    PARTITIONS,
    Inputs,
    Worker,
    apply_topics,
    read_outputs,
    settings_of,
    wait_for,
    wait_until_caught_up,
)

ANSWER_S = 10.0
LEFT_OPEN_MS = 300_000  # nobody who waits for its timeout is ready within a test's time
INSTANCE = "0123456789ab"


@pytest.fixture
def settings(kafka: LocalKafka, prefix: str) -> Settings:
    """Return the settings of topics that hold an objection."""
    apply_topics(kafka, prefix)
    with Inputs(kafka, prefix) as inputs:
        inputs.send(("objections", objection("u1", "o1")))
    return settings_of(kafka, prefix)


@pytest.fixture
def owner(settings: Settings) -> Producer:
    """Return the producer of a worker that has committed, and has a transaction open."""
    known_by = transactional_id(settings, INSTANCE)
    options = {"transactional_id": known_by, "transaction_timeout_ms": LEFT_OPEN_MS}
    owner = Producer(settings.kafka(**options))
    owner.init_transactions(ANSWER_S)
    send_offsets(settings, owner, known_by)
    owner.commit_transaction(ANSWER_S)
    send_offsets(settings, owner, known_by)
    return owner


def send_offsets(settings: Settings, owner: Producer, known_by: str) -> None:
    """Begin a transaction with offsets, as a worker does."""
    topic = settings.topic("objections")
    offsets = [TopicPartition(topic, number, 0, known_by) for number in range(PARTITIONS)]
    member = join(settings, "objections-elsewhere")
    owner.begin_transaction()
    owner.send_offsets_to_transaction(offsets, member.consumer_group_metadata(), ANSWER_S)
    member.close()


def join(settings: Settings, client_id: str) -> Consumer:
    """Return a new member of the workers' group."""
    options = {"group_id": settings.group, "client_id": client_id, "enable_auto_commit": False}
    member = Consumer(settings.kafka(**options))
    member.subscribe([settings.topic("objections")])
    wait_for(lambda: member.poll(0.1) is None and bool(member.assignment()), "membership")
    return member


@pytest.mark.usefixtures("owner")
def test_what_a_dead_worker_has_left_open_is_rolled_back(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """Its offsets are held back for minutes yet; the one that takes over serves at once."""
    with Worker(kafka, prefix, tmp_path / "state") as worker:
        worker.wait_ready()
        wait_until_caught_up(kafka, prefix, workers=[worker])

        assert f"objections-{INSTANCE} is gone" in worker.log()
    assert ["u1"] == [each.key_text for each in read_outputs(kafka, prefix)["eligibility"]]


def test_who_is_in_the_group_is_left_alone(settings: Settings, owner: Producer) -> None:
    """Its transaction is on its way: it can still commit it."""
    member = join(settings, f"objections-{INSTANCE}")

    assert [] == roll_back(settings, range(PARTITIONS))

    owner.commit_transaction(ANSWER_S)
    member.close()


def test_without_client_ids_of_their_own_workers_are_not_told_apart(
    kafka: LocalKafka, prefix: str, owner: Producer
) -> None:
    """Where OBJECTIONS_KAFKA_CLIENT_ID names all workers alike nobody is taken for dead."""
    settings = settings_of(kafka, prefix, KAFKA_CLIENT_ID="all-alike")

    assert [] == roll_back(settings, range(PARTITIONS))

    owner.commit_transaction(ANSWER_S)

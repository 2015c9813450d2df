"""
A worker that takes partitions over: what it waits for before it decides, and before it grants.
"""

from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from streams.core.changes import Cause, UserRow
from streams.core.policy import Policy
from streams.core.user import User
from streams.core.verdict import decide
from streams.kafka.local import LocalKafka
from streams.proof import INPUTS
from streams.settings import Settings
from streams.state import rows
from tests.restore_scene import objection
from tests.worker_process import (
    Inputs,
    Worker,
    apply_topics,
    assert_proven,
    read_outputs,
    settings_of,
    wait_for,
    wait_until_caught_up,
)

USERS_CHANGELOG = "objections-users-changelog"
LONG_AGO = "2026-01-01T00:00:00Z"
BACKLOG = 4_000  # objections
ANSWER_S = 10.0
WAITING = "restore waits for the group's offsets"


def test_a_pending_transaction_of_the_owner_before_is_waited_for(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    The owner before has sent its offsets, not yet its rows, when its partitions move.

    The new one asks for the offsets first, waits while they are pending, and only then looks how
    far the changelogs go: so it finds the rows that were committed with those offsets, and does
    not decide anew what was decided.
    """
    apply_topics(kafka, prefix)
    settings = settings_of(kafka, prefix)
    with Inputs(kafka, prefix) as inputs:
        (sent,) = inputs.send(("objections", objection("u1", "o1")))
    place = TopicPartition(settings.topic("objections"), sent.partition, sent.offset + 1)
    owner = Producer(settings.kafka(transactional_id="owner", transaction_timeout_ms=30_000))
    owner.init_transactions(ANSWER_S)
    owner.begin_transaction()
    member = _member(settings)
    owner.send_offsets_to_transaction([place], member.consumer_group_metadata(), ANSWER_S)
    member.close()

    with Worker(kafka, prefix, tmp_path / "state") as worker:
        wait_for(lambda: WAITING in worker.log(), "the offsets are waited for")
        row = _decided(settings, sent.partition)
        changelog = settings.topic(USERS_CHANGELOG)
        position = rows.position_key("objections"), rows.encode_number(sent.offset + 1)
        for key, value in ((rows.user_key("u1"), rows.encode_user(row)), position):
            owner.produce(changelog, value, key, sent.partition)
        owner.commit_transaction(ANSWER_S)
        worker.wait_ready()
        with Inputs(kafka, prefix) as inputs:
            inputs.send(("objections", objection("u2", "o2")), partition=sent.partition)
        wait_until_caught_up(kafka, prefix, workers=[worker])

        assert "read from the lower" not in worker.log()
    assert ["u2"] == [each.key_text for each in read_outputs(kafka, prefix)["eligibility"]]


def test_an_aborted_beginning_is_no_loss(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    The first transaction ever was aborted: outputs have an end, changelogs and offsets nothing.

    That is no state that was lost; a rebuild from nothing would only begin later epochs.
    """
    apply_topics(kafka, prefix)
    settings = settings_of(kafka, prefix)
    owner = Producer(settings.kafka(transactional_id="owner"))
    owner.init_transactions(ANSWER_S)
    owner.begin_transaction()
    for output in ("eligibility", "training-content"):
        owner.produce(settings.topic(output), b"{}", b"k", 0)
    owner.flush(ANSWER_S)
    owner.abort_transaction(ANSWER_S)

    with Worker(kafka, prefix, tmp_path / "state") as worker, Inputs(kafka, prefix) as inputs:
        inputs.send(("objections", objection("u1", "o1")))
        wait_until_caught_up(kafka, prefix, workers=[worker])

        assert "HAS LOST" not in worker.log()
    assert_proven(kafka, prefix)


def _member(settings: Settings) -> Consumer:
    """Return a member of the group, which has all partitions."""
    options = {"partition_assignment_strategy": "range", "enable_auto_commit": False}
    member = Consumer(settings.kafka(group_id=settings.group, **options))
    member.subscribe([settings.topic(name) for name in INPUTS])
    wait_for(lambda: member.poll(0.05) is None and bool(member.assignment()), "an assignment")
    return member


def _decided(settings: Settings, partition: int) -> UserRow:
    """Return the row of a user with an objection to everything."""
    user = User({"o1": 15})
    decision, next_change_ms = decide(user, Policy(), 0)
    cause = Cause(settings.topic("objections"), partition, 0, "o1")
    return UserRow(user, 1, decision, next_change_ms, Policy().version, 0, cause)


def test_no_grant_leaves_before_the_backlog_of_objections_is_read(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    While no worker ran, users came of age and got their notices, and last of all they objected.

    Their objections lie behind thousands of others, which take many transactions.  Not one grant
    is published meanwhile, neither of the users nor of their items.
    """
    apply_topics(kafka, prefix)
    users = [f"late{number}" for number in range(40)]
    with Inputs(kafka, prefix) as inputs:
        for number in range(BACKLOG):
            inputs.queue("objections", objection(f"early{number}", "o"))
        for user_id in users:
            age = {"observed_at": LONG_AGO, "birth_date": "1980-01-01", "country": "DE"}
            inputs.queue("account-ages", {"user_id": user_id, **age})
            notice = {"notice_id": f"n-{user_id}", "delivered_at": LONG_AGO}
            inputs.queue("notices", {"user_id": user_id, **notice})
            inputs.queue("content", item_of(user_id))
        inputs.flush()  # so that ages and notices can be read long before what follows
        for user_id in users:
            inputs.queue("objections", objection(user_id, "o"))
        inputs.flush()

    with Worker(kafka, prefix, tmp_path / "state", BATCH_RECORDS=100) as worker:
        worker.wait_ready()
        wait_until_caught_up(kafka, prefix, workers=[worker])
    outputs = assert_proven(kafka, prefix)

    assert [] == outputs["training-users"]
    assert [None] * len(users) == [record.value for record in outputs["training-content"]]


def item_of(user_id: str) -> dict[str, object]:
    """Return a public post of a user."""
    return {
        "user_id": user_id,
        "content_id": f"c-{user_id}",
        "revision": 1,
        "product": "instagram",
        "kind": "post",
        "visibility": "public",
        "modality": "text",
        "created_at": LONG_AGO,
    }

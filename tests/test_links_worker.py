"""
Linked accounts around the core: intake, partition, dead letters, proof, explanation, start.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

import topics
from streams.core.links import Inherited, Link, Tell
from streams.core.reasons import ALL_PRODUCTS
from streams.core.subjects import Subjects
from streams.core.user import WITHDRAWN
from streams.errors import CheckFailed, Halt
from streams.explain.evidence import Evidence
from streams.explain.links import facts_of_links
from streams.kafka.partitioner import partition_of
from streams.kafka.topics_compare import Cluster, FoundTopic
from streams.proof import Record, expected
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Memory, Store
from streams.worker.backlog import Backlog, has_reached
from streams.worker.intake import Fetched, take_in
from streams.worker.names import (
    ACCOUNT_LINKS,
    INPUTS,
    LINK_TOPICS,
    TELLS,
    WITH_LINKS,
    WITHOUT_LINKS,
    followed,
)
from streams.worker.partition_counts import check_assignment
from streams.worker.run import check_topics
from tests.folding import Delivery
from tests.making import DEFAULTS, NOW_MS, grown_up, link, notice, objection, to_bytes
from tests.proving import as_input
from tests.test_partition import Desk, Message

PARTITIONS = 4
TELL = Tell("u2", Link(3, NOW_MS), ((("u2", "o1"), Inherited(ALL_PRODUCTS, NOW_MS)),), NOW_MS)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Return a desk that follows links."""
    store = Store(tmp_path / "0", Memory(1024 * 1024))
    yield Desk(store, ends=dict.fromkeys(WITH_LINKS.all, 0))
    store.close()


class _Told:
    """A record of `objections-links`, as librdkafka hands it over."""

    def __init__(self, value: bytes, key: bytes = b"u1") -> None:
        self._key, self._value = key, value

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return self._value

    def offset(self) -> int:
        return 0

    def timestamp(self) -> tuple[int, int]:
        return 2, NOW_MS + 9

    def headers(self) -> list[tuple[str, bytes]]:
        return [("traceparent", b"00-ab-cd-01")]


def fetched(value: bytes) -> Fetched:
    """Return a fetch of one tell."""
    messages: list[Any] = [_Told(value)]
    return Fetched(TELLS, 0, messages, 0)


@pytest.mark.parametrize("subjects", [Subjects(), Subjects("k" * 32)], ids=["ids", "pseudonyms"])
def test_a_linked_account_is_placed_by_its_id_and_named_as_users_are(subjects: Subjects) -> None:
    """The partition is that of its records; only who knows the id could compute it later."""
    messages: list[Any] = [Message(0, link(linked_user_id="u7"), NOW_MS)]
    intake = take_in(Fetched(ACCOUNT_LINKS, 0, messages, 0), ACCOUNT_LINKS, subjects, PARTITIONS)
    event: Any = intake.entries[0].event

    assert subjects.of("u1") == event.user_id
    assert {subjects.of("u7"): partition_of(b"u7", PARTITIONS)} == {
        name: each.partition for name, each in event.facts.links.items()
    }


def test_a_tell_is_decided_on_and_names_itself_as_the_cause(desk: Desk) -> None:
    """Its latency counts from the record that led to it."""
    outputs = desk.commit(take_in(fetched(rows.encode_tell(TELL)), TELLS))

    row = desk.partition.view.user("u1")
    assert row is not None
    assert (TELLS, 0, 0) == (row.cause.topic, row.cause.partition, row.cause.offset)
    headers = dict(outputs[0].headers)
    assert str(NOW_MS) == headers["objections_received_at"]
    assert b"00-ab-cd-01" == headers["traceparent"]


def test_a_tell_that_no_worker_wrote_ends_the_process() -> None:
    """As a damaged row of the state does: nobody but workers may write there."""
    with pytest.raises(Halt, match="what another partition's owner has told"):
        take_in(fetched(b"\x01no tell"), TELLS)
    with pytest.raises(Halt, match="a newer worker has written it"):
        take_in(fetched(bytes([rows.TELL_VERSION + 1])), TELLS)


def test_tells_go_out_with_the_cycle_that_they_come_of(desk: Desk) -> None:
    """In its own transaction, to the partition of the one told; without links there are none."""
    folded = desk.fold(desk.intake("objections", objection()))
    assert [] == folded.tells
    folded = desk.fold(desk.intake(ACCOUNT_LINKS, link()))

    (told,) = folded.tells
    assert ("u2", 0, "u1") == (told.user_id, told.partition, told.tell.sender)
    assert ((("u1", "o1"), ALL_PRODUCTS),) == tuple(
        (key, each.flags) for key, each in told.tell.objections
    )


def test_a_bad_link_restricts_whoever_it_is_about(desk: Desk) -> None:
    """It may have said that an objection holds for the account, too."""
    desk.commit(desk.intake(ACCOUNT_LINKS, link(action="merged")))

    row = desk.partition.view.user("u1")
    assert row is not None
    assert (f"{ACCOUNT_LINKS}/0/0",) == row.user.dead_letters


def test_the_truth_has_what_must_cross_also_where_nobody_was_told() -> None:
    """So a tell that was lost shows as a difference."""
    deliveries = [
        *(Delivery("account-ages", at, grown_up(user_id=f"u{at}"), NOW_MS) for at in (1, 2, 3)),
        *(Delivery("notices", at, notice(user_id=f"u{at}"), NOW_MS) for at in (1, 2, 3)),
        Delivery("objections", 0, objection(), NOW_MS),
        Delivery(ACCOUNT_LINKS, 0, link(), NOW_MS),
        Delivery(ACCOUNT_LINKS, 1, link(user_id="u3", linked_user_id="u2"), NOW_MS),
        Delivery(ACCOUNT_LINKS, 2, link(user_id="u3", linked_user_id=""), NOW_MS),
    ]
    inputs: dict[str, list[Record]] = {}
    for each in deliveries:
        inputs.setdefault(each.topic, []).append(as_input(each))
    truth = expected(inputs, DEFAULTS, NOW_MS)

    assert {
        "u1": ("OBJECTION",),
        "u2": ("OBJECTION",),
        "u3": ("OBJECTION", "UNREADABLE_INPUT"),
    } == {user_id: user.reasons["facebook"] for user_id, user in truth.users.items()}
    assert {f"{ACCOUNT_LINKS}/0/2"} == truth.bad.keys()


def test_an_explanation_names_the_account_an_objection_was_filed_on() -> None:
    """And the tells it came by, and the link."""
    evidence = Evidence("u1", 0, "")
    record = Record(TELLS, 0, 5, NOW_MS, b"u1", rows.encode_tell(TELL))
    assert evidence.wants(TELLS, b"u1")
    evidence.take(TELLS, record)
    evidence.take(ACCOUNT_LINKS, Record(ACCOUNT_LINKS, 0, 3, NOW_MS, b"u1", to_bytes(link())))
    (user,) = [each.facts for each in evidence.stated if each.topic == TELLS]
    inherited, linked = facts_of_links(user, evidence.stated)

    assert ("OBJECTION",) == inherited.reasons
    assert "objection o1 on the linked account u2, filed for all products" == inherited.says
    assert [f"{TELLS}/0/5"] == [each.place for each in inherited.sources]
    assert "linked with u2" in linked.says
    assert [f"{TELLS}/0/5", f"{ACCOUNT_LINKS}/0/3"] == [each.place for each in linked.sources]


def test_an_explanation_tells_of_a_withdrawal_and_of_an_unlinking() -> None:
    """Both are known, and of no effect any more."""
    told = ((("u2", "o1"), Inherited(ALL_PRODUCTS | WITHDRAWN, NOW_MS)),)
    link_ = Link(0, NOW_MS - 9, NOW_MS - 5, NOW_MS)
    evidence = Evidence("u1", 0, "")
    value = rows.encode_tell(Tell("u2", link_, told, NOW_MS))
    evidence.take(TELLS, Record(TELLS, 0, 0, NOW_MS, b"u1", value))
    inherited, linked = facts_of_links(evidence.stated[0].facts, evidence.stated)

    assert ((), "withdrawn, for good") == (inherited.reasons, inherited.because)
    assert "superseded" == inherited.standing == linked.standing


def test_links_are_followed_where_both_topics_are() -> None:
    """A cluster that has neither works as before."""
    assert WITHOUT_LINKS == followed(INPUTS)
    assert WITH_LINKS == followed((*INPUTS, *LINK_TOPICS))


def test_a_worker_does_not_start_with_one_of_the_two_topics(tmp_path: Path) -> None:
    """Objections would silently cover less than producers of links believe."""
    config = {"message.timestamp.type": "LogAppendTime"}
    found = {name: FoundTopic(4, 1, config) for name in topics.names() if name != TELLS}
    settings = Settings.read({"OBJECTIONS_STATE_DIR": str(tmp_path)})

    with pytest.raises(CheckFailed, match="objections-links does not exist, of the two"):
        check_topics(Cluster(1, found, {}), settings)


def test_a_worker_reads_links_of_its_own_partitions_whatever_the_group_gives() -> None:
    """Workers that were started before there were links leave their share of them to others."""
    ours = [TopicPartition(name, number) for name in INPUTS for number in (0, 1)]
    given = [TopicPartition(name, number) for name in LINK_TOPICS for number in range(PARTITIONS)]

    assert {0, 1} == check_assignment(Settings(), [*ours, *given], PARTITIONS)
    with pytest.raises(Halt, match="has more than the 4 partitions"):
        check_assignment(Settings(), [*ours, TopicPartition(ACCOUNT_LINKS, 4)], PARTITIONS)


def test_nothing_is_granted_before_links_and_tells_are_read() -> None:
    """At take-over, and whenever they lag later: what is unread may forbid it."""
    ends = {**dict.fromkeys(WITH_LINKS.all, 0), TELLS: 3}
    read = {(topic, 0): 0 for topic in WITH_LINKS.users}
    backlog = Backlog(WITH_LINKS)
    look = backlog.begin(0, ends)
    assert not has_reached(look, 0, read)
    assert has_reached(look, 0, {**read, (TELLS, 0): 3})

    backlog.fetched((ACCOUNT_LINKS, 0), 1)
    assert backlog.lags(0, {**read, (TELLS, 0): 3})


def test_a_hold_waits_until_tells_are_folded(desk: Desk) -> None:
    """The partition's gate opens once what was read of them is decided, too."""
    desk.partition.release_at({**dict.fromkeys(WITH_LINKS.users, 0), TELLS: 1})
    assert desk.partition.holding
    desk.commit(take_in(fetched(rows.encode_tell(TELL)), TELLS))

    assert not desk.partition.holding

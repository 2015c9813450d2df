"""
Transactions of our own on a real Kafka, and librdkafka's beside them: the same calls and ends.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams.core.outputs import Header
from streams.kafka.batches import BATCH_BYTES
from streams.kafka.local import LocalKafka
from streams.kafka.rdkafka_transactions import RdkafkaTransactions
from streams.kafka.reader import Place, committed, reader
from streams.kafka.transactions import Member, Transactions
from streams.settings import Settings
from streams.worker.transaction import FENCED
from tests.worker_settings import settings_of, wait_for

PARTITIONS: Final = 3
ANSWER_S: Final = 30.0
TIMEOUT_MS: Final = 10_000
HEADERS: Final[list[Header]] = [("ce_id", "1"), ("raw", b"\xff"), ("none", None)]
METADATA: Final = "who-it-was"

Either = Transactions | RdkafkaTransactions


@pytest.fixture
def settings(kafka: LocalKafka, prefix: str) -> Settings:
    """Return the settings of three topics: of an input, and of two outputs."""
    made = [NewTopic(f"{prefix}{name}", PARTITIONS, 1) for name in ("input", "one", "two")]
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for each in client.create_topics(made).values():
        each.result()
    return settings_of(kafka, prefix)


@pytest.fixture
def member(settings: Settings) -> Iterator[Consumer]:
    """Return a member of the group that owns all of the input."""
    consumer = Consumer(settings.kafka(group_id=settings.group, enable_auto_commit=False))
    consumer.subscribe([settings.topic("input")])
    wait_for(lambda: consumer.poll(0.1) is None and bool(consumer.assignment()), "membership")
    yield consumer
    consumer.close()


@pytest.fixture(params=["ours", "librdkafka"])
def transactions(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Either]:
    """Return transactions of either kind."""
    of_either = ours(settings) if request.param == "ours" else theirs(settings)
    of_either.init(ANSWER_S)
    yield of_either
    of_either.close()


def ours(settings: Settings) -> Transactions:
    """Return transactions of our own."""
    return Transactions(settings.kafka(), f"{settings.topic_prefix}producer", TIMEOUT_MS)


def theirs(settings: Settings) -> RdkafkaTransactions:
    """Return librdkafka's."""
    return RdkafkaTransactions(settings, f"{settings.topic_prefix}producer")


def transact(
    settings: Settings, transactions: Either, member: Consumer, records: list[tuple[str, int, Any]]
) -> None:
    """Commit *records* (topic, partition, value) with an offset of each partition of the input."""
    begin(settings, transactions, member, records)
    transactions.commit(ANSWER_S)


def begin(
    settings: Settings, transactions: Either, member: Consumer, records: list[tuple[str, int, Any]]
) -> None:
    """Begin a transaction with *records*."""
    transactions.begin()
    offsets = [
        TopicPartition(settings.topic("input"), number, 5 + number, METADATA)
        for number in range(PARTITIONS)
    ]
    transactions.send_offsets(offsets, member.consumer_group_metadata(), ANSWER_S)
    for topic, number, value in records:
        transactions.put((settings.topic(topic), number), b"k", value, HEADERS)


def read(settings: Settings, isolation: str = "read_committed") -> dict[Place, list[Any]]:
    """Return the values in each partition of the outputs, to their ends."""
    consumer = reader(settings, isolation=isolation)
    places = [(topic, number) for topic in ("one", "two") for number in range(PARTITIONS)]
    consumer.assign([TopicPartition(settings.topic(name), number, 0) for name, number in places])
    found: dict[Place, list[Any]] = {place: [] for place in places}
    left = set(places)
    while left:
        message = consumer.poll(ANSWER_S)
        assert message is not None, "Kafka is silent"
        topic, number = message.topic(), message.partition()
        assert topic is not None
        assert number is not None
        place = topic.removeprefix(settings.topic_prefix), number
        if message.error() is not None:
            left.discard(place)
            continue
        assert message.key() == b"k"
        assert message.headers() == [("ce_id", b"1"), ("raw", b"\xff"), ("none", None)]
        found[place].append(message.value())
    consumer.close()
    return found


def kept(settings: Settings) -> dict[Place, int]:
    """Return what the group has committed of the input."""
    consumer = reader(settings)
    places = [(settings.topic("input"), number) for number in range(PARTITIONS)]
    found = committed(consumer, places, ANSWER_S)
    consumer.close()
    return {(topic.removeprefix(settings.topic_prefix), n): o for (topic, n), o in found.items()}


def test_all_of_a_transaction_is_there_in_order(
    settings: Settings, member: Consumer, transactions: Either
) -> None:
    """More than a batch of it, in several partitions; with the offsets, and where it ends."""
    large = [os.urandom(BATCH_BYTES // 2) for _ in range(4)]
    records = [("one", number % 2, value) for number, value in enumerate([*large, b"x", None])]
    transact(settings, transactions, member, [*records, ("two", 2, b"y")])
    ends = dict(transactions.ends)
    transact(settings, transactions, member, [("two", 2, b"z")])

    found = read(settings)
    assert [value for _, number, value in records if number == 0] == found["one", 0]
    assert [value for _, number, value in records if number == 1] == found["one", 1]
    assert [b"y", b"z"] == found["two", 2]
    assert {(settings.topic(topic), n): o for topic, n, o in _ends()} == ends
    assert {("input", number): 5 + number for number in range(PARTITIONS)} == kept(settings)


def _ends() -> list[tuple[str, int, int]]:
    return [("one", 0, 3), ("one", 1, 3), ("two", 2, 1)]


def test_what_is_rolled_back_never_counts(
    settings: Settings, member: Consumer, transactions: Either
) -> None:
    """And the next transaction does, in the same partitions."""
    transact(settings, transactions, member, [("one", 0, b"a")])
    begin(settings, transactions, member, [("one", 0, b"never"), ("two", 1, b"never")])
    transactions.abort(ANSWER_S)
    transact(settings, transactions, member, [("one", 0, b"b"), ("two", 1, b"c")])

    found = read(settings)
    assert [b"a", b"b"] == found["one", 0]
    assert [b"c"] == found["two", 1]


def test_who_is_no_member_any_more_is_refused_before_anything_is_written(
    settings: Settings, member: Consumer
) -> None:
    """The next owner may have looked at the ends of the outputs already."""
    transactions = ours(settings)
    transactions.init(ANSWER_S)
    metadata = member.consumer_group_metadata()
    member.unsubscribe()
    wait_for(lambda: member.poll(0.1) is None and not member.assignment(), "to have left")

    transactions.begin()
    offsets = [TopicPartition(settings.topic("input"), 0, 5)]
    transactions.send_offsets(offsets, metadata, ANSWER_S)
    transactions.put((settings.topic("one"), 0), b"k", b"never", HEADERS)
    with pytest.raises(KafkaException) as refused:
        transactions.commit(ANSWER_S)
    assert refused.value.args[0].code() in FENCED
    transactions.abort(ANSWER_S)
    transactions.close()

    assert [] == read(settings, "read_uncommitted")["one", 0]


def test_who_has_lost_its_id_is_refused_for_good(settings: Settings, member: Consumer) -> None:
    """What it had begun is rolled back by the other, and what it writes then refused."""
    first, second = ours(settings), ours(settings)
    first.init(ANSWER_S)
    transact(settings, first, member, [("one", 0, b"a")])
    begin(settings, first, member, [("one", 0, b"never")])
    second.init(ANSWER_S)

    with pytest.raises(KafkaException) as refused:
        first.commit(ANSWER_S)
    assert not refused.value.args[0].fatal(), "that is seen when it is rolled back"
    with pytest.raises(KafkaException) as refused:
        first.abort(ANSWER_S)
    assert refused.value.args[0].fatal()

    transact(settings, second, member, [("one", 0, b"b")])
    assert [b"a", b"b"] == read(settings)["one", 0]
    first.close()
    second.close()


def test_when_every_answer_is_lost_once_all_is_there_once(
    settings: Settings, member: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is taken again, and taken as the same by Kafka: nothing is missing or double."""
    send = AIOKafkaClient.send
    answers: Counter[str] = Counter()

    async def lose(client: Any, node: int, request: Any, **more: Any) -> Any:
        answer = await send(client, node, request, **more)
        kind = type(request).__name__
        answers[kind] += 1
        if answers[kind] % 2:
            raise KafkaConnectionError("lost on the way back")
        return answer

    monkeypatch.setattr(AIOKafkaClient, "send", lose)
    transactions = ours(settings)
    transactions.init(ANSWER_S)
    for value in (b"a", b"b", b"c"):
        transact(settings, transactions, member, [("one", 0, value), ("two", 1, value)])
    transactions.close()

    assert [b"a", b"b", b"c"] == read(settings)["one", 0] == read(settings)["two", 1]
    assert answers["ProduceRequest"] == answers["EndTxnRequest"] == 2 * 3


def test_a_call_that_takes_too_long_goes_on_with_the_next(
    kafka: LocalKafka, settings: Settings, member: Consumer
) -> None:
    """Kafka stands still meanwhile."""
    transactions = ours(settings)
    transactions.init(ANSWER_S)
    begin(settings, transactions, member, [("one", 0, b"a")])
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            with pytest.raises(KafkaException) as late:
                transactions.commit(0.2)
            assert late.value.args[0].retriable()
    finally:
        os.kill(kafka.pid, signal.SIGCONT)
    transactions.commit(ANSWER_S)
    transactions.close()

    assert [b"a"] == read(settings)["one", 0]


@pytest.mark.parametrize("instance", [None, "static"])
def test_a_member_is_what_librdkafka_says(settings: Settings, instance: str | None) -> None:
    """Its text of a consumer's group is librdkafka's own."""
    options = {} if instance is None else {"group_instance_id": instance}
    consumer = Consumer(settings.kafka(group_id="g", enable_auto_commit=False, **options))
    assert Member("g", -1, "", instance) == Member.of(consumer.consumer_group_metadata())
    consumer.subscribe([settings.topic("input")])
    wait_for(lambda: consumer.poll(0.1) is None and bool(consumer.assignment()), "membership")

    found = Member.of(consumer.consumer_group_metadata())

    assert ("g", consumer.memberid(), instance) == (found.group, found.member, found.instance)
    assert found.generation > 0
    consumer.close()

    with pytest.raises(ValueError, match="CGMDv3"):
        Member.of(b"CGMDv3:")

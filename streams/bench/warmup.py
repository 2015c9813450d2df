"""
Brings a Kafka that was just started to the speed it has for the rest of its life.

Java compiles what is used often while it is used: for half a minute a fresh broker takes both
cores for that, and every latency measured is that of a compiler.  So it gets some of each kind of
load beforehand: small transactions over many partitions with a group's offsets, in requests as we
write them and as librdkafka does, in turn, and plain records.
The load is made by processes of their own, which are ended when the time is over.
"""

import time
from contextlib import ExitStack
from typing import Final

from confluent_kafka import Consumer, Producer, TopicPartition

import topics
from streams.bench.child import Child, Parent
from streams.bench.connection import options_at, settings_at
from streams.bench.peers import Place
from streams.bench.run import Say
from streams.bench.watch import FETCH_RECORDS, POLL_S
from streams.bench.workload import Record, make
from streams.core.outputs import Header
from streams.kafka.rdkafka_transactions import RdkafkaTransactions
from streams.kafka.transactions import Transactions

CALL_TIMEOUT_S: Final = 30.0
LOOK_S: Final = 0.2
RECORDS: Final = 2_000  # made once, written again and again
PLAIN_RECORDS: Final = 20  # beside each transaction
HEADERS: Final[list[Header]] = [
    (f"header-{number}", b"value")
    for number in range(8)  # as many as ours have
]


def warm_up(place: Place, seconds: float, say: Say) -> None:
    """Keep the Kafka of *place* busy for *seconds*."""
    with ExitStack() as running:
        for name, target in (("read inputs", _read_inputs), ("read outputs", _read_outputs)):
            running.enter_context(Child(name, target, place))
        running.enter_context(Child("warm Kafka up", _write, place))
        deadline_s = time.monotonic() + seconds
        while (left_s := deadline_s - time.monotonic()) > 0:
            say(f"warming Kafka up: {left_s:.0f} s left")
            time.sleep(min(LOOK_S, left_s))


def _write(place: Place, parent: Parent) -> None:
    workload = make(RECORDS, seed=0)
    settings = settings_at(place.bootstrap, place.prefix)
    options, name = {**settings.kafka(), "log_level": 3}, f"{place.prefix}warm-up"
    plain = Producer({**options, "enable.idempotence": True, "linger.ms": 0})
    in_turn = (
        Transactions(settings.kafka(), name, settings.transaction_timeout_ms),
        RdkafkaTransactions(settings, f"{name}-librdkafka"),
    )
    group_metadata = Consumer({**options, "group.id": name}).consumer_group_metadata()
    for transactions in in_turn:
        transactions.init(CALL_TIMEOUT_S)
    parent.tell("ready")
    number = 0
    while not parent.gone:
        for record in workload[:PLAIN_RECORDS]:
            plain.produce(f"{place.prefix}{record.topic}", record.value, record.key)
            plain.poll(0)
        transactions = in_turn[number % len(in_turn)]
        _transact(transactions, group_metadata, place, workload[number % RECORDS], number)
        number += 1


def _transact(
    transactions: Transactions | RdkafkaTransactions,
    group_metadata: object,
    place: Place,
    record: Record,
    number: int,
) -> None:
    names = [f"{place.prefix}{name}" for role in ("output", "internal") for name in _shared(role)]
    transactions.begin()
    offsets = [
        TopicPartition(f"{place.prefix}{name}", partition, number)
        for name in _shared("input")
        for partition in range(place.partitions)
    ]
    transactions.send_offsets(offsets, group_metadata, CALL_TIMEOUT_S)
    for name in names:
        for partition in range(place.partitions):
            transactions.put((name, partition), record.key, record.value, HEADERS)
    transactions.commit(CALL_TIMEOUT_S)


def _read_inputs(place: Place, parent: Parent) -> None:
    _read(place, "input", parent)


def _read_outputs(place: Place, parent: Parent) -> None:
    _read(place, "output", parent)


def _read(place: Place, role: topics.Role, parent: Parent) -> None:
    """Read the topics of *role*, waiting for each record as readers do."""
    consumer = Consumer(
        {
            **options_at(place.bootstrap),
            "log_level": 3,
            "group.id": f"{place.prefix}{role}",  # required, and not used
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    consumer.assign(
        [
            TopicPartition(f"{place.prefix}{name}", partition, 0)
            for name in _shared(role)
            for partition in range(place.partitions)
        ]
    )
    parent.tell("ready")
    while not parent.gone:
        if consumer.poll(POLL_S) is not None:
            consumer.consume(FETCH_RECORDS, 0)


def _shared(role: topics.Role) -> list[str]:
    """Return the topics of *role* that have the shared number of partitions."""
    return [name for name in topics.names(role) if topics.definition(name).partitions == "shared"]

"""
How long a transaction takes: ours, in one request to each broker, beside librdkafka's.

    python tests/bench/transactions.py --records 240 --seconds 8 --repeats 5

On one Kafka started here; records of 200 bytes with four headers, in six topics of four partitions,
with a group's offsets.  Runs of both in turn.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams.core.outputs import Header
from streams.kafka.local import LocalKafka
from streams.kafka.rdkafka_transactions import RdkafkaTransactions
from streams.kafka.transactions import Transactions
from streams.settings import Settings

TOPICS: Final = [f"output-{number}" for number in range(6)]
INPUT: Final = "input"
PARTITIONS: Final = 4
VALUE: Final = b"x" * 200
HEADERS: Final[list[Header]] = [
    ("ce_id", "training-content/c-1/3/7"),
    ("ce_source", "urn:objections:training-content"),
    ("ce_type", "content.allowed"),
    ("ce_subject", "u-123456"),
]
ANSWER_S: Final = 30.0
PAUSE_S: Final = 0.005
TIMEOUT_MS: Final = 6_000


@click.command(context_settings={"show_default": True})
@click.option("--records", default=240, help="In one transaction.")
@click.option("--seconds", default=8.0, help="Of one run.")
@click.option("--repeats", default=5, help="Runs of each, in turn; the first are the warm-up.")
def main(records: int, seconds: float, repeats: int) -> None:
    """Print the milliseconds of a transaction, p50, p90 and p99, of each run and over all."""
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalKafka(Path(folder), c1_only=False) as kafka,
    ):
        client = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for made in client.create_topics(
            [NewTopic(name, PARTITIONS, 1) for name in (*TOPICS, INPUT)]
        ).values():
            made.result()
        member = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "bench"})
        member.subscribe([INPUT])
        while not member.assignment():
            member.poll(0.1)
        settings = Settings(bootstrap=kafka.bootstrap)
        systems: dict[str, Any] = {
            "librdkafka": RdkafkaTransactions(settings, "librdkafka"),
            "ours": Transactions(settings.kafka(), "ours", TIMEOUT_MS),
        }
        took: dict[str, list[float]] = {name: [] for name in systems}
        for transactions in systems.values():
            transactions.init(ANSWER_S)
        for run in range(repeats):
            for name, transactions in systems.items():
                metadata = member.consumer_group_metadata()
                found = _run(lambda: _transact(transactions, metadata, records), seconds)  # noqa: B023
                click.echo(f"{name:>12} {_shown(found)}")
                if run:
                    took[name] += found
        for name, of_all in took.items():
            click.echo(f"{name:>12} {_shown(of_all)}  but for the first runs")
        for transactions in systems.values():
            transactions.close()
        member.close()


def _transact(transactions: Any, metadata: Any, records_n: int) -> None:
    transactions.begin()
    offsets = [TopicPartition(INPUT, number, 1) for number in range(PARTITIONS)]
    transactions.send_offsets(offsets, metadata, ANSWER_S)
    for number in range(records_n):
        topic, partition = TOPICS[number % len(TOPICS)], number // len(TOPICS) % PARTITIONS
        transactions.put((topic, partition), b"c-%d" % number, VALUE, HEADERS)
    transactions.commit(ANSWER_S)


def _run(transact: Callable[[], None], seconds: float) -> list[float]:
    found, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        begun_s = time.monotonic()
        transact()
        found.append((time.monotonic() - begun_s) * 1000)
        time.sleep(PAUSE_S)
    return found


def _shown(took_ms: list[float]) -> str:
    cuts = statistics.quantiles(took_ms, n=100)
    p50, p90, p99 = cuts[49], cuts[89], cuts[98]
    return f"{len(took_ms):6,} transactions  {p50:6.1f} {p90:6.1f} {p99:6.1f} ms"


if __name__ == "__main__":
    main()

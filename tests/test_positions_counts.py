"""
Partitions are added to a topic: no worker goes on with a user's records in two of them.
"""

from pathlib import Path

from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined] # it is public

from streams.kafka import admin
from streams.kafka.local import LocalKafka
from tests.worker_process import PARTITIONS, Worker, apply_topics, settings_of

REMEDY = "OBJECTIONS_TOPIC_PREFIX"


def test_partitions_added_while_a_worker_runs_end_it(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """It ends as it is told of them, naming the topic and the remedy; and does not start again."""
    apply_topics(kafka, prefix)
    settings = settings_of(kafka, prefix)
    grown = settings.topic("account-ages")
    worker = Worker(kafka, prefix, tmp_path / "state", KAFKA_TOPIC_METADATA_REFRESH_INTERVAL_MS=200)
    try:
        worker.start()
        worker.wait_ready()
        client = admin.connect(settings)
        for future in client.create_partitions([NewPartitions(grown, PARTITIONS + 1)]).values():
            future.result()

        assert 1 == worker.wait_end()
        last_line = worker.log().splitlines()[-1]
        assert grown in last_line
        assert f"more than the {PARTITIONS} partitions" in last_line
        assert REMEDY in last_line

        said = len(worker.log())
        worker.start()
        assert 1 == worker.wait_end()
        refused = worker.log()[said:]
        assert f"{grown} {PARTITIONS + 1}" in refused
        assert REMEDY in refused
    finally:
        worker.kill9()

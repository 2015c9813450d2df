"""
A local Kafka is a real one: it keeps what it acknowledged, and nothing of it is left behind.

Clients here log nothing: a broker is taken from under them on purpose.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams.errors import Unreachable, UsageProblem
from streams.kafka import jars, local
from streams.kafka.local import HOST, LocalKafka
from streams.kafka.ports import free_port, free_ports

WAIT_S = 30.0


def client(kafka: LocalKafka, **options: object) -> dict[str, Any]:
    """Return a quiet client's configuration."""
    named = {name.replace("_", "."): value for name, value in options.items()}
    return {"bootstrap.servers": kafka.bootstrap, "log_level": 0, **named}


def make_topic(kafka: LocalKafka, topic: str) -> None:
    """Make *topic* with one partition."""
    admin = AdminClient(client(kafka))
    admin.create_topics([NewTopic(topic, 1)])[topic].result(WAIT_S)


def write(kafka: LocalKafka, topic: str, *values: bytes) -> None:
    """Write *values* and return when the broker has acknowledged them."""
    producer = Producer(client(kafka))
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(WAIT_S) == 0


def read(kafka: LocalKafka, topic: str, count: int) -> list[bytes | None]:
    """Return the first *count* values of the only partition of *topic*."""
    consumer = Consumer(client(kafka, group_id="reader", enable_auto_commit=False))
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes | None] = []
    deadline_s = time.monotonic() + WAIT_S
    while len(values) < count and time.monotonic() < deadline_s:
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            values.append(message.value())
    consumer.close()
    return values


def test_kept_data_survives_kill_and_stop(tmp_path: Path) -> None:
    """
    What was acknowledged is there after SIGKILL and after an orderly stop, at the same address.
    """
    with LocalKafka(tmp_path) as kafka:
        address = kafka.bootstrap
        make_topic(kafka, "kept")
        write(kafka, "kept", b"before the kill")
        kafka.kill()
        assert not kafka.running

        kafka.start()
        write(kafka, "kept", b"before the stop")
        kafka.stop()
        assert not kafka.running

        kafka.start()
        assert read(kafka, "kept", 2) == [b"before the kill", b"before the stop"]
        assert address == kafka.bootstrap


def test_topics_are_not_made_by_mistake(kafka: LocalKafka, prefix: str) -> None:
    """
    Writing to a topic that does not exist fails instead of creating it.
    """
    producer = Producer(client(kafka, message_timeout_ms=2_000))
    failures: list[object] = []

    producer.produce(f"{prefix}misspelt", b"x", on_delivery=lambda error, _: failures.append(error))
    producer.flush(WAIT_S)

    assert len(failures) == 1
    assert failures[0] is not None
    assert f"{prefix}misspelt" not in AdminClient(client(kafka)).list_topics(timeout=WAIT_S).topics


def test_transactions_work_on_one_node(kafka: LocalKafka, prefix: str) -> None:
    """
    A committed transaction is read, an aborted one is not.
    """
    topic = f"{prefix}transactions"
    make_topic(kafka, topic)
    producer = Producer(client(kafka, transactional_id=topic))
    producer.init_transactions(WAIT_S)

    producer.begin_transaction()
    producer.produce(topic, b"aborted")
    producer.abort_transaction(WAIT_S)
    producer.begin_transaction()
    producer.produce(topic, b"committed")
    producer.commit_transaction(WAIT_S)

    assert read(kafka, topic, 1) == [b"committed"]


def test_taken_port_is_named() -> None:
    """
    A port somebody listens on is refused before anything is written.
    """
    folder = Path("never-made")
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(UsageProblem, match=f"port {port} .* is taken"):
            LocalKafka(folder, port=port).start()

    assert not folder.exists()


def test_a_free_port_is_another_than_those_named() -> None:
    """
    Ports that are meant for something else are not taken, and none is taken twice.
    """
    besides = [port for port in range(65_536) if port % 1_000]

    assert {free_port(besides) % 1_000 for _ in range(20)} == {0}
    assert len(set(free_ports(15, besides))) == 15


def test_a_controllers_port_that_is_lost_is_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Another process may take the controller's port before Kafka does: Kafka is given another, and
    clients find it where it was to be.
    """
    port = free_port()
    with socket.create_server((HOST, 0)) as taken:
        offered = iter([taken.getsockname()[1]])
        monkeypatch.setattr(
            local, "free_port", lambda besides: next(offered, None) or free_port(besides)
        )

        with LocalKafka(tmp_path, port=port) as kafka:
            assert kafka.bootstrap == f"{HOST}:{port}"
            assert next(offered, None) is None


def test_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    """
    A Kafka that does not come up says why, in the words of its own log.
    """
    kafka = LocalKafka(tmp_path, properties={"num.partitions": "none"})

    with pytest.raises(Unreachable, match=r"num\.partitions"):
        kafka.start()

    assert not kafka.running


def test_second_start_needs_no_network(monkeypatch: pytest.MonkeyPatch, kafka: LocalKafka) -> None:
    """
    Once fetched, the jars come from the cache alone.
    """
    monkeypatch.setattr(jars, "_fetch", lambda *_: pytest.fail("fetched again"))

    assert any(jar.name == f"kafka_2.13-{jars.KAFKA_VERSION}.jar" for jar in jars.class_path())


def test_damaged_jar_is_noticed(tmp_path: Path) -> None:
    """
    A jar that is not whole, or is gone, makes the folder count as never fetched.
    """
    (tmp_path / "a.jar").write_bytes(b"12345")
    (tmp_path / "jars.txt").write_text("5 a.jar\n", encoding="utf-8")
    assert [tmp_path / "a.jar"] == jars._complete(tmp_path)

    (tmp_path / "a.jar").write_bytes(b"1234")
    assert [] == jars._complete(tmp_path)

    (tmp_path / "a.jar").unlink()
    assert [] == jars._complete(tmp_path)


@pytest.fixture
def started(tmp_path: Path) -> "subprocess.Popen[str]":
    """Return `objections kafka`, ready; its folder is `data` and its port free."""
    command = [sys.executable, "-c", "from streams.commands import main; main()"]
    arguments = ["kafka", "--port", str(free_port()), "--folder", "data"]
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("ready: "):
            break
    assert said, "it said nothing"
    assert said[-1].startswith("ready: "), said
    assert any(str(tmp_path / "data") in line for line in said)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_stops_cleanly(started: "subprocess.Popen[str]", number: signal.Signals) -> None:
    """
    Ctrl-C and SIGTERM stop Kafka in order, with status 0, and nothing is left running.
    """
    children = psutil.Process(started.pid).children(recursive=True)
    assert children

    started.send_signal(number)
    said, _ = started.communicate(timeout=WAIT_S)

    assert started.returncode == 0, said
    assert said.endswith("stopped\n")
    assert "Traceback" not in said
    assert not psutil.wait_procs(children, timeout=WAIT_S)[1]


def test_kafka_dies_with_its_parent(started: "subprocess.Popen[str]") -> None:
    """
    When the command is killed with SIGKILL, Kafka is killed too.
    """
    children = psutil.Process(started.pid).children(recursive=True)
    assert any(child.name() == "java" for child in children)

    started.kill()
    started.wait(WAIT_S)

    assert not psutil.wait_procs(children, timeout=WAIT_S)[1]


def test_frozen_kafka_is_killed_by_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A Kafka that cannot stop in order is killed after the time-out.
    """
    monkeypatch.setattr("streams.kafka.local.STOP_TIMEOUT_S", 1.0)
    said: list[str] = []
    kafka = LocalKafka(tmp_path, say=said.append)
    kafka.start()
    os.kill(kafka.pid, signal.SIGSTOP)

    kafka.stop()

    assert not kafka.running
    assert ["Kafka did not stop within 1 s and is killed"] == said
    with pytest.raises(KafkaException):
        AdminClient(client(kafka)).list_topics(timeout=0.5)

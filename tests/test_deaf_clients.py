"""
Clients that have no answer for long make way for new ones; Kafka is there all the time.

See also the form's (`test_intake_sender`) and the monitor's (`test_monitor_watcher`).
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams.canary import turn
from streams.canary.erasures import Erasures
from streams.canary.numbers import Numbers
from streams.canary.turn import Turns
from streams.kafka.local import HOST, LocalKafka
from streams.kafka.ports import free_port
from streams.kafka.reader import extent, reader
from streams.monitor.levels import StoreLevels
from streams.subscriber import acks, hearing
from tests.making import objection
from tests.subscribing import Outputs, Running, SqliteScene
from tests.worker_process import apply_topics, settings_of, wait_for
from tests.worker_settings import QUIET

ANSWER_S = 10.0
# Together less than `broker.session.timeout.ms` of the local Kafka: stopped for longer, the lone
# broker is fenced as it wakes, and leaves what is committed in that moment open for ever.
DEAF_S = 1.0
UNANSWERED_S = 0.5


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a little while a long one."""
    for module in (hearing, acks, turn):
        monkeypatch.setattr(module, "DEAF_S", DEAF_S)
    monkeypatch.setattr(hearing, "ASK_EVERY_S", 0.2)
    monkeypatch.setattr(hearing, "ANSWER_S", UNANSWERED_S)


@pytest.fixture
def deaf() -> Iterator[Producer]:
    """Return a producer that reaches nobody."""
    nowhere = f"{HOST}:{free_port()}"
    producer = Producer({"bootstrap.servers": nowhere, "message.timeout.ms": 0}, logger=QUIET)
    yield producer
    producer.purge()


def test_a_store_follows_on_after_kafka_stood_still(
    kafka: LocalKafka, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever its clients make of that."""
    outputs = Outputs(kafka, prefix)
    scene = SqliteScene(outputs, tmp_path / "store.sqlite")
    outputs.log.user("u1", 1)
    outputs.log.item("u1-c1", "u1", 1, 1)
    outputs.send()
    with Running(outputs, scene.sink()) as running:
        running.wait_ready()
        wait_for(lambda: outputs.acknowledged("erased") == outputs.ends(), "nothing left to say")
        os.kill(kafka.pid, signal.SIGSTOP)
        try:
            wait_for(lambda: "new clients" in caplog.text, "it to notice")
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
        outputs.log.user("u1", 2, allowed=False)
        outputs.send()
        scene.wait_until_equal()
        wait_for(lambda: outputs.acknowledged("hidden") == outputs.ends(), "all to be said")


def test_acknowledgements_that_are_not_taken_are_said_by_new_clients(
    kafka: LocalKafka, prefix: str, tmp_path: Path, deaf: Producer
) -> None:
    """Kafka is there; the producer does not find it any more."""
    outputs = Outputs(kafka, prefix)
    scene = SqliteScene(outputs, tmp_path / "store.sqlite")
    with Running(outputs, scene.sink()) as running:
        running.wait_ready()
        running.subscriber._writer._producer = deaf
        outputs.log.user("u1", 1)
        outputs.send()
        wait_for(lambda: outputs.acknowledged("hidden") == outputs.ends(), "all to be said")


def test_the_canary_says_it_by_a_new_client(kafka: LocalKafka, prefix: str, deaf: Producer) -> None:
    """It would wait for ever, and measure nothing."""
    apply_topics(kafka, prefix)
    settings = settings_of(kafka, prefix)
    levels, numbers = StoreLevels(0, _fail), Numbers((), ())  # of no store
    turns = Turns(settings, levels, numbers, Erasures(levels, numbers), lambda: False)
    turns._producer = deaf

    turns.send([("objections", objection())])

    look = reader(settings)
    ends = [extent(look, (settings.topic("objections"), number), ANSWER_S) for number in range(4)]
    assert 1 == sum(end for _, end in ends)
    look.close()
    turns.close()


def _fail(error: BaseException) -> None:
    raise error

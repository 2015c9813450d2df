"""
Clients that have no answer for long make way for new ones; Kafka is there all the time.

See also the form's (`test_intake_sender`) and the monitor's (`test_monitor_watcher`).
"""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from streams.canary import turn
from streams.canary.erasures import Erasures
from streams.canary.numbers import Numbers
from streams.canary.turn import Turns
from streams.kafka.local import HOST, LocalKafka, free_port
from streams.kafka.reader import extent, reader
from streams.monitor.levels import StoreLevels
from streams.settings import Settings
from streams.sinks.sink import TRAINING_USERS, Place
from streams.subscriber import acks
from streams.subscriber.acks import AckReader, AckWriter
from tests.making import objection
from tests.worker_process import apply_topics, settings_of, wait_for
from tests.worker_settings import environ_of

ANSWER_S = 10.0
PLACE = Place(TRAINING_USERS, 1)


@pytest.fixture
def settings(kafka: LocalKafka, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return how Kafka is found, where patience is short."""
    apply_topics(kafka, prefix)
    monkeypatch.setattr(acks, "DEAF_S", 2.0)
    monkeypatch.setattr(turn, "DEAF_S", 2.0)
    return settings_of(kafka, prefix)


@pytest.fixture
def deaf(prefix: str) -> Iterator[Producer]:
    """Return a producer that reaches nobody."""
    nowhere = Settings.read(environ_of(f"{HOST}:{free_port()}", prefix, {}))
    producer = AckWriter(nowhere, "features")._producer
    yield producer
    producer.purge()


def test_the_last_acknowledgements_are_said_by_a_new_client(
    settings: Settings, deaf: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a place and phase the last one alone, in their order."""
    writer = AckWriter(settings, "features")
    writer._producer, found = deaf, writer._producer
    for offset in (3, 4):
        writer.write(PLACE, "hidden", offset)
    writer.write(PLACE, "erased", 3)

    def all_taken() -> bool:
        writer.check()
        return not writer._waiting

    wait_for(all_taken, "Kafka to take them")
    assert writer._producer not in (deaf, found)
    assert "a new client" in caplog.text
    said = AckReader(settings, "features").read()
    assert {(PLACE, "hidden"): 4, (PLACE, "erased"): 3} == {
        each: ack.offset for each, ack in said.items()
    }


def test_the_canary_says_it_by_a_new_client(settings: Settings, deaf: Producer) -> None:
    """It would wait for ever, and measure nothing."""
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

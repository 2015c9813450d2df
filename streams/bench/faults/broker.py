"""
Faults of Kafka itself: of all its brokers, or of one.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from confluent_kafka import KafkaException

from streams.bench.faults.plan import Fault
from streams.bench.faults.scene import Scene
from streams.kafka.local import LocalKafka

TRIES: Final = 40  # at a moment without a transaction
PAUSE_S: Final = 0.07
TURN_S: Final = (0.09, 0.01)  # of a slow broker: it stands still, it runs


def kill(scene: Scene, fault: Fault) -> str:
    """
    Kill Kafka with -9 and start it again after a while, on the same data.

    Between transactions, where that moment comes: see `LocalKafka.kill`.  One that is open may
    time out before Kafka is back, and the lone broker that aborts it while it starts leaves it
    hanging for ever, whatever clients do; a transaction cut by a kill has a test of its own, with
    longer time-outs.
    """
    note = "a transaction was open"
    for tries_left in reversed(range(TRIES)):
        with scene.workers_standing_still():
            with suppress(KafkaException):
                if not scene.watch.open_places():
                    note = ""
            if not note or not tries_left:
                scene.kafka.kill()
                break
        time.sleep(PAUSE_S)
    time.sleep(fault.lasts_s)
    scene.kafka.start()
    return note


def kill_one(scene: Scene, fault: Fault) -> str:
    """Kill a broker with -9, whatever is under way, and start it again after a while."""
    broker = scene.kafka.broker(fault.broker)
    broker.kill()
    time.sleep(fault.lasts_s)
    broker.start()
    return ""


def freeze(scene: Scene, fault: Fault) -> str:
    """Let Kafka stand still."""
    with standing_still(scene.kafka.brokers):
        time.sleep(fault.lasts_s)
    return ""


def freeze_one(scene: Scene, fault: Fault) -> str:
    """Let a broker stand still: the others take over what it leads, or not yet."""
    with standing_still([scene.kafka.broker(fault.broker)]):
        time.sleep(fault.lasts_s)
    return ""


def slow_one(scene: Scene, fault: Fault) -> str:
    """Let a broker be slow to all: to clients, to the brokers that copy it and to controllers."""
    slow = [scene.kafka.broker(fault.broker)]
    ends_s = time.monotonic() + fault.lasts_s
    while time.monotonic() < ends_s:
        with standing_still(slow):
            time.sleep(TURN_S[0])
        time.sleep(TURN_S[1])
    return ""


@contextmanager
def standing_still(brokers: Sequence[LocalKafka]) -> Iterator[None]:
    """Stop *brokers* where they stand; afterwards they go on."""
    for broker in brokers:
        os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for broker in brokers:
            os.kill(broker.pid, signal.SIGCONT)

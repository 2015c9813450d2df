"""
Faults of Kafka itself.
"""

import os
import signal
import time
from contextlib import suppress
from typing import Final

from confluent_kafka import KafkaException

from streams.bench.faults.plan import Fault
from streams.bench.faults.scene import Scene

TRIES: Final = 40  # at a moment without a transaction
PAUSE_S: Final = 0.07


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


def freeze(scene: Scene, fault: Fault) -> str:
    """Let Kafka stand still."""
    os.kill(scene.kafka.pid, signal.SIGSTOP)
    try:
        time.sleep(fault.lasts_s)
    finally:
        os.kill(scene.kafka.pid, signal.SIGCONT)
    return ""

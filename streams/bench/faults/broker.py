"""
Faults of Kafka itself.
"""

import os
import signal
import time

from streams.bench.faults.plan import Fault
from streams.bench.faults.scene import Scene


def kill(scene: Scene, fault: Fault) -> str:
    """Kill Kafka with -9 and start it again after a while, on the same data."""
    with scene.workers_standing_still():
        scene.kafka.kill()
    time.sleep(fault.lasts_s)
    scene.kafka.start()
    return ""


def freeze(scene: Scene, fault: Fault) -> str:
    """Let Kafka stand still."""
    os.kill(scene.kafka.pid, signal.SIGSTOP)
    try:
        time.sleep(fault.lasts_s)
    finally:
        os.kill(scene.kafka.pid, signal.SIGCONT)
    return ""

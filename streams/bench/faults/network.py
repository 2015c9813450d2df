"""
Faults of the network between workers and Kafka; the load and the check go another way.
"""

import time

from streams.bench.faults.plan import Fault
from streams.bench.faults.scene import Scene


def slow(scene: Scene, fault: Fault) -> str:
    """Pass each piece on late."""
    scene.proxy.delay_s = fault.amount
    try:
        time.sleep(fault.lasts_s)
    finally:
        scene.proxy.delay_s = 0.0
    return ""


def cut(scene: Scene, fault: Fault) -> str:
    """Cut all connections, again and again."""
    cut_n, ends_s = 0, time.monotonic() + fault.lasts_s
    while time.monotonic() < ends_s:
        cut_n += scene.proxy.cut()
        time.sleep(fault.amount)
    return f"{cut_n} connections"


def stall(scene: Scene, fault: Fault) -> str:
    """Pass nothing on, and all of it later: connections stay."""
    scene.proxy.stall()
    try:
        time.sleep(fault.lasts_s)
    finally:
        scene.proxy.flow()
    return ""

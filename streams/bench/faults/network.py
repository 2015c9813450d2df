"""
Faults of the network between workers and Kafka; the load, the check and brokers among themselves
go another way.
"""

import time
from collections.abc import Sequence

from streams.bench.faults.plan import Fault
from streams.bench.faults.proxy import Proxy
from streams.bench.faults.scene import Scene


def slow(scene: Scene, fault: Fault) -> str:
    """Pass each piece on late."""
    for proxy in scene.proxies:
        proxy.delay_s = fault.amount
    try:
        time.sleep(fault.lasts_s)
    finally:
        for proxy in scene.proxies:
            proxy.delay_s = 0.0
    return ""


def lose(scene: Scene, fault: Fault) -> str:
    """Lose pieces: what is lost comes later, sent again, and holds up what follows it."""
    for proxy in scene.proxies:
        proxy.loss = fault.amount
    try:
        time.sleep(fault.lasts_s)
    finally:
        for proxy in scene.proxies:
            proxy.loss = 0.0
    return ""


def cut(scene: Scene, fault: Fault) -> str:
    """Cut all connections, again and again."""
    cut_n, ends_s = 0, time.monotonic() + fault.lasts_s
    while time.monotonic() < ends_s:
        cut_n += sum(proxy.cut() for proxy in scene.proxies)
        time.sleep(fault.amount)
    return f"{cut_n} connections"


def stall(scene: Scene, fault: Fault) -> str:
    """Pass nothing on, and all of it later: connections stay."""
    return _stall(scene.proxies, fault)


def stall_one(scene: Scene, fault: Fault) -> str:
    """Pass nothing on to and from one broker, which the others see in good health."""
    return _stall([scene.proxies[fault.broker - 1]], fault)


def _stall(proxies: Sequence[Proxy], fault: Fault) -> str:
    for proxy in proxies:
        proxy.stall()
    try:
        time.sleep(fault.lasts_s)
    finally:
        for proxy in proxies:
            proxy.flow()
    return ""

"""
Faults of workers: killed, frozen, all gone, coming and going.
"""

import random
import time

from streams.bench.faults.plan import Fault
from streams.bench.faults.scene import Scene


def kill(scene: Scene, fault: Fault) -> str:
    """Kill a worker with -9, and start it again after a while."""
    worker = scene.workers[fault.worker]
    worker.end()
    time.sleep(fault.lasts_s)
    worker.start()
    return ""


def freeze(scene: Scene, fault: Fault) -> str:
    """Stop a worker until the other one serves all partitions, then let it go on."""
    worker = scene.workers[fault.worker]
    worker.freeze()
    try:
        scene.wait_until_served(scene.other(worker))
    finally:
        worker.thaw()
    return ""


def outage(scene: Scene, fault: Fault) -> str:
    """Kill all workers, let much come in meanwhile, start them again."""
    for worker in scene.workers:
        worker.end()
    rate_per_s, before = scene.load.rate_per_s, scene.load.sent
    scene.load.rate_per_s = rate_per_s * fault.amount
    try:
        time.sleep(fault.lasts_s)
    finally:
        scene.load.rate_per_s = rate_per_s
    piled_up = scene.load.sent - before
    scene.start_all()
    return f"{piled_up:,} records piled up"


def storm(scene: Scene, fault: Fault) -> str:
    """Let a third worker join and leave, in order or killed, whether it has got ready or not."""
    chance = random.Random(fault.seed)
    ready = 0
    for _ in range(int(fault.amount)):
        scene.visitor.start()
        if chance.random() < 0.5:
            scene.wait_until_served(*scene.workers, scene.visitor)
            ready += 1
        time.sleep(chance.uniform(0, fault.lasts_s))
        if chance.random() < 0.5 and scene.visitor.ended is None:
            scene.visitor.leave()
        else:
            scene.visitor.end()
    return f"{ready} of {int(fault.amount)} times it served"

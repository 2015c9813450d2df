"""
Faults of workers: killed, frozen, all gone, coming and going.
"""

import random
import time
from contextlib import suppress
from typing import Final

from confluent_kafka import KafkaException

from streams.bench.faults.plan import Fault
from streams.bench.faults.process import Worker
from streams.bench.faults.scene import SETTLED_S, Scene

IN_TRANSACTION: Final = 0.4  # of all freezes
LOAD_TIMES: Final = 4.0
TRIES: Final = 10  # at catching a moment


def kill(scene: Scene, fault: Fault) -> str:
    """Kill a worker with -9, and start it again after a while."""
    worker = scene.workers[fault.worker]
    worker.end()
    time.sleep(fault.lasts_s)
    worker.start()
    return ""


def freeze(scene: Scene, fault: Fault) -> str:
    """
    Stop a worker until the other one serves all partitions, then let it go on.

    It is stopped with a transaction open, or with a batch in hand and the transaction about to
    begin: so much comes in that there always is one.
    """
    worker, chance = scene.workers[fault.worker], random.Random(fault.seed)
    in_transaction = chance.random() < IN_TRANSACTION
    try:
        with scene.more_load(LOAD_TIMES):
            caught = _freeze(scene, worker, chance, in_transaction=in_transaction)
        scene.wait_until_served(scene.other(worker))
    finally:
        worker.thaw()
    moment = "in a transaction" if in_transaction else "before a transaction"
    return moment if caught else "at any moment"


def _freeze(scene: Scene, worker: Worker, chance: random.Random, *, in_transaction: bool) -> bool:
    """Freeze *worker* while it has a transaction open, or none; return whether that was caught."""
    for _ in range(TRIES):
        time.sleep(chance.uniform(0.1, 0.3))
        worker.freeze()
        time.sleep(SETTLED_S)
        with suppress(KafkaException):
            owned = worker.assigned()
            is_open = any(number in owned for _, number in scene.watch.open_places())
            if is_open == in_transaction:
                return True
        worker.thaw()
    worker.freeze()
    return False


def outage(scene: Scene, fault: Fault) -> str:
    """Kill all workers, let much come in meanwhile, start them again."""
    for worker in scene.workers:
        worker.end()
    before = scene.load.sent
    with scene.more_load(fault.amount):
        time.sleep(fault.lasts_s)
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

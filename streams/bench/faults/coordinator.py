"""
Coordinators are taken from under the workers: the very broker that leads their partition of
Kafka's own topics.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.bench.faults.broker import standing_still
from streams.bench.faults.plan import Fault
from streams.bench.faults.scene import LOOK_S, Scene
from streams.bench.faults.watch import ANSWER_S, QUIET
from streams.errors import CommandError
from streams.kafka.local import LocalKafka
from streams.settings import Settings

TRANSACTIONS: Final = "__transaction_state"
GROUPS: Final = "__consumer_offsets"
HOW: Final = ("killed", "stopped", "frozen")
MOVES_S: Final = 30.0  # a broker that is away counts as lost after 3 s


def of_transactions(scene: Scene, fault: Fault) -> str:
    """Take the coordinator of a worker's transactions away, until another broker is it."""
    instance = (scene.workers[fault.worker].state_dir / "instance").read_text().strip()
    return _move(scene, fault, TRANSACTIONS, f"{scene.settings.group}-{instance}")


def of_group(scene: Scene, fault: Fault) -> str:
    """Take the coordinator of the workers' group away, until another broker is it."""
    return _move(scene, fault, GROUPS, scene.settings.group)


def _move(scene: Scene, fault: Fault, topic: str, name: str) -> str:
    how = random.Random(fault.seed).choice(HOW)
    number, leader = coordinator(scene.settings, topic, name)
    began_s = time.monotonic()
    with _away(scene.kafka.broker(leader), how):
        while (now := coordinator(scene.settings, topic, name)[1]) == leader:
            if time.monotonic() - began_s > MOVES_S:
                after = f"though {how} {MOVES_S:.0f} s before"
                raise CommandError(f"{topic}/{number} is still led by broker {leader}, {after}")
            time.sleep(LOOK_S)
        took_s = time.monotonic() - began_s
        time.sleep(fault.lasts_s)
    return f"broker {leader} {how}, {now} leads {topic}/{number} after {took_s:.1f} s"


@contextmanager
def _away(broker: LocalKafka, how: str) -> Iterator[None]:
    if how == "frozen":
        with standing_still([broker]):
            yield
        return
    if how == "killed":
        broker.kill()
    else:
        broker.stop()
    try:
        yield
    finally:
        broker.start()


def coordinator(settings: Settings, topic: str, name: str) -> tuple[int, int]:
    """Return the partition of *topic* where *name* is kept, and the broker that leads it."""
    deadline_s, said = time.monotonic() + MOVES_S, ""
    while time.monotonic() < deadline_s:
        # A client that was there when a broker went may ask that one for ever.
        client = AdminClient(settings.kafka(), logger=QUIET)
        try:
            partitions = client.list_topics(timeout=ANSWER_S).topics[topic].partitions
        except KafkaException as error:
            said = str(error.args[0])
        else:
            number = place(name, len(partitions))
            if (leader := partitions[number].leader) > 0:
                return number, leader
            said = f"of {topic}/{number} in sync: {partitions[number].isrs}"
        time.sleep(LOOK_S)
    raise CommandError(f"{topic} has had no leader for {name} for {MOVES_S:.0f} s ({said})")


def place(name: str, partitions: int) -> int:
    """Return the partition where Kafka keeps the group or transactional id *name*."""
    code = 0
    for unit in memoryview(name.encode("utf-16-le")).cast("H"):
        code = (31 * code + unit) & 0xFFFFFFFF
    signed = code - (1 << 32) if code >> 31 else code
    return 0 if code == 1 << 31 else abs(signed) % partitions

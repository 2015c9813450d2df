"""
Refuses partitions that were added while workers run: a record's partition decides who owns it.
"""

from collections.abc import Iterable

from confluent_kafka import TopicPartition

from streams.errors import Halt
from streams.settings import Settings
from streams.worker.names import INPUTS


def check_assignment(settings: Settings, assigned: Iterable[TopicPartition], count: int) -> None:
    """
    Raise Halt where the group's inputs have more partitions than the *count* they began with.

    It shows as a number beyond the count, or as numbers assigned of one input and not of another.
    """
    numbers: dict[str, set[int]] = {settings.topic(name): set() for name in INPUTS}
    for tp in assigned:
        numbers[tp.topic].add(tp.partition)
    grown = sorted(name for name, found in numbers.items() if max(found, default=-1) >= count)
    if not grown and len({frozenset(found) for found in numbers.values()}) == 1:
        return
    which = ", ".join(grown) or "an input"
    shown = "; ".join(f"{name}: {sorted(found)}" for name, found in numbers.items())
    raise Halt(
        f"{which} has more than the {count} partitions it had when this worker started: records of "
        "one user now lie in several partitions, and nobody can own them whole. The count is fixed "
        "for the life of a prefix: make topics under a new OBJECTIONS_TOPIC_PREFIX, copy the "
        f"inputs there and start workers on it (assigned were {shown})"
    )

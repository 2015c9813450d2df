"""
Which partition numbers an assignment gives us; refuses those that were added while workers run, as
a record's partition decides who owns it.
"""

from collections.abc import Iterable

from confluent_kafka import TopicPartition

from streams.errors import Halt
from streams.settings import Settings
from streams.worker.names import INPUTS, WITH_LINKS


def check_assignment(
    settings: Settings, assigned: Iterable[TopicPartition], count: int
) -> frozenset[int]:
    """
    Return the numbers that are ours, of all topics: those that are *assigned* of the inputs.

    Of the topics of linked accounts the group may give others: while workers that were started
    before there were those topics are replaced one by one, it shares them among some alone.

    Raises Halt where the inputs have more partitions than the *count* they began with: it shows as
    a number beyond the count, or as numbers assigned of one input and not of another.
    """
    numbers: dict[str, set[int]] = {settings.topic(name): set() for name in WITH_LINKS.all}
    for tp in assigned:
        numbers[tp.topic].add(tp.partition)
    grown = sorted(name for name, found in numbers.items() if max(found, default=-1) >= count)
    ours = {frozenset(numbers[settings.topic(name)]) for name in INPUTS}
    if not grown and len(ours) == 1:
        return ours.pop()
    which = ", ".join(grown) or "an input"
    shown = "; ".join(f"{name}: {sorted(found)}" for name, found in numbers.items())
    raise Halt(
        f"{which} has more than the {count} partitions it had when this worker started: records of "
        "one user now lie in several partitions, and nobody can own them whole. The count is fixed "
        "for the life of a prefix: make topics under a new OBJECTIONS_TOPIC_PREFIX, copy the "
        f"inputs there and start workers on it (assigned were {shown})"
    )

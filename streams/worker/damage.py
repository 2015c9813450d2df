"""
What a partition's state has lost, seen at take-over: its positions against what the group says.

Positions are rows of the changelogs, written in one transaction with the group's offsets, so a
row that lies below its offset means that a changelog has lost its end, or everything.  Offsets
that lie below their rows have expired or were reset: reading again is harmless.
"""

import logging
import threading
from collections.abc import Mapping
from enum import IntFlag

from streams.errors import Halt
from streams.kafka.reader import Place, reader
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Store
from streams.worker.committed import first_committed
from streams.worker.names import (
    CONTENT,
    CONTENT_CHANGELOG,
    DECISIONS,
    USERS_CHANGELOG,
    WITH_LINKS,
)
from streams.worker.takeover import Takeover

logger = logging.getLogger(__name__)


class Damage(IntFlag):
    """What is to be made good; NONE is well."""

    NONE = 0
    USERS = 1
    ITEMS = 2
    OUTPUTS = 4


def folded(store: Store, topic: str) -> int:
    """Return the position of an input in the state; 0 where it has none."""
    data = store.get(rows.position_key(topic))
    return 0 if data is None else rows.decode_number(data)


def assess(
    settings: Settings,
    store: Store,
    found: Takeover,
    number: int,
    output_ids: str,
    cancelled: threading.Event,
) -> Damage:
    """
    Return what partition *number*, whose *store* has got to the changelogs' ends, has lost.

    output_ids: identifies the outputs as they are now.  Says loudly what is wrong; raises Halt
    where the state and what could rebuild it are both lost, Cancelled once that is set.
    """
    committed, ends = found.committed[number], found.log_ends[number]
    damage = Damage.NONE
    begun = store.get(rows.REBUILD_KEY)
    if begun is not None and (bits := rows.decode_number(begun)):
        logger.warning("partition %d: a rebuild of its state was begun and not ended", number)
        damage = Damage(bits)
    lost = [topic for topic in WITH_LINKS.all if committed.get(topic, 0) > folded(store, topic)]
    for topic in lost:
        changelog = CONTENT_CHANGELOG if topic == CONTENT else USERS_CHANGELOG
        logger.warning(
            "%s/%d HAS LOST %s: it knows %s/%d up to %d, group %s has read up to %d",
            settings.topic(changelog),
            number,
            "ITS END" if ends[changelog] else "EVERYTHING",
            settings.topic(topic),
            number,
            folded(store, topic),
            settings.group,
            committed[topic],
        )
    if set(lost) - {CONTENT}:
        damage |= Damage.USERS
    if CONTENT in lost:
        damage |= Damage.ITEMS
    damage |= _empty_beside_outputs(settings, ends, number, cancelled)
    recorded = store.get(rows.OUTPUTS_KEY)
    if recorded is not None and rows.decode_text(recorded) != output_ids:
        logger.warning(
            "partition %d: an output is not the topic it was (%s): IT WAS MADE ANEW, and all that "
            "stands is published again",
            number,
            ", ".join(settings.topic(name) for name in DECISIONS),
        )
        damage |= Damage.OUTPUTS
    if damage & Damage.USERS and not ends[USERS_CHANGELOG]:
        _refuse_without_floors(settings, ends, committed, number)
    return damage


def _empty_beside_outputs(
    settings: Settings, ends: Mapping[str, int], number: int, cancelled: threading.Event
) -> Damage:
    """Return what is lost where the group's offsets are lost too: outputs came of some state."""
    damage = Damage.NONE
    for changelog, output, lost in (
        (USERS_CHANGELOG, "eligibility", Damage.USERS),
        (CONTENT_CHANGELOG, "training-content", Damage.ITEMS),
    ):
        if ends[changelog] or not ends[output]:
            continue
        place = settings.topic(output), number
        if _has_committed(settings, place, ends[output], cancelled):
            logger.warning(
                "%s/%d HAS LOST EVERYTHING: it is empty, but %s/%d ends at %d",
                settings.topic(changelog),
                number,
                settings.topic(output),
                number,
                ends[output],
            )
            damage |= lost
    return damage


def _has_committed(settings: Settings, place: Place, end: int, cancelled: threading.Event) -> bool:
    """Whether *place* has a committed record before *end*: what was aborted came of no state."""
    consumer = reader(settings)  # the restore's own is reading something else
    try:
        return first_committed(settings, consumer, place, end, cancelled) is not None
    finally:
        consumer.close()


def _refuse_without_floors(
    settings: Settings, ends: Mapping[str, int], committed: Mapping[str, int], number: int
) -> None:
    if ends["eligibility"]:
        return
    eligibility = settings.topic("eligibility")
    raise Halt(
        f"{settings.topic(USERS_CHANGELOG)}/{number} is empty, but group {settings.group} has read "
        f"its inputs ({dict(committed)}), and {eligibility}/{number}, from which it could be "
        "rebuilt, is empty too: the state is lost, and with it how high epochs have got. Restore "
        "one of these topics from a backup, or begin anew under another OBJECTIONS_TOPIC_PREFIX"
    )

"""
The places a subscriber follows: how far each is, and what may be acknowledged of it.

Times are arguments.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from streams.core.receipts import Phase
from streams.sinks.sink import Place, Position
from streams.subscriber.places import Beginning, is_settled

ACK_EVERY_MS: Final = 100  # for a place: one store and partition is a key of a compacted topic
POSITIONS_EVERY_MS: Final = 200
HEARTBEAT_MAX_MS: Final = 3_600_000  # a word at least so often, so that its age says who was away


@dataclass(slots=True)
class Followed:
    """
    One place.

    position: as the store has it.
    reached: at least that; further where there were only control records, not yet stored.
    began, goal: offsets at the start: where it was, and the log's end, where it is ready.
    current_ms: everything written to the place before it is known, wall clock.
    stored_ms: when the position was stored last, wall clock.
    unerased: something purged may still lie in the store's files.
    erasing: an erasure is under way, of what was purged when it began.
    erased: everything below it is erased.
    acked: what was last acknowledged, and when; an offset of -1 is never.
    """

    position: Position
    reached: int
    began: int
    goal: int
    current_ms: int
    unerased: bool
    stored_ms: int = 0
    erasing: bool = False
    erased: int = 0
    acked: dict[Phase, tuple[int, int]] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether it has got to the log's end of its start, and what it has can be trusted."""
        return is_settled(self.position) and self.position.offset >= self.goal

    @property
    def sweep_is_due(self) -> bool:
        """Whether a resync has read all of the log."""
        return not is_settled(self.position) and self.position.offset >= self.goal


def next_batch(
    followed: Mapping[Place, Followed], changed: Iterable[Place], now_ms: int
) -> dict[Place, Position]:
    """
    Return the positions to store with changes of *changed*.

    Control records alone are stored now and then, and at once where they are all that is missing.
    """
    found = {place: followed[place].reached for place in changed}
    for place, each in followed.items():
        if each.reached > each.position.offset:
            completes = each.reached >= each.goal > each.position.offset
            if completes or now_ms - each.stored_ms >= POSITIONS_EVERY_MS:
                found[place] = each.reached
    return {
        place: followed[place].position._replace(offset=offset) for place, offset in found.items()
    }


def follow(beginning: Beginning, goal: int, acked: Mapping[Phase, int], now_ms: int) -> Followed:
    """Return a place at its *beginning*; *acked* is what the store has acknowledged, by phase."""
    position = beginning.position
    erased = acked.get("erased", 0)
    return Followed(
        position=position,
        reached=position.offset,
        began=position.offset,
        goal=goal,
        current_ms=now_ms,
        unerased=erased < position.offset or not is_settled(position),
        erased=min(erased, position.offset),
        acked={phase: (offset, now_ms) for phase, offset in acked.items()},
    )


def due(
    followed: Mapping[Place, Followed],
    now_ms: int,
    heartbeat_ms: int,
    *,
    erases_at_once: bool,
    every_ms: int = ACK_EVERY_MS,
) -> Iterator[tuple[Place, Phase, int]]:
    """Return what is to be acknowledged now, and note that it was."""
    for place, each in followed.items():
        for phase, offset in _sayable(each, erases_at_once=erases_at_once):
            last, at_ms = each.acked.get(phase, (-1, 0))
            news = offset > last and now_ms - at_ms >= every_ms
            if news or (now_ms - at_ms >= heartbeat_ms and offset >= last >= 0):
                each.acked[phase] = offset, now_ms
                yield place, phase, offset


def _sayable(each: Followed, *, erases_at_once: bool) -> Iterator[tuple[Phase, int]]:
    """Return what is true of a place; during a resync the last word stands."""
    if not is_settled(each.position):
        yield from ((phase, offset) for phase, (offset, _) in each.acked.items() if offset >= 0)
        return
    yield "hidden", each.position.offset
    if erases_at_once or not (each.unerased or each.erasing):
        yield "erased", each.position.offset
    else:
        yield "erased", each.erased


def share_done(followed: Iterable[Followed]) -> tuple[int, int]:
    """Return how many offsets of the start's are done, and how many there were."""
    done = total = 0
    for each in followed:
        total += max(0, each.goal - each.began)
        done += max(0, min(each.position.offset, each.goal) - each.began)
    return done, total

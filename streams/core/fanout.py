"""
One decision, many items: which of them need another answer, and how far that has got.

An item needs an answer only where the decision it stands by and the one of now judge it
differently.  A `Job` walks a user's items twice, purges before grants, in slices; it is a row of
the state, so it goes on after a crash.  A newer decision replaces the job but remembers how items
stand: by ranges of content ids, what the walks have answered; by offsets of `content`, what was
answered directly because a record of the item arrived meanwhile.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from streams.core.item import Item
from streams.core.user import User
from streams.core.verdict import Decision, allows

PURGE: Final = 0
GRANT: Final = 1

# Beyond this many decisions a job forgets how items stand, and answers every one again.
REMEMBERED_MAX: Final = 8
NO_OFFSET: Final = -1


class Era(Struct, frozen=True, array_like=True, gc=False):
    """
    A decision, and the offset of `content` from which records are answered by it.

    No record below *from_offset* may be answered by it without the job being told (`touched`):
    where the input is read again from an earlier offset, it stays above all that was ever read.
    """

    from_offset: int
    decision: Decision


class Range(Struct, frozen=True, array_like=True, gc=False):
    """Items up to content id *upto* (inclusive, by UTF-8 bytes), and the eras they stand by."""

    upto: bytes
    eras: tuple[int, ...]


class Job(Struct, frozen=True, array_like=True, gc=False):
    """
    The items of one user still to be answered after a decision.

    eras: the decisions since all items stood by the first one; the job works towards the last.
    ranges, rest: the eras items stand by, as indexes, by content id: an item stands as allowed
    where all of them allow it; with none, nobody knows how it stands.
    phase, cursor: the walk has answered every item up to *cursor* in this phase.
    forget: the account is deleted, so item rows leave the state as they are answered.
    blurred: an item was answered directly, and its offset does not tell.
    topic, received_ms: of the earliest record whose outputs are still on their way.
    """

    eras: tuple[Era, ...]
    ranges: tuple[Range, ...]
    rest: tuple[int, ...]
    topic: str
    received_ms: int
    traceparent: bytes | None = None
    phase: int = PURGE
    cursor: bytes = b""
    grants_found: bool = False
    forget: bool = False
    blurred: bool = False

    @property
    def decision(self) -> Decision:
        """The decision the job works towards."""
        return self.eras[-1].decision


class Answer(NamedTuple):
    """An item of a job's slice; not *differs* where it is only to be forgotten."""

    content_id: bytes
    item: Item
    allowed: bool
    differs: bool


def may_differ(old: Decision, new: Decision) -> bool:
    """Whether there can be an item that *old* and *new* judge differently."""
    for before, after in zip(old.reasons, new.reasons, strict=True):
        if (before == 0) != (after == 0):
            return True
        same = old.adult_from_ms == new.adult_from_ms and old.kinds == new.kinds
        if before == 0 and not same:
            return True
    return False


def begin(
    old: Decision,
    era: Era,
    running: Job | None,
    topic: str,
    received_ms: int,
    traceparent: bytes | None,
    *,
    forget: bool,
) -> Job:
    """Return the job that takes a user's items from decision *old* to that of *era*."""
    if running is None:
        before = Era(NO_OFFSET, old)
        return Job((before, era), (), (0,), topic, received_ms, traceparent, forget=forget)
    if received_ms > running.received_ms:
        topic, received_ms, traceparent = running.topic, running.received_ms, running.traceparent
    ranges, rest = _standing(running)
    eras = (*running.eras, era)
    if running.blurred or max(len(eras), len(ranges)) > REMEMBERED_MAX:
        return anew(era, topic, received_ms, traceparent, forget=forget)
    return Job(eras, ranges, rest, topic, received_ms, traceparent, forget=forget)


def anew(
    era: Era, topic: str, received_ms: int, traceparent: bytes | None, *, forget: bool = False
) -> Job:
    """Return the job that answers every item of a user by *era*, however it stands."""
    return Job((era,), (), (), topic, received_ms, traceparent, forget=forget)


def touched(job: Job, item: Item) -> Job:
    """Return *job* now that *item* was answered directly by its decision."""
    if job.blurred or last_offset(item) >= job.eras[-1].from_offset:
        return job
    return replace(job, blurred=True)


def last_offset(item: Item) -> int:
    """Return the offset of the last record of *item* that was answered."""
    letters = item.dead_letters
    return max(item.readable_offset, letters[-1]) if letters else item.readable_offset


def slice_answers(
    job: Job, found: Iterable[tuple[bytes, Item]], user: User, dead_letter_prefix: str
) -> tuple[list[Answer], Job]:
    """Return the answers that *found*, the items next behind the cursor, need; and the job then."""
    answers: list[Answer] = []
    cursor, grants_found = job.cursor, job.grants_found
    now, forget, grants = job.decision, job.forget, job.phase == GRANT
    for content_id, item in found:
        cursor = content_id
        stands_by = _stands_by(job, content_id, item)
        allowed = allows(item, user, now, dead_letter_prefix)
        stood = True
        for index in stands_by:
            stood = stood and allows(item, user, job.eras[index].decision, dead_letter_prefix)
        differs = not stands_by or stood != allowed
        grants_found = grants_found or (differs and allowed)
        if (differs or forget) and allowed == grants:
            answers.append(Answer(content_id, item, allowed, differs))
    return answers, replace(job, cursor=cursor, grants_found=grants_found)


def next_phase(job: Job) -> Job | None:
    """Return the job once its phase has walked all items; None when it is done."""
    if job.phase == PURGE and job.grants_found:
        return replace(job, phase=GRANT, cursor=b"")
    return None


def _stands_by(job: Job, content_id: bytes, item: Item) -> tuple[int, ...]:
    """Return the eras by which *item* stands: of its last direct answer, and of walks since."""
    walked = job.rest
    for each in job.ranges:
        if content_id <= each.upto:
            walked = each.eras
            break
    offset, direct = last_offset(item), 0
    for index, era in enumerate(job.eras):
        if era.from_offset <= offset:
            direct = index
    if not walked:  # nobody knows, but for a direct answer by the decision of now
        now = len(job.eras) - 1
        return (now,) if job.eras[now].from_offset <= offset else ()
    if direct <= walked[0]:
        return walked
    return (direct, *(index for index in walked[1:] if index > direct))


def _standing(job: Job) -> tuple[tuple[Range, ...], tuple[int, ...]]:
    """Return how the walks of a *job* that is being replaced leave its items."""
    ranges: list[Range] = []
    for each in job.ranges:
        if each.upto <= job.cursor:
            ranges.append(Range(each.upto, _after_walk(job, each.eras)))
            continue
        ranges += _split(job, each.eras, ranges)
        ranges.append(Range(each.upto, _before_walk(job, each.eras)))
    ranges += _split(job, job.rest, ranges)
    return tuple(ranges), _before_walk(job, job.rest)


def _split(job: Job, eras: tuple[int, ...], ranges: list[Range]) -> list[Range]:
    """Return the walked part of the range that the cursor lies in, unless it is in *ranges*."""
    if not job.cursor or (ranges and ranges[-1].upto >= job.cursor):
        return []
    return [Range(job.cursor, _after_walk(job, eras))]


def _after_walk(job: Job, eras: tuple[int, ...]) -> tuple[int, ...]:
    """How items stand that this phase has walked."""
    return (len(job.eras) - 1,) if job.phase == GRANT else _also_now(job, eras)


def _before_walk(job: Job, eras: tuple[int, ...]) -> tuple[int, ...]:
    """How items stand that this phase has still to walk: in `GRANT`, the purges are done."""
    return _also_now(job, eras) if job.phase == GRANT else eras


def _also_now(job: Job, eras: tuple[int, ...]) -> tuple[int, ...]:
    """Items whose purges by the decision of now are done: both have to allow them."""
    now = len(job.eras) - 1
    return (*eras, now) if eras and now not in eras else eras

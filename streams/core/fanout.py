"""
One decision, many items: which of them need another answer, and how far that has got.

An item needs an answer only where the decision it was answered under and the one of now judge
it differently.  A `Job` walks a user's items twice, purges before grants, in slices; it is a row
of the state, so it goes on after a crash.  A newer decision replaces the job but remembers, by
ranges of content ids, what was already answered under which decision.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from streams.core.item import Item
from streams.core.user import User
from streams.core.verdict import Decision, item_reasons

PURGE: Final = 0
GRANT: Final = 1

# Beyond this a job forgets what was answered under what, and answers every item again.
REMEMBERED_MAX: Final = 8


class Range(Struct, frozen=True, array_like=True, gc=False):
    """
    Items up to content id *upto* (inclusive, by UTF-8 bytes) and how they were answered.

    An item of the range stands as allowed where every one of *decisions* allows it; with none,
    nobody knows how it stands.
    """

    upto: bytes
    decisions: tuple[Decision, ...]


class Job(Struct, frozen=True, array_like=True, gc=False):
    """
    The items of one user still to be answered after a decision.

    decision: the one the job works towards.
    ranges, rest: how items stood when it began, by content id.
    phase, cursor: the walk has answered every item up to *cursor* in this phase.
    forget: the account is deleted, so item rows leave the state as they are answered.
    topic, received_ms: of the earliest record whose outputs are still on their way.
    """

    decision: Decision
    ranges: tuple[Range, ...]
    rest: tuple[Decision, ...]
    topic: str
    received_ms: int
    traceparent: bytes | None = None
    phase: int = PURGE
    cursor: bytes = b""
    grants_found: bool = False
    forget: bool = False
    answered: int = 0


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
    new: Decision,
    running: Job | None,
    topic: str,
    received_ms: int,
    traceparent: bytes | None,
    *,
    forget: bool,
) -> Job:
    """Return the job that takes a user's items from decision *old* to *new*."""
    if running is None:
        return Job(new, (), (old,), topic, received_ms, traceparent, forget=forget)
    ranges, rest = _standing(running)
    if received_ms > running.received_ms:
        topic, received_ms, traceparent = running.topic, running.received_ms, running.traceparent
    return Job(new, ranges, rest, topic, received_ms, traceparent, forget=forget)


def slice_answers(
    job: Job, found: Iterable[tuple[bytes, Item]], user: User, dead_letter_prefix: str
) -> tuple[list[Answer], Job]:
    """Return the answers that *found*, the items next behind the cursor, need; and the job then."""
    answers: list[Answer] = []
    cursor, grants_found = job.cursor, job.grants_found
    for content_id, item in found:
        cursor = content_id
        decisions = _decisions_at(job, content_id)
        allowed = item_reasons(item, user, job.decision, dead_letter_prefix) == 0
        stood = [item_reasons(item, user, each, dead_letter_prefix) == 0 for each in decisions]
        differs = not decisions or all(stood) != allowed
        grants_found = grants_found or (differs and allowed)
        if (differs or job.forget) and allowed == (job.phase == GRANT):
            answers.append(Answer(content_id, item, allowed, differs))
    answered = job.answered + len(answers)
    then = replace(job, cursor=cursor, grants_found=grants_found, answered=answered)
    return answers, then


def next_phase(job: Job) -> Job | None:
    """Return the job once its phase has walked all items; None when it is done."""
    if job.phase == PURGE and job.grants_found:
        return replace(job, phase=GRANT, cursor=b"")
    return None


def _decisions_at(job: Job, content_id: bytes) -> tuple[Decision, ...]:
    for each in job.ranges:
        if content_id <= each.upto:
            return each.decisions
    return job.rest


def _standing(job: Job) -> tuple[tuple[Range, ...], tuple[Decision, ...]]:
    """Return how the items of a *job* that is being replaced stand as of now."""
    ranges: list[Range] = []
    for each in job.ranges:
        if each.upto <= job.cursor:
            ranges.append(Range(each.upto, _after_walk(job, each.decisions)))
            continue
        ranges += _split(job, each.decisions, ranges)
        ranges.append(Range(each.upto, _before_walk(job, each.decisions)))
    ranges += _split(job, job.rest, ranges)
    rest = _before_walk(job, job.rest)
    remembered = max(len(ranges), len(rest), *(len(each.decisions) for each in ranges), 0)
    if remembered > REMEMBERED_MAX:
        return (), ()
    return tuple(ranges), rest


def _split(job: Job, decisions: tuple[Decision, ...], ranges: list[Range]) -> list[Range]:
    """Return the walked part of the range that the cursor lies in, unless it is in *ranges*."""
    if not job.cursor or (ranges and ranges[-1].upto >= job.cursor):
        return []
    return [Range(job.cursor, _after_walk(job, decisions))]


def _after_walk(job: Job, decisions: tuple[Decision, ...]) -> tuple[Decision, ...]:
    """How items stand that this phase has walked."""
    if job.phase == GRANT:
        return (job.decision,)
    return _also(decisions, job.decision)


def _before_walk(job: Job, decisions: tuple[Decision, ...]) -> tuple[Decision, ...]:
    """How items stand that this phase has still to walk: in `GRANT`, the purges are done."""
    return _also(decisions, job.decision) if job.phase == GRANT else decisions


def _also(decisions: tuple[Decision, ...], decision: Decision) -> tuple[Decision, ...]:
    if not decisions or decision in decisions:
        return decisions
    return (*decisions, decision)

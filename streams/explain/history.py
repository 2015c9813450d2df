"""
What happened to a user, step by step: input records, and the decisions that they or time caused.

`eligibility` is compacted and says only the last decision of a batch, the inputs lose their oldest
records: what is missing is said.  Pure.
"""

from collections.abc import Iterator

from streams.core.changes import CLOCK
from streams.core.policy import Policy
from streams.core.reasons import PRODUCTS
from streams.core.times import read_rfc3339, rfc3339
from streams.core.user import NOBODY, merge
from streams.core.verdict import Decision, decide
from streams.explain.evidence import Evidence, Said, Stated
from streams.explain.explanation import PENDING, Change, History, Step
from streams.explain.timeline import of_decision, of_pending
from streams.explain.words import Shown, changes_between
from streams.worker.names import WITH_LINKS

Reasons = tuple[frozenset[str], ...]

DECIDED, UNCHANGED, UNNAMED = "decided", "unchanged", "unnamed"


def history_of(evidence: Evidence, policy: Policy, show: Shown, limit: int) -> History:
    """Return the latest *limit* steps that the topics tell, oldest first."""
    decisions = list(evidence.decisions)
    stated = [*evidence.stated, *evidence.causing]
    notes = []
    if evidence.row is not None and evidence.row.user.deleted:
        decisions = [each for each in decisions if _is_of_deleted(each)]
        stated = []
        notes.append("the account is deleted: what came before is not told")
    steps = sorted(_steps(evidence, decisions, stated, policy, show), key=lambda each: each[0])
    missing = tuple(_missing(decisions))
    if missing and not notes:
        ranges = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in missing)
        notes.append(
            f"without a record in the log: epoch {ranges} (compacted away, or decided in one batch "
            "with the next)"
        )
    return History(
        tuple(step for _, step in steps[max(len(steps) - limit, 0) :]),
        len(steps),
        missing,
        tuple(notes),
    )


def _steps(
    evidence: Evidence,
    decisions: list[Said],
    stated: list[Stated],
    policy: Policy,
    show: Shown,
) -> Iterator[tuple[tuple[int, int, int], Step]]:
    """Yield steps with what orders them."""
    caused = {_cause_place(said): number for number, said in reversed(list(enumerate(decisions)))}
    told: set[int] = set()
    changes = list(_changes(decisions))
    changed = _changed_by_replay(evidence, policy)
    for said in stated:
        number = caused.get(said.place)
        order = (said.received_ms, WITH_LINKS.all.index(said.topic), said.offset)
        if number is None:
            yield order, _without_decision(said, evidence, changed, show)
            continue
        told.add(number)
        yield order, _step(decisions[number], changes[number], said, evidence, show)
    for number, decision in enumerate(decisions):
        if number not in told:
            at_ms = read_rfc3339(decision.value.decided_at)
            step = _step(decision, changes[number], None, evidence, show)
            yield (at_ms, len(WITH_LINKS.all), decision.value.epoch), step


def _step(
    decision: Said,
    changes: tuple[Change, ...],
    said: Stated | None,
    evidence: Evidence,
    show: Shown,
) -> Step:
    cause = decision.value.cause
    at_ms = read_rfc3339(decision.value.decided_at) if said is None else said.received_ms
    of_age = cause.topic == CLOCK and any("UNDER_AGE" in each.ended for each in changes)
    topic = cause.topic if said is None else said.topic
    place = None if cause.offset < 0 else _cause_place(decision)
    return Step(
        show.instant(at_ms) if of_age else rfc3339(at_ms),
        topic,
        place,
        "" if said is None else show.record(said),
        DECIDED,
        decision.value.epoch,
        changes,
        decision.place,
        said is not None and bool(said.error),
        None if of_age and show.redact else of_decision(decision, said, evidence),
    )


def _without_decision(said: Stated, evidence: Evidence, changed: set[str], show: Shown) -> Step:
    if said.offset >= evidence.read_to(said.topic):
        effect = PENDING
    else:
        effect = UNNAMED if said.place in changed else UNCHANGED
    return Step(
        rfc3339(said.received_ms),
        said.topic,
        said.place,
        show.record(said),
        effect,
        None,
        (),
        None,
        bool(said.error),
        of_pending(said) if effect == PENDING else None,
    )


def _changes(decisions: list[Said]) -> Iterator[tuple[Change, ...]]:
    """Yield what each decision changed since the one before it in the log."""
    before: Reasons | None = None
    for said in decisions:
        after = tuple(frozenset(said.value.products.get(name, ())) for name in PRODUCTS)
        if before is None:
            yield tuple(
                Change(product, tuple(sorted(reasons)), (), not reasons)
                for product, reasons in zip(PRODUCTS, after, strict=True)
            )
        else:
            yield changes_between(before, after)
        before = after


def _changed_by_replay(evidence: Evidence, policy: Policy) -> set[str]:
    """
    Return the places of records that changed the decision, as far as the inputs tell.

    Each is judged at the time it was received, by what came before it; so only those that change
    nothing even so are sure.
    """
    changed: set[str] = set()
    user = NOBODY
    before: Decision | None = None
    for said in sorted(evidence.stated, key=_received):
        if before is not None:
            before = decide(user, policy, said.received_ms).decision
        user = merge(user, said.facts)
        after = decide(user, policy, said.received_ms).decision
        if after != before:
            changed.add(said.place)
        before = after
    return changed


def _missing(decisions: list[Said]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of epochs that no record tells of."""
    last = 0
    for said in decisions:
        epoch = said.value.epoch
        if epoch > last + 1:
            yield last + 1, epoch - 1
        last = max(last, epoch)


def _is_of_deleted(said: Said) -> bool:
    return "ACCOUNT_DELETED" in said.value.reasons


def _cause_place(said: Said) -> str:
    cause = said.value.cause
    return f"{cause.topic}/{cause.partition}/{cause.offset}"


def _received(said: Stated) -> tuple[int, int, int]:
    return said.received_ms, WITH_LINKS.all.index(said.topic), said.offset

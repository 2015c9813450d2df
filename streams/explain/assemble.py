"""
Evidence, policy and time -> the explanation.  Pure: no Kafka, no clock.
"""

from typing import NamedTuple

from streams.core.changes import CLOCK, DUE_AT_ONCE_MS, DUE_BY_POLICY_MS, Cause, UserRow
from streams.core.policy import Policy
from streams.core.reasons import reason_names
from streams.core.times import NEVER_MS, rfc3339
from streams.core.user import NOBODY
from streams.core.verdict import decide
from streams.explain.checks import by_other_policy, check, why_not_comparable
from streams.explain.evidence import Evidence, Stated
from streams.explain.explanation import (
    FORMAT,
    CauseShown,
    DecisionShown,
    Explanation,
    NextChange,
    Position,
)
from streams.explain.explanation import Pending as PendingShown
from streams.explain.facts import Facts
from streams.explain.history import history_of
from streams.explain.items import items_of, story_of
from streams.explain.reasons import products_of
from streams.explain.timeline import objection_story
from streams.explain.words import Shown, changes_between, reason_sets, shown_changes
from streams.worker.names import CONTENT, WITH_LINKS

PENDING_SHOWN_MAX = 20
NOT_TOLD = "not told, as the account is deleted"


class Wanted(NamedTuple):
    """
    How much is told.

    items: whether the topics of items were read; listed: how many of them to list.
    content_id: an item to tell in full.  steps: how many of the history.
    objection_id: an objection whose way is told.
    """

    redact: bool = False
    items: bool = True
    listed: int = 0
    content_id: str | None = None
    steps: int = 100
    objection_id: str | None = None


def explain(evidence: Evidence, policy: Policy, now_ms: int, wanted: Wanted) -> Explanation:
    """Return why the user's data may be used, or may not, as of *now_ms* by *policy*."""
    show = Shown(wanted.redact)
    row = evidence.row
    if row is not None:  # a worker's clock may be a little ahead of ours
        now_ms = max(now_ms, row.decided_ms)
    user = NOBODY if row is None else row.user
    facts = Facts(user, evidence, policy, now_ms, show).all()
    products = tuple([] if row is None else products_of(row, facts, evidence))
    checked = check(evidence, policy, now_ms, show, items=wanted.items)
    content_unfolded = list(evidence.content_unfolded())
    story = None
    if wanted.content_id is not None:
        story = story_of(wanted.content_id, evidence, products, show)
    objection = None
    if wanted.objection_id is not None:
        objection = objection_story(wanted.objection_id, evidence)
    return Explanation(
        FORMAT,
        evidence.user_id,
        evidence.number,
        rfc3339(now_ms),
        wanted.redact,
        not checked.mismatches,
        checked.mismatches,
        checked.remarks,
        None if row is None else _decision(evidence, row, show),
        products,
        facts,
        None if row is None else next_change(evidence, row, policy, now_ms, show),
        tuple(_pending(evidence, show, deleted=user.deleted)),
        len(content_unfolded),
        evidence.place(CONTENT, content_unfolded[0]) if content_unfolded else None,
        history_of(evidence, policy, show, wanted.steps),
        items_of(evidence, wanted.listed) if wanted.items else None,
        story,
        tuple(_positions(evidence)),
        evidence.name if evidence.name != evidence.user_id else None,
        objection,
    )


def _decision(evidence: Evidence, row: UserRow, show: Shown) -> DecisionShown:
    said = evidence.decisions[-1] if evidence.decisions else None
    published = said if said is not None and said.value.epoch == row.epoch else None
    names = {name for reasons in row.decision.reasons for name in reason_names(reasons)}
    # By the policy it was decided by, which this command may not have: as it was published.
    eligible = published is not None and published.value.eligible
    by_clock = row.cause.topic == CLOCK
    adult_ms = row.decision.adult_from_ms
    return DecisionShown(
        row.epoch,
        eligible,
        tuple(sorted(names)),
        show.instant(row.decided_ms) if by_clock else rfc3339(row.decided_ms),
        _cause(row.cause),
        show.instant(adult_ms) if abs(adult_ms) != NEVER_MS else None,
        row.policy_version,
        None if row.held is None else _cause(row.held.cause),
        row.seeded,
        None if published is None else published.place,
    )


def _cause(cause: Cause) -> CauseShown:
    return CauseShown(cause.topic, cause.partition, cause.offset, cause.id)


def next_change(
    evidence: Evidence, row: UserRow, policy: Policy, now_ms: int, show: Shown
) -> NextChange | None:
    """Return what changes by itself, without any record arriving; None if nothing ever does."""
    if by_other_policy(evidence, policy):
        if row.next_change_ms == NEVER_MS:
            return None
        at, due = show.instant(row.next_change_ms), row.next_change_ms <= now_ms
        return NextChange(at, due, "told by the workers' policy, which is not the one here", ())
    due = why_not_comparable(evidence, row, policy, now_ms) is not None
    next_ms = decide(row.user, policy, now_ms).next_change_ms
    then = decide(row.user, policy, now_ms if due else next_ms).decision
    if due and then == row.decision:
        due, then = False, decide(row.user, policy, next_ms).decision
    if next_ms == NEVER_MS and not due:
        return None
    changes = changes_between(reason_sets(row.decision.reasons), reason_sets(then.reasons))
    at_ms = row.next_change_ms if due else next_ms
    of_age = any("UNDER_AGE" in each.ended for each in changes)
    at = show.instant(at_ms) if of_age else rfc3339(at_ms)
    if at_ms in (DUE_AT_ONCE_MS, DUE_BY_POLICY_MS, NEVER_MS):
        at = None  # no instant, but as soon as what it waits for has happened
    return NextChange(at, due, shown_changes(changes) or "items are judged anew", changes)


def _pending(evidence: Evidence, show: Shown, *, deleted: bool) -> list[PendingShown]:
    """Return records about the user, and a few about items, that are not decided yet."""
    found = [
        PendingShown(
            said.place,
            rfc3339(said.received_ms),
            NOT_TOLD if deleted else show.record(said),
        )
        for said in _unfolded(evidence)
    ]
    return found[:PENDING_SHOWN_MAX]


def _unfolded(evidence: Evidence) -> list[Stated]:
    return [each for each in evidence.stated if each.offset >= evidence.read_to(each.topic)]


def _positions(evidence: Evidence) -> list[Position]:
    return [
        Position(
            evidence.place(topic),
            evidence.folded.get(topic, 0),
            evidence.committed.get(topic),
            evidence.ends[topic],
        )
        for topic in WITH_LINKS.all
        if topic in evidence.ends
    ]

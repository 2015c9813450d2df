"""
What is published, what the state holds and what the inputs say, against each other.

A mismatch is one that nothing under way explains: a fact that the state does not have, a decision
that the facts do not give, an output that is not what was decided.  Pure.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from msgspec.structs import replace

from streams.core.changes import DUE_AT_ONCE_MS, DUE_BY_POLICY_MS, UserRow
from streams.core.policy import Policy
from streams.core.reasons import PRODUCTS, reason_names
from streams.core.times import NEVER_MS
from streams.core.user import merge
from streams.core.verdict import decide, eligible
from streams.explain.evidence import Evidence, Stated
from streams.explain.explanation import HIDDEN
from streams.explain.items import fan_out, judged
from streams.explain.words import Shown
from streams.worker.names import CONTENT, WITH_LINKS

SHOWN_MAX: Final = 20


class Checked(NamedTuple):
    """Mismatches; and what is under way, or is to be known when reading the rest."""

    mismatches: tuple[str, ...]
    remarks: tuple[str, ...]


def check(evidence: Evidence, policy: Policy, now_ms: int, show: Shown, *, items: bool) -> Checked:
    """Return what does not fit together at *now_ms*; *items*: whether their topics were read."""
    row = evidence.row
    found: Iterator[str]
    if row is None:
        found, remarks = _undecided(evidence), ["no decision on this user is in the state yet"]
        remarks = remarks if not evidence.folded else [*remarks, *_positions(evidence)]
    else:
        found = _of_user(evidence, row, policy, now_ms, show, items=items)
        remarks = _remarks(evidence, row, policy, now_ms)
    lines = list(islice(found, SHOWN_MAX + 1))
    if len(lines) > SHOWN_MAX:
        lines[SHOWN_MAX:] = [f"and more than these {SHOWN_MAX}"]
    return Checked(tuple(lines), tuple(remarks))


def by_other_policy(evidence: Evidence, policy: Policy) -> bool:
    """Whether the user's partition is decided by another policy than *policy*."""
    return _decided_by(evidence) != (policy.version, policy.digest)


def why_not_comparable(evidence: Evidence, row: UserRow, policy: Policy, now_ms: int) -> str | None:
    """Return what explains that the decision in force is not the one of now; None if nothing."""
    if row.seeded:
        return "the state was lost: this decision is taken from the outputs until all is read again"
    if by_other_policy(evidence, policy):
        version, _ = _decided_by(evidence)
        other = "another policy" if version == policy.version else "the policy"
        return (
            f"decided by {other} of version {version}, explained here by version {policy.version}: "
            "name the workers' policy with --policy"
        )
    if row.policy_version != policy.version:
        return f"policy {policy.version} is being applied, and has not come to this user yet"
    if row.held is not None and evidence.breaker_tripped:
        return (
            "a grant waits until somebody releases the grants of its partition, as too many would "
            f"be allowed again: see `objections grants status --partition {evidence.number}`"
        )
    if row.next_change_ms == DUE_BY_POLICY_MS:
        return "what a new policy allows waits until everybody has been decided by it"
    if row.held is not None or row.next_change_ms == DUE_AT_ONCE_MS:
        return "a grant waits until objections, ages and notices are read to their ends"
    if row.next_change_ms <= now_ms:
        return "the decision is due to change by itself, and no worker has taken it yet"
    return None


def _decided_by(evidence: Evidence) -> tuple[int, str]:
    built_in = Policy()  # all there was before policies were noted
    return evidence.decided_by or (built_in.version, built_in.digest)


def _undecided(evidence: Evidence) -> Iterator[str]:
    for said in evidence.stated:
        if said.offset < evidence.read_to(said.topic):
            yield f"{said.place} was read, but the state has no row of the user"
    if evidence.decisions:
        yield f"{evidence.decisions[-1].last_place} is published, but the state has no row"


def _of_user(
    evidence: Evidence, row: UserRow, policy: Policy, now_ms: int, show: Shown, *, items: bool
) -> Iterator[str]:
    if row.seeded:
        yield from _of_eligibility(evidence, row, None)
        return
    yield from _lost_facts(evidence, row)
    explained = why_not_comparable(evidence, row, policy, now_ms)
    if explained is None:
        yield from _of_decision(row, policy, now_ms, show)
    known_policy = None if by_other_policy(evidence, policy) else policy
    yield from _of_eligibility(evidence, row, known_policy)
    yield from _of_permissions(evidence, row)
    if items:
        yield from _lost_content(evidence)
        yield from _of_items(evidence)


def _lost_facts(evidence: Evidence, row: UserRow) -> Iterator[str]:
    for said in evidence.stated:
        if said.offset >= evidence.read_to(said.topic):
            continue
        # Rows older than links do not have the times of filing; nothing decides by them alone.
        known = replace(merge(row.user, said.facts), filed_ms=row.user.filed_ms)
        if known != row.user:
            yield f"{said.place} was read, but the state does not have what it says"


def _lost_content(evidence: Evidence) -> Iterator[str]:
    read_to = evidence.read_to(CONTENT)
    for said in evidence.lacking:
        if said.offset < read_to and evidence.is_lacking(said):
            yield f"{said.place} was read, but the state does not have what it says of its item"


def _of_decision(row: UserRow, policy: Policy, now_ms: int, show: Shown) -> Iterator[str]:
    verdict = decide(row.user, policy, max(now_ms, row.decided_ms))
    for product, stands, wanted in zip(
        PRODUCTS, row.decision.reasons, verdict.decision.reasons, strict=True
    ):
        if stands != wanted:
            yield f"{product}: decided is {_names(stands)}, the facts say {_names(wanted)}"
    if verdict.decision.reasons == row.decision.reasons and verdict.decision != row.decision:
        yield "the coming of age, or the kinds covered, are not decided as the facts say"
    if verdict.next_change_ms != row.next_change_ms:
        when, wanted_at = (
            _instant(each, show) for each in (row.next_change_ms, verdict.next_change_ms)
        )
        yield f"the decision is timed to change {when}, by the facts it changes {wanted_at}"


def _of_eligibility(evidence: Evidence, row: UserRow, policy: Policy | None) -> Iterator[str]:
    """*policy*: the one decided by, None where it is not at hand."""
    for place in evidence.garbled:
        yield f"{place}: holds no decision: no worker wrote it"
    if not evidence.decisions:
        yield f"eligibility: epoch {row.epoch} is decided, but no record of the user is published"
        return
    said = evidence.decisions[-1]
    value, at = said.value, f"eligibility ({said.last_place})"
    if value.epoch != row.epoch and not row.seeded:
        yield f"{at}: epoch {value.epoch} is published, {row.epoch} is decided"
        return
    for product, reasons in zip(PRODUCTS, row.decision.reasons, strict=True):
        published = tuple(value.products.get(product, ("nothing",)))
        if published != reason_names(reasons):
            shown = ", ".join(published) or "nothing against it"
            yield f"{at}: {product}: published is {shown}, decided is {_names(reasons)}"
    if policy is not None and value.eligible != eligible(row.decision, policy):
        yield f"{at}: eligible is {value.eligible}, decided is {not value.eligible}"


def _of_permissions(evidence: Evidence, row: UserRow) -> Iterator[str]:
    for product, reasons in zip(PRODUCTS, row.decision.reasons, strict=True):
        found = evidence.permissions.get(product)
        stands, allowed = found is not None and found.stands, not reasons
        if stands == allowed:
            continue
        key = f"training-users {product}/{evidence.user_id}"
        if found is None:
            yield f"{key}: is allowed, but was never published"
        else:
            place = evidence.place("training-users", found.offset)
            verb = "stands, but may not be used" if stands else "is purged, but is allowed"
            yield f"{key} ({place}): {verb}"


def _of_items(evidence: Evidence) -> Iterator[str]:
    if evidence.job is not None:
        return  # answers are on their way: which of them are owed, the job alone knows
    for content_id, item in evidence.items.items():
        allowed = judged(item, evidence) == 0
        answer = evidence.answers.get(content_id)
        key = f"training-content {content_id}"
        if answer is None:
            if allowed:
                yield f"{key}: may be used, but was never published"
            continue
        at = f"{key} ({evidence.place('training-content', answer.offset)})"
        if answer.stands != allowed:
            verb = "stands, but may not be used" if answer.stands else "is purged, but is allowed"
            yield f"{at}: {verb}"
        elif answer.stands and answer.revision != item.revision:
            yield f"{at}: revision {answer.revision} stands, the item has {item.revision}"
    for content_id, answer in evidence.answers.items():
        if answer.stands and content_id not in evidence.items:
            at = evidence.place("training-content", answer.offset)
            yield f"training-content {content_id} ({at}): stands, but the state has no such item"


def _remarks(evidence: Evidence, row: UserRow, policy: Policy, now_ms: int) -> list[str]:
    remarks = []
    if (explained := why_not_comparable(evidence, row, policy, now_ms)) is not None:
        remarks.append(explained)
    if evidence.job is not None:
        remarks.append(f"a fan-out to the items is under way: {fan_out(evidence.job)}")
    return remarks + _positions(evidence) + _of_deleted(evidence, row)


def _positions(evidence: Evidence) -> list[str]:
    """Return where the group is ahead of the state, which has lost its end."""
    return [
        f"{evidence.place(topic)}: the state has got to {evidence.folded.get(topic, 0)}, the "
        f"group's offset is {committed}: a worker that takes over reads on from the lower"
        for topic in WITH_LINKS.all
        if topic in evidence.ends
        and (committed := evidence.committed.get(topic, 0)) > evidence.folded.get(topic, 0)
    ]


def _of_deleted(evidence: Evidence, row: UserRow) -> list[str]:
    if not row.user.deleted:
        return []
    counts = [
        (topic, _count(evidence.stated, topic)) for topic in WITH_LINKS.all if topic != CONTENT
    ]
    counts.append((CONTENT, evidence.content_records))
    left = ", ".join(f"{topic} {count}" for topic, count in counts if count)
    if not left:
        return []
    return [f"records of the deleted account that the input topics still hold: {left}"]


def _count(stated: list[Stated], topic: str) -> int:
    return sum(1 for each in stated if each.topic == topic)


def _names(reasons: int) -> str:
    return ", ".join(reason_names(reasons)) or "nothing against it"


def _instant(instant_ms: int, show: Shown) -> str:
    return "never" if instant_ms == NEVER_MS else f"at {show.instant(instant_ms) or HIDDEN}"

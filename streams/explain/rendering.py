"""
An explanation as text for people.  Pure: lines out, nothing printed.

Ids come from outside: what does not print is escaped, so that no id can command a terminal.
"""

from collections.abc import Iterable, Iterator

from streams.explain.explanation import (
    HIDDEN,
    IN_FORCE,
    PENDING,
    SUPERSEDED,
    CauseShown,
    DecisionShown,
    Explanation,
    Fact,
    ItemShown,
    ItemsShown,
    ItemStory,
    ObjectionStory,
    ReasonShown,
    Step,
    Timeline,
)
from streams.explain.words import shown_changes

_EFFECTS = {
    "unchanged": "changed nothing",
    "unnamed": "decided with others, or its epoch has left the log",
    PENDING: "NOT DECIDED YET",
}


def lines_of(found: Explanation) -> Iterator[str]:
    """Yield the explanation line by line."""
    for line in _lines(found):
        yield "".join(each if each.isprintable() else _escaped(each) for each in line)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _lines(found: Explanation) -> Iterator[str]:
    hidden = ", birth dates and countries hidden" if found.redacted else ""
    yield f"User {found.user_id}, partition {found.partition}, at {found.asked_at}{hidden}"
    if found.subject is not None:
        yield f"In outputs: {found.subject}"
    if found.decision is None:
        yield "Not decided yet, so nothing of this user may be used."
    else:
        yield from _decision(found.decision)
    yield from _section("WRONG: nothing under way explains this", found.mismatches)
    yield from _section("Remarks", found.remarks)
    yield from _section("Products", _products(found))
    yield from _section("Facts in force", _facts(found.facts, IN_FORCE))
    yield from _section("Facts superseded", _facts(found.facts, SUPERSEDED))
    yield from _section("Not decided yet", _pending(found))
    yield from _section("Next change by itself", _next(found))
    yield from _section("History", _history(found))
    if found.items is not None:
        yield from _section("Items", _items(found.items))
    if found.item is not None:
        yield from _section(f"Item {found.item.content_id}", _story(found.item))
    if found.objection is not None:
        title = f"Objection {found.objection.objection_id}"
        yield from _section(title, _objection(found.objection))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    lines = list(lines)
    if lines:
        yield ""
        yield title
        yield from (f"  {line}" for line in lines)


def _decision(decision: DecisionShown) -> Iterator[str]:
    word = "ELIGIBLE" if decision.eligible else "NOT ELIGIBLE"
    reasons = f": {', '.join(decision.reasons)}" if decision.reasons else ""
    yield f"{word}{reasons}"
    yield (
        f"Epoch {decision.epoch}, decided {decision.decided_at or HIDDEN} because of "
        f"{_cause(decision.cause)}, by policy version {decision.policy_version}"
    )
    if decision.adult_from is not None:
        yield f"Of age from {decision.adult_from} on; items created before may never be used"
    if decision.held is not None:
        yield f"A grant waits, because of {_cause(decision.held)}"
    yield f"Published as {decision.published or 'nothing'}"


def _cause(cause: CauseShown) -> str:
    if cause.offset < 0:
        return {"clock": "time passing", "policy": "a changed policy"}.get(cause.topic, cause.topic)
    place = f"{cause.topic}/{cause.partition}/{cause.offset}"
    return place if cause.id is None else f"{place} ({cause.id})"


def _products(found: Explanation) -> Iterator[str]:
    """Yield products; those with the same reasons are told together."""
    alike: dict[tuple[ReasonShown, ...], list[str]] = {}
    for each in found.products:
        alike.setdefault(each.reasons, []).append(each.product)
    for reasons, products in alike.items():
        yield f"{', '.join(products)}: {'not allowed' if reasons else 'allowed'}"
        yield from (f"  {line}" for line in _reasons(reasons))
    permissions = [
        f"{each.product} {'stands' if each.permission.stands else 'purged'} "
        f"({each.permission.place}, epoch {each.permission.epoch})"
        for each in found.products
        if each.permission is not None
    ]
    if found.products:
        yield f"published permissions: {', '.join(permissions) or 'none ever'}"


def _reasons(reasons: Iterable[ReasonShown]) -> Iterator[str]:
    for reason in reasons:
        for why in reason.because:
            until = f" until {why.until}" if why.until else ""
            places = f" [{', '.join(why.places)}]" if why.places else ""
            yield f"{reason.reason}{until}: {why.says}{places}"


def _facts(facts: Iterable[Fact], standing: str) -> Iterator[str]:
    for fact in facts:
        if fact.standing != standing:
            continue
        because = f": {fact.because}" if fact.because else ""
        yield f"{fact.says}{because}"
        for source in fact.sources:
            yield f"    {source.action} by {source.place}, received {source.received_at}"
        if not fact.sources:
            yield "    the record that says so is no longer in its topic"


def _pending(found: Explanation) -> Iterator[str]:
    for each in found.pending:
        yield f"{each.place}, received {each.received_at}: {each.says}"
    if found.pending_content:
        count, begin = found.pending_content, found.pending_content_from
        yield f"{count:,} {'records' if count > 1 else 'record'} of items, from {begin} on"


def _next(found: Explanation) -> Iterator[str]:
    change = found.next_change
    if found.decision is None:
        return
    if change is None:
        yield "none: only a record can change this decision"
        return
    when = change.at or ("as soon as it can" if change.due else HIDDEN)
    yield f"{when}{', which is due' if change.due else ''}: {change.says}"


def _history(found: Explanation) -> Iterator[str]:
    history = found.history
    yield from history.notes
    if history.steps_total > len(history.steps):
        yield f"the latest {len(history.steps)} of {history.steps_total:,} steps (--history N)"
    for each in history.steps:
        yield _step(each)
        yield from _timeline(each.timeline)


def _step(step: Step) -> str:
    at = step.at or HIDDEN
    if step.place is not None:
        what = f"{step.place}{f': {step.says}' if step.says else ''}"
    else:
        what = {"clock": "time passed", "policy": "the policy changed"}.get(step.topic, step.topic)
    if step.epoch is None:
        return f"{at}  {what} -> {_EFFECTS[step.effect]}"
    changes = shown_changes(step.changes) or "same reasons; items are judged anew"
    return f"{at}  {what} -> epoch {step.epoch}: {changes} [{step.published}]"


def _items(items: ItemsShown) -> Iterator[str]:
    yield f"{items.known:,} known: {items.allowed:,} allowed, {items.purged:,} purged"
    for reason, count in items.by_reason.items():
        yield f"  {reason}: {count:,}"
    if items.unreadable:
        yield f"unreadable: {items.unreadable:,}"
    if items.locked:
        yield f"their records stand, but the user's permission does not: {items.locked:,}"
    if items.purged_besides:
        yield f"purged, and not kept in the state: {items.purged_besides:,}"
    if items.fan_out is not None:
        yield f"being answered again: {items.fan_out}"
    yield from (_item(each) for each in items.listed)
    if 0 < len(items.listed) < items.known:
        yield f"the first {len(items.listed):,} of {items.known:,} (--limit N)"


def _item(item: ItemShown) -> str:
    revision = "unreadable" if item.revision is None else f"revision {item.revision}"
    reasons = f": {', '.join(item.reasons)}" if item.reasons else ""
    place = "no answer in the log" if item.answer is None else item.answer.place
    return (
        f"{item.content_id}  {item.published}{reasons}  ({item.product} {item.kind}, "
        f"{item.visibility}, {revision}) [{place}]"
    )


def _story(story: ItemStory) -> Iterator[str]:
    yield from story.notes
    if story.item is not None:
        yield _item(story.item)
    yield from (f"  {line}" for line in _reasons(story.reasons))
    for each in story.steps:
        yield f"{each.at}  {each.place}: {each.says}"
        yield from _timeline(each.timeline)


def _objection(story: ObjectionStory) -> Iterator[str]:
    yield from story.notes
    for each in story.actions:
        yield f"{each.action} {each.timeline.moments[0].at}, {each.items:,} items answered"
        yield from _timeline(each.timeline)
        if each.reopened_at is not None:
            yield f"    reopened {each.reopened_at}, as a store went back"
        yield f"    completed {each.completed_at or 'not yet'}"


def _timeline(timeline: Timeline | None) -> Iterator[str]:
    """Yield when it had got how far since it was received, in one line."""
    if timeline is None:
        return
    words = []
    for each in timeline.moments[1:]:
        name = each.stage if each.store is None else f"{each.stage} in {each.store}"
        words.append(
            f"{name} not yet" if each.after_ms is None else f"{name} {_after(each.after_ms)}"
        )
    trace = "" if timeline.trace_id is None else f"; trace {timeline.trace_id}"
    yield f"    since it was received: {', '.join(words)}{trace}"


def _after(after_ms: int) -> str:
    return f"{after_ms:+,} ms" if abs(after_ms) < 10_000 else f"{after_ms / 1000:+,.1f} s"

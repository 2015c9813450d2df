"""
A user's items: counted by what is published and by reason, some of them listed, one told in full.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from streams.core.fanout import PURGE, Job
from streams.core.item import NO_REVISION, Item
from streams.core.reasons import KINDS, PRODUCTS, VISIBILITIES, Reason, reason_names
from streams.core.times import NEVER_MS, rfc3339
from streams.core.verdict import item_reasons
from streams.explain.evidence import Evidence, Published, Stated
from streams.explain.explanation import (
    Answer,
    ItemShown,
    ItemsShown,
    ItemStep,
    ItemStory,
    ProductShown,
    ReasonShown,
)
from streams.explain.reasons import answer_place, item_reasons_of, unreadable_places
from streams.explain.timeline import of_answer, of_pending
from streams.explain.words import Shown


def items_of(evidence: Evidence, limit: int) -> ItemsShown:
    """Return all items counted, and the first *limit* of them by content_id."""
    allowed = locked = unreadable = 0
    by_reason: Counter[int] = Counter()
    for content_id, item in evidence.items.items():
        answer = evidence.answers.get(content_id)
        if answer is not None and answer.stands:
            allowed += 1
            permission = evidence.permissions.get(PRODUCTS[item.product])
            locked += permission is None or not permission.stands
        unreadable += bool(item.dead_letters and unreadable_places(item, evidence))
        by_reason[judged(item, evidence)] += 1
    names: Counter[str] = Counter()
    for reasons, count in by_reason.items():
        names.update(dict.fromkeys(reason_names(reasons), count))
    besides = sum(1 for each in evidence.answers if each not in evidence.items)
    ids = sorted(evidence.items)[:limit] if limit else []
    known = len(evidence.items)
    return ItemsShown(
        known,
        allowed,
        known - allowed,
        dict(sorted(names.items())),
        locked,
        besides,
        unreadable,
        None if evidence.job is None else fan_out(evidence.job),
        tuple(item_shown(each, evidence.items[each], evidence) for each in ids),
    )


def judged(item: Item, evidence: Evidence) -> int:
    """Return the reasons against an item by the decision that stands; 0 while there is none."""
    row = evidence.row
    if row is None:
        return 0
    found = item_reasons(item, row.user, row.decision, evidence.dead_letter_prefix)
    if item.revision == NO_REVISION:  # of whose product and kind nothing is known
        return found & Reason.UNREADABLE_INPUT or found & Reason.NOT_PUBLIC
    return found


def fan_out(job: Job) -> str:
    """Return how far a fan-out has got, in words."""
    phase = "purges" if job.phase == PURGE else "grants"
    cursor = job.cursor.decode(errors="backslashreplace")
    return f"{phase} answered up to {cursor}" if cursor else f"{phase} about to begin"


def item_shown(content_id: str, item: Item, evidence: Evidence) -> ItemShown:
    """Return an item as it stands."""
    answer = evidence.answers.get(content_id)
    readable = item.revision != NO_REVISION
    return ItemShown(
        content_id,
        "allowed" if answer is not None and answer.stands else "purged",
        PRODUCTS[item.product] if readable else "unknown",
        KINDS[item.kind] if readable else "unknown",
        VISIBILITIES[item.visibility] if readable else "unknown",
        item.revision if readable else None,
        None if item.created_ms == NEVER_MS else rfc3339(item.created_ms),
        reason_names(judged(item, evidence)),
        None if answer is None else _answer(answer, evidence),
    )


def story_of(
    content_id: str, evidence: Evidence, products: Iterable[ProductShown], show: Shown
) -> ItemStory:
    """Return one item with all that its topics still hold of it."""
    item = evidence.items.get(content_id)
    steps = list(_steps(evidence, show))
    notes = []
    if not steps and item is None:
        notes.append("no record of this user has this content_id")
    elif item is None:
        notes.append("the state holds nothing of it")
    elif not any(each.offset == item.readable_offset for each in evidence.item_stated):
        notes.append("its last record has left the topic, which keeps them for 30 days")
    if content_id not in evidence.answers and item is not None:
        notes.append("no answer is in the log: a tombstone leaves it when it is compacted")
    reasons: tuple[ReasonShown, ...] = ()
    shown = None
    if item is not None:
        shown = item_shown(content_id, item, evidence)
        of_product = {each.product: each for each in products}
        product = of_product.get(PRODUCTS[item.product])
        if product is not None:
            found = judged(item, evidence)
            reasons = tuple(item_reasons_of(content_id, item, found, product, evidence, show))
    ordered = tuple(step for _, step in sorted(steps, key=lambda each: each[0]))
    return ItemStory(content_id, shown, reasons, ordered, tuple(notes))


def _steps(evidence: Evidence, show: Shown) -> Iterator[tuple[int, ItemStep]]:
    """Yield steps with the times that order them."""
    deleted = evidence.row is not None and evidence.row.user.deleted
    for said in () if deleted else evidence.item_stated:
        at_ms = said.received_ms
        pending = said.offset >= evidence.read_to("content")
        timeline = of_pending(said) if pending else None
        yield at_ms, ItemStep(rfc3339(at_ms), said.place, _says(said, evidence, show), timeline)
    for outputs, answer in evidence.item_answers:
        what = "allowed" if answer.stands else "purged"
        says = f"{what} (epoch {answer.epoch}, revision {answer.revision})"
        at_ms, place = outputs.published_ms, answer_place(answer, evidence)
        # When it was due is a birthday, and that of a deleted account's records is not told.
        timeline = None if show.redact or deleted else of_answer(outputs, evidence)
        yield at_ms, ItemStep(rfc3339(at_ms), place, says, timeline)


def _says(said: Stated, evidence: Evidence, show: Shown) -> str:
    item = said.item
    if item is None:
        return show.record(said)
    words = (
        f"revision {item.revision}, {PRODUCTS[item.product]} {KINDS[item.kind]}, "
        f"{VISIBILITIES[item.visibility]}, created {rfc3339(item.created_ms)}"
    )
    if said.facts.resolved:
        words += f"; dead letter {', '.join(said.facts.resolved)} resolved"
    return words if said.offset < evidence.read_to("content") else f"{words}; not decided yet"


def _answer(found: Published, evidence: Evidence) -> Answer:
    return Answer(found.stands, found.epoch, found.revision, answer_place(found, evidence))

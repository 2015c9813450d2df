"""
When what a record caused had got how far, by the topics alone: received, decided, published, and
applied, hidden and erased in each store.  Pure.
"""

from collections.abc import Iterator

from streams.core.receipts import ERASED, HIDDEN, Receipt
from streams.core.times import read_rfc3339, rfc3339
from streams.explain.evidence import Evidence, Said, Stated
from streams.explain.explanation import (
    ActionTold,
    Moment,
    ObjectionStory,
    Timeline,
)
from streams.explain.passage import Outputs, Passage
from streams.worker.names import OBJECTIONS


def of_decision(decision: Said, said: Stated | None, evidence: Evidence) -> Timeline | None:
    """Return the way of a decision that *said* has caused, or time; None where nothing tells."""
    outputs = decision.outputs
    received_ms = outputs.received_ms if said is None else said.received_ms
    if not received_ms:
        return None
    under_way = evidence.job is not None and decision is evidence.decisions[-1]
    times = (
        received_ms,
        read_rfc3339(decision.value.decided_at),
        None if under_way else outputs.published_ms,
    )
    trace_id = outputs.trace_id if said is None or said.trace_id is None else said.trace_id
    return _timeline(trace_id, times, outputs, evidence.passage)


def of_answer(outputs: Outputs, evidence: Evidence) -> Timeline | None:
    """Return the way of one answer of an item; None where no worker wrote it."""
    if not outputs.received_ms or not outputs.decided_ms:
        return None
    times = outputs.received_ms, outputs.decided_ms, outputs.published_ms
    return _timeline(outputs.trace_id, times, outputs, evidence.passage)


def of_pending(said: Stated) -> Timeline:
    """Return the way of a record that nobody has decided on."""
    received = Moment("received", None, rfc3339(said.received_ms), 0)
    return Timeline(said.trace_id, (received, Moment("decided", None, None, None)))


def objection_story(objection_id: str, evidence: Evidence) -> ObjectionStory:
    """Return how far an objection, and its withdrawal, have got."""
    if evidence.row is not None and evidence.row.user.deleted:
        note = "the account is deleted: what came before is not told"
        return ObjectionStory(objection_id, (), (note,))
    receipts = evidence.passage.receipts
    said = [
        each
        for each in evidence.stated
        if each.topic == OBJECTIONS and each.cause_id == objection_id
    ]
    actions = [
        _action(receipt, said)
        for (found_id, _), receipt in sorted(receipts.items())
        if found_id == objection_id
    ]
    notes = []
    if any(each.offset >= evidence.read_to(OBJECTIONS) for each in said):
        notes.append("a record of it is not decided yet")
    elif not actions:
        notes.append(
            "it has no receipt" if said else "no record of this user has this objection_id"
        )
    return ObjectionStory(objection_id, tuple(actions), tuple(notes))


def _action(receipt: Receipt, said: list[Stated]) -> ActionTold:
    received_ms = read_rfc3339(receipt.received_at)
    traces = [each.trace_id for each in said if each.received_ms == received_ms]
    moments = [
        *(
            _moment(stage, None, None if at is None else read_rfc3339(at), received_ms)
            for stage, at in (
                ("received", receipt.received_at),
                ("decided", receipt.decided_at),
                ("published", receipt.published_at),
            )
        ),
        *(
            _moment(phase, store, None if at is None else read_rfc3339(at), received_ms)
            for store, each in receipt.stores.items()
            for phase, at in ((HIDDEN, each.hidden_at), (ERASED, each.erased_at))
        ),
    ]
    return ActionTold(
        receipt.action,
        receipt.items,
        receipt.completed_at,
        receipt.reopened_at,
        Timeline(traces[-1] if traces else None, tuple(moments)),
    )


def _timeline(
    trace_id: str | None,
    times: tuple[int, int, int | None],
    outputs: Outputs,
    passage: Passage,
) -> Timeline:
    received_ms, decided_ms, published_ms = times
    moments = [
        _moment("received", None, received_ms, received_ms),
        _moment("decided", None, decided_ms, received_ms),
        _moment("published", None, published_ms, received_ms),
    ]
    if published_ms is not None:
        moments += _stores(outputs, passage, received_ms)
    return Timeline(trace_id, tuple(moments))


def _stores(outputs: Outputs, passage: Passage, received_ms: int) -> Iterator[Moment]:
    ends = outputs.purges or outputs.grants
    for store in passage.stores:
        if not passage.follows(store, ends):
            continue
        hidden_ms = passage.reached_ms(store, HIDDEN, ends)
        if not outputs.purges:
            yield _moment("applied", store, hidden_ms, received_ms)
            continue
        yield _moment(HIDDEN, store, hidden_ms, received_ms)
        yield _moment(ERASED, store, passage.reached_ms(store, ERASED, ends), received_ms)


def _moment(stage: str, store: str | None, at_ms: int | None, received_ms: int) -> Moment:
    if at_ms is None:
        return Moment(stage, store, None, None)
    return Moment(stage, store, rfc3339(at_ms), at_ms - received_ms)

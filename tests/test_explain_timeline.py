"""When what was said of a user had got how far, told from what the real core made of stories."""

from typing import Any

import msgspec
import pytest

from streams.core.receipts import PurgeAck, Receipt, StoreProgress
from streams.core.times import from_ms, rfc3339
from streams.explain.assemble import Wanted
from streams.explain.explanation import Step, Timeline
from streams.explain.rendering import lines_of
from streams.proof import Record
from tests.explaining import Told
from tests.making import NOW_MS, age, content, grown_up, notice, objection

FILED_MS = NOW_MS + 1_000
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01".encode()


def allowed_and_filed() -> Told:
    """Return a user with two items who objects; nothing is said by a store."""
    told = Told()
    told.topics |= {"purge-acks": [], "receipts": []}
    told.tell(grown_up(), notice(), content(content_id="a"), content(content_id="b"))
    told.tell(objection(), at_ms=FILED_MS)
    return told


def says(told: Told, topic: str, offset: int, phase: str, at_ms: int, store: str = "st") -> None:
    """Let a store acknowledge."""
    ack = PurgeAck(store, topic, 0, offset, phase, from_ms(at_ms))  # type: ignore[arg-type]
    log = told.topics["purge-acks"]
    value, key = msgspec.json.encode(ack), ack.key.encode()
    log.append(Record("purge-acks", 0, len(log), at_ms, key, value))


def last_step(told: Told, **wanted: Any) -> Step:
    """Return the latest step of the history."""
    return told.explain(Wanted(**wanted)).history.steps[-1]


def times(timeline: Timeline | None) -> dict[str, int | None]:
    """Return ms since receipt by stage, and store where there is one."""
    assert timeline is not None
    return {
        each.stage if each.store is None else f"{each.store} {each.stage}": each.after_ms
        for each in timeline.moments
    }


def test_a_decision_is_followed_into_every_store() -> None:
    """
    Received, decided, published; hidden and erased where all that it purged has been: of what a
    store does not follow nothing is waited for.
    """
    told = allowed_and_filed()
    users, items = len(told.topics["training-users"]), len(told.topics["training-content"])
    says(told, "training-users", users, "hidden", FILED_MS + 10)
    says(told, "training-content", items - 1, "hidden", FILED_MS + 20)
    says(told, "training-content", items, "hidden", FILED_MS + 30)
    says(told, "training-users", users, "erased", FILED_MS + 40)
    says(told, "training-content", items - 1, "erased", FILED_MS + 50)
    says(told, "training-content", items, "hidden", FILED_MS + 60, store="index")
    says(told, "training-content", items, "erased", FILED_MS + 60, store="index")
    says(told, "eligibility", 99, "hidden", FILED_MS + 70, store="other")

    step = last_step(told)

    assert "objections/0/0" == step.place
    assert {
        "received": 0,
        "decided": 0,
        "published": 0,
        "index hidden": 60,
        "index erased": 60,
        "st hidden": 30,
        "st erased": None,
    } == times(step.timeline)


def test_what_is_allowed_is_applied_and_not_hidden() -> None:
    """
    Nothing is purged by it, so a store can only have it, or not.
    """
    told = Told()
    told.topics["purge-acks"] = []
    told.tell(grown_up())
    told.tell(notice(), at_ms=FILED_MS)
    says(told, "training-users", len(told.topics["training-users"]), "hidden", FILED_MS + 5)

    assert {"received": 0, "decided": 0, "published": 0, "st applied": 5} == times(
        last_step(told).timeline
    )


@pytest.mark.parametrize("above, again, expected", [(0, None, 10), (-1, None, None), (-1, 90, 90)])
def test_a_store_that_went_back_has_still_to_hide(
    above: int, again: int | None, expected: int | None
) -> None:
    """
    What lies above its last word is open again; what lies below has been hidden all along.
    """
    told = allowed_and_filed()
    end = len(told.topics["training-users"])
    for offset, after_ms in ((end + 5, 10), (end + 9, 20), (end + above, 50)):
        says(told, "training-users", offset, "hidden", FILED_MS + after_ms)
    if again is not None:
        says(told, "training-users", end, "hidden", FILED_MS + again)

    assert expected == times(last_step(told).timeline)["st hidden"]


def test_an_answer_of_an_item_is_followed_from_what_caused_it() -> None:
    """
    A tombstone that an objection caused is timed from the objection.
    """
    told = allowed_and_filed()
    items = len(told.topics["training-content"])
    says(told, "training-content", items, "erased", FILED_MS + 30)

    story = told.explain(Wanted(content_id="a")).item

    assert story is not None
    allowed, purged = [e for e in story.steps if e.place.startswith("training-content")]
    assert {"received": 0, "decided": 0, "published": 0, "st applied": FILED_MS + 30 - NOW_MS} == (
        times(allowed.timeline)
    )
    expected = {"received": 0, "decided": 0, "published": 0, "st hidden": 30, "st erased": 30}
    assert expected == times(purged.timeline)


def test_an_objection_is_told_by_its_receipt() -> None:
    """
    Filed and withdrawn each by their own, with the trace of the record that was received then.
    """
    told = allowed_and_filed()
    told.topics["objections"][-1] = told.topics["objections"][-1]._replace(
        headers=(("traceparent", TRACEPARENT),)
    )
    at = [rfc3339(FILED_MS + each) for each in (0, 10, 20, 30, 40)]
    stores = {"st": StoreProgress(at[3], at[4]), "index": StoreProgress(at[3])}
    receipt = Receipt("o1", "u1", "filed", at[0], at[1], at[2], 2, stores)
    told.topics["receipts"] = [
        Record("receipts", 0, 0, FILED_MS, receipt.key.encode(), msgspec.json.encode(receipt)),
        Record("receipts", 0, 1, FILED_MS, b"u1/garbled/filed", b"{}"),
    ]

    found = told.explain(Wanted(objection_id="o1"))
    unknown = told.explain(Wanted(objection_id="o2")).objection

    assert found.objection is not None
    (action,) = found.objection.actions
    assert TRACE_ID == action.timeline.trace_id
    assert (2, None) == (action.items, action.completed_at)
    assert {
        "received": 0,
        "decided": 10,
        "published": 20,
        "st hidden": 30,
        "st erased": 40,
        "index hidden": 30,
        "index erased": None,
    } == times(action.timeline)
    text = "\n".join(lines_of(found))
    assert "erased in st +40 ms" in text
    assert "erased in index not yet" in text
    assert f"trace {TRACE_ID}" in text
    assert unknown is not None
    assert ("no record of this user has this objection_id",) == unknown.notes


def test_what_nobody_has_decided_waits_for_that() -> None:
    """
    It was received, and no more; a fan-out under way has not published all.
    """
    told = allowed_and_filed()
    told.send(objection(objection_id="o2"), at_ms=FILED_MS)

    assert {"received": 0, "decided": None} == times(last_step(told).timeline)
    assert told.explain(Wanted(objection_id="o2")).objection is not None

    told = Told()
    told.tell(grown_up(), notice(), content(content_id="a"), content(content_id="b"))
    told.tell(objection(), at_ms=FILED_MS, inline_items=1)
    assert told.shell.jobs
    assert {"received": 0, "decided": 0, "published": None} == times(last_step(told).timeline)


def test_of_a_deleted_account_no_objection_is_told() -> None:
    """
    As of all that came before; and when somebody came of age is not shown to who must not know it.
    """
    told = allowed_and_filed()
    told.tell(age(account="deleted"), at_ms=FILED_MS)

    story = told.explain(Wanted(objection_id="o1", content_id="a"))

    assert story.objection is not None
    assert () == story.objection.actions
    assert "deleted" in story.objection.notes[0]
    assert story.item is not None
    assert {None} == {each.timeline for each in story.item.steps}
    kid = Told()
    kid.tell(grown_up(birth_date="2008-07-01"), notice())
    came_ms = NOW_MS + 2 * 86_400_000
    kid.pass_time(came_ms)
    assert last_step(kid).timeline is not None
    assert last_step(kid, redact=True).timeline is None

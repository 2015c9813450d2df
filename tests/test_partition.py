"""
A partition's fold over a real store, without Kafka: seams, holds, rollbacks, timers, fan-outs.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.core.breaker import NO_LIMIT, Limit
from streams.core.outputs import Output
from streams.core.policy import Policy
from streams.core.subjects import PLAIN, Subjects
from streams.core.times import DAY_MS, end_of_day_ms, to_day
from streams.errors import Halt
from streams.state.store import Memory, Store
from streams.worker.folded import Folded
from streams.worker.intake import Fetched, Intake, take_in
from streams.worker.names import (
    ACCOUNT_AGES,
    CONTENT,
    INPUTS,
    NOTICES,
    OBJECTIONS,
    RECEIPTS,
    USER_TOPICS,
)
from streams.worker.partition import Partition
from tests.making import NOW_MS

SLICE_ITEMS = 5
INLINE_ITEMS = 3
GRANTS = 1_000


class Message:
    """What the intake asks of a fetched message."""

    def __init__(self, offset: int, record: dict[str, Any], received_ms: int) -> None:
        self._offset, self._record, self._received_ms = offset, record, received_ms

    def key(self) -> bytes:
        key: str = self._record["user_id"]
        return key.encode()

    def value(self) -> bytes:
        return json.dumps(self._record).encode()

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 2, self._received_ms

    def headers(self) -> None:
        return None


class Desk:
    """Feeds a partition and keeps what it publishes."""

    def __init__(
        self,
        store: Store,
        *,
        ends: dict[str, int] | None = None,
        policy: Policy = Policy(),  # noqa: B008  (it is frozen)
        limit: Limit = NO_LIMIT,
        subjects: Subjects = PLAIN,
    ) -> None:
        self.ends = dict(ends or dict.fromkeys(INPUTS, 0))
        self.subjects = subjects
        self.partition = Partition(
            0,
            store,
            {},
            dict(self.ends),
            policy,
            "/test",
            CONTENT,
            INLINE_ITEMS,
            NOW_MS,
            limit=limit,
            subjects=subjects,
        )

    def intake(self, topic: str, *records: dict[str, Any]) -> Intake:
        begin = self.ends[topic]
        messages: list[Any] = [
            Message(begin + index, record, NOW_MS) for index, record in enumerate(records)
        ]
        self.ends[topic] += len(records)
        return take_in(Fetched(topic, 0, messages, begin), topic, self.subjects)

    def fold(self, *intakes: Intake, now_ms: int = NOW_MS, grants: int = GRANTS) -> Folded:
        return self.partition.fold(list(intakes), now_ms, SLICE_ITEMS, grants)

    def commit(self, *intakes: Intake, now_ms: int = NOW_MS, grants: int = GRANTS) -> list[Output]:
        folded = self.fold(*intakes, now_ms=now_ms, grants=grants)
        rows = [*folded.users_rows, *folded.content_rows, *folded.local_rows]
        self.partition.store.write(rows, {})
        self.partition.persisted(folded)
        return folded.outputs

    def release(self) -> None:
        self.partition.release_at({topic: self.ends[topic] for topic in USER_TOPICS})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Return a desk over a new store."""
    store = Store(tmp_path / "0", Memory(1024 * 1024))
    yield Desk(store)
    store.close()


def age(user_id: str = "u1", birth_date: str = "1990-05-01") -> dict[str, Any]:
    """Return a verified-enough age of an adult in Germany."""
    return {
        "user_id": user_id,
        "birth_date": birth_date,
        "country": "DE",
        "observed_at": "2026-01-01T00:00:00Z",
    }


def notice(user_id: str = "u1", delivered_at: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    """Return a notice delivered long ago, unless said otherwise."""
    return {"user_id": user_id, "notice_id": "n1", "delivered_at": delivered_at}


def item(number: int, user_id: str = "u1") -> dict[str, Any]:
    """Return a public post."""
    return {
        "user_id": user_id,
        "content_id": f"c{number}",
        "revision": 1,
        "product": "facebook",
        "kind": "post",
        "visibility": "public",
        "modality": "text",
        "created_at": "2026-02-01T00:00:00Z",
    }


def objection(user_id: str = "u1", action: str = "filed") -> dict[str, Any]:
    """Return an objection to all products."""
    return {"user_id": user_id, "objection_id": "o1", "action": action}


def kinds(outputs: list[Output]) -> list[str]:
    """Return the `ce_type` of each output that has one."""
    decided = [output for output in outputs if output.topic != RECEIPTS]
    return [str(dict(output.headers)["ce_type"]) for output in decided]


def ready(desk: Desk, items: int = 0) -> None:
    """Let u1 be eligible and have *items*, all answered."""
    desk.release()
    desk.commit(desk.intake(ACCOUNT_AGES, age()), desk.intake(NOTICES, notice()))
    if items:
        desk.commit(desk.intake(CONTENT, *(item(number) for number in range(items))))


def test_a_seam_ends_the_process(desk: Desk) -> None:
    """Records that were skipped, or come twice, are never folded."""
    first = desk.intake(OBJECTIONS, objection())
    second = desk.intake(OBJECTIONS, objection(action="withdrawn"))

    with pytest.raises(Halt, match="objections/0: records from 0 on were expected"):
        desk.fold(second)
    desk.commit(first)
    with pytest.raises(Halt, match="records from 1 on were expected, those from 0"):
        desk.fold(first)


def test_grants_wait_for_what_was_there_at_take_over(desk: Desk) -> None:
    """An objection that is still unread forbids, whatever ages and notices say."""
    held = desk.commit(desk.intake(ACCOUNT_AGES, age()), desk.intake(NOTICES, notice()))
    desk.release()
    after = desk.commit()

    assert "user.allowed" not in kinds(held)
    assert 4 == kinds(after).count("user.allowed")
    assert {str(NOW_MS)} == {str(dict(each.headers)["objections_received_at"]) for each in after}


def test_a_timer_of_a_hold_that_is_no_more_is_no_cause(desk: Desk) -> None:
    """What a record says again is told as said by it, though a timer fires in the same cycle."""
    desk.commit(desk.intake(ACCOUNT_AGES, age()), desk.intake(NOTICES, notice()))
    desk.commit(desk.intake(OBJECTIONS, objection()))  # nothing waits for the hold's end any more
    desk.release()

    outputs = desk.commit(desk.intake(NOTICES, notice()))

    assert ["eligibility.decided"] == kinds(outputs)
    assert str(NOW_MS) == str(dict(outputs[0].headers)["objections_received_at"])


def test_a_rollback_brings_the_hold_back(desk: Desk) -> None:
    """What was folded but not committed is unread again, and grants wait for it again."""
    objected = desk.intake(OBJECTIONS, objection())
    aged, told = desk.intake(ACCOUNT_AGES, age()), desk.intake(NOTICES, notice())
    desk.release()
    desk.fold(objected)
    desk.partition.roll_back(dict.fromkeys(INPUTS, 0))

    early = desk.commit(aged, told)
    late = desk.commit(objected)

    assert desk.partition.holding is False
    assert "user.allowed" not in kinds(early) + kinds(late)


def test_a_rollback_forgets_what_was_folded(desk: Desk) -> None:
    """The same records folded again after a rollback give the same outputs."""
    ready(desk, items=2)
    positions = dict(desk.partition.positions)
    objected = desk.intake(OBJECTIONS, objection())

    first = desk.fold(objected).outputs
    desk.partition.roll_back(positions)
    second = desk.fold(objected).outputs

    assert [(each.key, each.value) for each in first] == [(each.key, each.value) for each in second]
    assert 2 == kinds(second).count("content.purged")


def test_a_rollback_forgets_how_far_content_was_read(desk: Desk) -> None:
    """A record read again after a rollback is answered once: a fan-out leaves its item alone."""
    ready(desk, items=4 * SLICE_ITEMS)
    positions = dict(desk.partition.positions)
    last = desk.intake(CONTENT, item(99))
    desk.fold(last)
    desk.partition.roll_back(positions)

    outputs = desk.commit(desk.intake(OBJECTIONS, objection())) + desk.commit(last)
    while desk.partition.view.jobs:
        outputs += desk.commit()

    assert 4 * SLICE_ITEMS + 1 == kinds(outputs).count("content.purged")


def test_time_passing_publishes_without_a_record(desk: Desk) -> None:
    """The end of a notice window is an event: it grants by itself, with the clock as cause."""
    desk.release()
    desk.commit(
        desk.intake(ACCOUNT_AGES, age()),
        desk.intake(NOTICES, notice(delivered_at="2026-06-30T00:00:00Z")),
    )
    desk.commit(desk.intake(CONTENT, item(1)))
    later_ms = NOW_MS + 40 * DAY_MS

    assert not desk.partition.has_work(NOW_MS, GRANTS)
    assert desk.partition.has_work(later_ms, GRANTS)
    outputs = desk.commit(now_ms=later_ms)

    assert 4 == kinds(outputs).count("user.allowed")
    assert 1 == kinds(outputs).count("content.allowed")
    assert b'"topic":"clock"' in (outputs[0].value or b"")
    assert not desk.partition.has_work(later_ms, GRANTS)


def test_a_birthday_publishes_without_a_record(desk: Desk) -> None:
    """Coming of age is an event, at the end of the birthday everywhere on earth."""
    from datetime import date

    desk.release()
    desk.commit(
        desk.intake(ACCOUNT_AGES, age(birth_date="2008-08-01")), desk.intake(NOTICES, notice())
    )
    of_age_ms = end_of_day_ms(to_day(date(2026, 8, 1)))

    assert not desk.partition.has_work(of_age_ms - 1, GRANTS)
    assert 4 == kinds(desk.commit(now_ms=of_age_ms)).count("user.allowed")


def test_a_large_account_is_purged_in_slices_beside_others(desk: Desk) -> None:
    """Many items become a job; another user is answered before it has ended; then it ends."""
    ready(desk, items=12)

    first = desk.commit(desk.intake(OBJECTIONS, objection()))
    second = desk.commit(desk.intake(ACCOUNT_AGES, age("u2")))
    rest: list[Output] = []
    while desk.partition.has_work(NOW_MS, GRANTS):
        rest += desk.commit()

    assert 4 == kinds(first).count("user.purged")
    assert "eligibility.decided" in kinds(second)
    purged = [each.key for each in [*first, *second, *rest] if each.topic == "training-content"]
    assert sorted(f"c{number}".encode() for number in range(12)) == sorted(k or b"" for k in purged)


def test_withdrawing_while_the_purge_runs_answers_each_item_rightly(desk: Desk) -> None:
    """A newer decision replaces the job but remembers what was answered: only that is undone."""
    ready(desk, items=12)
    purging = desk.commit(desk.intake(OBJECTIONS, objection()))
    granting = desk.commit(desk.intake(OBJECTIONS, objection(action="withdrawn")))
    while desk.partition.has_work(NOW_MS, GRANTS):
        granting += desk.commit()

    purged = {each.key for each in purging if each.topic == "training-content"}
    granted = {
        each.key for each in granting if each.topic == "training-content" and each.value is not None
    }
    assert purged == granted
    assert 0 < len(purged) < 12


def test_a_deleted_account_leaves_only_its_id(desk: Desk) -> None:
    """Purges go out, then ages, notices, objections and items leave the state."""
    ready(desk, items=12)
    outputs = desk.commit(
        desk.intake(ACCOUNT_AGES, {**age(), "account": "deleted"}),
        desk.intake(CONTENT, {**item(3), "revision": 2}),
    )
    while desk.partition.has_work(NOW_MS, GRANTS):
        outputs += desk.commit()

    store = desk.partition.store
    assert [] == list(store.scan(b"i"))
    assert [] == list(store.scan(b"j"))
    ((_, row),) = store.scan(b"u")
    assert b"DE" not in row
    purges = [each for each in outputs if "content.purged" in str(each.headers)]
    assert 12 == len({each.key for each in purges})
    assert {str(2**63 - 1)} == {str(dict(each.headers)["objections_revision"]) for each in purges}


def test_a_restart_goes_on_with_a_fan_out(desk: Desk) -> None:
    """A job is a row of the state: another partition object over the same store ends it."""
    ready(desk, items=12)
    outputs = desk.commit(desk.intake(OBJECTIONS, objection()))
    again = Desk(desk.partition.store)
    again.partition.positions = dict(desk.partition.positions)
    again.ends = dict(desk.ends)
    again.release()
    while again.partition.has_work(NOW_MS, GRANTS):
        outputs += again.commit()

    assert 12 == kinds(outputs).count("content.purged")

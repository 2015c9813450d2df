"""
What aborted transactions have said is answered, so that readers of uncommitted data end right.
"""

from collections.abc import Iterable
from pathlib import Path

from confluent_kafka import Producer

from streams.core.outputs import Output
from streams.core.times import DAY_MS
from streams.kafka.local import LocalKafka
from streams.state import rows
from streams.worker.folded import Folded
from streams.worker.names import ACCOUNT_AGES, CONTENT, NOTICES, OBJECTIONS
from streams.worker.unanswered import Said, read
from tests.making import NOW_MS, content, grown_up, notice
from tests.making import objection as real_objection
from tests.test_partition import GRANTS, Desk, age, desk, item, kinds, objection, ready
from tests.test_partition import notice as told
from tests.test_partition_holds import work
from tests.uncommitted import assert_uncommitted_ends_alike
from tests.worker_process import (
    Inputs,
    Worker,
    apply_topics,
    assert_proven,
    read_outputs,
    settings_of,
    wait_until_caught_up,
)

__all__ = ["desk"]  # a fixture

SAID = Said("u1", 3, 7, tombstone=False)


def abort(desk: Desk, folded: Folded) -> None:
    """Roll the transaction of *folded* back, as a worker does."""
    committed = {**desk.ends, OBJECTIONS: desk.ends[OBJECTIONS] - 1}
    desk.partition.unanswered.aborted(folded.outputs, folded.positions, NOW_MS)
    desk.partition.roll_back(committed)
    desk.ends[OBJECTIONS] -= 1


def ends_with(published: Iterable[Output]) -> dict[tuple[str, bytes | None], bool]:
    """Return whether a reader who remembers pairs ends with a record, by key."""
    found: dict[tuple[str, bytes | None], Said] = {}
    for each in published:
        said = read(each.value, each.headers)
        if said is None:
            continue
        before = found.get((each.topic, each.key))
        if before is None or said.outranks(before):
            found[each.topic, each.key] = said
    return {key: not said.tombstone for key, said in found.items()}


def test_a_pair_outranks_as_stores_have_it() -> None:
    """A higher epoch, or else revision; at an equal pair a record does not outrank a tombstone."""
    assert SAID._replace(epoch=4, revision=0).outranks(SAID)
    assert SAID._replace(revision=8).outranks(SAID)
    assert SAID._replace(tombstone=True).outranks(SAID)
    assert SAID.outranks(SAID)
    assert not SAID.outranks(SAID._replace(tombstone=True))
    assert not SAID._replace(epoch=2, revision=9, tombstone=True).outranks(SAID)


def test_a_grant_that_was_taken_back_is_purged(desk: Desk) -> None:
    """
    A withdrawal's transaction is aborted; read again together with a new objection it changes
    nothing, but whoever has seen the grants is told.
    """
    ready(desk, items=2)
    published = desk.commit(desk.intake(OBJECTIONS, objection()))
    withdrawn = desk.fold(desk.intake(OBJECTIONS, objection(action="withdrawn")))
    published += withdrawn.outputs
    abort(desk, withdrawn)
    again = {**objection(), "objection_id": "o2"}
    last = desk.commit(desk.intake(OBJECTIONS, objection(action="withdrawn"), again))
    published += last
    noted = desk.partition.store.get(rows.UNANSWERED_KEY)
    published += (answers := work(desk))
    end = ends_with(published)

    assert {each.topic for each in last} == {"eligibility", "receipts"}
    assert noted is not None
    assert desk.partition.store.get(rows.UNANSWERED_KEY) is None
    assert sum(each.topic == "training-content" for each in answers) == 2
    assert {key: end[key] for key in end if key[0] != "eligibility"} == {
        key: False for key in end if key[0] != "eligibility"
    }
    assert work(desk) == []


def test_what_is_answered_anyway_is_not_answered_twice(desk: Desk) -> None:
    """A transaction that is read again as it was leaves nothing to be answered."""
    ready(desk, items=2)
    objected = desk.fold(desk.intake(OBJECTIONS, objection()))
    abort(desk, objected)
    again = desk.commit(desk.intake(OBJECTIONS, objection()))

    assert ends_with(again) == ends_with(objected.outputs)
    assert work(desk) == []
    assert desk.partition.store.get(rows.UNANSWERED_KEY) is None


def test_it_waits_until_all_is_read_again(desk: Desk) -> None:
    """Nothing is answered anew while records of the aborted transaction are still to be read."""
    ready(desk, items=1)
    two = desk.intake(OBJECTIONS, objection(), objection(user_id="u2"))
    folded = desk.fold(two)
    desk.partition.unanswered.aborted(folded.outputs, folded.positions, NOW_MS)
    desk.partition.roll_back({**desk.ends, OBJECTIONS: desk.ends[OBJECTIONS] - 2})
    desk.ends[OBJECTIONS] -= 2
    desk.commit(desk.intake(OBJECTIONS, objection()))

    assert not desk.partition.has_work(NOW_MS + DAY_MS, 0)


def test_nothing_is_answered_while_the_answer_is_on_its_way(desk: Desk) -> None:
    """What is read again and folded, but not committed yet, is not answered once more."""
    ready(desk, items=2)
    objected = desk.fold(desk.intake(OBJECTIONS, objection()))
    abort(desk, objected)
    again = desk.fold(desk.intake(OBJECTIONS, objection()))

    assert not desk.partition.has_work(NOW_MS, GRANTS)
    beside = desk.fold()
    assert beside.outputs == []
    persist(desk, again)
    persist(desk, beside)
    assert kinds(work(desk)) == []


def test_what_the_clock_had_said_waits_until_it_says_it_again(desk: Desk) -> None:
    """No record is to be read again, but timers are to fire again, as their rate allows."""
    desk.release()
    window = told(delivered_at="2026-06-30T00:00:00Z")
    desk.commit(desk.intake(ACCOUNT_AGES, age()), desk.intake(NOTICES, window))
    desk.commit(desk.intake(CONTENT, item(1)))
    later_ms = NOW_MS + 40 * DAY_MS
    fired = desk.fold(now_ms=later_ms)
    desk.partition.unanswered.aborted(fired.outputs, fired.positions, later_ms)
    desk.partition.roll_back(dict(desk.ends))

    assert desk.commit(now_ms=later_ms, grants=0) == []
    assert not desk.partition.has_work(later_ms, 0)
    again = work(desk, later_ms)
    assert [(each.key, each.value) for each in again] == [
        (each.key, each.value) for each in fired.outputs
    ]


def test_nobody_waits_for_timers_that_are_held(desk: Desk) -> None:
    """While the breaker has tripped they do not fire: what was said in vain is answered at once."""
    desk.release()
    desk.commit(desk.intake(ACCOUNT_AGES, age()), desk.intake(NOTICES, told()))
    said = desk.fold(desk.intake(OBJECTIONS, objection()))
    desk.partition.roll_back(dict(desk.ends))
    unanswered = desk.partition.unanswered
    desk.partition.store.write([(rows.timer_key(0, "u2"), b"")], {})
    unanswered.aborted(said.outputs, {}, NOW_MS)

    assert not unanswered.is_due(desk.partition.positions)
    assert unanswered.is_due(desk.partition.positions, held=True)


def test_what_a_fan_out_had_said_waits_until_it_has_gone_on(desk: Desk) -> None:
    """A slice of a fan-out was rolled back: its items are answered again, by that fan-out."""
    ready(desk, items=12)
    purged = desk.commit(desk.intake(OBJECTIONS, objection()))
    sliced = desk.fold()
    desk.partition.unanswered.aborted(sliced.outputs, sliced.positions, NOW_MS)
    desk.partition.roll_back(dict(desk.ends))
    purged += work(desk)

    items = [each.key for each in purged if each.topic == "training-content"]
    assert sliced.outputs
    assert len(items) == len(set(items)) == 12


def persist(desk: Desk, folded: Folded) -> None:
    """Let the transaction of *folded* be committed."""
    desk.partition.store.write([*folded.users_rows, *folded.content_rows, *folded.local_rows], {})
    desk.partition.persisted(folded)


def test_the_next_worker_answers_what_the_last_has_left(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    A worker died with a transaction open that allowed an objector's items, one of them unknown to
    the state; the next one tells readers of uncommitted data, whatever they remember.
    """
    apply_topics(kafka, prefix, partitions=1)
    state = tmp_path / "state"
    with Worker(kafka, prefix, state) as worker, Inputs(kafka, prefix) as inputs:
        inputs.send(
            ("account-ages", grown_up(user_id="u1")),
            ("notices", notice(user_id="u1")),
            ("content", content(user_id="u1", content_id="c1")),
        )
        wait_until_caught_up(kafka, prefix, workers=[worker])
        inputs.send(("objections", real_objection(user_id="u1")))
        wait_until_caught_up(kafka, prefix, workers=[worker])
    _say_and_abort(kafka, prefix)
    with Worker(kafka, prefix, state) as worker:
        worker.wait_ready()
        assert_uncommitted_ends_alike(kafka, prefix)
        wait_until_caught_up(kafka, prefix, workers=[worker])
        known = len(read_outputs(kafka, prefix)["training-content"])
    with Worker(kafka, prefix, state) as worker:
        worker.wait_ready()
        wait_until_caught_up(kafka, prefix, workers=[worker])
    outputs = assert_proven(kafka, prefix)

    assert known == len(outputs["training-content"])  # once is enough
    assert "answered anew" in worker.log()


def _say_and_abort(kafka: LocalKafka, prefix: str) -> None:
    """Write what stands of u1 once more, allowed and in a later epoch, in vain."""
    settings = settings_of(kafka, prefix)
    producer = Producer(settings.kafka(transactional_id=f"{prefix}dead"))
    producer.init_transactions()
    producer.begin_transaction()
    for topic, records in read_outputs(kafka, prefix).items():
        for each in records:
            if topic == "dead-letters" or each.value is None:
                continue
            headers = dict(each.headers) | {"objections_epoch": b"9"}
            producer.produce(
                settings.topic(topic), each.value, each.key, 0, headers=list(headers.items())
            )
    producer.flush()
    producer.abort_transaction()

"""
One decision, many items: on a real Kafka, through kills, changes of mind and other users.

Slices are small and inline answers few, so that a fan-out takes long enough to be interrupted.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from streams import proof
from streams.core.outputs import REVISION_MAX
from streams.core.reasons import PRODUCTS
from streams.kafka.local import LocalKafka
from streams.proof import Record
from streams.state import rows
from tests.making import content, grown_up, notice, objection
from tests.worker_process import (
    Inputs,
    Watch,
    Worker,
    apply_topics,
    assert_proven,
    settings_of,
    wait_for,
)

ITEMS = 1_500
SLICE_ITEMS = 10
STARTED_ITEMS = 60  # answered before a test interferes: a fan-out that is well under way


@dataclass
class Place:
    """A worker on one partition, with "big", who has many items, and others, who have one."""

    kafka: LocalKafka
    prefix: str
    worker: Worker
    inputs: Inputs
    watch: Watch
    before: int = 0  # records on items of "big" that are no concern of the test

    def settle(self) -> None:
        """Wait until all is processed, fan-outs included."""
        self.watch.wait_until_caught_up(workers=[self.worker])

    def items(self) -> list[Record]:
        """Return what the test has had published about items of "big", in the log's order."""
        items = self.watch.outputs()["training-content"]
        return [each for each in items if each.header("ce_subject") == b"big"][self.before :]

    def tombstones(self) -> list[Record]:
        """Return the tombstones of items of "big"."""
        return [each for each in self.items() if each.value is None]

    def wait_for_items(self, count: int, what: str) -> None:
        """Return once *count* records on items of "big" are published."""
        wait_for(lambda: len(self.items()) >= count, what)

    def wait_under_way(self, what: str) -> None:
        """Return when some of a fan-out's tombstones, but not all, are published."""
        self.wait_for_items(STARTED_ITEMS, what)

        assert len(self.items()) < ITEMS - STARTED_ITEMS, f"too quick to be interrupted: {what}"


@pytest.fixture
def place(kafka: LocalKafka, prefix: str, tmp_path: Path) -> Iterator[Place]:
    """Return a running worker that knows "big" and two others, who are all eligible."""
    apply_topics(kafka, prefix, partitions=1)
    small = {"FANOUT_INLINE_ITEMS": 5, "FANOUT_SLICE_ITEMS": SLICE_ITEMS}
    with (
        Worker(kafka, prefix, tmp_path / "state", **small) as worker,
        Inputs(kafka, prefix) as inputs,
        Watch(kafka, prefix) as watch,
    ):
        users = ("big", "other", "another")
        for user in users:
            inputs.queue("account-ages", grown_up(user_id=user))
            inputs.queue("notices", notice(user_id=user))
        inputs.flush()
        watch.wait_until_caught_up(workers=[worker])
        for user in users:
            inputs.queue("content", content(user_id=user, content_id=f"{user}.only"))
        for number in range(ITEMS - 1):
            product = PRODUCTS[number % 2]  # facebook, instagram
            name = f"big.{number:05}"
            inputs.queue("content", content(user_id="big", content_id=name, product=product))
        inputs.flush()
        place = Place(kafka, prefix, worker, inputs, watch)
        place.settle()
        place.before = len(place.items())
        yield place


def test_others_are_answered_while_a_large_account_is_purged(place: Place) -> None:
    """
    An objection hides the account at once; its items follow in slices, and who comes meanwhile is
    answered in between.  Until the last tombstone is out, the metrics say so.
    """
    place.inputs.send(("objections", objection(user_id="big")))
    place.wait_under_way("the purge of a large account")
    pending = place.worker.metric("objections_fanout_pending_items")
    oldest_s = place.worker.metric("objections_oldest_unpropagated_seconds")
    place.inputs.send(
        ("objections", objection(user_id="other")),
        ("content", content(user_id="another", content_id="another.new")),
    )
    place.settle()
    outputs = assert_proven(place.kafka, place.prefix)
    tombstones = place.tombstones()
    hidden = [each for each in outputs["training-users"] if each.value is None][:4]
    (of_other,) = (e for e in outputs["training-content"] if e.key == b"other.only" and not e.value)
    (of_another,) = (e for e in outputs["training-content"] if e.key == b"another.new")

    assert ITEMS == len(tombstones)
    assert {each.header("ce_subject") for each in hidden} == {b"big"}
    assert max(each.timestamp_ms for each in hidden) <= tombstones[0].timestamp_ms + 100
    assert of_other.offset < tombstones[-1].offset
    assert of_another.offset < tombstones[-1].offset
    assert 0 < pending < ITEMS
    assert oldest_s > 0
    wait_for(lambda: place.worker.metric("objections_fanout_pending_items") == 0, "no pending item")
    wait_for(
        lambda: place.worker.metric("objections_oldest_unpropagated_seconds") == 0, "nothing waits"
    )


def test_a_fanout_goes_on_after_kills(place: Place) -> None:
    """
    A worker killed in the middle of a fan-out, and again, goes on where its last transaction
    ended: every item is purged once, none is forgotten.
    """
    place.inputs.send(("objections", objection(user_id="big")))
    for _ in range(2):
        place.wait_for_items(len(place.items()) + STARTED_ITEMS, "some tombstones")
        place.worker.kill9()
        assert len(place.tombstones()) < ITEMS
        place.worker.start()
    place.settle()
    assert_proven(place.kafka, place.prefix)

    assert ITEMS == len(place.tombstones())


def test_an_objection_withdrawn_while_its_fanout_runs(place: Place) -> None:
    """
    A withdrawal in the middle of the purge takes back what was purged, and leaves the rest alone.
    """
    place.inputs.send(("objections", objection(user_id="big")))
    place.wait_under_way("the purge")
    place.inputs.send(("objections", objection(user_id="big", action="withdrawn")))
    place.settle()
    assert_proven(place.kafka, place.prefix)
    purged = [each.key for each in place.tombstones()]
    given_back = [each.key for each in place.items() if each.value is not None]

    assert STARTED_ITEMS <= len(purged) < ITEMS
    assert purged == given_back


def test_purges_go_before_grants(place: Place) -> None:
    """
    When a change of mind swaps the product objected to, all purges are out before the first item
    that is allowed again.
    """
    file = objection(user_id="big", products=["facebook"])
    place.inputs.send(("objections", file))
    place.settle()
    place.before += len(place.items())
    place.inputs.queue(
        "objections", objection(user_id="big", objection_id="o2", products=["instagram"])
    )
    place.inputs.queue("objections", objection(user_id="big", action="withdrawn"))
    place.inputs.flush()
    place.settle()
    assert_proven(place.kafka, place.prefix)
    since = place.items()
    kinds = [each.value is None for each in since]

    assert ITEMS == len(since)
    assert [(True, False)] == [pair for pair in pairwise(kinds) if pair[0] != pair[1]]


def test_a_decision_that_changes_often_ends_right(place: Place) -> None:
    """
    Objections and withdrawals for changing products, faster than the fan-outs they begin, end in
    what the last of them says; content that arrives in between is answered once more at most.
    """
    for number in range(6):
        product = PRODUCTS[number % 2]
        name = f"o{number}"
        record = objection(user_id="big", objection_id=name, products=[product])
        place.inputs.send(("objections", record))
        place.wait_for_items(len(place.items()) + 1, f"the fan-out of {name} to begin")
        late = content(user_id="big", content_id=f"big.late{number}", product=product)
        place.inputs.send(("content", late))
        if number % 3:
            place.inputs.send(("objections", {**record, "action": "withdrawn"}))
    place.settle()

    assert_proven(place.kafka, place.prefix, once=False)


def test_a_large_account_is_deleted_and_forgotten(place: Place) -> None:
    """
    A deleted account's items are purged with the greatest revision, through a kill in between;
    then its items and ages leave the state, and later content is answered without being stored.
    """
    gone = grown_up(user_id="big", account="deleted", observed_at="2026-02-01T00:00:00Z")
    place.inputs.send(("account-ages", gone))
    place.wait_under_way("the deletion")
    place.worker.kill9()
    place.worker.start()
    place.settle()
    place.inputs.send(("content", content(user_id="big", content_id="big.afterwards")))
    place.settle()
    outputs = assert_proven(place.kafka, place.prefix)
    decision = proof.compacted(outputs["eligibility"])["big"]
    changelogs = ["objections-users-changelog", "objections-content-changelog"]
    state = proof.read(settings_of(place.kafka, place.prefix), changelogs)
    items = proof.compacted(state["objections-content-changelog"]).values()
    users = {each.key: each for each in state["objections-users-changelog"]}
    user = rows.decode_user(users[rows.user_key("big")].value or b"").user

    assert ITEMS + 1 == len(place.tombstones())
    assert {each.header("objections_revision") for each in place.tombstones()} == {
        b"%d" % REVISION_MAX
    }
    assert json.loads(decision.value or b"")["reasons"] == ["ACCOUNT_DELETED"]
    assert {
        each.key for each in items if each.key and each.key[:1] == rows.ITEM and each.value
    } == {
        rows.item_key("other", "other.only"),
        rows.item_key("another", "another.only"),
    }
    assert user.deleted
    assert (user.objections, user.notices_ms, user.levels) == ({}, (), (None, None, None))
    assert users[rows.job_key("big")].value is None

"""
One decision, many items: on a real Kafka, through kills, changes of mind and other users.

Slices are small, inline answers few and the worker slowed down, so that a fan-out takes long enough
to be interrupted.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

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


PREFIX = "fanouts."


@dataclass
class Place:
    """A worker on one partition, with an account that has many items; each test has its own."""

    kafka: LocalKafka
    worker: Worker
    inputs: Inputs
    watch: Watch
    big: str = ""
    before: int = 0  # records on its items that are no concern of the test

    def settle(self) -> None:
        """Wait until all is processed, fan-outs included."""
        self.watch.wait_until_caught_up(workers=[self.worker])

    def items(self) -> list[Record]:
        """Return what the test has had published about its items, in the log's order."""
        items = self.watch.outputs()["training-content"]
        return [each for each in items if each.header("ce_subject") == self.big.encode()][
            self.before :
        ]

    def tombstones(self) -> list[Record]:
        """Return the tombstones of its items."""
        return [each for each in self.items() if each.value is None]

    def wait_for_items(self, count: int, what: str) -> None:
        """Return once *count* records on its items are published."""
        wait_for(lambda: len(self.items()) >= count, what)

    def wait_for_more_items(self, known: int, what: str) -> None:
        """Return once more than *known* are published, or nothing is left that may be."""
        wait_for(
            lambda: len(self.items()) > known or not self.watch.left(int(time.time() * 1000)), what
        )

    def wait_under_way(self, what: str) -> None:
        """Return when some of a fan-out's tombstones, but not all, are published."""
        self.wait_for_items(STARTED_ITEMS, what)

        assert len(self.items()) < ITEMS - STARTED_ITEMS, f"too quick to be interrupted: {what}"


@pytest.fixture(scope="module")
def stage(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return a running worker."""
    apply_topics(kafka, PREFIX, partitions=1)
    state_dir = tmp_path_factory.mktemp("fanouts") / "state"
    small = {"FANOUT_INLINE_ITEMS": 5, "FANOUT_SLICE_ITEMS": SLICE_ITEMS}
    with (
        Worker(kafka, PREFIX, state_dir, **small) as worker,
        Inputs(kafka, PREFIX) as inputs,
        Watch(kafka, PREFIX) as watch,
    ):
        worker.wait_ready()
        yield Place(kafka, worker, inputs, watch)


@pytest.fixture
def place(stage: Place, request: pytest.FixtureRequest) -> Place:
    """Return the worker with a new account whose items may all be used."""
    stage.big = request.node.name
    stage.inputs.queue("account-ages", grown_up(user_id=stage.big))
    stage.inputs.queue("notices", notice(user_id=stage.big))
    stage.inputs.flush()
    stage.settle()
    for number in range(ITEMS):
        product = PRODUCTS[number % 2]  # facebook, instagram
        name = f"{stage.big}.{number:05}"
        stage.inputs.queue("content", content(user_id=stage.big, content_id=name, product=product))
    stage.inputs.flush()
    stage.settle()
    stage.before = 0
    stage.before = len(stage.items())
    return stage


def test_others_are_answered_while_a_large_account_is_purged(place: Place) -> None:
    """
    An objection hides the account at once; its items follow in slices, and who comes meanwhile is
    answered in between.  Until the last tombstone is out, the metrics say so.
    """
    with place.worker.slowed():
        place.inputs.send(("objections", objection(user_id=place.big)))
        place.wait_under_way("the purge of a large account")
        pending = place.worker.metric("objections_fanout_pending_items")
        oldest_s = place.worker.metric("objections_oldest_unpropagated_seconds")
        place.inputs.send(
            ("objections", objection(user_id="other")),
            ("content", content(user_id="another", content_id="another.new")),
        )
    place.settle()
    outputs = assert_proven(place.kafka, PREFIX)
    tombstones = place.tombstones()
    hidden = [each for each in outputs["training-users"] if each.value is None]
    hidden = [each for each in hidden if each.header("ce_subject") == place.big.encode()]
    answers = {each.key: each for each in outputs["training-content"]}
    other = proof.compacted(outputs["eligibility"])["other"]

    assert ITEMS == len(tombstones)
    assert len(hidden) == len(PRODUCTS)
    assert max(each.timestamp_ms for each in hidden) <= tombstones[0].timestamp_ms + 100
    assert answers[b"another.new"].offset < tombstones[-1].offset
    assert other.timestamp_ms < tombstones[-1].timestamp_ms
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
    with place.worker.slowed():
        place.inputs.send(("objections", objection(user_id=place.big)))
        for _ in range(2):
            place.wait_for_items(len(place.items()) + STARTED_ITEMS, "some tombstones")
            place.worker.kill9()
            assert len(place.tombstones()) < ITEMS
            place.worker.start()
    place.settle()
    assert_proven(place.kafka, PREFIX)

    assert ITEMS == len(place.tombstones())


def test_an_objection_withdrawn_while_its_fanout_runs(place: Place) -> None:
    """
    A withdrawal in the middle of the purge takes back what was purged, and leaves the rest alone.
    """
    with place.worker.slowed():
        place.inputs.send(("objections", objection(user_id=place.big)))
        place.wait_under_way("the purge")
        place.inputs.send(("objections", objection(user_id=place.big, action="withdrawn")))
    place.settle()
    assert_proven(place.kafka, PREFIX)
    purged = [each.key for each in place.tombstones()]
    given_back = [each.key for each in place.items() if each.value is not None]

    assert STARTED_ITEMS <= len(purged) < ITEMS
    assert purged == given_back


def test_purges_go_before_grants(place: Place) -> None:
    """
    When a change of mind swaps the product objected to, all purges are out before the first item
    that is allowed again.
    """
    file = objection(user_id=place.big, products=["facebook"])
    place.inputs.send(("objections", file))
    place.settle()
    place.before += len(place.items())
    place.inputs.queue(
        "objections", objection(user_id=place.big, objection_id="o2", products=["instagram"])
    )
    place.inputs.queue("objections", objection(user_id=place.big, action="withdrawn"))
    place.inputs.flush()
    place.settle()
    assert_proven(place.kafka, PREFIX)
    since = place.items()
    kinds = [each.value is None for each in since]

    assert ITEMS == len(since)
    assert [(True, False)] == [pair for pair in pairwise(kinds) if pair[0] != pair[1]]


def test_a_large_account_is_deleted_and_forgotten(place: Place) -> None:
    """
    A deleted account's items are purged with the greatest revision, through a kill in between;
    then its items and ages leave the state, and later content is answered without being stored.
    """
    gone = grown_up(user_id=place.big, account="deleted", observed_at="2026-02-01T00:00:00Z")
    with place.worker.slowed():
        place.inputs.send(("account-ages", gone))
        place.wait_under_way("the deletion")
        place.worker.kill9()
    place.worker.start()
    place.settle()
    place.inputs.send(("content", content(user_id=place.big, content_id=f"{place.big}.afterwards")))
    place.settle()
    outputs = assert_proven(place.kafka, PREFIX)
    decision = proof.compacted(outputs["eligibility"])[place.big]
    changelogs = ["objections-users-changelog", "objections-content-changelog"]
    state = proof.read(settings_of(place.kafka, PREFIX), changelogs)
    items = proof.compacted(state["objections-content-changelog"]).values()
    of_big = [each for each in items if (each.key or b"").startswith(rows.items_prefix(place.big))]
    users = {each.key: each for each in state["objections-users-changelog"]}
    user = rows.decode_user(users[rows.user_key(place.big)].value or b"").user

    assert ITEMS + 1 == len(place.tombstones())
    assert {each.header("objections_revision") for each in place.tombstones()} == {
        b"%d" % REVISION_MAX
    }
    assert json.loads(decision.value or b"")["reasons"] == ["ACCOUNT_DELETED"]
    assert ITEMS == len(of_big)
    assert {each.value for each in of_big} == {None}
    assert user.deleted
    assert (user.objections, user.notices_ms, user.levels) == ({}, (), (None, None, None))
    assert users[rows.job_key(place.big)].value is None


def test_a_decision_that_changes_often_ends_right(place: Place) -> None:
    """
    Objections that change their product, faster than the fan-outs they begin, end in what the last
    of them says; content that arrives in between is answered once more at most.
    """
    for number in range(6):
        product = PRODUCTS[number % 2]
        place.inputs.queue(
            "objections",
            objection(user_id=place.big, objection_id=f"o{number}", products=[product]),
        )
        if number:
            before = objection(user_id=place.big, objection_id=f"o{number - 1}", action="withdrawn")
            place.inputs.queue("objections", before)
        known = len(place.items())
        place.inputs.flush()
        # It says nothing where the one before has said nothing yet: all stands as it should.
        place.wait_for_more_items(known, f"the fan-out of o{number} to begin")
        name = f"{place.big}.late{number}"
        late = content(user_id=place.big, content_id=name, product=product)
        place.inputs.send(("content", late))
    place.settle()

    # Content that comes while a fan-out is on its way to it is answered twice, with the same pair.
    assert_proven(place.kafka, PREFIX, once=False)


def test_content_answered_ahead_of_a_fanout_is_purged_again(place: Place) -> None:
    """
    Content that comes while a withdrawal is being worked off is allowed at once, ahead of the walk
    over the account's items; an objection that follows purges it like all others.
    """
    place.inputs.send(("objections", objection(user_id=place.big)))
    place.settle()
    place.before += len(place.items())
    with place.worker.slowed():
        place.inputs.send(("objections", objection(user_id=place.big, action="withdrawn")))
        place.wait_under_way("the grants")
        ahead = f"{place.big}.zzz"
        place.inputs.send(("content", content(user_id=place.big, content_id=ahead)))
        wait_for(lambda: ahead.encode() in {each.key for each in place.items()}, "the new item")
        place.inputs.send(("objections", objection(user_id=place.big, objection_id="o2")))
    place.settle()

    assert_proven(place.kafka, PREFIX, once=False)

"""
Receipts without Kafka: what they say, when they are complete, and what brings them back.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streams.core.levels import Ack, Level, Levels, after_ack
from streams.core.receipts import FOLLOWED, Phase, Receipt
from streams.core.unacknowledged import CAUSES_MAX, GROUPS_MAX, Unacknowledged
from streams.setting_values import Store as DataStore
from streams.state import rows
from streams.worker import receipt_walks
from tests.receipt_desk import CONTENT, STORES, USERS, Desk

PHASES = get_args(Phase)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Return a desk that follows its stores."""
    made = Desk(tmp_path)
    made.follow()
    yield made
    made.close()


def states(desk: Desk, key: str) -> dict[str, tuple[bool, bool]]:
    """Return for each store whether it has hidden, and erased."""
    found = desk.published[key].stores.items()
    return {name: (x.hidden_at is not None, x.erased_at is not None) for name, x in found}


def test_an_objection_is_followed_to_its_end(desk: Desk) -> None:
    """Published with the commit of its outputs, hidden and erased by each store, complete."""
    desk.hear("u1", "o1")
    desk.cycle({"u1": (3, 0)}, outputs=(1, 4, 3))
    assert {} == desk.published  # what is not committed is not told

    desk.quiet()
    receipt = desk.published["u1/o1/filed"]
    assert 3 == receipt.items
    assert receipt.received_at < receipt.decided_at <= (receipt.published_at or "")
    assert {(False, False)} == set(states(desk, "u1/o1/filed").values())

    desk.acknowledge("features", USERS, 4)
    desk.acknowledge("index", USERS, 4)
    desk.quiet()
    assert {"features": (True, False), "index": (False, False), "lake": (False, False)} == states(
        desk, "u1/o1/filed"
    )
    desk.acknowledge("index", CONTENT, 2)
    desk.acknowledge("lake", CONTENT, 3)
    desk.quiet()
    assert (False, False) == states(desk, "u1/o1/filed")["index"]  # one record is missing
    desk.acknowledge("index", CONTENT, 3, "erased")
    desk.acknowledge("index", USERS, 4, "erased")
    desk.quiet()
    assert (True, True) == states(desk, "u1/o1/filed")["index"]  # erased implies hidden
    assert desk.published["u1/o1/filed"].completed_at is None
    desk.acknowledge("features", USERS, 4, "erased")
    desk.quiet()

    done = desk.published["u1/o1/filed"]
    assert (True, False) == states(desk, "u1/o1/filed")["lake"]  # a group tells of no erasing
    assert done.stores["features"].erased_at == done.completed_at
    assert done.reopened_at is None


def test_a_store_that_goes_back_reopens_what_lies_above(desk: Desk) -> None:
    """What it has still applied stays complete; the rest is open until it is there again."""
    for number in range(1, 6):
        desk.hear(f"u{number}", "o")
        desk.cycle(outputs=(1, 1, 1))
        desk.quiet()
    desk.acknowledge_all()
    desk.quiet()
    assert all(each.completed_at for each in desk.published.values())
    third = desk.receipts._table.get(rows.receipt_key("u3", "o", "filed"))
    assert third is not None

    desk.acknowledge("features", USERS, third.targets[USERS])
    desk.quiet()

    for number in range(1, 6):
        receipt = desk.published[f"u{number}/o/filed"]
        assert (number > 3) == (receipt.completed_at is None)
        assert (number > 3) == (receipt.reopened_at is not None)
        assert (number <= 3, number <= 3) == states(desk, receipt.key)["features"]
        assert (True, True) == states(desk, receipt.key)["index"]
    desk.acknowledge_all()
    desk.quiet()
    assert all(each.completed_at for each in desk.published.values())
    again = desk.published["u5/o/filed"]
    assert again.reopened_at is not None
    assert again.reopened_at < (again.completed_at or "")


def test_a_store_back_before_its_receipts_are_reopened_reopens_them_all_the_same(
    desk: Desk,
) -> None:
    """Between two cycles a store goes back and comes again: the receipt tells of it."""
    desk.hear("u1", "o")
    desk.cycle(outputs=(1, 4, 0))
    desk.quiet()
    desk.acknowledge_all()
    desk.quiet()
    first = desk.published["u1/o/filed"]

    desk.acknowledge("features", USERS, 2)
    desk.acknowledge("features", USERS, 4)
    desk.acknowledge("features", USERS, 4, "erased")
    desk.quiet()

    receipt = desk.published["u1/o/filed"]
    assert receipt.reopened_at is not None
    assert (first.completed_at or "") < receipt.reopened_at < (receipt.completed_at or "")


def test_a_store_that_goes_back_while_no_worker_runs_is_found_out(desk: Desk) -> None:
    """The state knows by which acknowledgements its receipts were completed."""
    desk.hear("u1", "o")
    desk.cycle(outputs=(1, 4, 2))
    desk.quiet()
    desk.acknowledge_all()
    desk.quiet()
    worker = desk.receipts
    desk.receipts = Desk._make(desk)  # nobody hears the next one
    desk.acknowledge("index", CONTENT, 1)
    assert worker is not desk.receipts

    desk.restart(anew=True)
    desk.quiet()

    assert (False, False) == states(desk, "u1/o/filed")["index"]
    assert (True, True) == states(desk, "u1/o/filed")["features"]
    assert desk.published["u1/o/filed"].reopened_at is not None


def test_what_was_erased_is_erased_again_before_it_counts(desk: Desk) -> None:
    """A store back from a backup has to erase anew, though its last word on that is an old one."""
    desk.hear("u1", "o")
    desk.cycle(outputs=(0, 4, 0))
    desk.quiet()
    desk.acknowledge("features", USERS, 4)
    desk.acknowledge("features", USERS, 4, "erased")
    desk.acknowledge("features", USERS, 1)
    desk.acknowledge("features", USERS, 4)
    desk.quiet()
    assert (True, False) == states(desk, "u1/o/filed")["features"]

    desk.restart(anew=True)  # and whoever takes over reads both last words
    desk.quiet()
    assert (True, False) == states(desk, "u1/o/filed")["features"]


def test_without_stores_it_is_complete_when_published(tmp_path: Path) -> None:
    """And nothing of stores is waited for."""
    desk = Desk(tmp_path, ())
    desk.hear("u1", "o1")
    desk.cycle({"u1": (2, 0)}, outputs=(1, 4, 2))
    desk.quiet()

    receipt = desk.published["u1/o1/filed"]
    assert {} == receipt.stores
    assert receipt.published_at == receipt.completed_at
    assert 1 == len(desk.log)
    desk.close()


def test_a_repetition_changes_nothing(desk: Desk) -> None:
    """A redelivered record, or one that says the same, neither opens nor resets a receipt."""
    desk.hear("u1", "o1")
    desk.cycle(outputs=(1, 4, 0))
    desk.quiet()
    before = desk.published["u1/o1/filed"]

    desk.hear("u1", "o1")
    desk.cycle(outputs=(1, 0, 0))
    desk.quiet()

    assert [before] == desk.log


def test_more_products_extend_a_receipt(desk: Desk) -> None:
    """It waits for what the later record caused as well, with its times; items add up."""
    desk.hear("u1", "o1", products=1)
    desk.cycle({"u1": (2, 0)}, outputs=(1, 1, 2))
    desk.quiet()
    desk.acknowledge_all()
    desk.quiet()
    first = desk.published["u1/o1/filed"]
    assert first.completed_at is not None

    desk.hear("u1", "o1", products=3)
    desk.cycle({"u1": (5, 0)}, outputs=(1, 1, 5))
    desk.quiet()

    second = desk.published["u1/o1/filed"]
    assert 7 == second.items
    assert first.received_at < second.received_at
    assert second.completed_at is None
    assert {(False, False)} == set(states(desk, "u1/o1/filed").values())
    desk.acknowledge_all()
    desk.quiet()
    assert desk.published["u1/o1/filed"].completed_at is not None


def test_what_came_between_an_extension_and_its_commit_is_not_told_too_early(desk: Desk) -> None:
    """The commit of the first record's outputs says nothing of the second's."""
    desk.hear("u1", "o1", products=1)
    first = desk.receipts.fold(lambda _: True, {}, ())
    desk.hear("u1", "o1", products=3)
    desk.busy.add("u1")  # its fan-out is under way
    second = desk.receipts.fold(lambda _: True, {}, ())
    for part in (first, second):
        desk.store.write([*part.users_rows, *part.local_rows], {})
        desk.receipts.persisted(part, {}, desk.now_ms)
    desk.quiet()
    assert [] == [each for each in desk.log if each.published_at]

    desk.busy.clear()
    desk.cycle()
    desk.quiet()
    assert desk.published["u1/o1/filed"].published_at is not None


def test_a_fanout_is_waited_for_and_its_items_are_counted(desk: Desk) -> None:
    """Purges are a filed objection's doing, what is allowed again a withdrawal's."""
    desk.busy.add("u1")
    desk.hear("u1", "o1")
    desk.cycle({"u1": (10, 0)}, outputs=(1, 4, 10))
    assert desk.published["u1/o1/filed"].published_at is None  # decided, and told so
    desk.hear("u1", "o1", "withdrawn")
    desk.cycle({"u1": (5, 7)}, outputs=(1, 4, 12))
    desk.acknowledge_all()
    desk.quiet()
    assert desk.published["u1/o1/filed"].published_at is None

    desk.restart(anew=True)
    desk.busy.clear()
    desk.cycle({"u1": (0, 3)}, outputs=(0, 0, 3))
    desk.quiet()

    filed, withdrawn = (desk.published[f"u1/o1/{x}"] for x in ("filed", "withdrawn"))
    assert (15, 10) == (filed.items, withdrawn.items)
    assert filed.published_at is not None
    assert (True, False) == states(desk, "u1/o1/filed")["features"] or filed.stores
    assert (False, False) == states(desk, "u1/o1/filed")["index"]  # the last slice is missing


def test_a_deleted_account_leaves_no_receipts_behind(desk: Desk) -> None:
    """Complete ones leave the state at once, open ones when they are complete."""
    desk.hear("u1", "old")
    desk.cycle(outputs=(1, 4, 0))
    desk.quiet()
    desk.acknowledge_all()
    desk.quiet()
    desk.hear("u1", "new")
    desk.cycle(outputs=(1, 4, 0))
    desk.quiet()
    assert {"u1/old/filed", "u1/new/filed"} == desk.rows().keys()

    desk.cycle(deleted=("u1",))
    assert {"u1/new/filed"} == desk.rows().keys()
    desk.acknowledge_all()
    desk.quiet()

    assert {} == desk.rows()
    assert all(each.completed_at for each in desk.published.values())
    desk.restart(anew=True)
    desk.acknowledge("features", USERS, 0)
    desk.quiet()
    assert [] == list(desk.store.scan(rows.RECEIPT_NUMBER))


def test_a_new_store_is_in_no_receipt_of_before(tmp_path: Path) -> None:
    """A receipt's stores are those configured when it was decided, also when one is taken off."""
    desk = Desk(tmp_path, STORES[:1])
    desk.follow()
    desk.hear("u1", "o")
    desk.cycle(outputs=(1, 4, 0))
    desk.stores = STORES[1:2]
    desk.restart(anew=False)
    desk.hear("u2", "o")
    desk.cycle(outputs=(1, 4, 0))
    desk.quiet()

    assert ["features"] == list(desk.published["u1/o/filed"].stores)
    assert ["index"] == list(desk.published["u2/o/filed"].stores)
    for phase in PHASES:
        desk.acknowledge("features", USERS, desk.ends[USERS], phase)
    desk.quiet()
    assert desk.published["u1/o/filed"].completed_at is not None
    assert desk.published["u2/o/filed"].completed_at is None
    desk.close()


def test_outputs_made_anew_are_waited_for(desk: Desk) -> None:
    """Old acknowledgements do not count for new topics, whatever their offsets; new ones do."""
    desk.hear("u1", "o")
    desk.cycle(outputs=(1, 4, 2))
    desk.quiet()
    desk.acknowledge("index", USERS, 4)
    desk.ends = [0, 0, 0]
    desk.restart(anew=False)
    desk.now_ms += 1_000_000_000_000  # the note tells by the real clock
    desk.receipts.outputs_are("other ids", desk.now_ms)
    desk.quiet()
    desk.cycle(outputs=(1, 1, 1))  # all that stands is published again
    desk.quiet()
    desk.acknowledge("features", USERS, 0)
    assert {(False, False)} == set(states(desk, "u1/o/filed").values())
    of_before = Ack("lake", CONTENT, 0, "hidden", 2, desk.now_ms - 1_000_000_000_000)
    assert desk.receipts.acknowledge(of_before) is None

    desk.receipts.settle()
    desk.acknowledge_all()
    desk.quiet()
    assert desk.published["u1/o/filed"].completed_at is not None


def test_a_refused_acknowledgement_stays_refused(desk: Desk) -> None:
    """Also for whoever takes over once the output has grown beyond it."""
    desk.hear("u1", "o")
    desk.cycle(outputs=(1, 4, 0))
    desk.quiet()
    ack = Ack("features", USERS, 0, "hidden", 1_000, desk.now_ms, 7)
    desk._position = 8
    desk.receipts.refuse(ack)
    desk.quiet()

    desk.restart(anew=True)

    assert desk.receipts.is_heard(ack)
    assert not desk.receipts.is_heard(ack._replace(position=8))


acks = st.builds(
    Ack,
    st.just("s"),
    st.just(0),
    st.just(0),
    st.sampled_from(PHASES),
    st.integers(0, 9),
    st.integers(1, 99),
)


@given(st.lists(acks, min_size=1))
def test_the_latest_word_holds_and_erased_implies_hidden(said: list[Ack]) -> None:
    """After any acknowledgements: hidden is not below erased, and the last word is true."""
    level = Level()
    for ack in said:
        before, level = level, after_ack(level, ack)
        assert level.offset(ack.phase) == ack.offset
        assert level.erased <= level.hidden
        if ack.phase == "hidden":
            assert level.erased <= before.erased
        else:
            assert level.hidden == max(before.hidden, ack.offset)


def test_levels_tell_since_when() -> None:
    """Since the last of the outputs a store follows moved; saying the same again moves nothing."""
    levels = Levels()
    levels.acknowledge(Ack("s", USERS, 0, "hidden", 5, 100))
    levels.acknowledge(Ack("s", CONTENT, 0, "hidden", 5, 200))
    levels.acknowledge(Ack("s", USERS, 0, "hidden", 5, 300))

    assert 200 == levels.since_ms("s", "hidden", (USERS, CONTENT))
    assert (0, 5, 5) == levels.offsets("s", "hidden")
    assert 3 == len(FOLLOWED)


@given(st.lists(st.tuples(st.integers(1, 5), st.lists(st.integers(0, 50)))), st.integers(0, 200))
def test_unacknowledged_outputs_are_told_apart(
    added: list[tuple[int, list[int]]], level: int
) -> None:
    """The oldest above a level, and every purge once, however a store moves."""
    outputs, end, at = Unacknowledged(), 0, []
    for committed_ms, (records, purges) in enumerate(added):
        end += records
        outputs.add(end, committed_ms, purges)
        at.append((end, committed_ms, purges))

    assert next((ms for upto, ms, _ in at if upto > level), None) == outputs.oldest_ms(level)
    below, above = outputs.purges(0, level), outputs.purges(level, end)
    counted = sum(number for _, number in (*below, *above))
    assert sum(len(purges) for _, _, purges in at) == counted
    outputs.drop(level)
    assert next((ms for upto, ms, _ in at if upto > level), None) == outputs.oldest_ms(level)


def test_memory_of_outputs_is_bounded() -> None:
    """A store down for hours costs no more than some thousand groups, and nothing is told young."""
    outputs = Unacknowledged()
    for number in range(1, 50 * GROUPS_MAX):
        outputs.add(number, number, [number])

    assert len(outputs._groups) <= GROUPS_MAX
    assert all(len(group.purges) <= CAUSES_MAX for group in outputs._groups)
    assert 1 == outputs.oldest_ms(0)
    found = outputs.purges(0, 50 * GROUPS_MAX)
    assert 50 * GROUPS_MAX - 1 == sum(number for _, number in found)
    for level in (1_000, 50_000, 90_000):
        oldest_ms = outputs.oldest_ms(level)
        assert oldest_ms is not None
        assert level - 100 <= oldest_ms <= level + 1


class Following(RuleBasedStateMachine):
    """
    Objections, stores and crashes in any order.

    Whenever nothing is due: no store is said to have hidden what it has not applied, and where it
    has applied all there is, it is said so.  `done`: where a receipt's outputs end in truth.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.desk = Desk(Path(self.folder.name))
        self.truth: dict[str, list[int]] = {}
        self.level: dict[tuple[str, int], Level] = {}
        self.number = 0

    def teardown(self) -> None:
        self.desk.close()
        self.folder.cleanup()

    @initialize()
    def begin(self) -> None:
        self.desk.follow()

    @rule(
        crash=st.sampled_from(["", "", "", "before", "after"]),
        outputs=st.tuples(*[st.integers(0, 3)] * 3),
        anew=st.booleans(),
        repeated=st.booleans(),
    )
    def object(self, crash: str, outputs: tuple[int, int, int], anew: bool, repeated: bool) -> None:
        """File an objection, in a cycle that may not survive; it is read again then."""
        self.number += not repeated
        user_id = f"u{self.number}"
        for attempt in (crash, "") if crash == "before" else (crash,):
            self.desk.hear(user_id, "o")
            self.desk.cycle(outputs=outputs, crash=attempt)
            if attempt:
                self.desk.restart(anew=anew)
                self.desk._users.pop(user_id, None)
        key = f"{user_id}/o/filed"
        if key not in self.truth:
            self.truth[key] = [
                end - 1 if number else 0
                for end, number in zip(self.desk.ends, outputs, strict=True)
            ]

    @rule(
        store=st.sampled_from(STORES),
        topic=st.sampled_from(FOLLOWED),
        phase=st.sampled_from(PHASES),
        share=st.floats(0, 1),
    )
    def acknowledge(self, store: DataStore, topic: str, phase: Phase, share: float) -> None:
        """A store says how far it is, or has gone back to."""
        if topic not in store.topics or (store.group and phase == "erased"):
            return
        index = FOLLOWED.index(topic)
        offset = round(share * self.desk.ends[index])
        self.desk.acknowledge(store.name, index, offset, phase)
        place = store.name, index
        ack = Ack(store.name, index, 0, phase, offset, 1)
        self.level[place] = after_ack(self.level.get(place, Level()), ack)

    @rule()
    def acknowledge_all(self) -> None:
        """All stores are at the ends."""
        for store in STORES:
            for topic in store.topics:
                for phase in PHASES if store.group is None else PHASES[:1]:
                    self.acknowledge.__wrapped__(self, store, topic, phase, 1.0)  # type: ignore[attr-defined]

    @rule(anew=st.booleans())
    def restart(self, anew: bool) -> None:
        """The worker dies, and another takes over."""
        self.desk.restart(anew=anew)

    @rule()
    def roll_back(self) -> None:
        """A cycle is folded and comes to nothing."""
        self.desk.receipts.fold(lambda _: True, {}, ())
        self.desk.receipts.roll_back()

    @rule()
    def cycle(self) -> None:
        """Nothing but a cycle."""
        self.desk.cycle()

    @invariant()
    def no_claim_is_untrue(self) -> None:
        self.desk.quiet()
        for key, ends in self.truth.items():
            receipt = self.desk.published[key]
            assert receipt.published_at is not None, key
            for store in STORES:
                self._check(receipt, store, ends)
            assert (receipt.completed_at is not None) == all(
                each.hidden_at if name == "lake" else each.erased_at
                for name, each in receipt.stores.items()
            )

    def _check(self, receipt: Receipt, store: DataStore, ends: list[int]) -> None:
        progress = receipt.stores[store.name]
        topics = [FOLLOWED.index(topic) for topic in store.topics]
        levels = [self.level.get((store.name, topic), Level()) for topic in topics]
        for phase, at in (("hidden", progress.hidden_at), ("erased", progress.erased_at)):
            offsets = [level.hidden if phase == "hidden" else level.erased for level in levels]
            note(f"{receipt.key} {store.name} {phase} {at} {offsets} {ends} {self.desk.ends}")
            if at is not None:
                assert all(
                    offset >= ends[topic] for topic, offset in zip(topics, offsets, strict=True)
                )
            elif phase == "hidden" or store.group is None:
                assert any(
                    offset < self.desk.ends[topic]
                    for topic, offset in zip(topics, offsets, strict=True)
                )


TestFollowing = Following.TestCase
TestFollowing.settings = settings(stateful_step_count=20)  # each step ends with a look at all


@pytest.fixture(autouse=True, scope="module")
def small_steps() -> Iterator[None]:
    """Let few receipts be brought forward at once, so that walks are interrupted."""
    before, receipt_walks.WALKED_AT_ONCE = receipt_walks.WALKED_AT_ONCE, 2  # type: ignore[misc]
    yield
    receipt_walks.WALKED_AT_ONCE = before  # type: ignore[misc]

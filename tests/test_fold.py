"""Epochs, answers and what stands in the end: contract.md, "Output records"."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.core import user as users
from streams.core.item import NO_REVISION, UNKNOWN_ITEM, Item
from streams.core.item import merge as merge_items
from streams.core.times import DAY_MS
from streams.core.user import NOBODY, User, is_resolved
from streams.core.user import merge as merge_users
from streams.core.verdict import decide, item_reasons
from streams.errors import BadRecord
from tests.folding import UNBOUNDED_ITEMS, Delivery, Shell, reasons_by_product
from tests.limits import limits
from tests.making import (
    DEFAULTS,
    NOW_MS,
    PREFIX,
    Record,
    age,
    content,
    dismissal,
    grown_up,
    item_facts,
    notice,
    objection,
    user_facts,
)
from tests.strategies import ages, contents, notices, objections

START_MS = NOW_MS - 1_000


def at(topic: str, offset: int, record: Record, resolves: str | None = None) -> Delivery:
    """Return a record that arrived shortly before all cycles."""
    return Delivery(topic, offset, record, START_MS, resolves)


# --- Any history, in any batches -------------------------------------------------------------

keeps = st.sampled_from(["c1", "c2", "c3"])


def kept(record: Record, content_id: str, private: bool) -> Record:
    """Return *record* with the product and kind that its content_id has for ever."""
    own = {"c1": ("facebook", "post"), "c2": ("instagram", "ai_interaction")}
    product, kind = own.get(content_id, ("facebook", "comment"))
    kind = "private_message" if private else kind
    return {**record, "content_id": content_id, "product": product, "kind": kind}


rarely = st.integers(0, 9).map(lambda drawn: drawn == 0)
items_of_one_user = st.builds(kept, contents, keeps, rarely)
helpful = st.sampled_from([("account-ages", grown_up()), ("notices", notice())])
sent = st.one_of(
    helpful,
    objections.map(lambda record: ("objections", record)),
    ages.map(lambda record: ("account-ages", record)),
    notices.map(lambda record: ("notices", record)),
    items_of_one_user.map(lambda record: ("content", record)),
    items_of_one_user.map(lambda record: ("content", {**record, "revision": -1})),
    st.just(("objections", objection(action="paused"))),
    st.integers(0, 3).map(lambda at: ("objections", dismissal(dead_letter=f"objections/0/{at}"))),
    st.integers(0, 5).map(lambda at: ("objections", dismissal(dead_letter=f"{PREFIX}{at}"))),
    st.builds(
        lambda prefix, at: ("objections", dismissal(dead_letter=f"{prefix}{at}", through=True)),
        st.sampled_from([PREFIX, "objections/0/"]),
        st.integers(0, 5),
    ),
)
deletion = st.just(("account-ages", age(account="deleted")))
with_deletion = st.one_of(sent, sent, sent, sent, deletion)


@st.composite
def histories(draw: st.DrawFn) -> list[list[Delivery]]:
    """Cycles of deliveries; offsets count by topic, and some records are delivered again."""
    records = draw(
        st.lists(draw(st.sampled_from([sent, sent, with_deletion])), min_size=1, max_size=12)
    )
    ends: dict[str, int] = {}
    deliveries: list[Delivery] = []
    for topic, record in records:
        offset = ends.get(topic, 0)
        ends[topic] = offset + 1
        deliveries.append(at(topic, offset, record))
        if draw(rarely):
            deliveries.append(draw(st.sampled_from(deliveries)))
    cuts = draw(st.sets(st.integers(1, len(deliveries))))
    edges = [0, *sorted(cuts), len(deliveries)]
    cycles = [deliveries[first:last] for first, last in pairwise(edges)]
    return [sorted(each, key=_topic_order) for each in cycles if each]


def _topic_order(delivery: Delivery) -> int:
    """Within a cycle what can restrict is folded before what it restricts."""
    return ["objections", "account-ages", "notices", "content"].index(delivery.topic)


class Facts:
    """All facts ever delivered: what must stand in the end is worked out from them alone."""

    def __init__(self) -> None:
        self.user = NOBODY
        self.items: dict[str, Item] = {}

    def add(self, delivery: Delivery) -> None:
        """Take a delivered record in."""
        topic, offset, record, received_ms, _ = delivery
        try:
            if topic != "content":
                self.user = merge_users(self.user, user_facts(record, received_ms).facts)
                return
            facts = item_facts(record, offset, received_ms).facts
        except BadRecord:
            if topic == "content":
                self._add_item(record["content_id"], Item(dead_letters=(offset,)))
            elif topic != "notices":
                self.user = merge_users(self.user, User(dead_letters=(delivery.ref,)))
            return
        # The one exception: a private message not known as something else is not even stored.
        if not facts.private_message or record["content_id"] in self.items:
            self._add_item(record["content_id"], facts)

    def _add_item(self, content_id: str, facts: Item) -> None:
        known = self.items.get(content_id, UNKNOWN_ITEM)
        self.items[content_id] = merge_items(known, facts)

    def allowed_items(self, now_ms: int) -> set[str]:
        """Return the items against which nothing stands."""
        decision = decide(self.user, DEFAULTS, now_ms).decision
        return {
            content_id
            for content_id, item in self.items.items()
            if item_reasons(item, self.user, decision, PREFIX) == 0
        }


@given(histories(), st.sampled_from([0, 1, UNBOUNDED_ITEMS]), st.sampled_from([0, 20, 400]))
def test_what_stands_in_the_end_is_what_the_facts_decide(
    history: list[list[Delivery]], inline_items: int, days: int
) -> None:
    """After any history a store that read the outputs holds what all facts together allow."""
    shell, facts, now_ms = Shell(), Facts(), NOW_MS
    for deliveries in history:
        now_ms += days * DAY_MS
        shell.cycle(*deliveries, now_ms=now_ms, inline_items=inline_items)
        for delivery in deliveries:
            facts.add(delivery)
    shell.finish(now_ms)

    row = shell.users["u1"]
    assert decide(facts.user, DEFAULTS, now_ms).decision == row.decision
    assert facts.user == row.user
    products = {f"{name}/u1" for name, found in reasons_by_product(row).items() if not found}
    assert products == shell.reader.products()
    assert facts.allowed_items(now_ms) == shell.reader.items()
    last = shell.reader.decisions[-1]
    assert (row.epoch, reasons_by_product(row)) == (last["epoch"], last["products"])
    if row.user.deleted:
        assert {} == shell.items.get("u1", {})


@given(histories())
def test_epochs(history: list[list[Delivery]]) -> None:
    """The epoch starts at 1, never goes back, and grows by one when the decision changes.

    It also grows when an item stops being unreadable, and else it does not grow.
    """
    shell = Shell()
    for delivery in (each for deliveries in history for each in deliveries):
        before, items = shell.users.get("u1"), dict(shell.items.get("u1", {}))
        shell.cycle(delivery, now_ms=NOW_MS)
        row = shell.users["u1"]
        if before is None:
            assert 1 == row.epoch
            continue
        after = shell.items.get("u1", {})
        readable = [
            content_id
            for content_id, item in items.items()
            if content_id in after and _ends(item, before.user, after[content_id], row.user)
        ]

        grown = row.epoch - before.epoch - (row.decision != before.decision)
        if delivery.record.get("through"):  # one epoch for all of them
            assert bool(readable) <= grown <= 1
        else:
            assert len(readable) == grown


def _ends(before: Item, user_before: User, after: Item, user: User) -> bool:
    """Whether the last dead letter has gone, or the first record came that could be read."""
    first = before.revision == NO_REVISION != after.revision
    return (_unreadable(before, user_before) or first) and not _unreadable(after, user)


def _unreadable(item: Item, user: User) -> bool:
    """Whether a dead letter of *item* stands."""
    return any(not is_resolved(user, f"{PREFIX}{offset}") for offset in item.dead_letters)


def test_a_dismissal_told_twice_begins_one_epoch_also_when_its_grant_is_held() -> None:
    """The item waits for the hold's end, and is judged anew once."""
    shell = Shell()
    bad = {"user_id": "u1", "content_id": "c1", "kind": "?"}
    shell.cycle(at("content", 0, bad), now_ms=NOW_MS)
    shell.cycle(at("objections", 0, dismissal()), now_ms=NOW_MS, hold=True)
    dismissed = shell.users["u1"].epoch
    shell.cycle(now_ms=NOW_MS)
    shell.cycle(at("objections", 1, dismissal()), now_ms=NOW_MS)

    assert 2 == dismissed == shell.users["u1"].epoch


def test_a_dismissal_of_all_up_to_one_frees_items() -> None:
    """Each of them is answered anew, in one new epoch; one behind that place is not freed."""
    shell = Shell()
    shell.cycle(
        at("account-ages", 0, grown_up()),
        at("notices", 0, notice()),
        *(at("content", n, content(content_id=f"c{n}")) for n in range(3)),
        *(at("content", 3 + n, content(content_id=f"c{n}", product="?")) for n in range(3)),
        now_ms=NOW_MS,
    )
    before, epoch = shell.reader.items(), shell.users["u1"].epoch
    through = dismissal(dead_letter=f"{PREFIX}4", through=True)
    shell.cycle(at("objections", 0, through), at("objections", 1, through), now_ms=NOW_MS)
    shell.finish(NOW_MS)

    assert set() == before
    assert {"c0", "c1"} == shell.reader.items()
    assert epoch + 1 == shell.users["u1"].epoch


@given(histories(), st.sampled_from([1, 2]), st.sampled_from([0, UNBOUNDED_ITEMS]))
def test_a_full_state_never_allows_what_the_facts_forbid(
    history: list[list[Delivery]], kept: int, inline_items: int
) -> None:
    """With as little kept of a user as one or two, no more is allowed than all facts allow."""
    shell, facts = Shell(), Facts()
    with limits(kept):
        for deliveries in history:
            shell.cycle(*deliveries, now_ms=NOW_MS, inline_items=inline_items)
        shell.finish(NOW_MS)
    for delivery in (each for deliveries in history for each in deliveries):
        facts.add(delivery)

    assert shell.reader.items() <= facts.allowed_items(NOW_MS)
    if shell.reader.products():
        assert not users.is_unreadable(facts.user)


@given(histories())
def test_batches_do_not_matter(history: list[list[Delivery]]) -> None:
    """Rows and epochs are the same however records are cut into cycles."""
    whole, single = Shell(), Shell()
    for deliveries in history:
        whole.cycle(*deliveries, now_ms=NOW_MS)
        for delivery in deliveries:
            single.cycle(delivery, now_ms=NOW_MS)

    assert single.users == whole.users
    assert single.items.get("u1", {}) == whole.items.get("u1", {})

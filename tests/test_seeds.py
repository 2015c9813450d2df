"""
A state that was lost, rebuilt from the outputs: after the facts are read again all is as before.
"""

from hypothesis import assume, given
from hypothesis import strategies as st

from streams.core import seeds
from streams.core.outputs import Output
from streams.core.reasons import KIND_INDEX, PRODUCT_INDEX, PUBLIC
from streams.core.verdict import LONG_AGO_MS, decide
from tests.folding import UNBOUNDED_ITEMS, Delivery, Shell, reasons_by_product
from tests.making import (
    DEFAULTS,
    NOW_MS,
    age,
    content,
    grown_up,
    item_of,
    ms,
    notice,
    objection,
)
from tests.test_fold import Facts, at, histories

LATER_MS = NOW_MS + 1_000


class Loss:
    """Plays a history, loses rows of its state and rebuilds them, as a worker does."""

    def __init__(self, *, inline_items: int = UNBOUNDED_ITEMS) -> None:
        self.shell = Shell()
        self.facts = Facts()
        self.log: list[Output] = []
        self.played: dict[tuple[str, int], Delivery] = {}
        self._inline_items = inline_items

    def play(self, *deliveries: Delivery) -> None:
        """Let records arrive in one cycle."""
        self.log += self.shell.cycle(*deliveries, now_ms=NOW_MS, inline_items=self._inline_items)
        for delivery in deliveries:
            self.facts.add(delivery)
            self.played[delivery.topic, delivery.offset] = delivery

    def lose(self, *, users: bool, items: bool) -> None:
        """Lose rows of users (and fan-outs), of items or of both; put seeds in their places."""
        shell, last = self.shell, {(each.topic, each.key): each for each in self.log}
        if users:
            shell.users.clear()
            shell.jobs.clear()
        if items:
            shell.items.clear()
            shell._content_end = 0
            for user_id, row in shell.users.items():
                shell.users[user_id] = seeds.anew(row, LATER_MS, 0)
        for (topic, key), output in last.items():
            user_id = str(dict(output.headers)["ce_subject"])
            if topic == "eligibility" and output.value is not None and users:
                row = seeds.user_seed(output.value, None, DEFAULTS, LATER_MS, 0, int(items))
                shell.users[user_id] = row
            if topic == "training-content" and output.value is not None and items:
                assert key is not None
                shell.items.setdefault(user_id, {})[key] = seeds.item_seed(output.value)

    def replay(self, *, users: bool, items: bool) -> list[Output]:
        """Read again what was lost: user topics in a hold, content after it; return the former."""
        again = [self.played[place] for place in sorted(self.played)]
        held: list[Output] = []
        for delivery in again:
            if users and delivery.topic != "content":
                held += self.shell.cycle(
                    delivery, now_ms=LATER_MS, inline_items=self._inline_items, hold=True
                )
        for delivery in again:
            if items and delivery.topic == "content":
                self.shell.cycle(delivery, now_ms=LATER_MS, inline_items=self._inline_items)
        self.shell.cycle(now_ms=LATER_MS, inline_items=self._inline_items)
        self.shell.finish(LATER_MS)
        return held


losses = st.sampled_from([(True, False), (False, True), (True, True)])


@given(histories(), losses, st.sampled_from([0, 1, UNBOUNDED_ITEMS]))
def test_a_lost_state_is_as_it_was_once_all_is_read_again(
    history: list[list[Delivery]], lost: tuple[bool, bool], inline_items: int
) -> None:
    """
    Whatever is lost, even in the midst of fan-outs: a store ends up with what the facts allow.

    No key's (epoch, revision) falls (the reader asserts it), and nothing is allowed in the hold.
    """
    users, items = lost
    loss = Loss(inline_items=inline_items)
    for deliveries in history:
        # An item that was a private message first and public later is its producer's mistake;
        # read again, the one known item is purged for good.
        assume(not any(each.record.get("kind") == "private_message" for each in deliveries))
        loss.play(*deliveries)

    loss.lose(users=users, items=items)
    held = loss.replay(users=users, items=items)

    shell, facts = loss.shell, loss.facts
    row = shell.users["u1"]
    assert not row.seeded
    assert decide(facts.user, DEFAULTS, LATER_MS).decision == row.decision
    assert facts.user == row.user
    products = {f"{name}/u1" for name, found in reasons_by_product(row).items() if not found}
    assert products == shell.reader.products()
    assert facts.allowed_items(LATER_MS) == shell.reader.items()
    last = shell.reader.decisions[-1]
    assert (row.epoch, reasons_by_product(row)) == (last["epoch"], last["products"])
    assert not any(kind.endswith(".allowed") for kind in kinds(held))
    if row.user.deleted:
        assert {} == shell.items.get("u1", {})


def kinds(outputs: list[Output]) -> list[str]:
    """Return the `ce_type` of each output."""
    return [str(dict(output.headers)["ce_type"]) for output in outputs]


def allowed() -> Loss:
    """Return a history in which u1 and one item are allowed."""
    loss = Loss()
    loss.play(at("account-ages", 0, grown_up()), at("notices", 0, notice()))
    loss.play(at("content", 0, content()))
    return loss


def test_a_fact_not_met_yet_purges_nobody() -> None:
    """While facts are read again an allowed user stays allowed, and is answered once more."""
    loss = allowed()
    epoch = loss.shell.users["u1"].epoch

    loss.lose(users=True, items=False)
    held = loss.replay(users=True, items=False)

    assert {"eligibility.decided"} == set(kinds(held))
    assert epoch + 1 == loss.shell.users["u1"].epoch
    assert {"c1"} == loss.shell.reader.items()


def test_a_restriction_that_is_known_waits_for_nothing() -> None:
    """An objection found while facts are read again purges user and items at once."""
    loss = allowed()
    loss.lose(users=True, items=False)

    news = loss.shell.cycle(at("objections", 0, objection()), now_ms=LATER_MS, hold=True)

    assert {"eligibility.decided", "user.purged", "content.purged"} == set(kinds(news))
    assert set() == loss.shell.reader.items()


def test_whom_nothing_restores_is_purged_at_the_end_of_the_hold() -> None:
    """The facts have expired: what is not known is a reason again once all that is left is read."""
    loss = allowed()
    loss.lose(users=True, items=False)

    assert [] == loss.shell.cycle(now_ms=LATER_MS, hold=True)
    news = loss.shell.cycle(now_ms=LATER_MS)

    assert {"eligibility.decided", "user.purged", "content.purged"} == set(kinds(news))
    assert set() == loss.shell.reader.items() | loss.shell.reader.products()


def test_a_deleted_account_stays_deleted() -> None:
    """Its seed knows nothing else, whatever is read again; items that were left are forgotten."""
    loss = allowed()
    loss.play(at("account-ages", 1, age(account="deleted")))
    loss.lose(users=True, items=True)

    assert loss.shell.users["u1"].user.deleted
    loss.replay(users=False, items=True)

    assert set() == loss.shell.reader.items()
    assert {} == loss.shell.items.get("u1", {})


def test_no_item_is_allowed_by_a_seed() -> None:
    """A seed does not know when its user came of age: new items wait until it is settled."""
    loss = allowed()
    loss.lose(users=True, items=False)

    new = at("content", 1, content(content_id="c2"))
    news = loss.shell.cycle(new, now_ms=LATER_MS, hold=True)

    assert ["content.purged"] == kinds(news)
    assert LONG_AGO_MS == loss.shell.users["u1"].decision.adult_from_ms
    loss.replay(users=True, items=False)
    assert {"c1", "c2"} == loss.shell.reader.items()


def test_the_seed_of_an_item_gives_way_to_its_record() -> None:
    """It has the fields that were published, and at a tie of revisions the record holds."""
    loss = allowed()
    (value,) = (each.value for each in loss.log if each.topic == "training-content")
    assert value is not None

    seed = seeds.item_seed(value)

    assert (1, PUBLIC, KIND_INDEX["post"]) == (seed.revision, seed.visibility, seed.kind)
    assert PRODUCT_INDEX["instagram"] == seed.product
    assert ms("2026-04-15T09:00:00Z") == seed.created_ms
    assert item_of(content()).value > seed.value
    assert b"{" > seed.value  # whatever field a producer writes first


def test_an_unknown_reason_of_a_newer_worker_stands() -> None:
    """A reason this worker has no name for does not turn into a permission."""
    loss = allowed()
    loss.play(at("objections", 0, objection()))
    value = [each.value for each in loss.log if each.topic == "eligibility"][-1] or b""

    row = seeds.user_seed(value.replace(b"OBJECTION", b"NEWFANGLED"), None, DEFAULTS, NOW_MS, 0, 0)

    assert all(row.decision.reasons)

"""
The protocol of linked accounts, on a net of owners whose messages come late, doubled, in any order.

A world is what producers append, in the order of one clock.  A net is the owners of its partitions
with the pure fold, and what is on its way to them: records of the world, and what they tell each
other.  What must hold in the end is worked out over the whole graph by `streams.proof.links`.
"""

import random
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.core import links
from streams.core.changes import Origin
from streams.core.decode import UserFacts
from streams.core.fold import Fold
from streams.core.links import ANYTHING, Inherited, Link, Tell
from streams.core.reasons import ALL_PRODUCTS, Reason
from streams.core.tells import facts_of
from streams.core.user import DELETED_USER, NOBODY, WITHDRAWN, User
from streams.core.verdict import decide
from streams.kafka.partitioner import partition_of
from streams.proof.links import Kin
from streams.state import rows
from tests.folding import Shell
from tests.limits import limits
from tests.making import DEFAULTS, NOW_MS, Record, age, link, objection, user_facts
from tests.strategies import few

PARTITIONS: Final = 3
PEOPLE: Final = ("ann", "ben", "cem", "dan", "eve")
STEP_MS: Final = 1_000
AGAIN: Final = 0.2  # of what is delivered is delivered again
STEPS_MAX: Final = 5_000
OBJECTED: Final = int(Reason.OBJECTION)


class Appended(NamedTuple):
    """A record, and its broker time stamp."""

    record: Record
    at_ms: int


class OnItsWay(NamedTuple):
    """Facts about a user on their way to the owner."""

    user_id: str
    facts: User
    at_ms: int


class Net:
    """The owners of all partitions; *chance* says in what order things reach them."""

    def __init__(self, chance: random.Random) -> None:
        self.owners = [Shell() for _ in range(PARTITIONS)]
        self.on_their_way: list[OnItsWay] = []
        self.told: list[OnItsWay] = []
        self._chance = chance

    def append(self, world: Iterable[Appended]) -> None:
        """Let producers' records set out."""
        for record, at_ms in world:
            event = user_facts(record, at_ms)
            self.on_their_way.append(OnItsWay(event.user_id, placed(event.facts), at_ms))

    def step(self) -> str:
        """Deliver something; return whom it concerns."""
        at = self._chance.randrange(len(self.on_their_way))
        news = self.on_their_way[at]
        if self._chance.random() >= AGAIN:
            del self.on_their_way[at]
        owner, number = self.owner_of(news.user_id), place_of(news.user_id)
        fold = Fold(owner, DEFAULTS, NOW_MS, f"content/{number}/")
        origin = Origin("test", number, 0, news.at_ms)
        fold.user_record(UserFacts(news.user_id, None, news.facts), origin)
        owner.users.update({user_id: each.after for user_id, each in fold.users.items()})
        for told in fold.tells:
            assert told.partition == place_of(told.user_id)
            key, tell = rows.decode_tell(told.user_id.encode(), rows.encode_tell(told.tell))
            self.told.append(OnItsWay(key, facts_of(tell), tell.since_ms))
            self.on_their_way.append(self.told[-1])
        return news.user_id

    def rest(self) -> None:
        """Deliver all there is, and all that comes of it, which has an end."""
        for _ in range(STEPS_MAX):
            if not self.on_their_way:
                return
            self.step()
        raise AssertionError("the owners never stop telling each other")

    def owner_of(self, user_id: str) -> Shell:
        """Return the owner of a user's partition."""
        return self.owners[place_of(user_id)]

    def user(self, user_id: str) -> User:
        """Return what the owner of a user knows."""
        row = self.owner_of(user_id).user(user_id)
        return NOBODY if row is None else row.user

    def users(self) -> dict[str, User]:
        """Return what is known of everybody."""
        return {user_id: self.user(user_id) for user_id in PEOPLE}


def place_of(user_id: str) -> int:
    """Return the partition of a user."""
    return partition_of(user_id.encode(), PARTITIONS)


def placed(facts: User) -> User:
    """Return *facts* with the partitions of linked accounts, as a worker fills them in."""
    there = {
        user_id: replace(each, partition=place_of(user_id)) for user_id, each in facts.links.items()
    }
    return replace(facts, links=there)


def objected(user: User) -> int:
    """Return the products objected to, a bit each."""
    decision = decide(user, DEFAULTS, NOW_MS).decision
    return sum((reasons & OBJECTED) << at for at, reasons in enumerate(decision.reasons))


def net_of(world: Sequence[Appended], seed: int) -> Net:
    """Return the net in which all of *world* has come to rest."""
    net = Net(random.Random(seed))
    net.append(world)
    net.rest()
    return net


def in_order(records: Sequence[Record]) -> list[Appended]:
    """Return *records* as they are appended, one after the other."""
    return [Appended(each, NOW_MS + at * STEP_MS) for at, each in enumerate(records)]


def expected(world: Sequence[Appended], net: Net) -> dict[str, int]:
    """Return what is objected to of everybody, by the whole graph."""
    kin = Kin()
    for record, at_ms in world:
        event = user_facts(record, at_ms)
        kin.learn(event.user_id, event.facts)
    for told in net.told:
        kin.hear(told.user_id, told.facts)
    inherited = kin.inherited(())
    own = {user_id: replace(net.user(user_id), inherited={}, links={}) for user_id in PEOPLE}
    return {
        user_id: objected(replace(user, inherited=inherited.get(user_id, {})))
        for user_id, user in own.items()
    }


people = few(*PEOPLE)
filings = st.fixed_dictionaries(
    {
        "user_id": people,
        "objection_id": few("o1", "o2"),
        "action": st.just("filed"),
        "products": st.sampled_from([["facebook"], ["instagram"], None]),
    }
)
withdrawals = st.fixed_dictionaries(
    {"user_id": people, "objection_id": few("o1", "o2"), "action": st.just("withdrawn")}
)
pairs = st.lists(people, min_size=2, max_size=2, unique=True)
linkings = pairs.map(lambda two: link(user_id=two[0], linked_user_id=two[1]))
unlinkings = pairs.map(
    lambda two: link(
        user_id=two[0],
        linked_user_id=two[1],
        action="unlinked",
        occurred_at="2026-04-16T09:00:00Z",
    )
)
seeds = st.integers(0, 2**32)
most = st.one_of(linkings, linkings, filings)
worlds = st.lists(st.one_of(linkings, filings, unlinkings, withdrawals), max_size=12).map(in_order)
lasting_worlds = st.lists(st.one_of(linkings, filings), max_size=10).map(in_order)
closed_in_the_end = st.tuples(
    st.lists(st.one_of(linkings, filings, withdrawals), max_size=10),
    st.lists(unlinkings, max_size=3),
).map(lambda two: in_order([*two[0], *two[1]]))


@given(closed_in_the_end, seeds, seeds)
def test_all_orders_end_in_the_same_state(
    world: list[Appended], one_seed: int, another_seed: int
) -> None:
    """Late, doubled and in any order: all owners come to know the same, and decide the same."""
    one, another = net_of(world, one_seed), net_of(world, another_seed)

    assert one.users() == another.users()
    assert expected(world, one) == {each: objected(one.user(each)) for each in PEOPLE}


@given(worlds, seeds)
def test_what_must_cross_has_and_nothing_else_but_what_may(
    world: list[Appended], seed: int
) -> None:
    """Also where objections and unlinkings overtake each other."""
    net = net_of(world, seed)

    assert expected(world, net) == {each: objected(net.user(each)) for each in PEOPLE}


@given(st.lists(st.one_of(most, unlinkings), max_size=12).map(in_order), seeds)
def test_nothing_but_a_withdrawal_takes_an_objection_off(world: list[Appended], seed: int) -> None:
    """At no moment, in no order, does a link, an unlinking or a tell free anybody."""
    net = Net(random.Random(seed))
    net.append(world)
    before = dict.fromkeys(PEOPLE, 0)
    while net.on_their_way:
        user_id = net.step()
        now = objected(net.user(user_id))

        assert before[user_id] == before[user_id] & now
        before[user_id] = now


@given(lasting_worlds, seeds)
def test_everybody_connected_with_an_objector_is_objected_to(
    world: list[Appended], seed: int
) -> None:
    """Whether the link or the objection came first, and over however many accounts."""
    net = net_of(world, seed)
    circles = {user_id: {user_id} for user_id in PEOPLE}
    for record, _ in world:
        if "linked_user_id" in record:
            both = circles[record["user_id"]] | circles[record["linked_user_id"]]
            circles.update(dict.fromkeys(both, both))
    filed = {record["user_id"] for record, _ in world if "action" in record} - {
        record["user_id"] for record, _ in world if "linked_user_id" in record
    }
    objectors = {record["user_id"] for record, _ in world if "objection_id" in record}

    assert filed <= objectors
    for user_id in PEOPLE:
        assert bool(circles[user_id] & objectors) == bool(objected(net.user(user_id)))


@given(worlds, seeds, st.integers(0, 30))
def test_a_withdrawal_frees_all_wherever_the_objection_has_got_to(
    world: list[Appended], seed: int, steps: int
) -> None:
    """Also when it sets out while the objection is on its way, and links are closed by then."""
    net = Net(random.Random(seed))
    net.append(world)
    for _ in range(steps):
        if net.on_their_way:
            net.step()
    taken_back = [
        objection(user_id=user_id, objection_id=objection_id, action="withdrawn", products=None)
        for user_id in PEOPLE
        for objection_id in ("o1", "o2")
    ]
    net.append(Appended(each, NOW_MS + STEP_MS * 1_000) for each in taken_back)
    net.rest()

    assert dict.fromkeys(PEOPLE, 0) == {each: objected(net.user(each)) for each in PEOPLE}


@given(
    st.permutations(
        [
            link(user_id="ann", linked_user_id="ben"),
            link(user_id="cem", linked_user_id="ben"),
            link(user_id="ben", linked_user_id="dan"),
        ]
    ),
    seeds,
)
def test_accounts_joined_by_a_deleted_one_stay_joined(known: list[Record], seed: int) -> None:
    """Their owners are told of each other when the account between them is deleted."""
    net = net_of(in_order(known), seed)
    net.append(in_order([age(user_id="ben", account="deleted")]))
    net.rest()
    net.append(in_order([objection(user_id="dan")]))
    net.rest()

    assert DELETED_USER == net.user("ben")
    assert {True} == {bool(objected(net.user(each))) for each in ("ann", "cem", "dan")}


def test_what_an_account_inherited_stays_when_the_other_is_deleted() -> None:
    """The objection was its person's."""
    net = net_of(in_order([link(user_id="ann", linked_user_id="ben"), objection(user_id="ann")]), 1)
    net.append(in_order([age(user_id="ann", account="deleted")]))
    net.rest()

    assert ALL_PRODUCTS == objected(net.user("ben"))


def test_an_objection_filed_after_an_unlinking_covers_one_account() -> None:
    """And one filed before it, but told of later, both."""
    linked = link(user_id="ann", linked_user_id="ben")
    unlinked = {**linked, "action": "unlinked", "occurred_at": "2026-04-16T09:00:00Z"}
    net = net_of(in_order([linked, unlinked]), 1)
    late = objection(user_id="ann", objection_id="new", occurred_at=None)
    net.append([Appended(late, NOW_MS + 9 * STEP_MS)])
    net.rest()
    assert (ALL_PRODUCTS, 0) == (objected(net.user("ann")), objected(net.user("ben")))

    early = objection(user_id="ann", objection_id="old", occurred_at="2026-04-16T08:59:00Z")
    net.append([Appended(early, NOW_MS + 10 * STEP_MS)])
    net.rest()
    assert {("ann", "old")} == net.user("ben").inherited.keys()


def test_a_withdrawal_crosses_where_the_objection_has_overtaken_the_unlinking() -> None:
    """It was let cross in doubt, and is taken back without any."""
    linked = link(user_id="ann", linked_user_id="ben")
    unlinked = {**linked, "action": "unlinked", "occurred_at": "2026-04-16T09:00:00Z"}
    net = net_of(in_order([linked]), 1)
    for record, at_s in (
        (objection(user_id="ann", occurred_at=None), 9),
        (unlinked, 1),  # appended before, but folded after it
    ):
        net.append([Appended(record, NOW_MS + at_s * STEP_MS)])
        net.rest()
    assert ALL_PRODUCTS == objected(net.user("ben"))

    net.append([Appended(objection(user_id="ann", action="withdrawn"), NOW_MS + 10 * STEP_MS)])
    net.rest()
    assert 0 == objected(net.user("ben"))


def test_linking_again_lets_all_cross() -> None:
    """Also what was filed while the accounts were not linked."""
    linked = link(user_id="ann", linked_user_id="ben")
    unlinked = {**linked, "action": "unlinked", "occurred_at": "2026-04-16T09:00:00Z"}
    net = net_of(in_order([linked, unlinked]), 1)
    late = objection(user_id="ann", occurred_at=None)
    net.append([Appended(late, NOW_MS + 9 * STEP_MS)])
    net.rest()
    again = {**linked, "user_id": "ben", "linked_user_id": "ann"}
    net.append([Appended({**again, "occurred_at": "2026-04-17T09:00:00Z"}, NOW_MS + 10 * STEP_MS)])
    net.rest()

    assert ALL_PRODUCTS == objected(net.user("ben"))


def test_at_its_limit_of_links_an_account_and_all_linked_ones_are_closed() -> None:
    """Those that are kept and those that are not: whose objections might be missed."""
    with limits(3):
        world = [link(user_id="ann", linked_user_id=each) for each in ("ben", "cem", "dan", "eve")]
        net = net_of(in_order(world), 1)

        assert {"ben", "cem", "dan"} == net.user("ann").links.keys()
        assert set(PEOPLE) == {each for each in PEOPLE if objected(net.user(each)) == ALL_PRODUCTS}
        assert ("ann", ANYTHING) in net.user("eve").inherited


def test_at_its_limit_of_objections_an_account_closes_the_linked_ones() -> None:
    """Of its own, or of others: what is not kept cannot be told."""
    with limits(3):
        filed = [
            objection(user_id="ann", objection_id=each, products=["facebook"]) for each in "abc"
        ]
        net = net_of(in_order([*filed, link(user_id="ben", linked_user_id="ann")]), 1)

        assert ALL_PRODUCTS == objected(net.user("ben"))
        assert links.INHERITED_MAX == len(net.user("ben").inherited)


def test_who_has_no_links_tells_nobody() -> None:
    """An objection of an account by itself makes no tell."""
    net = net_of(in_order([objection(user_id="ann"), age(user_id="ann")]), 1)

    assert [] == net.told


def test_a_tell_is_read_as_it_was_written() -> None:
    """Whoever reads the topic later gets the same facts."""
    told = ((("ann", "o1"), Inherited(ALL_PRODUCTS | WITHDRAWN, NOW_MS)),)
    tell = Tell("ann", Link(2, NOW_MS), told, NOW_MS)

    assert ("ben", tell) == rows.decode_tell(b"ben", rows.encode_tell(tell))

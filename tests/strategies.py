"""
Hypothesis strategies: the shared vocabulary of properties and state machines.

Built small to large: instants and dates, records, decoded facts, states, policies.
Vocabularies are small on purpose, so that ids meet, times tie and limits are hit exactly.
"""

from functools import reduce
from typing import NamedTuple

from hypothesis import strategies as st

from streams.core import item as items
from streams.core import user as users
from streams.core.item import UNKNOWN_ITEM, Item
from streams.core.links import Inherited
from streams.core.policy import Policy
from streams.core.reasons import ALL_PRODUCTS, KINDS, MODALITIES, PRODUCTS, VISIBILITIES
from streams.core.times import DAY_MS, rfc3339
from streams.core.user import NOBODY, WITHDRAWN, User
from tests.making import NOW_MS, PREFIX, Record, item_facts, ms, user_facts


def few(*values: str) -> st.SearchStrategy[str]:
    """Return one of a few texts."""
    return st.sampled_from(values)


# --- Time: around one notice window and one coming of age -----------------------------------

COMING_OF_AGE_MS = ms("2026-05-02T12:00:00Z")  # of someone born on 2008-05-01
DELIVERED_MS = COMING_OF_AGE_MS - 29 * DAY_MS

instants = st.sampled_from(
    [DELIVERED_MS, DELIVERED_MS + 1, COMING_OF_AGE_MS - 1, COMING_OF_AGE_MS, NOW_MS, NOW_MS + 5]
)
times = instants.map(rfc3339)
nows = st.one_of(
    instants,
    st.integers(-2, 2).map(lambda by: DELIVERED_MS + 30 * DAY_MS + by),
    st.integers(ms("2026-01-01T00:00:00Z"), ms("2032-01-01T00:00:00Z")),
)
birth_dates = few("2008-05-01", "2008-05-02", "2008-02-29", "1990-01-01", "2010-12-31")
days = few("2026-05-01", "2026-05-02", "2020-01-01", "2027-06-01")


# --- Records, as producers write them -------------------------------------------------------

products = st.lists(st.sampled_from([*PRODUCTS, "unknown"]), max_size=3)

objections = st.fixed_dictionaries(
    {
        "user_id": st.just("u1"),
        "objection_id": few("o1", "o2", "o3"),
        "action": few("filed", "filed", "withdrawn"),
    },
    optional={"products": st.one_of(products, st.none(), st.just("all"))},
)
dead_letters = few("objections/0/1", "objections/0/2", "account-ages/0/1", PREFIX + "1")
dismissals = st.fixed_dictionaries(
    {"user_id": st.just("u1"), "action": st.just("dismissed"), "dead_letter": dead_letters}
)
ages = st.fixed_dictionaries(
    {"user_id": st.just("u1"), "observed_at": times},
    optional={
        "birth_date": birth_dates,
        "age_band": few("adult", "under_18", "unknown"),
        "adult_since": days,
        "assurance": few("self_declared", "inferred", "verified"),
        "country": few("DE", "NO", "US"),
        "account": st.just("open"),
    },
)
deletions = ages.map(lambda record: {**record, "account": "deleted"})
notices = st.fixed_dictionaries(
    {"user_id": st.just("u1"), "notice_id": few("n1", "n2"), "delivered_at": times}
)
contents = st.fixed_dictionaries(
    {
        "user_id": st.just("u1"),
        "content_id": few("c1", "c2"),
        "revision": st.integers(0, 3),
        "product": st.sampled_from(PRODUCTS),
        "kind": few(*KINDS[:3], "story"),
        "visibility": few(*VISIBILITIES, "unlisted"),
        "modality": st.sampled_from(MODALITIES),
        "created_at": times,
    },
    optional={"language": few("de", "gsw-CH")},
)

# By weight (`one_of` counts a strategy once): ages have the most to go wrong.
_weighted: list[st.SearchStrategy[Record]] = [
    *(objections, objections, dismissals),
    *(ages, ages, ages, notices, notices),
]
user_records = st.sampled_from(_weighted).flatmap(lambda records: records)


links = st.fixed_dictionaries(
    {
        "user_id": st.just("u1"),
        "linked_user_id": few("u2", "u3"),
        "action": few("linked", "unlinked"),
        "occurred_at": times,
    }
)


# --- Facts: decoded records, and what bad ones leave behind ---------------------------------


def _decoded(record: Record, timestamp_ms: int) -> User:
    return user_facts(record, timestamp_ms).facts


decoded = st.builds(_decoded, user_records, instants)
linked = st.builds(_decoded, links, instants)
inherited = st.builds(
    lambda key, flags, filed_ms: User(inherited={key: Inherited(flags, filed_ms)}),
    st.tuples(few("u2", "u3"), few("o1", "o2")),
    st.sampled_from([1, 2, ALL_PRODUCTS, WITHDRAWN]),
    instants,
)
unreadable = dead_letters.map(lambda ref: User(dead_letters=(ref,)))
deleted = st.builds(_decoded, deletions, instants)

# Drawn by weight: of a deleted account nothing else is known, so few are.
_rare = [unreadable, linked, inherited]
living_facts = st.integers(0, 14).flatmap(lambda at: _rare[at] if at < len(_rare) else decoded)
facts = st.integers(0, 19).flatmap(lambda drawn: living_facts if drawn else deleted)


@st.composite
def contents_of_one(draw: st.DrawFn) -> list[Record]:
    """Records of one item, which keeps its product and kind: its producer sees to that."""
    own = {"content_id": "c1", "product": draw(st.sampled_from(PRODUCTS))}
    own["kind"] = draw(few(*KINDS))
    return [{**record, **own} for record in draw(st.lists(contents, max_size=5))]


@st.composite
def facts_of_one_item(draw: st.DrawFn) -> list[Item]:
    """Facts of one item at different offsets; some of its records were unreadable."""
    facts = [
        item_facts(record, offset, draw(instants)).facts
        for offset, record in enumerate(draw(contents_of_one()))
    ]
    behind = draw(st.lists(st.integers(0, 6), max_size=2, unique=True))
    return facts + [Item(dead_letters=(each,)) for each in behind if each >= len(facts)]


# --- States and policies --------------------------------------------------------------------


def user_from(known: list[User]) -> User:
    """Return the user of all the *known* facts."""
    return reduce(users.merge, known, NOBODY)


def item_from(known: list[Item]) -> Item:
    """Return the item of all the *known* facts."""
    return reduce(items.merge, known, UNKNOWN_ITEM)


living_users = st.lists(living_facts, max_size=6).map(user_from)
all_users = st.lists(facts, max_size=6).map(user_from)


class ThreeItems(NamedTuple):
    """Three states of one item."""

    first: Item
    second: Item
    third: Item


@st.composite
def three_items(draw: st.DrawFn) -> ThreeItems:
    """States of one item, each knowing a part of the same records."""
    known = draw(facts_of_one_item())
    part = st.lists(st.sampled_from(known), max_size=4) if known else st.just([])
    return ThreeItems(*(item_from(draw(part)) for _ in range(3)))


all_items = facts_of_one_item().map(item_from)

policies = st.builds(
    Policy,
    adult_age=st.sampled_from([16, 18, 21]),
    notice_window_days=st.sampled_from([0, 30]),
    notices_from_ms=st.sampled_from([None, DELIVERED_MS, DELIVERED_MS + 1]),
    countries=st.sampled_from([frozenset({"DE", "NO"}), frozenset({"US"}), frozenset()]),
    products=st.sampled_from([frozenset(PRODUCTS), frozenset({"instagram"}), frozenset()]),
    kinds=st.sampled_from([frozenset(KINDS[:3]), frozenset({"post"}), frozenset()]),
)

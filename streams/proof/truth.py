"""
The final truth of a prefix, from its input records alone.

Decoding, `merge`, `decide` and `item_reasons` are the core's; how they are put together is
written here a second time, without state, cycles, epochs or timers.  What holds for linked
accounts is worked out in links.py.
Source: contract.md, "Input records", "Decisions" and "Output records".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from msgspec.structs import replace

from streams.core import item as items
from streams.core import user as users
from streams.core.decode import (
    USER_DECODERS,
    ItemFacts,
    UserFacts,
    decode_content,
    decode_value,
    language,
    resolved_by,
    restriction,
)
from streams.core.item import UNKNOWN_ITEM, Item
from streams.core.policy import Policy
from streams.core.reasons import KINDS, PRODUCTS, reason_names
from streams.core.subjects import PLAIN, Subjects
from streams.core.tells import facts_of
from streams.core.times import from_ms, to_ms
from streams.core.user import NOBODY, User
from streams.core.verdict import Decision, decide, eligible, item_reasons
from streams.errors import BadRecord
from streams.proof.links import Kin
from streams.proof.records import INPUTS, Record
from streams.state.rows import decode_tell

CONTENT: Final = "content"
TELLS: Final = "objections-links"
_BAD_RESTRICTS_USER: Final = ("objections", "account-ages", "account-links")
_NOWHERE: Final = -1  # of an account that is linked, but has no record, and was never told so


class TrueUser(NamedTuple):
    """What must be decided about a user (sorted names of reasons by product), and where."""

    reasons: dict[str, tuple[str, ...]]
    eligible: bool
    deleted: bool
    partition: int


class TrueItem(NamedTuple):
    """The fields of the record of an item that may be used; *created_ms* is since 1970."""

    user_id: str
    revision: int
    product: str
    kind: str
    modality: str
    language: str | None
    created_ms: int


class BadInput(NamedTuple):
    """A record that must be among the dead letters, and the code it gets."""

    record: Record
    code: str


@dataclass(frozen=True, slots=True)
class Truth:
    """
    What outputs must come to.

    users: everybody seen, by id.
    products: the `product/user_id` that may be used.
    items: those that may be used, by content id.
    answered: content ids that must have a record or a tombstone.
    unanswered: ids of private messages never known as anything else: neither, but where the
    account is deleted a tombstone does no harm.
    bad: by "topic/partition/offset".
    """

    users: dict[str, TrueUser]
    products: frozenset[str]
    items: dict[str, TrueItem]
    answered: frozenset[str]
    unanswered: frozenset[str]
    bad: dict[str, BadInput]

    @property
    def eligible_users(self) -> int:
        """How many users have no reason against them in any product the policy covers."""
        return sum(user.eligible for user in self.users.values())


@dataclass(slots=True)
class _Facts:
    """All that the inputs say; an item's key is (content id, user, "topic/partition/")."""

    subjects: Subjects
    users: dict[str, User] = field(default_factory=dict)
    partitions: dict[str, int] = field(default_factory=dict)
    items: dict[tuple[str, str, str], Item] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    bad: dict[str, BadInput] = field(default_factory=dict)
    kin: Kin = field(default_factory=Kin)

    def learn(self, record: Record, user_id: str, news: User = NOBODY) -> None:
        """Merge what *record* says of a user."""
        self.users[user_id] = users.merge(self.users.get(user_id, NOBODY), news)
        self.partitions[user_id] = record.partition


def expected(
    inputs: Mapping[str, Iterable[Record]],
    policy: Policy,
    now_ms: int,
    subjects: Subjects = PLAIN,
) -> Truth:
    """
    Return what the outputs must come to at *now_ms*.

    inputs: all records of the inputs by the topics' names in the contract, and what owners told
    each other; those of one partition in the order of their offsets, which a private message's
    fate depends on.
    subjects: how the outputs name users.
    """
    facts = _Facts(subjects)
    for name in INPUTS:
        for record in inputs.get(name, ()):
            (_hear if name == TELLS else _learn)(facts, name, record)
    _inherit(facts)
    return _judge(facts, policy, now_ms)


def _hear(facts: _Facts, _: str, record: Record) -> None:
    user_id, tell = decode_tell(record.key or b"", record.value or b"")
    facts.learn(record, user_id)
    facts.kin.hear(user_id, facts_of(tell))


def _inherit(facts: _Facts) -> None:
    deleted = (user_id for user_id, user in facts.users.items() if user.deleted)
    for user_id, inherited in facts.kin.inherited(deleted).items():
        known = facts.users.get(user_id, NOBODY)
        facts.users[user_id] = users.merge(
            known, User(links=facts.kin.links[user_id], inherited=inherited)
        )
        facts.partitions.setdefault(user_id, _NOWHERE)


def _learn(facts: _Facts, name: str, record: Record) -> None:
    key, value, received_ms = record.key, record.value, record.timestamp_ms
    event: UserFacts | ItemFacts
    try:
        if name == CONTENT:
            event = decode_content(key, value, received_ms, record.offset)
        else:
            event = USER_DECODERS[name](key, value, received_ms)
    except BadRecord as bad:
        facts.bad[record.place] = BadInput(record, bad.code)
        _restrict(facts, name, record)
        return
    user_id = facts.subjects.of(event.user_id)
    if isinstance(event, UserFacts):
        links = {facts.subjects.of(other): link for other, link in event.facts.links.items()}
        facts.kin.learn(user_id, replace(event.facts, links=links))
        facts.learn(record, user_id, replace(event.facts, links={}))
    else:
        facts.learn(record, user_id)
    if isinstance(event, ItemFacts):
        _learn_item(facts, record, user_id, event.content_id, event.facts)
    ref = resolved_by(record.headers)
    if ref is not None:
        facts.learn(record, user_id, User(resolved=(ref,)))


def _restrict(facts: _Facts, name: str, record: Record) -> None:
    restricted = restriction(name, record.key, record.value)
    user_id, content_id = restricted.user_id, restricted.content_id
    if user_id is None:
        return
    user_id = facts.subjects.of(user_id)
    dead_letters = (record.place,) if name in _BAD_RESTRICTS_USER else ()
    facts.learn(record, user_id, User(dead_letters=dead_letters))
    if content_id is not None:
        _learn_item(facts, record, user_id, content_id, Item(dead_letters=(record.offset,)))


def _learn_item(facts: _Facts, record: Record, user_id: str, content_id: str, news: Item) -> None:
    key = (content_id, user_id, f"{record.topic}/{record.partition}/")
    known = facts.items.get(key)
    if known is None and news.private_message:
        facts.skipped.add(content_id)
        return
    facts.items[key] = items.merge(known or UNKNOWN_ITEM, news)


def _judge(facts: _Facts, policy: Policy, now_ms: int) -> Truth:
    decisions = {
        user_id: decide(user, policy, now_ms).decision for user_id, user in facts.users.items()
    }
    allowed = {}
    for (content_id, user_id, prefix), item in facts.items.items():
        if item_reasons(item, facts.users[user_id], decisions[user_id], prefix) == 0:
            allowed[content_id] = _true_item(user_id, item)
    answered = frozenset(content_id for content_id, _, _ in facts.items)
    return Truth(
        users={
            user_id: _true_user(facts, user_id, decision, policy)
            for user_id, decision in decisions.items()
        },
        products=frozenset(
            f"{product}/{user_id}"
            for user_id, decision in decisions.items()
            for product, reasons in zip(PRODUCTS, decision.reasons, strict=True)
            if reasons == 0
        ),
        items=allowed,
        answered=answered,
        unanswered=frozenset(facts.skipped) - answered,
        bad=facts.bad,
    )


def _true_user(facts: _Facts, user_id: str, decision: Decision, policy: Policy) -> TrueUser:
    reasons = {
        product: reason_names(each)
        for product, each in zip(PRODUCTS, decision.reasons, strict=True)
    }
    deleted = facts.users[user_id].deleted
    return TrueUser(reasons, eligible(decision, policy), deleted, facts.partitions[user_id])


def _true_item(user_id: str, item: Item) -> TrueItem:
    record = decode_value(item.value)
    return TrueItem(
        user_id,
        item.revision,
        PRODUCTS[item.product],
        KINDS[item.kind],
        record.modality,
        language(record),
        to_ms(from_ms(item.created_ms)),
    )

"""
Why a product, or an item, may not be used: each reason with the facts that cause it.
"""

from collections.abc import Iterable

from streams.core.changes import UserRow
from streams.core.item import NO_REVISION, Item
from streams.core.reasons import KINDS, PRODUCTS, VISIBILITIES, reason_names
from streams.core.times import rfc3339
from streams.core.user import NOBODY, is_resolved
from streams.core.verdict import is_unreadable
from streams.explain.evidence import Evidence, Published
from streams.explain.explanation import (
    IN_FORCE,
    Fact,
    Permission,
    ProductShown,
    ReasonShown,
    Why,
)
from streams.explain.words import Shown

_WITHOUT_A_FACT = {
    "AGE_UNKNOWN": "no age record is known",
    "COUNTRY_NOT_COVERED": "no record with a country is known",
    "NOTICE_PENDING": "no notice that counts was delivered",
}
_ENDING = ("UNDER_AGE", "NOTICE_PENDING")


def products_of(row: UserRow, facts: Iterable[Fact], evidence: Evidence) -> list[ProductShown]:
    """Return what the decision in *row* says of each product, and why."""
    facts = list(facts)
    return [
        ProductShown(
            product,
            not reasons,
            tuple(_reason(name, product, facts, row) for name in reason_names(reasons)),
            _permission(product, evidence),
        )
        for product, reasons in zip(PRODUCTS, row.decision.reasons, strict=True)
    ]


def item_reasons_of(
    content_id: str,
    item: Item,
    reasons: int,
    product: ProductShown,
    evidence: Evidence,
    show: Shown,
) -> list[ReasonShown]:
    """Return why an item may not be used: the reasons of its user's *product*, and its own."""
    of_user = {each.reason: each for each in product.reasons}
    row = evidence.row
    assert row is not None
    own = {
        "PRIVATE_MESSAGE": "it is, or was once said to be, a private message",
        "KIND_NOT_COVERED": f"the policy leaves out the kind {KINDS[item.kind]}",
        "NOT_PUBLIC": "nothing readable is known of it"
        if item.revision == NO_REVISION
        else f"its visibility is {VISIBILITIES[item.visibility]}",
        "DELETED": "it was deleted",
        "MINOR_AT_CREATION": f"created {rfc3339(item.created_ms)}, before its user came of age "
        f"({show.instant(row.decision.adult_from_ms) or 'not known when'})",
    }
    found = []
    for name in reason_names(reasons):
        because = list(of_user[name].because) if name in of_user else []
        if name in own:
            because.append(Why(own[name], (), None))
        elif name == "UNREADABLE_INPUT":
            because += [
                Why(f"unreadable record of item {content_id}", (place,), None)
                for place in unreadable_places(item, evidence)
            ]
        found.append(ReasonShown(name, tuple(because)))
    return found


def unreadable_places(item: Item, evidence: Evidence) -> list[str]:
    """Return the places of an item's dead letters that stand."""
    user, prefix = (
        NOBODY if evidence.row is None else evidence.row.user,
        evidence.dead_letter_prefix,
    )
    if not is_unreadable(item, user, prefix):
        return []
    places = [f"{prefix}{offset}" for offset in item.dead_letters]
    return [place for place in places if not is_resolved(user, place)] or places[:1]


def _reason(name: str, product: str, facts: list[Fact], row: UserRow) -> ReasonShown:
    because = [
        _why(fact, name)
        for fact in facts
        if fact.standing == IN_FORCE and name in fact.reasons and product in fact.products
    ]
    if not because:
        because = [Why(_without_a_fact(name, row), (), None)]
    return ReasonShown(name, tuple(because))


def _why(fact: Fact, name: str) -> Why:
    places = tuple(source.place for source in fact.sources)
    return Why(fact.says, places, fact.until if name in _ENDING else None)


def _without_a_fact(name: str, row: UserRow) -> str:
    if name == "PRODUCT_NOT_COVERED":
        return f"the policy of version {row.policy_version} leaves the product out"
    if name in _WITHOUT_A_FACT and not row.held:
        return _WITHOUT_A_FACT[name]
    return "it stands, but no fact of now causes it: see the remarks"


def _permission(product: str, evidence: Evidence) -> Permission | None:
    found = evidence.permissions.get(product)
    if found is None:
        return None
    return Permission(found.stands, found.epoch, evidence.place("training-users", found.offset))


def answer_place(found: Published, evidence: Evidence) -> str:
    """Return the place of a record of `training-content`."""
    return evidence.place("training-content", found.offset)

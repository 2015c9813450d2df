"""
The accounts linked with a user's, and the objections filed on them that hold for this one, too.
"""

from collections.abc import Iterator

from streams.core.links import ANYTHING, Link, ObjectionKey
from streams.core.reasons import ALL_PRODUCTS
from streams.core.times import rfc3339
from streams.core.user import WITHDRAWN, User
from streams.explain.evidence import Stated
from streams.explain.explanation import IN_FORCE, SUPERSEDED, Fact, Source
from streams.explain.words import covered, product_names
from streams.worker.names import TELLS


def facts_of_links(user: User, stated: list[Stated]) -> Iterator[Fact]:
    """Yield what *user* inherits, and from whom; *stated* are the records that may say so."""
    for key, inherited in user.inherited.items():
        sources = tuple(_source(each) for each in stated if key in each.facts.inherited)
        yield _inherited(key, inherited.flags, sources)
    for other, link in user.links.items():
        sources = tuple(_source(each) for each in stated if other in each.facts.links)
        yield _link(other, link, sources)


def _inherited(key: ObjectionKey, flags: int, sources: tuple[Source, ...]) -> Fact:
    origin, objection_id = key
    withdrawn = bool(flags & WITHDRAWN)
    filed = f"filed for {covered(flags)}" if flags & ALL_PRODUCTS else "never filed"
    says = f"objection {objection_id} on the linked account {origin}, {filed}"
    if objection_id == ANYTHING:
        says = f"whatever may have been objected on the linked account {origin}"
    return Fact(
        "linked_objection",
        SUPERSEDED if withdrawn else IN_FORCE,
        says,
        "withdrawn, for good" if withdrawn else _because(objection_id),
        () if withdrawn else ("OBJECTION",),
        product_names(flags & ALL_PRODUCTS),
        None,
        sources,
        {"objection_id": objection_id or None, "filed_on": origin, "withdrawn": withdrawn},
    )


def _because(objection_id: str) -> str:
    if objection_id == ANYTHING:
        return "more is known of it than is kept: it stands for what is not"
    return "it crossed the links between the two, and stays whatever becomes of them"


def _link(other: str, link: Link, sources: tuple[Source, ...]) -> Fact:
    since_ms = link.linked_ms if link.is_open else link.unlinked_ms
    when = rfc3339(since_ms)
    return Fact(
        "link",
        IN_FORCE if link.is_open else SUPERSEDED,
        f"linked with {other} since {when}"
        if link.is_open
        else f"not linked with {other} any more",
        "objections on one hold for both"
        if link.is_open
        else f"unlinked {when}; objections filed up to {rfc3339(link.closed_ms)} hold for both",
        (),
        (),
        None,
        sources,
        {"linked_with": other, "open": link.is_open},
    )


def _source(said: Stated) -> Source:
    action = "told" if said.topic == TELLS else "stated"
    return Source(action, said.place, rfc3339(said.received_ms))

"""
Accounts of one person, linked: whom an objection covers besides the account it was filed on.

**The protocol.**  The owner of an account knows its links, and which objections filed on others
hold for it, each named by (origin account, objection_id).  Whenever it learns something new of
either, it tells the linked accounts' owners (`Tell`), in the transaction that its own decision is
in; what it is told is a fact like any other, and what of that is new it tells on to its own links.
All of it is a join: a link is the newest linking and unlinking anybody told of, an objection
gathers its products and its withdrawal.  So tells may be late, doubled, or in any order; what is
known already is told no further, so it ends; and no owner needs to know what another is doing.

**What crosses a link**: every objection while it is open, and while it is closed those filed no
later than the record that closed it was appended.  Whoever learns of an objection before the
closing, though it was filed after it, lets it cross: in doubt an objection holds.
What has crossed stays: no later record of a link takes it back.  A withdrawal crosses every link
there ever was, and takes its objection back wherever that has got to.

**What is promised.**  An objection is decided in one transaction of its account's owner, which also
tells the owners of linked accounts; each of them decides in its next one.  So over a chain of n
links it takes n transactions more, and what is told survives as the decision does: all of it or
nothing.  Whoever takes a partition over grants nothing before links and tells, too, are read to the
end they had then.  What is not promised: until an owner is told, it knows nothing, so that a linked
account may be allowed something in between; the tombstone that follows has a later epoch.

**Why there is no lock.**  A tell only restricts, or takes back what its own origin restricted.  The
state it leads to does not depend on when it comes, so owners need to agree on no order; and the one
fact that must not be lost is in the log before the transaction that says so ends.

**Deletion.**  A deleted account forgets its links; the accounts linked through it are told of each
other first.  What others inherited from it stays, and nobody can withdraw it any more.

**Limits.**  An account of which as much is known as is kept (links, objections of its own or
of others) is objected to for all products, and so is every account linked with it: it tells of an
objection with an empty id, which nobody can withdraw.

Source: contract.md, "Input records", `objections`.
"""

from typing import Final

from msgspec import Struct

from streams.core.joins import join
from streams.core.times import NEVER_MS

LONG_AGO_MS: Final = -NEVER_MS
NO_PARTITION: Final = -1  # of an account in a record just decoded: the shell knows the count

# People have a handful of accounts, and object a handful of times on each.
LINKS_MAX: Final = 100
INHERITED_MAX: Final = 1_000
FILED_MAX: Final = 1_000  # own objections whose time of filing is known; others' was long ago

ANYTHING: Final = ""  # no record's objection_id: of an account with more than is kept


class Link(Struct, frozen=True, array_like=True, gc=False):
    """
    What is known of the link with another account, in ms since 1970.

    partition: the other account's.
    linked_ms, unlinked_ms: the newest of each, as the records say.
    closed_ms: when the last record that unlinks was appended.
    """

    partition: int
    linked_ms: int = LONG_AGO_MS
    unlinked_ms: int = LONG_AGO_MS
    closed_ms: int = LONG_AGO_MS

    @property
    def is_open(self) -> bool:
        """Whether the accounts are linked now; at a tie they are."""
        return self.linked_ms >= self.unlinked_ms

    def lets_cross(self, filed_ms: int) -> bool:
        """Whether an objection filed at *filed_ms* holds for the other account, too."""
        return self.is_open or filed_ms <= self.closed_ms


class Inherited(Struct, frozen=True, array_like=True, gc=False):
    """An objection filed on another account: its products and withdrawal, and when it was filed."""

    flags: int
    filed_ms: int


ObjectionKey = tuple[str, str]  # the account it was filed on, and its objection_id
Links = dict[str, Link]  # by the other account
Inheritance = dict[ObjectionKey, Inherited]


class Tell(Struct, frozen=True, array_like=True, gc=False):
    """
    What the owner of one account tells the owner of another: a value of `objections-links`.

    sender, link: "I am linked with you"; the link's partition is the sender's.
    objections: those that hold for the one told, too.
    since_ms: the broker time stamp of the input record that led to it, over however many accounts.
    """

    sender: str
    link: Link
    objections: tuple[tuple[ObjectionKey, Inherited], ...]
    since_ms: int


class Told(Struct, frozen=True, gc=False):
    """A tell on its way to *user_id* in *partition*."""

    user_id: str
    partition: int
    tell: Tell
    traceparent: bytes | None = None


def merge_links(known: Links, news: Links) -> Links:
    """Return the links of both; of too many those with the least names."""
    return join(known, news, merge_link, LINKS_MAX)


def merge_link(known: Link, news: Link) -> Link:
    """Return the newest of what two say of one link."""
    return Link(
        max(known.partition, news.partition),
        max(known.linked_ms, news.linked_ms),
        max(known.unlinked_ms, news.unlinked_ms),
        max(known.closed_ms, news.closed_ms),
    )


def merge_inherited(known: Inheritance, news: Inheritance) -> Inheritance:
    """Return the objections of both; of too many those with the least keys."""
    return join(known, news, merge_one, INHERITED_MAX)


def merge_one(known: Inherited, news: Inherited) -> Inherited:
    """Return all that two say of one objection."""
    return Inherited(known.flags | news.flags, min(known.filed_ms, news.filed_ms))


def merge_filed(known: dict[str, int], news: dict[str, int]) -> dict[str, int]:
    """Return when objections were first filed; of too many those with the least ids."""
    return join(known, news, min, FILED_MAX)

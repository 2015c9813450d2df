"""
The answer of `objections explain USER`: one object, and the shape of its `--json`.

Fields are added, never removed or changed; `format` would rise if they were.  Times are RFC 3339 in
UTC.  A place is "topic/partition/offset" with the topic's full name.  What `--redact` hides is
"(hidden)" where text stands and null where a time or date does.
"""

from typing import Any, Final

from msgspec import Struct

FORMAT: Final = 1

IN_FORCE: Final = "in_force"
SUPERSEDED: Final = "superseded"
PENDING: Final = "pending"

HIDDEN: Final = "(hidden)"


class Source(Struct, frozen=True):
    """An input record that states a fact; *action* is what it did (`filed`, `stated`, ...)."""

    action: str
    place: str
    received_at: str


class Fact(Struct, frozen=True):
    """
    One thing known of the user.

    kind: `objection`, `linked_objection` (filed on a linked account), `link`, `age`, `notice`,
        `unreadable`, `resolution`, `deletion`.
    standing: `in_force`; `superseded`: known, and of no effect.
    says: the fact in words; because: why it holds or does not, in words.
    reasons: those it causes now; products: those it concerns.
    until: when `UNDER_AGE` or `NOTICE_PENDING` by it ends by itself.
    sources: the records that say so, as far as the topics still hold them.
    details: by kind: objection (objection_id, withdrawn), linked_objection (objection_id,
        filed_on, withdrawn), link (linked_with, open), age (assurance, observed_at, birth_date,
        age_band, adult_since, country), notice (delivered_at, window_ends_at), unreadable
        (place, error, resolved), resolution (place), deletion (nothing).
    """

    kind: str
    standing: str
    says: str
    because: str
    reasons: tuple[str, ...]
    products: tuple[str, ...]
    until: str | None
    sources: tuple[Source, ...]
    details: dict[str, Any]


class Why(Struct, frozen=True):
    """What makes a reason stand, in words; where that is said; when it ends by itself."""

    says: str
    places: tuple[str, ...]
    until: str | None


class ReasonShown(Struct, frozen=True):
    """A reason against a product, and everything that causes it."""

    reason: str
    because: tuple[Why, ...]


class Permission(Struct, frozen=True):
    """The last `training-users` record of a product: whether it stands, or is a tombstone."""

    stands: bool
    epoch: int
    place: str


class ProductShown(Struct, frozen=True):
    """What is decided about one product; *permission* is null where none was ever published."""

    product: str
    allowed: bool
    reasons: tuple[ReasonShown, ...]
    permission: Permission | None


class CauseShown(Struct, frozen=True):
    """What led to a decision, as in `eligibility`: topic `clock` for time, `policy` for that."""

    topic: str
    partition: int
    offset: int
    id: str | None


class DecisionShown(Struct, frozen=True):
    """
    The decision in force.

    adult_from: when the user came of age, for items; null where it is not known.
    policy_version: of the policy it was decided by.
    held: the record whose grant waits; rebuilding: the state was lost and is being made good.
    published: the place of its `eligibility` record, null where none is found.
    """

    epoch: int
    eligible: bool
    reasons: tuple[str, ...]
    decided_at: str | None
    cause: CauseShown
    adult_from: str | None
    policy_version: int
    held: CauseShown | None
    rebuilding: bool
    published: str | None


class Change(Struct, frozen=True):
    """What changed, or will, for one product; *allowed* says how it is then."""

    product: str
    begun: tuple[str, ...]
    ended: tuple[str, ...]
    allowed: bool


class NextChange(Struct, frozen=True):
    """What changes by time alone, and when; *due*: it is time, and a worker has yet to do it."""

    at: str | None
    due: bool
    says: str
    changes: tuple[Change, ...]


class Moment(Struct, frozen=True):
    """
    stage: `received`, `decided`, `published`; of a *store* `hidden` and `erased`, or `applied`
        where nothing is purged.
    at: null while it has not come to that; after_ms: since it was received.
    """

    stage: str
    store: str | None
    at: str | None
    after_ms: int | None


class Timeline(Struct, frozen=True):
    """
    When what one record caused had got how far, in that order.

    Stores' words are told as `purge-acks` still holds them: exactly for a day, and after that as
    the latest time it can have been.
    trace_id: of the `traceparent` that the record carried.
    """

    trace_id: str | None
    moments: tuple[Moment, ...]


class Step(Struct, frozen=True):
    """
    One step of the history: an input record, a decision, or both where the one caused the other.

    at: when the record was received, or else when it was decided.
    place, says: of the input record; null and "" for steps that no record caused.
    effect: `decided`; `unchanged`: the same decision stood before and after; `unnamed`: it was
        decided in one batch with others, or the epoch it caused has left the log; `pending`.
    epoch, changes, published: of the decision; *changes* are those since the epoch before.
    unreadable: the record is a bad one.
    timeline: of what was decided, or waits to be; null where it is not known.
    """

    at: str | None
    topic: str
    place: str | None
    says: str
    effect: str
    epoch: int | None
    changes: tuple[Change, ...]
    published: str | None
    unreadable: bool
    timeline: Timeline | None = None


class History(Struct, frozen=True):
    """
    The steps that the topics still tell, oldest first, and the latest of them only if limited.

    epochs_missing: ranges [from, to] of epochs without a record in the log: compacted away, or
        never published, as several decisions were taken in one batch.
    """

    steps: tuple[Step, ...]
    steps_total: int
    epochs_missing: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]


class Answer(Struct, frozen=True):
    """A record of `training-content`: a permission, or (not *stands*) a tombstone."""

    stands: bool
    epoch: int
    revision: int
    place: str


class ItemShown(Struct, frozen=True):
    """An item: what is published (`allowed`, `purged`), and all reasons against it."""

    content_id: str
    published: str
    product: str
    kind: str
    visibility: str
    revision: int | None
    created_at: str | None
    reasons: tuple[str, ...]
    answer: Answer | None


class ItemStep(Struct, frozen=True):
    """
    A record of an item: of `content`, or its answer on `training-content`.

    timeline: of an answer, from the record that caused it; null where it is not known.
    """

    at: str
    place: str
    says: str
    timeline: Timeline | None = None


class ItemStory(Struct, frozen=True):
    """One item with its history; *item* is null where the state holds nothing of it."""

    content_id: str
    item: ItemShown | None
    reasons: tuple[ReasonShown, ...]
    steps: tuple[ItemStep, ...]
    notes: tuple[str, ...]


class ActionTold(Struct, frozen=True):
    """An objection's receipt; its withdrawal has another.  *items*: answered because of it."""

    action: str
    items: int
    completed_at: str | None
    reopened_at: str | None
    timeline: Timeline


class ObjectionStory(Struct, frozen=True):
    """One objection: how far it has got, and its withdrawal."""

    objection_id: str
    actions: tuple[ActionTold, ...]
    notes: tuple[str, ...]


class ItemsShown(Struct, frozen=True):
    """
    The user's items, counted.

    known: those in the state; allowed, purged: of these, by their last answer.
    by_reason: an item with two reasons counts for both.
    locked: whose record stands while their user's permission for the product does not.
    purged_besides: tombstones of ids that the state does not hold (a deleted account's).
    unreadable: items with an unresolved dead letter.
    listed: the first ones by content_id, where they were asked for.
    """

    known: int
    allowed: int
    purged: int
    by_reason: dict[str, int]
    locked: int
    purged_besides: int
    unreadable: int
    fan_out: str | None
    listed: tuple[ItemShown, ...]


class Pending(Struct, frozen=True):
    """A record of the user that no decision has taken in yet."""

    place: str
    received_at: str
    says: str


class Position(Struct, frozen=True):
    """An input of the partition: how far the state, and the group, have got, and its end."""

    topic: str
    folded: int
    committed: int | None
    end: int


class Explanation(Struct, frozen=True):
    """
    All that is known of a user, and why.

    ok: nothing was found in *mismatches*: what is published differs from what the facts say, and
        nothing that is under way explains it.
    remarks: what is under way, or is to be known when reading this.
    decision: null where no worker has decided on the user yet.
    pending: records about the user that are not decided yet, the first of them.
    pending_content, pending_content_from: how many `content` records are not, and from where on.
    subject: how outputs name the user, where that is not by the id.
    objection: the one that was asked for.
    """

    format: int
    user_id: str
    partition: int
    asked_at: str
    redacted: bool
    ok: bool
    mismatches: tuple[str, ...]
    remarks: tuple[str, ...]
    decision: DecisionShown | None
    products: tuple[ProductShown, ...]
    facts: tuple[Fact, ...]
    next_change: NextChange | None
    pending: tuple[Pending, ...]
    pending_content: int
    pending_content_from: str | None
    history: History
    items: ItemsShown | None
    item: ItemStory | None
    positions: tuple[Position, ...]
    subject: str | None = None
    objection: ObjectionStory | None = None

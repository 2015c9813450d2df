"""
The decisions, as small as they can be: one user, objections, a few items; one row holds it all.

An objection stands until it is withdrawn; an item may be used while it is visible and no objection
stands.  A decision that changes begins a new epoch and a fan-out: one item a slice.
"""

from typing import Final, Literal, NamedTuple

USER: Final = "user"
ITEMS: Final = ("a", "b")


class Objection(NamedTuple):
    """A record of `objections`; *number* names the objection."""

    action: Literal["filed", "withdrawn"]
    number: int


class Content(NamedTuple):
    """A record of `content`; *item* is an index of `ITEMS`."""

    item: int
    revision: int
    visible: bool


class Positions(NamedTuple):
    """Of the inputs: what is read, or what there is."""

    objections: int = 0
    content: int = 0

    def reaches(self, other: "Positions") -> bool:
        """Whether neither lies below *other*."""
        return self.objections >= other.objections and self.content >= other.content


class Item(NamedTuple):
    """The record that holds of an item."""

    revision: int
    visible: bool


class Row(NamedTuple):
    """
    The state: all that is known of the user.

    filed, withdrawn: a bit each objection.
    epoch: 0 before anything was seen.
    allowed: the decision.
    held: it would allow, were grants not held.
    job: the item at which the fan-out goes on; None when there is none.
    at: the inputs are folded up to here.
    left: above this epoch all is to be answered anew; 0 when nothing is left.
    """

    filed: int = 0
    withdrawn: int = 0
    epoch: int = 0
    allowed: bool = False
    held: bool = False
    items: tuple[Item | None, ...] = (None,) * len(ITEMS)
    job: int | None = None
    at: Positions = Positions()
    left: int = 0


class Output(NamedTuple):
    """A record (*allowed*) or a tombstone, of the user or an item."""

    key: str
    epoch: int
    revision: int
    allowed: bool

    @property
    def rank(self) -> tuple[int, int, bool]:
        """What decides between two of a key: the greater one, tombstones at an equal pair."""
        return self.epoch, self.revision, not self.allowed

    def __str__(self) -> str:
        kind = "record" if self.allowed else "tombstone"
        return f"{self.key}: {kind} ({self.epoch}, {self.revision})"


class Folded(NamedTuple):
    """A row, and what it owes."""

    row: Row
    outputs: tuple[Output, ...]


def is_objected(row: Row) -> bool:
    """Whether an objection stands."""
    return bool(row.filed & ~row.withdrawn)


def fold(
    row: Row,
    objections: tuple[Objection, ...],
    content: tuple[Content, ...],
    *,
    hold: bool,
    job_begins_anew: bool,
) -> Folded:
    """Return what the next records make of *row*: it is decided after each, and published once."""
    before, touched = row, set[int]()
    for objection in objections:
        bit = 1 << objection.number
        if objection.action == "filed":
            row = row._replace(filed=row.filed | bit)
        else:
            row = row._replace(withdrawn=row.withdrawn | bit)
        row = _decide(row, hold=hold)
    for record in content:
        row = _decide(row, hold=hold)
        known = row.items[record.item]
        if known is None or record.revision > known.revision:
            news = Item(record.revision, record.visible)
            items = tuple(news if i == record.item else x for i, x in enumerate(row.items))
            row = row._replace(items=items)
        touched.add(record.item)
    at = Positions(row.at.objections + len(objections), row.at.content + len(content))
    row = row._replace(at=at)
    outputs = [_answer(row, item) for item in sorted(touched)]
    if row.allowed != before.allowed:
        outputs.append(Output(USER, row.epoch, 0, row.allowed))
        if any(before.items) and (row.job is None or job_begins_anew):
            row = row._replace(job=0)
    return Folded(row, ordered(outputs))


def end_hold(row: Row) -> Folded:
    """Return what becomes of a decision that was held."""
    decided = _decide(row._replace(held=False), hold=False)
    outputs = [Output(USER, decided.epoch, 0, True)] if decided.allowed != row.allowed else []
    return Folded(decided._replace(job=0 if any(row.items) else None), ordered(outputs))


def work_off(row: Row) -> Folded:
    """Return what the next slice of the fan-out answers: one item, by the decision of now."""
    assert row.job is not None
    at = row.job
    outputs = (_answer(row, at),) if row.items[at] is not None else ()
    return Folded(row._replace(job=None if at + 1 == len(ITEMS) else at + 1), outputs)


def answer_anew(row: Row, above: int) -> Folded:
    """Return all there is to say, as it stands, in an epoch above *above*."""
    row = row._replace(epoch=max(row.epoch, above) + 1, job=None, left=0)
    outputs = [Output(USER, row.epoch, 0, row.allowed)]
    outputs += [_answer(row, at) for at, item in enumerate(row.items) if item is not None]
    return Folded(row, ordered(outputs))


def ordered(outputs: list[Output]) -> tuple[Output, ...]:
    """Return *outputs* as they are to be written: purges first, and the user before the items."""
    return tuple(sorted(outputs, key=lambda each: (each.allowed, each.key != USER)))


def _decide(row: Row, *, hold: bool) -> Row:
    allowed = not is_objected(row)
    first = row.epoch == 0
    held = hold and allowed and not row.allowed
    allowed = allowed and not held
    changed = first or allowed != row.allowed
    return row._replace(epoch=row.epoch + changed, allowed=allowed, held=held)


def _answer(row: Row, at: int) -> Output:
    item = row.items[at]
    assert item is not None
    return Output(ITEMS[at], row.epoch, item.revision, row.allowed and item.visible)

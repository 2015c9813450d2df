"""
What a cycle comes to in one partition: all that has to be written, and what became of its records.

It is written in one transaction and then in one WriteBatch.
"""

from typing import TYPE_CHECKING, NamedTuple

from streams.core.answers import Answers
from streams.core.changes import ItemChange
from streams.core.item import Item
from streams.core.links import Told
from streams.core.outputs import Output
from streams.state.layer import Layer
from streams.state.store import Row
from streams.worker.receipt_rows import Part

if TYPE_CHECKING:
    from streams.worker.partition import Partition


class Handled(NamedTuple):
    """What became of one batch: counts of records, and their broker time stamps."""

    topic: str
    applied: int
    unchanged: int
    dead_letter: int
    received_ms: list[int]


class Fanned(NamedTuple):
    """
    A fan-out that is done, or goes on: of the record it began with the topic, the broker's time
    stamp, and what its outputs carry as `traceparent`.
    """

    topic: str
    received_ms: int
    traceparent: bytes | None = None


class Delivered:
    """
    By output, where a cycle's records end (the offset behind the last); and when it was so.

    began_ns: when its transaction began, ns since 1970.
    """

    def __init__(self) -> None:
        self.ends: dict[str, int] = {}
        self.at_ms = 0
        self.began_ns = 0


class Folded(NamedTuple):
    """
    One partition's part of a cycle.

    users_rows, content_rows: for the changelogs and the store; local_rows: for the store alone.
    positions: next offset to read of every input, as of this cycle; told: those that the group
    has yet to be told.
    delayed: records (topic, time stamp) whose fan-out goes on beyond this cycle.
    grants_by_time: records of outputs that the clock or the policy has caused.
    purges_ms: by output, the broker time stamps of the records that have caused purges.
    delivered: filled as it is committed: by output, where this cycle's records end.
    settles: all is answered that aborted transactions have left.
    tells: what the owners of linked accounts, of any partition, are to know.
    """

    partition: "Partition"
    outputs: list[Output]
    users_rows: list[Row]
    content_rows: list[Row]
    local_rows: list[Row]
    positions: dict[str, int]
    told: dict[str, int]
    layer: Layer
    handled: list[Handled]
    fanned: list[Fanned]
    delayed: list[Fanned]
    grants_by_time: int
    receipts: Part
    purges_ms: dict[str, list[int]]
    delivered: Delivered
    settles: bool
    tells: list[Told]


def keep_item(layer: Layer, change: ItemChange, item: Item) -> None:
    """Put an item that has changed into *layer*, and its dead letters that came and went."""
    user_id, content_id = change.user_id, change.content_id
    layer.items.setdefault(user_id, {})[content_id.encode()] = item
    known = change.before.dead_letters if change.before is not None else ()
    if known == item.dead_letters:
        return
    before, after = set(known), set(item.dead_letters)
    for offset in before - after:
        layer.dead_letters[user_id, offset] = None
    for offset in after - before:
        layer.dead_letters[user_id, offset] = content_id


def forget(layer: Layer, answers: Answers) -> None:
    """Put the end of items that leave the state with their account into *layer*."""
    for user_id, forgotten in answers.forgotten.items():
        of_user = layer.items.setdefault(user_id, {})
        for answer in forgotten:
            of_user[answer.content_id] = None
            for offset in answer.item.dead_letters:
                layer.dead_letters[user_id, offset] = None

"""
An invented log of the outputs, and what a store that followed it must hold.

The model is a dict and does its own arithmetic: it does not use what it checks.
"""

import random
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final
from zlib import crc32

from streams.sinks.sink import TRAINING_CONTENT, TRAINING_USERS, Batch, Change, Place, Position

TOPIC_ID: Final = "made-up-topic-id"
PARTITIONS: Final = 2
RECEIVED_MS: Final = 1_776_243_600_000  # 2026-04-15T09:00:00Z
PRODUCT: Final = "instagram"

# What a user of a store sees of an item, besides its id.
FIELDS: Final = ("user_id", "revision", "product", "kind", "modality", "language", "created_at")

Seen = dict[str, tuple[Any, ...]]


def partition_of(user_id: str) -> int:
    """Return where all of a user's changes lie."""
    return crc32(user_id.encode()) % PARTITIONS


def marker(text: str) -> str:
    """Return a language tag that no other value contains, to be looked for in files."""
    return f"qaa-x-{crc32(text.encode()):08x}{crc32(text[::-1].encode()):08x}"


class Log:
    """
    Writes changes with offsets that grow by one in each place.

    changes: all of them, in order.
    """

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._ends: dict[Place, int] = {}

    def user(
        self, user_id: str, epoch: int, *, allowed: bool = True, product: str = PRODUCT
    ) -> Change:
        """Write the record, or the tombstone, of one product of a user."""
        value = {"user_id": user_id, "product": product, "epoch": epoch} if allowed else None
        return self._add(TRAINING_USERS, f"{product}/{user_id}", user_id, (epoch, 0), value)

    def item(
        self,
        content_id: str,
        user_id: str,
        epoch: int,
        revision: int,
        *,
        allowed: bool = True,
        **fields: Any,
    ) -> Change:
        """Write the record of an item, with *fields* as given, or its tombstone."""
        value = {
            "content_id": content_id,
            "user_id": user_id,
            "revision": revision,
            "product": PRODUCT,
            "kind": "post",
            "modality": "text",
            "language": marker(f"{content_id}/{epoch}/{revision}"),
            "created_at": "2026-04-15T09:00:00Z",
            "epoch": epoch,
            **fields,
        }
        pair = epoch, revision
        return self._add(TRAINING_CONTENT, content_id, user_id, pair, value if allowed else None)

    def _add(self, topic: str, key: str, user_id: str, pair: tuple[int, int], value: Any) -> Change:
        place = Place(topic, partition_of(user_id))
        offset = self._ends.get(place, 0)
        self._ends[place] = offset + 1
        change = Change(*place, offset, key, user_id, *pair, value, RECEIVED_MS)
        self.changes.append(change)
        return change


def batch(changes: Iterable[Change], generation: int = 1, topic_id: str = TOPIC_ID) -> Batch:
    """Return *changes* with the positions that they reach."""
    listed = list(changes)
    ends: dict[Place, int] = {}
    for each in listed:
        place = Place(each.topic, each.partition)
        ends[place] = max(ends.get(place, 0), each.offset + 1)
    return Batch(
        listed, {place: Position(topic_id, end, generation) for place, end in ends.items()}
    )


def seen(rows: Mapping[str, Mapping[str, Any]]) -> Seen:
    """Return *rows* (by content_id, fields as the contract names them) so that they compare."""
    return {
        content_id: tuple(_comparable(row.get(name)) for name in FIELDS)
        for content_id, row in rows.items()
    }


def _comparable(value: Any) -> Any:
    """Whatever a store makes of a time is the same instant."""
    if isinstance(value, str) and value[4:5] == "-" and "T" in value:
        value = datetime.fromisoformat(value)
    return value.timestamp() if isinstance(value, datetime) else value


class Model:
    """What must stand, by the rules of contract.md, "Two locks"."""

    def __init__(self) -> None:
        # By (topic, key): the change that holds, and the generation that confirmed it.
        self.rows: dict[tuple[str, str], tuple[Change, int]] = {}

    def apply(self, changes: Iterable[Change], generation: int = 1) -> None:
        """Take over *changes*; lower pairs are dropped, a tombstone wins a tie."""
        for change in changes:
            name = change.topic, change.key
            pair = change.epoch, change.revision
            if name not in self.rows:
                self.rows[name] = change, generation
                continue
            known, known_generation = self.rows[name]
            known_pair = known.epoch, known.revision
            if pair > known_pair:
                self.rows[name] = change, generation
            elif pair == known_pair:
                holds = known if known.value is None else change
                self.rows[name] = holds, max(generation, known_generation)

    def sweep(self, place: Place, generation: int) -> None:
        """Forget the rows of *place* that are older than *generation*."""
        for name, (change, confirmed) in list(self.rows.items()):
            if (change.topic, change.partition) == place and confirmed < generation:
                del self.rows[name]

    def usable(self) -> Seen:
        """Return the items that a query may return."""
        standing = {
            key
            for (topic, key), (change, _) in self.rows.items()
            if topic == TRAINING_USERS and change.value is not None
        }
        items = {
            key: change.value
            for (topic, key), (change, _) in self.rows.items()
            if topic == TRAINING_CONTENT and change.value is not None
        }
        return seen(
            {
                key: value
                for key, value in items.items()
                if f"{value['product']}/{value['user_id']}" in standing
            }
        )


def invented(changes: int, seed: int) -> Log:
    """Return a log in which few accounts and items change often; pairs never fall."""
    log = Log()
    invent(log, changes, seed)
    return log


def invent(log: Log, changes: int, seed: int) -> None:
    """Go on with *log* in that manner."""
    chance = random.Random(seed)
    pairs = {(each.topic, each.key): (each.epoch, each.revision) for each in log.changes}
    for number in range(len(log.changes), len(log.changes) + changes):
        user = f"u{chance.randrange(4)}"
        item = f"{user}-c{chance.randrange(5)}"
        allowed = chance.random() < 0.6
        on_user = chance.random() < 0.3
        known = (TRAINING_USERS, f"{PRODUCT}/{user}") if on_user else (TRAINING_CONTENT, item)
        epoch, revision = pairs.get(known, (0, 0))
        if chance.random() < 0.8 or not epoch:
            epoch, revision = number + 1, chance.randrange(3)
        else:
            revision += 1
        pairs[known] = epoch, revision
        if on_user:
            log.user(user, epoch, allowed=allowed)
        else:
            log.item(item, user, epoch, revision, allowed=allowed)


def seen_of(changes: Iterable[Change]) -> Seen:
    """Return what can be found after *changes*."""
    model = Model()
    model.apply(changes)
    return model.usable()

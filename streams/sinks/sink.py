"""
What a data store has to do to follow the outputs: one method to write, `Sink.apply`.

Batching, order, offsets, resyncs and acknowledgements belong to the caller (`streams.subscriber`).
Two rules are the store's, as only it can keep them with its data, in one durable step:

- **Fences.**  For each key it remembers the highest (epoch, revision) applied, tombstones included.
  A change with a lower pair is dropped; at an equal pair a tombstone wins.  So a replay from any
  earlier offset never brings an item back.  `winners` does this arithmetic.
- **Two locks.**  An item may be found only while its own record *and* the `training-users` record
  of its product and user stand.  So an account's tombstone hides all of its items at once; they are
  not removed by it, as a record of the account may unlock them again: each has its own tombstone.

`streams.testing.sinks` is the suite that every sink passes.  Source: contract.md, "Two locks".
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

TRAINING_USERS: Final = "training-users"
TRAINING_CONTENT: Final = "training-content"


class Place(NamedTuple):
    """A partition of an output; *topic* as named in the contract, without the prefix."""

    topic: str
    partition: int


class Position(NamedTuple):
    """
    How far a store has applied a place.

    topic_id: Kafka's id of the topic: another once it was made anew.
    offset: everything below it is applied.
    generation: grows by one with each resync of the place; rows carry the one that confirmed them.
    """

    topic_id: str
    offset: int
    generation: int


class Change(NamedTuple):
    """
    One record or tombstone of an output.

    key: `product/user_id` in `training-users`, the content_id in `training-content`.
    revision: 0 in `training-users`.
    value: the record's fields as the contract names them; None to purge.
    received_ms: broker time stamp of the record that caused it, ms since 1970.
    """

    topic: str
    partition: int
    offset: int
    key: str
    user_id: str
    epoch: int
    revision: int
    value: Mapping[str, Any] | None
    received_ms: int

    @property
    def rank(self) -> tuple[int, int, bool]:
        """What decides which of two changes of a key holds: the greater one."""
        return self.epoch, self.revision, self.value is None


class Batch(NamedTuple):
    """
    Changes to apply together.

    changes: in the log's order within each place.
    reached: the position of each place once they are applied; to be stored with them.
    """

    changes: list[Change]
    reached: Mapping[Place, Position]


class Sink(Protocol):
    """
    A data store.  Called by one thread; other processes may write other places meanwhile.

    Raises `Busy` when the store asks for a pause (the call is made again), and `Unreachable` when
    it cannot be reached at all; anything else ends the subscriber with nothing acknowledged.

    erase_every_s: how often `erase` is called when something was purged; 0 where `apply` itself
    leaves no bytes behind, so that what is hidden is erased.
    """

    erase_every_s: float

    def open(self) -> None:
        """Connect, and make what is missing; may be called on a store that is in use."""

    def positions(self) -> Mapping[Place, Position]:
        """Return how far the data in the store has got, as stored with them."""

    def apply(self, batch: Batch) -> None:
        """
        Write records, hide what is purged, store the positions; return when all is durable.

        May see a batch again, whole or in part, and older changes: the fences hold.  A change whose
        pair is that of the fence still moves its row to the generation of its place.
        """

    def sweep(self, place: Place, generation: int) -> None:
        """
        Remove the rows of *place* that no generation from *generation* on has confirmed.

        Called at the end of a resync: nothing that the log still has is among them.
        """

    def erase(self) -> None:
        """Return when no file of the store holds bytes of what earlier calls have purged."""

    def close(self) -> None:
        """Let go of the store; the sink is not used any more."""


def winners(changes: Iterable[Change]) -> list[Change]:
    """Return the change of each (topic, key) that holds among *changes*; no order."""
    best: dict[tuple[str, str], Change] = {}
    for change in changes:
        place = change.topic, change.key
        known = best.get(place)
        if known is None or change.rank >= known.rank:
            best[place] = change
    return list(best.values())

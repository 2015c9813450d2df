"""
Which items may be used: the two locks, from the records of `training-users`, `training-content`.

An item is allowed while its own record stands *and* the record of its product and user stands.
Whatever else is so is a reason to drop it; what is not known is dropped.  In memory an item takes
33 bytes and a user's product 17, whatever the length of their ids.  Pure.
Source: contract.md, "Two locks".
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.json import Decoder
from numpy.typing import NDArray

from streams.core.refusals import REFUSALS
from streams.training.hashing import Hasher, Hashes
from streams.training.table import ABSENT, Table

States = NDArray[np.uint8]

TRAINING_USERS: Final = "training-users"
TRAINING_CONTENT: Final = "training-content"


class State(IntEnum):
    """What the topics say of an item; only ALLOWED lets it be used."""

    UNKNOWN = 0  # no record of it, or its tombstone is so old that Kafka has dropped it
    PURGED = 1  # its last record is a tombstone
    LOCKED = 2  # its record stands, but not that of its product and user
    ALLOWED = 3


class _Value(Struct, gc=False):
    """What is needed of the value of a `training-content` record."""

    user_id: str
    product: str


_decode = Decoder(_Value).decode


class Index:
    """
    The last record of each item and of each user's product, as hashes.

    items: two columns, the hash of the item's account; (0, 0) where it is purged.
    accounts: one column, whether the record stands.
    """

    def __init__(self, hasher: Hasher | None = None) -> None:
        self.hasher = hasher or Hasher()
        self.items = Table(np.uint64, np.uint64)
        self.accounts = Table(np.bool_)
        self._states: States = np.empty(0, np.uint8)
        self._settled = True

    def put(self, topic: str, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        """
        Take records of *topic* (a name of the contract) in the log's order of each key.

        Whoever has put the last one calls `settle`; else the next question pays for it.
        """
        self._settled = False
        hashes = self.hasher.of(keys)
        if topic == TRAINING_USERS:
            stands = np.fromiter((value is not None for value in values), np.bool_, len(values))
            self.accounts.put(hashes, stands)
            return
        assert topic == TRAINING_CONTENT
        accounts = self.hasher.of(list(map(_account, values)))
        self.items.put(hashes, accounts.high, accounts.low)

    def settle(self) -> None:
        """Judge every item by all records put so far."""
        self.items.settle()
        self.accounts.settle()
        accounts = Hashes(*self.items.columns)
        states = np.full(len(self.items), State.LOCKED, np.uint8)
        states[~accounts.is_something()] = State.PURGED
        for begin in range(0, len(states), _SLICE_ROWS):
            part = slice(begin, begin + _SLICE_ROWS)
            rows = self.accounts.find(Hashes(accounts.high[part], accounts.low[part]))
            stands = rows != ABSENT
            stands[stands] = self.accounts.columns[0][rows[stands]]
            states[part][stands] = State.ALLOWED
        self._states = states
        self._settled = True

    def states(self, hashes: Hashes) -> States:
        """Return the State of each item, by all records put so far."""
        if not self._settled:  # Rows have moved: the last judgement is no longer theirs.
            self.settle()
        rows = self.items.find(hashes)
        known = rows != ABSENT
        found = np.full(len(rows), State.UNKNOWN, np.uint8)
        found[known] = self._states[rows[known]]
        return found

    def counts(self) -> dict[State, int]:
        """Return how many items are in each state."""
        if not self._settled:
            self.settle()
        numbers = np.bincount(self._states, minlength=len(State))
        return {state: int(numbers[state]) for state in State}


_SLICE_ROWS: Final = 1_000_000  # bounds what judging takes beside the tables


def _account(value: bytes | None) -> bytes | None:
    """Return the key of the item's account in `training-users`; None where it is purged."""
    if value is None:
        return None
    try:
        found = _decode(value)
    except REFUSALS:
        return None  # A record that cannot be read allows nothing.
    return f"{found.product}/{found.user_id}".encode()

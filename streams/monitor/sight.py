"""
What a look at Kafka has found, and what that says at a given moment.

Pure: no Kafka and no clock.  Ages are of broker time stamps, so they grow while nothing arrives and
nobody looks.  Topics by their full names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from streams.core.receipts import Phase

Place = tuple[str, int]  # topic, partition


class Input(NamedTuple):
    """
    An input's partition: records from the group's position to its end.

    first_ms: broker time stamp of the first of them; None where there is none.
    """

    lag_records: int
    first_ms: int | None


class Late(NamedTuple):
    """The oldest output a store has not acknowledged: where it is, and since when."""

    place: Place
    offset: int
    since_ms: int


class Owner(NamedTuple):
    """A member of the group: the `client.id` it goes by, and where it connects from."""

    client_id: str
    host: str

    def __str__(self) -> str:
        return f"{self.client_id} at {self.host}"


@dataclass(frozen=True, slots=True)
class Sight:
    """
    One look.

    inputs: by place; those Kafka has not told of are missing.
    fanouts: broker time stamp of the record that the oldest fan-out of a place began with.
    known: partitions of which all fan-outs are known.
    stores: by store and phase; None where all is acknowledged.
    owners: which member of the group owns which partition of all topics; None where nobody knows.
    looked_ms: when Kafka last told all that was asked; 0 before.
    problem: what Kafka did not tell, empty where it told everything.
    """

    inputs: Mapping[Place, Input] = field(default_factory=dict)
    fanouts: Mapping[Place, int] = field(default_factory=dict)
    known: frozenset[int] = frozenset()
    stores: Mapping[tuple[str, Phase], Late | None] = field(default_factory=dict)
    owners: Mapping[int, Owner] | None = None
    looked_ms: int = 0
    problem: str = "Kafka has not been asked yet"

    def lag_records(self) -> dict[Place, int]:
        """Return the records of each input behind the group's position."""
        return {place: found.lag_records for place, found in self.inputs.items()}

    def oldest_unpropagated_s(self, now_ms: int) -> dict[Place, float]:
        """
        Return the age of the oldest record of each input whose outputs are not all published.

        A place is missing as long as it looks quiet but not all of its fan-outs are known.
        """
        ages: dict[Place, float] = {}
        for place, found in self.inputs.items():
            since_ms = _first((found.first_ms, self.fanouts.get(place)))
            if since_ms is not None:
                ages[place] = _age_s(since_ms, now_ms)
            elif place[1] in self.known:
                ages[place] = 0.0
        return ages

    def oldest_unacknowledged_s(self, now_ms: int) -> dict[tuple[str, str], float]:
        """Return the age of the oldest output that each store has not acknowledged, by phase."""
        return {
            key: 0.0 if late is None else _age_s(late.since_ms, now_ms)
            for key, late in self.stores.items()
        }


def oldest(found: Iterable[Late]) -> Late | None:
    """Return the one that has waited longest; None for none."""
    return min(found, key=lambda late: late.since_ms, default=None)


def _first(instants_ms: Iterable[int | None]) -> int | None:
    return min((each for each in instants_ms if each is not None), default=None)


def _age_s(since_ms: int, now_ms: int) -> float:
    return max(now_ms - since_ms, 0) / 1000

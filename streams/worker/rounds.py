"""
What the fetch thread tells the rest of the worker: rounds of records, and what is ours.
"""

from typing import NamedTuple, Protocol

from streams.worker.intake import Fetched

Place = tuple[str, int]  # an input by its name in the contract, and a partition


class Round(NamedTuple):
    """
    One fetch: *generation* tells rounds of a lost assignment or a rolled back one.

    batches: by topic, user topics first.
    express: it has no content, and was fetched while there was no room for any.
    """

    generation: int
    batches: dict[str, list[Fetched]]
    express: bool = False


class Start(NamedTuple):
    """A restored partition: where to read each input from, and the ends at take-over."""

    partition: int
    positions: dict[str, int]
    ends: dict[str, int]


class Look(NamedTuple):
    """
    Where a partition's inputs ended, as two questions of Kafka found, one after the other.

    asked_s: when the first was asked, by time.monotonic().
    limits: of all inputs; asked first, so that what lies below them is no newer than *ends*.
    ends: of the user topics.
    """

    asked_s: float
    limits: dict[str, int]
    ends: dict[str, int]


class Assigned(NamedTuple):
    """What the group has given us; *number* counts assignments, to tell a late `Start`."""

    number: int
    generation: int
    partitions: frozenset[int]
    group_metadata: object


class Listener(Protocol):
    """Who is told what happens to the fetch; called in its thread, may block."""

    def on_round(self, taken: Round) -> None:
        """A round is here."""

    def on_assigned(self, assigned: "Assigned") -> None:
        """Partitions are ours; none is read yet."""

    def on_revoked(self) -> None:
        """All partitions are to be given up; when this returns they are."""

    def on_rewound(self, generation: int) -> None:
        """Rounds of *generation* begin at the positions asked for; earlier ones are void."""

    def on_serving(self, partition: int) -> None:
        """Fetches of a partition's objections, ages and notices get through."""

    def on_lagging(self, partition: int) -> None:
        """There are objections, ages or notices that are not read: nothing more may be granted."""

    def on_caught_up(
        self, partition: int, positions: dict[str, int], free: dict[str, int] | None
    ) -> None:
        """
        User topics are read to an end they had: all below *positions* is handed over.

        free: None where that is all there is.  Otherwise they lag on, and what came of records
        below these offsets may be granted: every objection that came before them is read.
        """

    def on_failed(self, error: BaseException) -> None:
        """Fetching cannot go on."""

"""
What the model of workers is made of, and what of it no longer matters.
"""

from enum import Enum
from typing import NamedTuple

from tests.model.core import Content, Objection, Output, Positions, Row
from tests.model.log import Kafka, Status, put, wrong_behind


class Inputs(NamedTuple):
    """What arrives, in this order within each input, in any order between them."""

    objections: tuple[Objection, ...]
    content: tuple[Content, ...]

    @property
    def ends(self) -> Positions:
        """Where the inputs end when all has arrived."""
        return Positions(len(self.objections), len(self.content))


class Phase(Enum):
    """Of a worker, as it sees itself."""

    OFF = "off"
    TAKING = "taking over"
    SERVING = "serving"


class Batch(NamedTuple):
    """
    A cycle on its way.

    told: its offsets are sent; written: its records are.
    early: it allows something before objections are read to the end they had at take-over.
    """

    row: Row
    outputs: tuple[Output, ...]
    told: bool = False
    written: bool = False
    early: bool = False


class Worker(NamedTuple):
    """
    One worker.

    stored, reached: its local store, and how far in the log it has got: they outlive a crash.
    0: it lacks something of the log's past; 1: it has all of that; more: entries beyond.
    asked: the group's offsets, as a take-over was told.
    row: the state in memory, without the batch on its way.
    hold_until: objections to be folded before anything is allowed.
    said, until: what aborted transactions have said, answered when the inputs are read so far.
    """

    phase: Phase = Phase.OFF
    generation: int = 0
    stored: Row = Row()
    reached: int = 0
    asked: Positions | None = None
    restored: bool = False
    row: Row = Row()
    hold_until: int = 0
    said: tuple[Output, ...] = ()
    until: Positions = Positions()
    batch: Batch | None = None


class State(NamedTuple):
    """Everything.  wrong: what has happened that must not."""

    kafka: Kafka
    workers: tuple[Worker, ...]
    faults_left: int
    wrong: str | None = None


def with_worker(state: State, number: int, worker: Worker) -> State:
    """Return *state* with another *worker*."""
    return state._replace(workers=put(state.workers, number, worker))


def settled(state: State) -> State:
    """Return *state* with what no longer matters left out: the fewer the states, the better."""
    kafka, workers, wrong = state.kafka, state.workers, state.wrong
    while kafka.entries and kafka.entries[0].status is not Status.OPEN:
        first = kafka.entries[0]
        counts = first.status is Status.COMMITTED
        if counts:
            wrong = wrong or wrong_behind(kafka.past.last, first.outputs)
        kafka = kafka.without_first()
        least = 2 if counts else 1
        workers = tuple(
            each._replace(reached=max(each.reached - 1, 1) if each.reached >= least else 0)
            for each in workers
        )
    workers = tuple(_tidy(each) for each in workers)
    return State(kafka, workers, state.faults_left, wrong)


def _tidy(worker: Worker) -> Worker:
    if worker.reached == 0 and worker.stored != Row():
        worker = worker._replace(stored=Row())  # what it lacks replaces it
    if worker.batch is None:
        if worker.hold_until and worker.hold_until <= worker.row.at.objections:
            worker = worker._replace(hold_until=0)
        if worker.until != Positions() and not (worker.said or worker.row.left):
            worker = worker._replace(until=Positions())
    return worker

"""
A cycle goes in several transactions at a time; what becomes of one is no matter of another's.

Publishers are made up here: that they commit is for the tests on Kafka.
"""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from streams.errors import Halt
from streams.kafka.local import HOST
from streams.settings import Settings
from streams.worker import lanes
from streams.worker.lanes import FEW_OUTPUTS, MANY_OUTPUTS, Lanes
from streams.worker.names import LANES, lane_id
from streams.worker.transaction import Aborted
from tests.worker_settings import environ_of

WAIT_S = 10.0


class MadeUp:
    """Stands for the publisher of one transactional id."""

    def __init__(self, _: Settings, transactional_id: str, known_by: str) -> None:
        self.ids = transactional_id, known_by
        self.published: list[list[Any]] = []
        self.then: Callable[[list[Any]], object] = lambda _: None
        self.call = None

    def publish(self, parts: list[Any], _: object) -> None:
        """Note what is to be committed, and do what the test wants."""
        self.published.append(parts)
        self.then(parts)


class Scene:
    """Lanes of a worker, with their publishers."""

    def __init__(self) -> None:
        self.publishers: list[MadeUp] = []
        self.lanes = Lanes(Settings.read(environ_of(f"{HOST}:1", "", {})), "worker")

    def publish(self, cycle: list[Any]) -> int:
        """Commit *cycle*."""
        return self.lanes.publish(cycle, None)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Return lanes whose publishers are made up."""
    made: list[MadeUp] = []

    def make(*ids: Any) -> MadeUp:
        made.append(MadeUp(*ids))
        return made[-1]

    monkeypatch.setattr(lanes, "Publisher", make)
    scene = Scene()
    scene.publishers = made
    return scene


def parts(*numbers: int, outputs: int = FEW_OUTPUTS) -> list[Any]:
    """Return parts of a cycle, of partitions *numbers*, with so many *outputs* each."""
    return [
        SimpleNamespace(partition=SimpleNamespace(number=number), outputs=[None] * outputs)
        for number in numbers
    ]


@pytest.mark.parametrize("outputs", [FEW_OUTPUTS // 3, MANY_OUTPUTS])
def test_few_outputs_and_very_many_go_in_one_transaction(scene: Scene, outputs: int) -> None:
    """However many partitions they are of."""
    cycle = parts(0, 1, 2, outputs=outputs)

    assert 1 == scene.publish(cycle)

    assert [[cycle], [], [], []] == [each.published for each in scene.publishers]


def test_all_of_a_partition_is_in_one_transaction(scene: Scene) -> None:
    """Also of what has joined the cycle; each lane has its partitions, and is known by one name."""
    cycle = parts(0, 1, 4, 5, 2, 1)

    assert 3 == scene.publish(cycle)

    zero, one, four, five, two, more_of_one = cycle
    assert [[[zero, four]], [[one, five, more_of_one]], [[two]], []] == [
        each.published for each in scene.publishers
    ]
    assert [(lane_id("worker", lane), "worker") for lane in range(LANES)] == [
        each.ids for each in scene.publishers
    ]


def test_they_are_under_way_at_the_same_time(scene: Scene) -> None:
    """None waits for another's end."""
    all_begun = threading.Barrier(LANES, timeout=WAIT_S)
    for each in scene.publishers:
        each.then = lambda _: all_begun.wait()

    assert LANES == scene.publish(parts(*range(LANES)))


def test_what_was_rolled_back_is_told(scene: Scene) -> None:
    """And that alone: the rest counts."""

    def abort(parts: list[Any]) -> None:
        raise Aborted("refused", fenced=True, parts=parts)

    cycle = parts(0, 1, 2, 3, 6)
    scene.publishers[2].then = abort

    with pytest.raises(Aborted, match="refused") as told:
        scene.publish(cycle)

    assert [cycle[2], cycle[4]] == told.value.parts
    assert told.value.fenced
    assert (1, 3) == (told.value.rolled_back, told.value.committed)


def test_what_cannot_be_known_ends_all(scene: Scene) -> None:
    """Once the others have ended."""
    ended: list[list[Any]] = []

    def abort(parts: list[Any]) -> None:
        raise Aborted("refused", fenced=False, parts=parts)

    def halt(_: list[Any]) -> None:
        raise Halt("who knows")

    scene.publishers[0].then = abort
    scene.publishers[1].then = halt
    scene.publishers[3].then = ended.append

    with pytest.raises(Halt, match="who knows"):
        scene.publish(parts(0, 1, 3))

    assert 1 == len(ended)

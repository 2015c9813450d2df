"""
Breadth-first search of all states that a model can reach: the shortest way to a wrong one.

Deterministic and without randomness: two runs look at the same states in the same order.
"""

from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

State = TypeVar("State", bound=Hashable)


class Model(Protocol[State]):
    """A world that can be explored."""

    def start(self) -> State:
        """Return the state in which it begins."""

    def steps(self, state: State) -> Iterable[tuple[str, State]]:
        """Return what may happen next, each with its name."""

    def wrong(self, state: State) -> str | None:
        """Return what must not be in *state*; None if nothing is wrong."""

    def is_done(self, state: State) -> bool:
        """Whether it is right that nothing more happens in *state*."""

    def show(self, before: State, after: State) -> str:
        """Return what a step has changed, in a few words."""


class Found(NamedTuple):
    """
    What a search has seen.

    depth: steps from the start to the last state looked at.
    complete: whether there are no states beyond.
    wrong: what is wrong, and the steps that lead there; None where nothing is.
    """

    states: int
    depth: int
    complete: bool
    wrong: str | None
    trace: str


def search(model: Model[Any], states_max: int) -> Found:
    """Look at up to *states_max* states; stop at the first wrong one."""
    start = model.start()
    came: dict[Any, tuple[str, Any] | None] = {start: None}
    level, depth = [start], 0
    while level:
        following: list[Any] = []
        for state in level:
            moved = False
            for name, then in model.steps(state):
                moved = True
                if then in came:
                    continue
                came[then] = name, state
                wrong = model.wrong(then)
                if wrong is not None:
                    return Found(len(came), depth + 1, False, wrong, _trace(model, came, then))
                following.append(then)
            if not moved and not model.is_done(state):
                trace = _trace(model, came, state)
                return Found(len(came), depth, False, "nothing can go on, and work is left", trace)
            if len(came) > states_max:
                return Found(len(came), depth, False, None, "")
        level = following
        depth += 1
    return Found(len(came), depth - 1, True, None, "")


def _trace(model: Model[Any], came: dict[Any, tuple[str, Any] | None], state: Any) -> str:
    lines: list[str] = []
    while (step := came[state]) is not None:
        name, before = step
        shown = model.show(before, state)
        lines.append(f"{name:<52} {shown}".rstrip())
        state = before
    lines.reverse()
    return "\n".join(f"{number:3}. {line}" for number, line in enumerate(lines, 1))

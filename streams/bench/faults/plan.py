"""
Which faults come, and when: a sequence that a seed determines.  Pure.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Final, NamedTuple

WORKERS: Final = 2
PAUSE_S: Final = (0.5, 4.0)  # of load alone before a fault: it comes at no particular moment


class Kind(NamedTuple):
    """
    A kind of fault.

    share: how often it comes in a round of all kinds.
    lasts_s, amount: from, to; what the amount is stands in *unit*.
    """

    what: str
    share: int = 1
    lasts_s: tuple[float, float] = (0.0, 0.0)
    amount: tuple[float, float] = (0.0, 0.0)
    unit: str = ""
    one_worker: bool = False


KINDS: Final[Mapping[str, Kind]] = {
    "kill": Kind("a worker is killed with -9 and started again", 2, (0.0, 3.0), one_worker=True),
    "freeze": Kind(
        "a worker is stopped until its partitions have moved, then goes on", 2, one_worker=True
    ),
    "outage": Kind(
        "all workers are killed with -9; what piles up meanwhile is read later",
        2,
        (2.0, 5.0),
        (3.0, 8.0),
        "times the load",
    ),
    "broker-kill": Kind("Kafka is killed with -9 and started again", 1, (0.0, 3.0)),
    "broker-freeze": Kind("Kafka stands still", 1, (1.0, 7.0)),
    "storm": Kind(
        "a third worker joins and leaves, in order or killed", 1, (0.0, 3.0), (2, 5), "times"
    ),
    "clock": Kind(
        "a worker's clock is wrong", 2, (2.0, 6.0), (-3600.0, 3600.0), "s", one_worker=True
    ),
    "store": Kind(
        "bytes of a local store are overwritten", 1, (0.0, 0.0), (1, 40), "places", one_worker=True
    ),
    "network-slow": Kind(
        "each packet between the workers and Kafka is late", 1, (3.0, 8.0), (0.02, 0.3), "s"
    ),
    "network-cut": Kind("connections are cut again and again", 1, (3.0, 8.0), (0.3, 2.0), "s"),
    "network-stall": Kind("nothing passes between the workers and Kafka", 1, (1.0, 8.0)),
    "disk": Kind(
        "the disk under a local store is full",
        1,
        (5.0, 9.0),
        (1, 3),
        "MB there are",
        one_worker=True,
    ),
    "import": Kind("an import at full speed in the middle", 1, (0.0, 0.0), (2_000, 20_000), "rows"),
}
# Kinds whose amount is one of two ends, not anything between.
_ENDS: Final = frozenset({"clock"})


class Fault(NamedTuple):
    """One fault: *pause_s* after the one before, on *worker* where one is meant, for *lasts_s*."""

    number: int
    kind: str
    pause_s: float
    worker: int
    lasts_s: float
    amount: float
    seed: int  # of whatever else is left to chance

    def __str__(self) -> str:
        kind = KINDS[self.kind]
        more = (
            [f"worker {self.worker + 1}"] if "worker " in kind.what or "local" in kind.what else []
        )
        more += [f"{self.lasts_s:.1f} s"] if kind.lasts_s[1] else []
        more += [f"{self.amount:g} {kind.unit}"] if kind.unit else []
        return f"{self.number:3d} after {self.pause_s:.1f} s: {self.kind} ({', '.join(more)})"


def plan(seed: int, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[Fault]:
    """
    Yield faults without end; the same *seed* and *kinds*, in any order, give the same ones.

    They come in rounds, in which each kind has its share in a random order: a run that is long
    enough for one round has met every kind.
    """
    chance = random.Random(f"faults/{seed}")
    numbers = count(1)
    while True:
        turn = [kind for kind in KINDS if kind in kinds for _ in range(KINDS[kind].share)]
        chance.shuffle(turn)
        for kind in turn:
            yield _fault(next(numbers), kind, chance)


def _fault(number: int, name: str, chance: random.Random) -> Fault:
    kind = KINDS[name]
    amount = chance.choice(kind.amount) if name in _ENDS else chance.uniform(*kind.amount)
    whole = all(isinstance(end, int) for end in kind.amount)
    return Fault(
        number,
        name,
        pause_s=round(chance.uniform(*PAUSE_S), 3),
        worker=chance.randrange(WORKERS),
        lasts_s=round(chance.uniform(*kind.lasts_s), 3),
        amount=round(amount) if whole else round(amount, 2),
        seed=chance.randrange(2**32),
    )

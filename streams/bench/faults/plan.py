"""
Which faults come, and when: a sequence that a seed determines.  Pure.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Final, NamedTuple

WORKERS: Final = 2
PAUSE_S: Final = (0.5, 4.0)  # of load alone before a fault: it comes at no particular moment


class Kind(NamedTuple):
    """
    A kind of fault.

    share: how often it comes in a round of all kinds.
    lasts_s, amount: from, to; what the amount is stands in *unit*.
    one_worker, one_broker: whether it is done to one of them.  brokers: so many are needed.
    harms_kafka: whether it is done to Kafka or the way to it.
    """

    what: str
    share: int = 1
    lasts_s: tuple[float, float] = (0.0, 0.0)
    amount: tuple[float, float] = (0.0, 0.0)
    unit: str = ""
    one_worker: bool = False
    one_broker: bool = False
    brokers: int = 1
    harms_kafka: bool = False


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
    "broker-kill": Kind(
        "all of Kafka is killed with -9 and started again", 1, (0.0, 3.0), harms_kafka=True
    ),
    "broker-freeze": Kind("all of Kafka stands still", 1, (1.0, 7.0), harms_kafka=True),
    "broker-slow": Kind(
        "a broker runs for a tenth of the time", 1, (3.0, 8.0), one_broker=True, harms_kafka=True
    ),
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
        "each packet between the workers and Kafka is late",
        1,
        (3.0, 8.0),
        (0.02, 0.3),
        "s",
        harms_kafka=True,
    ),
    "network-cut": Kind(
        "connections are cut again and again", 1, (3.0, 8.0), (0.3, 2.0), "s", harms_kafka=True
    ),
    "network-loss": Kind(
        "packets between the workers and Kafka are lost and sent again",
        1,
        (3.0, 8.0),
        (0.01, 0.1),
        "of all",
        harms_kafka=True,
    ),
    "network-stall": Kind(
        "nothing passes between the workers and Kafka", 1, (1.0, 8.0), harms_kafka=True
    ),
    "disk": Kind(
        "the disk under a local store is full",
        1,
        (5.0, 9.0),
        (1, 3),
        "MB there are",
        one_worker=True,
    ),
    "import": Kind("an import at full speed in the middle", 1, (0.0, 0.0), (2_000, 20_000), "rows"),
    "one-broker-kill": Kind(
        "one broker is killed with -9 and started again",
        2,
        (0.0, 6.0),
        one_broker=True,
        brokers=3,
        harms_kafka=True,
    ),
    "one-broker-freeze": Kind(
        "one broker stands still", 1, (1.0, 7.0), one_broker=True, brokers=3, harms_kafka=True
    ),
    "one-broker-stall": Kind(
        "nothing passes between the workers and one broker",
        1,
        (1.0, 8.0),
        one_broker=True,
        brokers=3,
        harms_kafka=True,
    ),
    "transaction-coordinator": Kind(
        "the broker that keeps a worker's transactions is killed, stopped or frozen",
        2,
        (0.0, 4.0),
        one_worker=True,
        brokers=3,
        harms_kafka=True,
    ),
    "group-coordinator": Kind(
        "the broker that keeps the group is killed, stopped or frozen",
        2,
        (0.0, 4.0),
        brokers=3,
        harms_kafka=True,
    ),
}
# Kinds whose amount is one of two ends, not anything between.
_ENDS: Final = frozenset({"clock"})


class Fault(NamedTuple):
    """
    One fault: *pause_s* after the one before, for *lasts_s*.

    It is done to *worker* or *broker* where one is meant.
    """

    number: int
    kind: str
    pause_s: float
    worker: int
    lasts_s: float
    amount: float
    seed: int  # of whatever else is left to chance
    broker: int  # from 1 on, as Kafka counts them

    def __str__(self) -> str:
        kind = KINDS[self.kind]
        more = [f"worker {self.worker + 1}"] if kind.one_worker else []
        more += [f"broker {self.broker}"] if kind.one_broker else []
        more += [f"{self.lasts_s:.1f} s"] if kind.lasts_s[1] else []
        more += [f"{self.amount:g} {kind.unit}"] if kind.unit else []
        return f"{self.number:3d} after {self.pause_s:.1f} s: {self.kind} ({', '.join(more)})"


def lacking(kinds: Iterable[str], brokers: int) -> dict[str, str]:
    """
    Return those of *kinds* that cannot be had, and why.

    brokers: of a Kafka of our own; 0 where it is that of others.
    """
    found = {}
    for name in kinds:
        kind = KINDS[name]
        if not brokers and kind.harms_kafka:
            found[name] = "only a Kafka started here is harmed, not that of --bootstrap"
        elif 0 < brokers < kind.brokers:
            found[name] = f"it takes --brokers {kind.brokers}"
    return found


def plan(seed: int, kinds: Sequence[str] = tuple(KINDS), brokers: int = 3) -> Iterator[Fault]:
    """
    Yield faults without end; the same *seed* and *kinds*, in any order, give the same ones.

    brokers: how many there are.

    They come in rounds, in which each kind has its share in a random order: a run that is long
    enough for one round has met every kind.
    """
    chance = random.Random(f"faults/{seed}")
    numbers = count(1)
    while True:
        turn = [kind for kind in KINDS if kind in kinds for _ in range(KINDS[kind].share)]
        chance.shuffle(turn)
        for kind in turn:
            yield _fault(next(numbers), kind, chance, brokers)


def _fault(number: int, name: str, chance: random.Random, brokers: int) -> Fault:
    kind = KINDS[name]
    amount = chance.choice(kind.amount) if name in _ENDS else chance.uniform(*kind.amount)
    whole = all(isinstance(end, int) for end in kind.amount)
    fault = Fault(
        number,
        name,
        pause_s=round(chance.uniform(*PAUSE_S), 3),
        worker=chance.randrange(WORKERS),
        lasts_s=round(chance.uniform(*kind.lasts_s), 3),
        amount=round(amount) if whole else round(amount, 2),
        seed=chance.randrange(2**32),
        broker=1,
    )
    return fault._replace(broker=1 + fault.seed % brokers)

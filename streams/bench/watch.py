"""
Reads the outputs as a store would, read_committed and in a process of its own.

It notes when each answer was first received, and what stands in the end.
"""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from confluent_kafka import Consumer, TopicPartition

from streams.bench.child import Child, Parent, counter
from streams.bench.connection import options_at

if TYPE_CHECKING:
    from confluent_kafka import Message

OUTPUTS: Final = ("eligibility", "training-users", "training-content")
POLL_S: Final = 0.05
FETCH_RECORDS: Final = 2_000
END_TIMEOUT_S: Final = 60.0


@dataclass
class Seen:
    """
    What was received; times are nanoseconds since 1970.

    answered_ns: first answer by content id.  decided_ns: first decision by the id of the objection
    that caused it.  items, products: keys whose last record is no tombstone.
    purged, purged_ns: items of the account that is followed which got a tombstone after a record,
    and when the last of them did.
    """

    answered_ns: dict[str, int] = field(default_factory=dict)
    decided_ns: dict[str, int] = field(default_factory=dict)
    items: set[str] = field(default_factory=set)
    products: set[str] = field(default_factory=set)
    purged: set[str] = field(default_factory=set)
    purged_ns: int = 0
    records: int = 0


class _Cause(msgspec.Struct):
    topic: str
    id: str | None = None


class _Decision(msgspec.Struct):
    cause: _Cause


class Watcher(Child):
    """
    A process that reads the outputs under *prefix* from their beginning.

    `answered`, `first_ns` and `last_ns` can be read while it works; 0 stands for none yet.
    *account* is a user whose items begin with the same word, and whose purge is followed.
    """

    def __init__(self, bootstrap: str, prefix: str, partitions: int, account: str = "") -> None:
        self._answered, self._first_ns, self._last_ns = counter(), counter(), counter()
        counters = (self._answered, self._first_ns, self._last_ns)
        super().__init__(
            "read the outputs", _watch, bootstrap, prefix, partitions, account, counters
        )

    @property
    def answered(self) -> int:
        """How many content ids have been answered."""
        return int(self._answered.value)

    @property
    def first_ns(self) -> int:
        """When the first output was received."""
        return int(self._first_ns.value)

    @property
    def last_ns(self) -> int:
        """When the last output so far was received."""
        return int(self._last_ns.value)

    def finish(self) -> Seen:
        """End the process and return what it has seen."""
        self.tell("end")
        seen: Seen = self.receive(END_TIMEOUT_S)
        return seen


def _watch(
    bootstrap: str,
    prefix: str,
    partitions: int,
    account: str,
    counters: tuple[Any, Any, Any],
    parent: Parent,
) -> None:
    consumer = Consumer(
        {
            **options_at(bootstrap),
            "group.id": f"{prefix}watch",  # required, and not used
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
        }
    )
    consumer.assign(
        [
            TopicPartition(f"{prefix}{name}", number, 0)
            for name in OUTPUTS
            for number in range(partitions)
        ]
    )
    names = {f"{prefix}{name}": name for name in OUTPUTS}
    seen, followed = Seen(), f"{account}-item-"
    parent.tell("ready")
    while not parent.has_spoken():
        if parent.gone:
            return
        first = consumer.poll(POLL_S)
        if first is None:
            continue
        at_ns = time.time_ns()
        _note([first], names, seen, at_ns, followed)
        rest = consumer.consume(FETCH_RECORDS, 0)
        if rest:
            at_ns = time.time_ns()
            _note(rest, names, seen, at_ns, followed)
        answered, first_ns, last_ns = counters
        first_ns.value = first_ns.value or at_ns
        last_ns.value = at_ns
        answered.value = len(seen.answered_ns)
    consumer.close()
    parent.tell(seen)


_decoder: Final = msgspec.json.Decoder(_Decision)


def _note(
    messages: "list[Message]", names: dict[str, str], seen: Seen, at_ns: int, followed: str
) -> None:
    for message in messages:
        if message.error():
            continue
        key, value = message.key(), message.value()
        if key is None:
            continue
        seen.records += 1
        name, text = names[message.topic() or ""], key.decode()
        if name == "training-content":
            seen.answered_ns.setdefault(text, at_ns)
            if value is None and text in seen.items and text.startswith(followed):
                seen.purged.add(text)
                seen.purged_ns = at_ns
            _stand(seen.items, text, stands=value is not None)
        elif name == "training-users":
            _stand(seen.products, text, stands=value is not None)
        elif value is not None:
            cause = _decoder.decode(value).cause
            if cause.id and cause.topic.endswith("objections"):
                seen.decided_ns.setdefault(cause.id, at_ns)


def _stand(standing: set[str], key: str, *, stands: bool) -> None:
    (standing.add if stands else standing.discard)(key)

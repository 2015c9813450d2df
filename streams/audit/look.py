"""
Looks into a store: what it says of how far it is, and then what it holds.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from confluent_kafka import KafkaException

from streams.audit.judge import Held
from streams.audit.promise import Word
from streams.audit.tables import (
    FENCE,
    ITEM,
    Flags,
    Rows,
    among,
    fences_of,
    hashes_in,
    items_of,
)
from streams.core.receipts import ERASED, HIDDEN
from streams.errors import Unreachable
from streams.settings import Settings
from streams.sinks.contents import AuditedSink, Key, Shown
from streams.sinks.sink import TRAINING_CONTENT, TRAINING_USERS, Place
from streams.subscriber.acks import AckReader
from streams.subscriber.calling import Calls, Reopened
from streams.training.hashing import Hashes

T = TypeVar("T")
Say = Callable[[str], None]  # a passing line


class Look(NamedTuple):
    """
    What a store held: all of it as hashes, or *only* some keys with their texts.

    shown: in the order of `held.items`; keys: by topic, in the order of `held.fences`.
    """

    held: Held
    shown: list[Shown]
    keys: dict[str, list[Key]]


class Store:
    """
    A store that is audited; called by one thread.

    name: under which it acknowledges; None where that is not known.
    """

    def __init__(self, sink: AuditedSink, settings: Settings, name: str | None, say: Say) -> None:
        self.sink = sink
        self._calls = Calls(sink, threading.Event())
        self._settings = settings
        self._say = say
        self._acks = None if name is None else AckReader(settings, name)

    def open(self) -> None:
        self._calls.open()

    def close(self) -> None:
        if self._acks is not None:
            self._acks.close()
        self.sink.close()

    def call(self, ask: Callable[[], T]) -> T:
        """Return what *ask* returns, called again while the store asks for a pause."""
        try:
            return self._calls.call(ask)
        except Reopened as away:
            text = f"the store was away meanwhile: {away.__cause__}. Remedy: run the audit again."
            raise Unreachable(text) from away

    def word(self) -> Word:
        """Return what it says now."""
        positions = self.call(self.sink.positions)
        hidden: dict[Place, int] = {}
        erased: dict[Place, int] = {}
        if self._acks is not None:
            try:
                found = self._acks.read()
            except KafkaException as error:
                where = f"Kafka at {self._settings.bootstrap}"
                raise Unreachable(f"{where} does not answer: {error.args[0].str()}") from error
            hidden = {place: ack.offset for (place, each), ack in found.items() if each == HIDDEN}
            erased = {place: ack.offset for (place, each), ack in found.items() if each == ERASED}
        return Word(positions, hidden, erased)

    def look(self, only: dict[str, Hashes] | None = None) -> Look:
        """Return what it holds: all of it, or *only* these keys."""
        return self.call(lambda: self._look(only))

    def _look(self, only: dict[str, Hashes] | None) -> Look:
        items = [np.empty(0, ITEM)]
        shown: list[Shown] = []
        count = 0
        for page in self.sink.shown():
            count += len(page)
            self._say(f"reading the store: {count:,} items")
            rows = items_of(page)
            if only is not None:
                wanted = among(hashes_in(rows), only[TRAINING_CONTENT])
                rows = rows[wanted]
                shown += _chosen(page, wanted)
            items.append(rows)
        fences: dict[str, list[Rows]] = {
            topic: [np.empty(0, FENCE)] for topic in (TRAINING_USERS, TRAINING_CONTENT)
        }
        keys: dict[str, list[Key]] = {topic: [] for topic in fences}
        remembers, count = False, 0
        for part in self.sink.remembered():
            remembers = True
            count += len(part.keys)
            self._say(f"reading the store's memory: {count:,} keys")
            rows = fences_of(part)
            if only is not None:
                wanted = among(hashes_in(rows), only[part.topic])
                rows = rows[wanted]
                keys[part.topic] += _chosen(part.keys, wanted)
            fences[part.topic].append(rows)
        held = Held(
            np.concatenate(items),
            {topic: np.concatenate(each) for topic, each in fences.items()},
            remembers,
        )
        return Look(held, shown, keys)


def _chosen(page: Sequence[T], wanted: Flags) -> list[T]:
    return [page[row] for row in np.flatnonzero(wanted).tolist()]

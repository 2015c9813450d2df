"""
Looks at Kafka: the group's offsets, the ends of the inputs, fan-outs under way, stores' levels.

Order matters.  The group's offsets are asked first, then the end of the changelog; they count once
the changelog has been read to there, so no fan-out is missed that came with the offsets.
A look that fails changes nothing: what was known goes on ageing.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple, Self

from confluent_kafka import KafkaException

from streams.core.receipts import FOLLOWED, Phase
from streams.kafka import admin
from streams.kafka.patience import Patience
from streams.monitor.asking import Answer, Asking, Question
from streams.monitor.fanouts import Fanouts
from streams.monitor.levels import StoreLevels
from streams.monitor.members import Members
from streams.monitor.sight import Input, Late, Place, Sight, oldest
from streams.settings import Settings
from streams.worker.acknowledgements import Acknowledgements
from streams.worker.names import USERS_CHANGELOG, WITH_LINKS, followed
from streams.worker.receipt_notes import Following

logger = logging.getLogger(__name__)

FIRST_ANSWER_S: Final = 2.0  # who waits at a terminal wants to hear soon that there is no Kafka
STANDSTILL_S: Final = 5.0  # of a client that should read on, or be answered
SETTLE_S: Final = 1.0  # for a transaction whose offsets count to show in the changelog

Offsets = dict[str, int]  # by input


class Unanswered(Exception):
    """Kafka has not told all in time."""


class _Pending(NamedTuple):
    """
    Offsets of the group that count once the changelog has been read up to *upto*.

    since_s: when they were asked for, by time.monotonic().
    """

    offsets: Offsets
    upto: int
    since_s: float


def count_partitions(settings: Settings) -> admin.Counted:
    """
    Return the partitions of every topic, and which topics there are.

    Raises Unreachable, and CheckFailed, naming them, where topics are missing or differ.
    """
    names = [*WITH_LINKS.all, USERS_CHANGELOG, *({*FOLLOWED} if settings.stores else ())]
    return admin.count_present(settings, names, timeout_s=FIRST_ANSWER_S)


class Watcher:
    """
    Looks when told to, from one thread; `sight` may be read from any.

    fail: told by the thread that reads acknowledgements of an error that ends it.
    """

    def __init__(
        self, settings: Settings, counted: admin.Counted, fail: Callable[[BaseException], None]
    ) -> None:
        partitions_n = counted.partitions_n
        self.sight = Sight()
        self._settings = settings
        self._numbers = range(partitions_n)
        self._inputs = [settings.topic(name) for name in followed(counted.present).all]
        self.fanouts = Fanouts(settings, partitions_n)
        self._log = Asking(settings, "read_uncommitted")
        self._decided = Asking(settings, "read_committed")
        self._members = Members(settings)
        self._levels = StoreLevels(partitions_n, fail)
        self._stores = [Following.of(each) for each in settings.stores]
        self._reader: Acknowledgements | None = None
        if settings.stores:
            self._reader = Acknowledgements(settings, self._levels, partitions_n)
            self._reader.start()
        self._pending: dict[int, _Pending] = {}
        self._positions: dict[int, Offsets] = {}
        self._patience = Patience(STANDSTILL_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.stop()
            self._reader.join()
        for each in (self.fanouts, self._log, self._decided):
            each.close()

    def missing(self) -> str:
        """Return what is not known, empty where all is."""
        sight = self.sight
        if sight.problem:
            return sight.problem
        if len(sight.known) < len(self._numbers):
            name = self._settings.topic(USERS_CHANGELOG)
            return f"{name} is read: {len(sight.known)} of {len(self._numbers)} partitions"
        if self._stores and not sight.stores:
            return "the stores' acknowledgements are read"
        return ""

    def look(self) -> None:
        """Ask Kafka for everything; `sight.problem` tells what it did not answer."""
        try:
            self.sight = self._look()
            self._patience.answered()
        except Unanswered as error:
            self._failed(error)
            self._renew()
        except KafkaException as error:
            self._failed(error)
            if self._patience.is_over():
                self._renew()

    def follow(self, seconds: float) -> None:
        """Read the changelog on for so many seconds."""
        try:
            self.fanouts.follow(seconds)
        except KafkaException as error:
            self._failed(error)

    def _renew(self) -> None:
        for each in (self._log, self._decided):
            each.renew()

    def _failed(self, error: Exception) -> None:
        text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        if not self.sight.problem:
            logger.warning("Kafka at %s does not tell: %s", self._settings.bootstrap, text)
        self.sight = replace(self.sight, problem=f"Kafka does not tell: {text}")

    def _look(self) -> Sight:
        committed = self._log.committed(self._places(self._inputs))
        changelog = self._settings.topic(USERS_CHANGELOG)
        followed = {FOLLOWED[index] for store in self._stores for index in store.topics}
        outputs = [self._settings.topic(name) for name in sorted(followed)]
        ends = self._log.ends(self._places([*self._inputs, changelog]))
        stable = self._decided.ends(self._places([*self._inputs, *outputs, changelog]))
        self._settle(committed, {number: ends[changelog, number] for number in self._numbers})
        self._mind_standstill({number: stable[changelog, number] for number in self._numbers})
        at = {(topic, n): self._positions[n][topic] for topic, n in self._places(self._inputs)}
        owed = list(self._owed()) if self._levels.known else []
        behind = {question for question in at.items() if question[1] < ends[question[0]]}
        late = {question for _, question in owed if question[1] < stable[question[0]]}
        found = self._decided.first_records(behind | late, stable)
        if missing := (behind | late) - found.keys():
            raise Unanswered(f"the first records of {_places(missing)} could not be read")
        self._add_undecided(behind, found, stable, ends)
        return Sight(
            {place: _input(found.get((place, at[place])), at[place], ends[place]) for place in at},
            self.fanouts.oldest_ms(),
            frozenset(self.fanouts.known),
            self._late(owed, found),
            self._members.owners(),
            int(time.time() * 1000),
            "",
        )

    def _places(self, topics: Iterable[str]) -> list[Place]:
        return [(topic, number) for topic in topics for number in self._numbers]

    def _settle(self, committed: Mapping[Place, int], ends: Mapping[int, int]) -> None:
        """Let offsets count once the changelog is read as far: those of now, or of looks before."""
        self.fanouts.check(ends)
        self._let_count()
        for number in self._numbers:
            offsets = {topic: committed[topic, number] for topic in self._inputs}
            if number not in self.fanouts.known:
                self._positions[number] = offsets  # its fan-outs are not known anyway
                self._pending.pop(number, None)
            pending = _Pending(offsets, ends[number], time.monotonic())
            self._pending.setdefault(number, pending)
        known = {n: each.upto for n, each in self._pending.items() if n in self.fanouts.known}
        self.fanouts.follow(SETTLE_S, known)
        self._let_count()

    def _mind_standstill(self, stable: Mapping[int, int]) -> None:
        """
        Read the changelog with a new client where the old one does not get to its *stable* end.

        librdkafka 2.16 can stand still for good after a broker was away and came back.
        """
        before_s = time.monotonic() - STANDSTILL_S
        stuck = [
            number
            for number, each in self._pending.items()
            if number in self.fanouts.known
            and each.since_s < before_s
            and self.fanouts.at[number] < each.upto <= stable[number]
        ]
        if stuck:
            logger.warning("the changelog of partitions %s is not read on: a new client", stuck)
            self.fanouts.renew()
            for number in stuck:
                self._pending[number] = self._pending[number]._replace(since_s=time.monotonic())

    def _let_count(self) -> None:
        for number, pending in list(self._pending.items()):
            if self.fanouts.at[number] >= pending.upto:
                self._positions[number] = pending.offsets
                del self._pending[number]

    def _add_undecided(
        self,
        behind: Iterable[Question],
        found: dict[Question, Answer],
        stable: Mapping[Place, int],
        ends: Mapping[Place, int],
    ) -> None:
        """Find what waits for an open transaction of whoever writes the inputs: it begins there."""
        stuck = {
            (place, begin): (place, max(begin, stable[place]))
            for place, begin in behind
            if not found[place, begin].found and stable[place] < ends[place]
        }
        answers = self._log.first_records(stuck.values(), ends)
        for question, asked in stuck.items():
            if asked in answers:
                found[question] = answers[asked]

    def _owed(self) -> Iterable[tuple[tuple[str, Phase], Question]]:
        """Yield for each store and phase the offsets from which on it has acknowledged nothing."""
        for store in self._stores:
            for phase in store.phases:
                for topic in store.topics:
                    full = self._settings.topic(FOLLOWED[topic])
                    for number in self._numbers:
                        level = self._levels.offset(store.name, topic, number, phase)
                        yield (store.name, phase), ((full, number), level)

    def _late(
        self,
        owed: Iterable[tuple[tuple[str, Phase], Question]],
        found: Mapping[Question, Answer],
    ) -> dict[tuple[str, Phase], Late | None]:
        late: dict[tuple[str, Phase], list[Late]] = {}
        for key, question in owed:
            answer = found.get(question)
            of_key = late.setdefault(key, [])
            if answer is not None and answer.found:
                of_key.append(Late(question[0], answer.offset, answer.at_ms))
        return {key: oldest(each) for key, each in late.items()}


def _input(answer: Answer | None, at: int, end: int) -> Input:
    """Return how an input is: from the first record on that is not committed, if there is one."""
    if answer is None:
        return Input(max(end - at, 0), None)
    if answer.found:
        return Input(max(end - answer.offset, 1), answer.at_ms)  # it may be newer than the end
    return Input(max(end - answer.clear_upto, 0), None)


def _places(questions: Iterable[Question]) -> str:
    names = sorted(f"{topic}/{number}" for (topic, number), _ in questions)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

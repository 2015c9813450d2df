"""
What the fetch thread hands over of content while user topics lag: without Kafka, over its parts.
"""

from collections import deque
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from streams.settings import Settings
from streams.worker.names import (
    ACCOUNT_AGES,
    CONTENT,
    INPUTS,
    NOTICES,
    OBJECTIONS,
    USER_TOPICS,
    WITHOUT_LINKS,
)
from streams.worker.reading import Reading
from streams.worker.rounds import Look, Start

FAR_S = 1e12  # asked after anything that happens here


class Message:
    """What is asked of a fetched message; an end of a partition where it is told to be one."""

    def __init__(self, topic: str, offset: int, *, eof: bool = False) -> None:
        self._topic, self._offset, self._eof = topic, offset, eof

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return KafkaError(KafkaError._PARTITION_EOF) if self._eof else None


class Kafka:
    """One partition of each input, as a consumer sees it: records wait in the order of fetches."""

    def __init__(self) -> None:
        self.ends = dict.fromkeys(INPUTS, 0)
        self.paused: set[str] = set()
        self.positions = dict.fromkeys(INPUTS, 0)

    def add(self, topic: str, records: int = 1) -> None:
        self.ends[topic] += records

    def pause(self, places: list[TopicPartition]) -> None:
        self.paused |= {tp.topic for tp in places}

    def resume(self, places: list[TopicPartition]) -> None:
        self.paused -= {tp.topic for tp in places}

    def seek(self, place: TopicPartition) -> None:
        self.positions[place.topic] = place.offset

    def get_watermark_offsets(self, place: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached, "the fetch thread may not wait for Kafka"
        return 0, self.ends[place.topic]

    def fetch(self, topic: str, limit: int = 1_000_000) -> list[Any]:
        """Return the next records of a topic that is read."""
        if topic in self.paused:
            return []
        begin = self.positions[topic]
        self.positions[topic] = min(self.ends[topic], begin + limit)
        return [Message(topic, offset) for offset in range(begin, self.positions[topic])]


class Desk:
    """A partition that is read; notes what it is told."""

    def __init__(self) -> None:
        self.kafka = Kafka()
        self.told: list[Any] = []
        self.serving = 0
        self.asked = 0
        self.soon: deque[Any] = deque()  # what comes while the end is known and not there yet
        self.revoked_soon = False  # whether a poll meanwhile gives the partition up
        kafka: Any = self.kafka
        self.reading = Reading(Settings(), kafka, kafka, self, self._ask, _no_error, WITHOUT_LINKS)  # type: ignore[arg-type]
        self.kafka.pause([TopicPartition(topic, 0) for topic in INPUTS])

    def _ask(self) -> None:
        self.asked += 1

    def on_serving(self, partition: int) -> None:
        assert partition == 0
        self.serving += 1

    def on_lagging(self, partition: int) -> None:
        assert partition == 0
        self.told.append("lagging")

    def on_caught_up(
        self, partition: int, positions: dict[str, int], free: dict[str, int] | None
    ) -> None:
        assert partition == 0
        assert positions.keys() == set(USER_TOPICS)
        self.told.append("free" if free is None else free[OBJECTIONS])

    def take(self, *messages: Any) -> dict[str, list[int]]:
        """Return the offsets of the round that is made of *messages*, by topic."""
        batches = self.reading.sort(list(messages), self._more)
        self.reading.catch_up()
        return {
            topic: [int(each.offset() or 0) for each in found.messages]
            for topic, (found,) in batches.items()
        }

    def _more(self, _: float) -> list[Any]:
        if self.revoked_soon:
            self.reading.clear()
        found = list(self.soon)
        self.soon.clear()
        return found

    def look(self, asked_s: float = FAR_S) -> None:
        """Let a look at the ends of now be told."""
        ends = {topic: self.kafka.ends[topic] for topic in USER_TOPICS}
        self.reading.looked({0: Look(asked_s, dict(self.kafka.ends), ends)})
        self.reading.catch_up()


def ends(*topics: str, at: int = 0) -> list[Any]:
    """Return what a fetch says of topics that have nothing more."""
    return [Message(topic, at, eof=True) for topic in topics]


def _no_error(error: KafkaError) -> None:
    raise AssertionError(error)


@pytest.fixture
def desk() -> Desk:
    """Return a partition that was taken over when all its inputs were empty, and is free."""
    desk = Desk()
    desk.reading.start(Start(0, dict.fromkeys(INPUTS, 0), dict.fromkeys(INPUTS, 0)))
    desk.take(*ends(*USER_TOPICS))
    assert desk.told == ["free"]
    desk.told.clear()
    return desk


def test_content_waits_for_the_ends_at_take_over() -> None:
    """It is not even read before."""
    desk = Desk()
    desk.kafka.add(OBJECTIONS, 4)
    desk.kafka.add(CONTENT)
    desk.reading.start(
        Start(0, dict.fromkeys(INPUTS, 0), dict.fromkeys(INPUTS, 0) | {OBJECTIONS: 4})
    )

    part = desk.take(*ends(ACCOUNT_AGES, NOTICES), *desk.kafka.fetch(OBJECTIONS, 3))
    read = desk.kafka.fetch(CONTENT)
    rest = desk.take(*desk.kafka.fetch(OBJECTIONS))

    assert (part, read, rest) == ({OBJECTIONS: [0, 1, 2]}, [], {OBJECTIONS: [3]})
    assert desk.told == ["free"]
    assert desk.take(*desk.kafka.fetch(CONTENT)) == {CONTENT: [0]}


def test_content_waits_until_fetches_of_user_topics_get_through() -> None:
    """All are empty, as far as is known: but nothing was fetched of them yet."""
    desk = Desk()
    desk.kafka.add(CONTENT)
    desk.reading.start(Start(0, dict.fromkeys(INPUTS, 0), dict.fromkeys(INPUTS, 0)))
    desk.take(*ends(OBJECTIONS, ACCOUNT_AGES))
    read, told, serving = desk.kafka.fetch(CONTENT), desk.told.copy(), desk.serving
    desk.take(*ends(NOTICES))

    assert (read, told, serving) == ([], [], 0)
    assert desk.serving == 1
    assert desk.take(*desk.kafka.fetch(CONTENT)) == {CONTENT: [0]}
    assert desk.told == ["free"]


def test_what_is_read_to_its_end_holds_nothing_up(desk: Desk) -> None:
    """In normal flow nobody is told of anything, and no look is asked for."""
    for _ in range(3):
        desk.kafka.add(OBJECTIONS, 2)
        desk.kafka.add(CONTENT, 3)
        taken = desk.take(*desk.kafka.fetch(CONTENT), *desk.kafka.fetch(OBJECTIONS))
        assert (len(taken[OBJECTIONS]), len(taken[CONTENT])) == (2, 3)

    assert (desk.told, desk.asked) == ([], 0)


def test_an_end_known_a_little_before_its_records_are_there(desk: Desk) -> None:
    """They are waited for for a moment, and are in the same round: that is no lag."""
    desk.kafka.add(NOTICES)
    desk.take(*desk.kafka.fetch(NOTICES))
    desk.kafka.add(CONTENT)
    desk.kafka.add(NOTICES)
    desk.soon.extend(desk.kafka.fetch(NOTICES))

    assert desk.take(*desk.kafka.fetch(CONTENT)) == {NOTICES: [1], CONTENT: [0]}
    assert desk.told == []


def test_a_partition_given_up_while_its_records_are_waited_for(desk: Desk) -> None:
    """A rebalance comes in any poll, so in that one, too: nothing of it is handed over any more."""
    desk.kafka.add(NOTICES)
    desk.take(*desk.kafka.fetch(NOTICES))
    desk.kafka.add(CONTENT)
    desk.kafka.add(NOTICES)
    desk.revoked_soon = True

    assert {} == desk.take(*desk.kafka.fetch(CONTENT))
    assert [] == desk.told


@pytest.mark.parametrize("topic", USER_TOPICS)
def test_content_waits_while_user_topics_lag(desk: Desk, topic: str) -> None:
    """What was fetched with a part of a backlog is read again when all of it has been read."""
    desk.kafka.add(CONTENT, 2)
    desk.kafka.add(topic, 10)
    first = desk.take(*desk.kafka.fetch(CONTENT), *desk.kafka.fetch(topic, 4))
    paused = desk.kafka.fetch(CONTENT)
    desk.look()
    second = desk.take(*desk.kafka.fetch(topic))
    desk.look()

    assert (first, paused, second) == ({topic: [0, 1, 2, 3]}, [], {topic: [4, 5, 6, 7, 8, 9]})
    assert desk.told == ["lagging", "free"]
    assert desk.take(*desk.kafka.fetch(CONTENT)) == {CONTENT: [0, 1]}


def test_rounds_stay_seamless(desk: Desk) -> None:
    """Each batch begins where the last one of its topic ended, over holds too."""
    begins: list[tuple[str, int, int]] = []
    for number in range(6):
        desk.kafka.add(CONTENT, 3)
        desk.kafka.add(OBJECTIONS, 4)
        messages = [*desk.kafka.fetch(CONTENT), *desk.kafka.fetch(OBJECTIONS, 3)]
        for (fetched,) in desk.reading.sort(messages, desk._more).values():
            last = fetched.messages[-1].offset() or 0
            begins.append((fetched.topic, fetched.begin, last + 1))
        desk.reading.catch_up()
        desk.look(FAR_S + number)

    for topic in (OBJECTIONS, CONTENT):
        seams = [(begin, end) for name, begin, end in begins if name == topic]
        assert [0, *(end for _, end in seams[:-1])] == [begin for begin, _ in seams]


def test_objections_that_never_stop_do_not_stop_content(desk: Desk) -> None:
    """
    Content that is older than a look goes on when the look is read; what is newer still waits.
    """
    desk.kafka.add(CONTENT, 2)
    desk.kafka.add(OBJECTIONS, 10)
    desk.take(*desk.kafka.fetch(CONTENT), *desk.kafka.fetch(OBJECTIONS, 1))
    desk.look()  # ends: 10 objections, 2 items
    desk.kafka.add(OBJECTIONS, 50)
    desk.kafka.add(CONTENT, 5)
    desk.take(*desk.kafka.fetch(OBJECTIONS, 9))
    steps = desk.told.copy()
    older = desk.take(*desk.kafka.fetch(CONTENT))
    newer = desk.kafka.fetch(CONTENT)
    desk.look(FAR_S + 1)  # ends: 60 objections, 7 items
    desk.kafka.add(OBJECTIONS, 100)
    desk.take(*desk.kafka.fetch(OBJECTIONS, 50))

    assert steps == ["lagging", 10]
    assert (older, newer) == ({CONTENT: [0, 1]}, [])
    assert desk.told == ["lagging", 10, 60]
    assert desk.take(*desk.kafka.fetch(CONTENT)) == {CONTENT: [2, 3, 4, 5, 6]}


def test_fetches_that_do_not_get_through_hold_content(desk: Desk) -> None:
    """Their own word is old; two looks show that what was there a second ago is not read."""
    seen = dict.fromkeys(USER_TOPICS, 0) | {OBJECTIONS: 3}
    for asked_s in (FAR_S, FAR_S + 1):
        desk.reading.looked({0: Look(asked_s, {CONTENT: 1, **seen}, seen)})
    desk.reading.catch_up()

    assert desk.told == ["lagging"]
    assert desk.take(Message(CONTENT, 0)) == {}


def test_no_answer_for_seconds_holds_content(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows then what there is."""
    monkeypatch.setattr("streams.worker.backlog.UNKNOWN_AFTER_S", -1.0)
    desk.kafka.add(CONTENT)

    assert desk.take(*desk.kafka.fetch(CONTENT)) == {}
    assert desk.told == ["lagging"]


def test_records_read_again_are_read_before_content(desk: Desk) -> None:
    """After a rollback content waits until user topics are read as far as they had been."""
    desk.kafka.add(OBJECTIONS, 5)
    desk.kafka.add(ACCOUNT_AGES, 1)
    desk.kafka.add(CONTENT, 1)
    desk.take(*(each for topic in INPUTS for each in desk.kafka.fetch(topic)))
    desk.reading.restart(0, dict.fromkeys(INPUTS, 0))
    part = desk.take(*desk.kafka.fetch(OBJECTIONS, 4), *desk.kafka.fetch(ACCOUNT_AGES))
    waiting = desk.kafka.fetch(CONTENT)
    desk.take(*desk.kafka.fetch(OBJECTIONS), *ends(NOTICES))

    assert (part, waiting) == ({OBJECTIONS: [0, 1, 2, 3], ACCOUNT_AGES: [0]}, [])
    assert desk.told == ["lagging", "free"]
    assert desk.take(*desk.kafka.fetch(CONTENT)) == {CONTENT: [0]}


def test_an_end_of_committed_records_is_an_end(desk: Desk) -> None:
    """An upstream transaction that is still open holds nobody up."""
    desk.kafka.add(OBJECTIONS, 2)  # not committed: not to be fetched
    desk.kafka.add(CONTENT)
    found = desk.take(Message(OBJECTIONS, 0, eof=True), *desk.kafka.fetch(CONTENT))

    assert (found, desk.told) == ({CONTENT: [0]}, [])


def test_lag_counts_content_that_waits(desk: Desk) -> None:
    """What is not read because it has to wait is lag all the same."""
    desk.kafka.add(CONTENT, 3)
    desk.kafka.add(OBJECTIONS, 3)
    desk.take(*desk.kafka.fetch(CONTENT), *desk.kafka.fetch(OBJECTIONS, 1))

    lag = desk.reading.lag(1_000.0)

    assert lag[CONTENT, 0] == 3
    assert lag[OBJECTIONS, 0] == 2


def test_what_is_not_read_is_as_old_as_the_last_moment_without_it(desk: Desk) -> None:
    """Content that waits came after the last look by which all of it was read."""
    desk.reading.lag(1_000.0)
    desk.kafka.add(CONTENT, 3)
    desk.kafka.add(OBJECTIONS, 3)
    desk.take(*desk.kafka.fetch(CONTENT), *desk.kafka.fetch(OBJECTIONS, 1))
    desk.reading.lag(1_060.0)

    assert desk.reading.unread_since_s()[CONTENT, 0] == 1_000.0

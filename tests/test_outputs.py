"""
Records in, exact outputs out: on a real Kafka, of a real worker.

The stories of `tests.stories` are played in step with each other, one record of each at a time,
so that every intermediate answer is seen.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import topics
from streams import proof
from streams.core.times import from_ms, to_ms
from streams.kafka.local import LocalKafka
from streams.proof import INPUTS, OUTPUTS, Record
from streams.proof.records import OPTIONAL
from streams.state import rows
from tests.making import content, grown_up, notice, objection
from tests.stories import STORIES, TRACE, Expected, Step, Story
from tests.worker_process import (
    PARTITIONS,
    Inputs,
    Sent,
    Watch,
    Worker,
    apply_topics,
    assert_proven,
    settings_of,
    wait_for,
    wait_until_caught_up,
)

PREFIX = "stories."
SOURCE = f"/objection-streams/{PREFIX}objections".encode()


@dataclass
class Played:
    """What came of the stories: by story the places of its records, and the answers to each."""

    kafka: LocalKafka
    inputs: Inputs
    watch: Watch
    sent: dict[str, list[Sent]] = field(default_factory=dict)
    answers: dict[str, list[list[Record]]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def play(self, stories: dict[str, Story], number: int) -> None:
        """Send step *number* of all stories and keep what is published because of it."""
        told = {name: story for name, story in stories.items() if number < len(story)}
        for name, story in told.items():
            self._queue(name, story[number])
        for name, place in zip(told, self.inputs.flush(), strict=True):
            self.sent[name].append(place)
        self.watch.wait_until_caught_up()
        for name in told:
            self.answers[name].append([])
        for record in (each for of in self.watch.outputs().values() for each in of):
            if record.place not in self.seen:
                self.seen.add(record.place)
                self.answers[self._story_of(record)][-1].append(record)

    def _queue(self, name: str, step: Step) -> None:
        value = step.value
        if step.dismisses is not None:
            assert isinstance(value, dict)
            value = {**value, "dead_letter": self.sent[name][step.dismisses].place}
        headers: list[tuple[str, bytes | None]] = []
        if step.trace is not None:
            headers.append(("traceparent", step.trace))
        if step.mends is not None:
            headers.append(("dlq_resolves", self.sent[name][step.mends].place.encode()))
        self.inputs.queue(step.topic, value, key=name, headers=headers)

    def _story_of(self, record: Record) -> str:
        subject = record.header("ce_subject")
        return (subject if subject is not None else record.key or b"").decode()


@pytest.fixture(scope="module")
def played(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Return the stories as a worker, still running, has answered them."""
    apply_topics(kafka, PREFIX)
    state_dir = tmp_path_factory.mktemp("stories") / "state"
    with (
        Worker(kafka, PREFIX, state_dir) as worker,
        Inputs(kafka, PREFIX) as inputs,
        Watch(kafka, PREFIX) as watch,
    ):
        worker.wait_ready()
        played = Played(kafka, inputs, watch)
        for name in STORIES:
            played.sent[name], played.answers[name] = [], []
        for number in range(max(map(len, STORIES.values()))):
            played.play(STORIES, number)
        yield played


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_answered_to_the_letter(played: Played, name: str) -> None:
    """
    Each record of the story brings about exactly the outputs it must, and no others.

    Compared are keys, values, tombstones, all headers, partitions, and the order within a topic.
    """
    story, sent = STORIES[name], played.sent[name]
    for number, step in enumerate(story):
        answers = played.answers[name][number]
        for topic in OUTPUTS:
            found = [each for each in answers if each.topic == PREFIX + topic]
            wanted = [each for each in step.expected if each.topic == topic]
            at = f"step {number} of {name}, {topic}"

            assert [w.key for w in wanted] == [f.key_text for f in found], at
            for expected, record in zip(wanted, found, strict=True):
                _check(expected, record, story, sent, number)
        _check_dead_letters(step, sent[number], answers)


def _check(expected: Expected, record: Record, story: Story, sent: list[Sent], number: int) -> None:
    at = f"step {number} of {story.name}: {record}"
    value: Any = None if record.value is None else json.loads(record.value)
    wanted = expected.value
    if expected.topic == "eligibility":
        assert wanted is not None
        since = number if expected.since is None else expected.since
        decided_at_ms = to_ms(datetime.fromisoformat(value.pop("decided_at")))
        wanted = {**wanted, "cause": _cause(story[since], sent[since])}

        assert sent[since].timestamp_ms - 1_000 <= decided_at_ms <= record.timestamp_ms + 1_000, at
    assert value == wanted, at
    assert record.partition == sent[number].partition, at
    _check_headers(expected, record, story.name, sent[number], story[number].trace, at)


def _cause(step: Step, sent: Sent) -> dict[str, Any]:
    cause_id = None
    if isinstance(step.value, dict) and (not step.bad or step.topic == "content"):
        names = {"objections": "objection_id", "notices": "notice_id", "content": "content_id"}
        cause_id = step.value.get(names.get(step.topic, ""))
    return {
        "topic": sent.topic,
        "partition": sent.partition,
        "offset": sent.offset,
        "id": cause_id,
    }


def _check_headers(
    expected: Expected, record: Record, story: str, sent: Sent, trace: bytes | None, at: str
) -> None:
    headers = {name: value or b"" for name, value in record.headers}
    time_of_event = headers.pop("ce_time")
    wanted = {
        "ce_specversion": b"1.0",
        "ce_id": headers["ce_id"],
        "ce_source": SOURCE,
        "ce_type": expected.type.encode(),
        "ce_subject": story.encode(),
        "objections_epoch": b"%d" % expected.epoch,
        "objections_received_at": b"%d" % sent.timestamp_ms,
    }
    if expected.revision is not None:
        wanted["objections_revision"] = b"%d" % expected.revision
    if trace is not None:
        wanted["traceparent"] = trace

    assert wanted == headers, at
    assert len(headers) + 1 == len(record.headers), at
    assert datetime.fromisoformat(time_of_event.decode()).tzinfo is not None, at


def _check_dead_letters(step: Step, sent: Sent, answers: list[Record]) -> None:
    letters = [each for each in answers if each.topic == PREFIX + "dead-letters"]
    assert len(letters) == (1 if step.bad else 0), letters
    for letter in letters:
        assert letter.header("dlq_error") == step.bad.encode()
        assert letter.header("dlq_offset") == b"%d" % sent.offset
        assert letter.partition == sent.partition


def test_the_trace_of_an_input_is_on_all_it_caused(played: Played) -> None:
    """
    The `traceparent` of an objection is on its decision and on every tombstone.
    """
    answers = played.answers["same-twice"][3]

    assert {(each.topic.removeprefix(PREFIX), each.header("traceparent")) for each in answers} == {
        (topic, TRACE) for topic in OUTPUTS
    }


def test_a_republication_has_the_event_id_of_the_first(played: Played) -> None:
    """
    A record that changes nothing publishes the same value under the same ce_id.
    """
    first, *others = [
        next(each for each in played.answers["same-twice"][number] if "eligibility" in each.topic)
        for number in (3, 4, 5, 6)
    ]
    for other in others:
        assert first.value == other.value
        assert first.header("ce_id") == other.header("ce_id")


def test_a_deleted_account_leaves_the_state(played: Played) -> None:
    """
    Of a deleted account no item row and none of its ages, notices and objections stay.
    """
    from streams import proof

    name = "account-deleted"
    changelogs = proof.read(
        settings_of(played.kafka, PREFIX),
        ["objections-users-changelog", "objections-content-changelog"],
    )
    users = proof.compacted(changelogs["objections-users-changelog"])
    items = proof.compacted(changelogs["objections-content-changelog"])
    of_user = [row for row in items.values() if name.encode() in (row.key or b"")]
    row = next(row for row in users.values() if row.key == b"u" + name.encode())

    assert len(of_user) == 2
    assert {row.value for row in of_user} == {None}
    assert b"DE" not in (row.value or b"")
    assert b"o1" not in (row.value or b"")


def test_the_end_of_a_notice_window_publishes_by_itself(played: Played) -> None:
    """
    When a notice window ends, grants are published though no record arrives; the cause is the
    clock, and `objections_received_at` the instant at which it became due.
    """
    name = "window-ends"
    due_ms = int(time.time() * 1000) + 4_000
    delivered = from_ms(due_ms) - timedelta(days=30)
    item = content(user_id=name, content_id="window-item")
    played.inputs.send(("account-ages", grown_up(user_id=name)), ("content", item))
    (sent,) = played.inputs.send(
        ("notices", notice(user_id=name, delivered_at=delivered.isoformat()))
    )
    played.watch.wait_until_caught_up()
    before = _of_user(played.watch.outputs(), name)
    wait_for(lambda: time.time() * 1000 > due_ms, "the end of the window")
    played.watch.wait_until_caught_up()
    after = _of_user(played.watch.outputs(), name)
    by_clock = {topic: after[topic][len(before[topic]) :] for topic in OUTPUTS}
    (decision,) = by_clock["eligibility"]
    value = json.loads(decision.value or b"")

    assert json.loads(before["eligibility"][-1].value or b"")["reasons"] == ["NOTICE_PENDING"]
    assert before["training-users"] == []
    assert value["reasons"] == []
    assert value["cause"] == {
        "topic": "clock",
        "partition": sent.partition,
        "offset": -1,
        "id": None,
    }
    assert to_ms(datetime.fromisoformat(value["decided_at"])) >= due_ms
    assert len(by_clock["training-users"]) == 4
    assert [each.key for each in by_clock["training-content"]] == [b"window-item"]
    received = {e.header("objections_received_at") for each in by_clock.values() for e in each}
    assert received == {b"%d" % due_ms}


def _of_user(outputs: dict[str, list[Record]], user_id: str) -> dict[str, list[Record]]:
    return {
        topic: [each for each in outputs[topic] if each.header("ce_subject") == user_id.encode()]
        for topic in OUTPUTS
    }


def test_all_stories_together_are_proven(played: Played) -> None:
    """
    What the stories have left is what the pure core computes from their inputs.
    """
    played.watch.wait_until_caught_up()
    assert_proven(played.kafka, PREFIX, once=False)


def test_a_birthday_publishes_by_itself(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    At the end of the birthday everywhere on earth a user is of age; a worker that was away then
    catches up, and says so as of that instant.  What was created before stays purged.
    """
    of_age = datetime(2026, 5, 2, 12, tzinfo=UTC)
    offset_s = (of_age - datetime.now(UTC)).total_seconds()
    apply_topics(kafka, prefix)
    records = (
        ("account-ages", grown_up(birth_date="2008-05-01")),
        ("notices", notice(delivered_at="2020-01-01T00:00:00Z")),
        ("content", content(created_at="2020-01-01T00:00:00Z")),
    )
    with Inputs(kafka, prefix) as inputs:
        inputs.send(*records)
    with Worker(kafka, prefix, tmp_path / "state", CLOCK_OFFSET_S=offset_s - 3_600):
        wait_until_caught_up(kafka, prefix, clock_offset_s=offset_s - 3_600)
        minor = assert_proven(kafka, prefix, clock_offset_s=offset_s - 3_600)
    with Worker(kafka, prefix, tmp_path / "state", CLOCK_OFFSET_S=offset_s + 60):
        wait_until_caught_up(kafka, prefix, clock_offset_s=offset_s + 60)
        adult = assert_proven(kafka, prefix, clock_offset_s=offset_s + 60)
    decision = adult["eligibility"][-1]

    assert json.loads(minor["eligibility"][-1].value or b"")["reasons"] == ["UNDER_AGE"]
    assert minor["training-users"] == []
    assert json.loads(decision.value or b"")["cause"]["topic"] == "clock"
    assert decision.header("objections_received_at") == b"%d" % to_ms(of_age)
    assert len(adult["eligibility"]) == len(minor["eligibility"]) + 1
    assert len(adult["training-users"]) == 4
    assert adult["training-content"][-1].value is None


def test_nothing_is_granted_before_the_objections_are_read(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    A user whose objection stands in the topic already is never granted anything, not even for a
    moment, however far behind it the objection stands.
    """
    users = [f"u{number}" for number in range(200)]
    apply_topics(kafka, prefix)
    with Inputs(kafka, prefix) as inputs:
        for user in users:
            inputs.queue("account-ages", grown_up(user_id=user))
            inputs.queue("notices", notice(user_id=user))
            inputs.queue("content", content(user_id=user, content_id=f"{user}.c"))
        for number in range(4_000):
            name = f"other{number}"
            inputs.queue("objections", objection(user_id=name, action="withdrawn"))
        for user in users[20:]:
            inputs.queue("objections", objection(user_id=user))
        inputs.flush()
    with Worker(kafka, prefix, tmp_path / "state", BATCH_RECORDS=200) as worker:
        wait_until_caught_up(kafka, prefix, workers=[worker])
        outputs = assert_proven(kafka, prefix)
    granted = {
        (each.header("ce_subject") or b"").decode()
        for topic in ("training-users", "training-content")
        for each in outputs[topic]
        if each.value is not None
    }

    assert granted == set(users[:20])


def test_all_that_a_user_causes_lies_in_one_partition(played: Played) -> None:
    """
    Outputs, dead letters and the rows of the state have the partition number of the inputs.
    """
    settings = settings_of(played.kafka, PREFIX)
    homes = {name: sent[0].partition for name, sent in played.sent.items()}
    state = list(chain(*proof.read(settings, topics.names("internal")).values()))
    for name, answers in played.answers.items():
        caused = [each.partition for told in answers for each in told]
        caused += [
            each.partition
            for each in state
            if each.key == rows.user_key(name)
            or (each.key or b"").startswith(rows.items_prefix(name))
        ]
        assert {homes[name]} == set(caused)

    assert len(set(homes.values())) == PARTITIONS


def test_stories_use_every_input() -> None:
    """
    The stories leave no input topic out, but for links: they have a scene in test_links_kafka.
    """
    topics = {step.topic for story in STORIES.values() for step in story}

    assert topics == set(INPUTS) - set(OPTIONAL)

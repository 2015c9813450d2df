"""The spans of a worker's records where a cycle is not simply committed; without Kafka."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Message

from streams.bench.offline import LOG_APPEND_TIME, SETTINGS, Offline
from streams.core.trace_context import TraceContext, trace_context
from streams.tracing import open_spans
from streams.tracing.rate import TRACED_PER_S
from streams.tracing.spans import MS
from streams.worker.folded import Folded
from streams.worker.intake import Fetched, Intake
from streams.worker.rounds import Round
from streams.worker.spans import RecordSpans
from tests.collector import Collector
from tests.making import NOW_MS, content, objection
from tests.worker_settings import wait_for

CALLER = TraceContext(0xABC, 0xDEF, sampled=True)


class Scene:
    """A worker's only partition, and the spans of what goes through it."""

    def __init__(self, folder: Path, collector: Collector) -> None:
        self.offline = Offline(folder, 1, NOW_MS)
        self.offline.release()
        self.collector = collector
        exported = open_spans("tests", os.environ)
        assert exported is not None
        self.close = exported.close
        self.spans = RecordSpans(SETTINGS, exported)

    def take(self, topic: str, values: list[dict[str, object]], begin: int = 0) -> list[Intake]:
        """Let traced records be fetched and decoded."""
        messages = [
            Message(
                topic=topic,
                partition=0,
                offset=begin + number,
                key=str(value["user_id"]).encode(),
                value=msgspec.json.encode(value),
                headers=[("traceparent", CALLER.traceparent)],
                timestamp=(LOG_APPEND_TIME, NOW_MS),
            )
            for number, value in enumerate(values)
        ]
        fetched = [Fetched(topic, 0, messages, begin)]
        self.spans.taken(Round(1, {topic: fetched}), NOW_MS * MS)
        return [self.spans.decoded(intake) for intake in self.offline.decode(fetched)]

    def fold(self, intakes: list[Intake]) -> list[Folded]:
        """Let it be decided."""
        cycle = self.offline.fold(intakes)
        self.spans.on_folded(cycle)
        return cycle

    def commit(self, cycle: list[Folded]) -> None:
        """Let it be committed."""
        for part in cycle:
            part.delivered.began_ns, part.delivered.at_ms = (NOW_MS + 1) * MS, NOW_MS + 9
        self.offline.write(cycle)
        self.offline.persisted(cycle)
        self.spans.on_committed(cycle)

    def decided(self, topic: str) -> int:
        """Return how many records of a topic are told of."""
        return len(self.collector.named(f"process {topic}"))


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Return a worker's partition."""
    with Collector() as collector:
        for name, value in collector.environ.items():
            monkeypatch.setenv(name, value)
        found = Scene(tmp_path, collector)
        yield found
        found.close()
        found.offline.close()


def parents(cycle: list[Folded]) -> set[int]:
    """Return the spans that outputs name as their parents."""
    found = [dict(output.headers).get("traceparent") for part in cycle for output in part.outputs]
    return {c.span_id for c in (trace_context(x) for x in found if isinstance(x, bytes)) if c}


def test_what_is_rolled_back_leaves_no_span_and_is_told_once_when_read_again(scene: Scene) -> None:
    """
    Its outputs do not count; those that do have the span of the second time as their parent.
    """
    first = scene.fold(scene.take("objections", [objection()]))
    scene.offline.partitions[0].roll_back(dict.fromkeys(first[0].positions, 0))
    scene.spans.rolled_back()
    again = scene.fold(scene.take("objections", [objection()]))
    scene.commit(again)
    scene.close()

    told = {each.name.split()[0]: each for each in scene.collector.spans}
    assert {"poll", "decide", "send", "commit", "process"} == told.keys()
    assert 5 == len(scene.collector.spans)
    assert CALLER.span_id == int(told["process"].parent_id, 16)
    assert {int(told["send"].span_id, 16)} == parents(again)
    assert parents(first).isdisjoint(parents(again))


def test_a_cycle_tells_what_it_has_decided_and_no_more(scene: Scene) -> None:
    """
    Records that came while it was committed are told with the next.
    """
    first = scene.fold(scene.take("objections", [objection(user_id="u1")]))
    second = scene.fold(scene.take("objections", [objection(user_id="u2")], begin=1))

    scene.commit(first)
    wait_for(lambda: scene.decided("objections") > 0, "the first")
    assert 1 == scene.decided("objections")
    scene.commit(second)
    scene.close()

    assert 2 == scene.decided("objections")


def test_a_flood_of_traced_records_is_told_in_part(scene: Scene) -> None:
    """
    Those beyond the rate have no span and keep the parent they came with; content leaves room.
    """
    items = [content(content_id=f"c{number}") for number in range(TRACED_PER_S)]
    filed = [objection(user_id=f"u{number}") for number in range(TRACED_PER_S)]

    of_items = scene.fold(scene.take("content", items))
    of_filed = scene.fold(scene.take("objections", filed))
    scene.commit(of_items)
    scene.commit(of_filed)
    scene.close()

    assert TRACED_PER_S // 2 == scene.decided("content")
    assert TRACED_PER_S // 2 == scene.decided("objections")
    assert CALLER.span_id in parents(of_filed)

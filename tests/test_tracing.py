"""
Spans of traced records, by a real worker and a real subscriber, at a real collector's door.
"""

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from streams.commands import main
from streams.core.times import read_rfc3339
from streams.core.trace_context import TraceContext, trace_context
from streams.errors import UsageProblem
from streams.kafka.local import HOST, LocalKafka
from streams.proof import Record
from streams.tracing import Kind, open_spans
from streams.tracing.rate import SECOND_NS, Rate
from streams.tracing.switch import exporter_asked_for
from tests.collector import Collector, Seen
from tests.explain_scene import explained, run_explain
from tests.making import content, grown_up, notice, objection
from tests.worker_process import (
    Inputs,
    Sent,
    Watch,
    Worker,
    apply_topics,
    read_outputs,
    settings_of,
    wait_for,
)
from tests.worker_settings import WAIT_S, environ_of, new_prefix

UID, CID, OID = "tracy-7d1", "photo-3c8", "objection-9e2"  # in no span
ITEMS = 12
ASKED = (UID, "--objection", OID, "--item", f"{CID}-0")
WORKER, STORE = "objections-worker", "stores"
CALLER = "00f067aa0ba902b7"
TRACES = {name: uuid.uuid4().hex for name in ("objection", "item", "unsampled", "bad", "away")}
INVALID = f"00-{'0' * 32}-{CALLER}-01"  # no trace has such an id


def traceparent(name: str) -> bytes:
    """Return the header a caller sends who records the trace, but for the unsampled one."""
    return f"00-{TRACES[name]}-{CALLER}-{'00' if name == 'unsampled' else '01'}".encode()


class Scene(NamedTuple):
    """What was sent, what came of it, and what the collector was told."""

    collector: Collector
    sent: dict[str, Sent]
    outputs: dict[str, list[Record]]
    topic: dict[str, str]
    worker_log: str
    status: int
    explained: Any
    text: str
    without_stores: Any

    def of(self, name: str, service: str = "") -> list[Seen]:
        """Return the spans of a trace, by their beginnings."""
        found = [each for each in self.collector.spans if each.trace_id == TRACES[name]]
        return sorted((e for e in found if service in ("", e.service)), key=lambda e: e.begin_ns)

    def one(self, name: str, of: str, service: str = WORKER) -> Seen:
        """Return the span of a trace that is called *of*."""
        (found,) = (each for each in self.of(name, service) if each.name == of)
        return found


@contextmanager
def subscribed(
    kafka: LocalKafka, prefix: str, folder: Path, collector: Collector
) -> Iterator[None]:
    """Let a store follow, as a process that sends spans."""
    url = f"sqlite:{folder / 'store.sqlite'}?erase_every_s=0.2"
    process = subprocess.Popen(
        [sys.executable, "-m", "streams.commands", "subscribe", "--store", "st", "--sink", url],
        env={
            **environ_of(kafka.bootstrap, prefix, {}),
            **collector.environ,
            "OTEL_SERVICE_NAME": STORE,
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        assert 0 == process.wait(20)


@pytest.fixture(scope="module")
def scene(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Play it once, with one worker and one store; in the end the collector goes and comes back."""
    prefix, folder = new_prefix(), tmp_path_factory.mktemp("tracing")
    apply_topics(kafka, prefix)
    with Collector() as collector:
        worker = Worker(
            kafka,
            prefix,
            folder / "state",
            FANOUT_INLINE_ITEMS=2,
            FANOUT_SLICE_ITEMS=3,
            STORES="st=training-users+training-content",
        )
        worker.environ.update(collector.environ)
        with (
            worker,
            subscribed(kafka, prefix, folder, collector),
            Inputs(kafka, prefix) as inputs,
            Watch(kafka, prefix) as watch,
        ):
            worker.wait_ready()
            sent = play(inputs, watch, worker)
            wait_for(lambda: is_erased(collector), "the store's last word")
            wait_for_receipt(kafka, prefix)
            told = explained(kafka.bootstrap, prefix, *ASKED)
            text = run_explain(kafka.bootstrap, prefix, *ASKED).stdout
            without_stores = explained(kafka.bootstrap, prefix, UID, "--no-stores")
            worker_log, returned = play_without(collector, inputs, watch, worker)
            sent |= returned
            collector.stop()
            inputs.queue("objections", objection(user_id="eve"), headers=trace("away"))
            inputs.flush()
            watch.wait_until_caught_up(workers=[worker])
            status = worker.terminate()
    topic = {name: settings_of(kafka, prefix).topic(name) for name in ("objections", "content")}
    outputs = read_outputs(kafka, prefix)
    return Scene(collector, sent, outputs, topic, worker_log, status, told, text, without_stores)


def is_erased(collector: Collector) -> bool:
    """Whether the store has told of all that the objection purges, and of its erasure."""
    spans = [each for each in collector.spans if each.trace_id == TRACES["objection"]]
    roots = [each for each in spans if each.service == STORE and each.kind == "CONSUMER"]
    erased = {each.parent_id for each in spans if each.name == "erased"}
    return ITEMS == purged_items(roots) and erased == {each.span_id for each in roots}


def wait_for_receipt(kafka: LocalKafka, prefix: str) -> None:
    """Return once the objection's receipt is complete."""
    arguments = ["receipt", OID, "--user", UID, "--wait", str(WAIT_S)]
    done = CliRunner().invoke(main, arguments, env=environ_of(kafka.bootstrap, prefix, {}))
    assert 0 == done.exit_code, done.output


def purged_items(roots: list[Seen]) -> int:
    """Return how many items the spans of a store tell of."""
    return sum(
        int(each.attributes.get("messaging.batch.message_count", 1))
        for each in roots
        if each.name.endswith("training-content")
    )


def trace(name: str) -> list[tuple[str, bytes | None]]:
    """Return the headers of a traced record."""
    return [("traceparent", traceparent(name)), ("tracestate", b"vendor=x1")]


def play(inputs: Inputs, watch: Watch, worker: Worker) -> dict[str, Sent]:
    """Send what is traced and what is not, and wait until all is decided."""
    inputs.send(("account-ages", grown_up(user_id=UID)), ("notices", notice(user_id=UID)))
    for number in range(1, ITEMS):
        inputs.queue("content", content(user_id=UID, content_id=f"{CID}-{number}"))
    inputs.flush()
    watch.wait_until_caught_up(workers=[worker])
    inputs.queue("content", content(user_id=UID, content_id=f"{CID}-0"), headers=trace("item"))
    (item,) = inputs.flush()
    watch.wait_until_caught_up(workers=[worker])
    inputs.queue("objections", objection(user_id=UID, objection_id=OID), headers=trace("objection"))
    inputs.queue("objections", objection(user_id="ann"), headers=trace("unsampled"))
    inputs.queue("objections", objection(user_id="bob"))
    inputs.queue(
        "objections", objection(user_id="cat"), headers=[("traceparent", INVALID.encode())]
    )
    inputs.queue("objections", {"user_id": "dan", "objection_id": OID}, headers=trace("bad"))
    filed, *_, bad = inputs.flush()
    watch.wait_until_caught_up(workers=[worker])
    return {"item": item, "objection": filed, "bad": bad}


def play_without(
    collector: Collector, inputs: Inputs, watch: Watch, worker: Worker
) -> tuple[str, dict[str, Sent]]:
    """Let the collector be away for a while; return the worker's log and what was sent."""
    collector.stop()
    sent: dict[str, Sent] = {}
    for number in range(3):
        inputs.queue("objections", objection(user_id=f"e{number}"), headers=trace("away"))
        (sent[f"away {number}"],) = inputs.flush()
        watch.wait_until_caught_up(workers=[worker])
        wait_for(lambda: "does not take spans" in worker.log(), "word of the collector")
    collector.start()
    inputs.queue("objections", objection(user_id="back"), headers=trace("away"))
    inputs.flush()
    wait_for(lambda: "takes spans again" in worker.log(), "word of its return")
    return worker.log(), sent


def test_an_objection_is_told_from_the_broker_to_the_last_of_its_items(scene: Scene) -> None:
    """
    Its spans are the caller's children, in the order of time: fetched, decided, committed and sent,
    and fanned out from there.
    """
    topic, sent = scene.topic["objections"], scene.sent["objection"]
    process = scene.one("objection", f"process {topic}")
    poll = scene.one("objection", f"poll {topic}")
    decide = scene.one("objection", "decide")
    send = scene.one("objection", "send")
    commit = scene.one("objection", f"commit {topic}")
    fan_out = scene.one("objection", "fan out")

    assert 6 == len(scene.of("objection", WORKER))
    assert CALLER == process.parent_id
    assert {process.span_id} == {each.parent_id for each in (poll, decide, send, commit)}
    assert send.span_id == fan_out.parent_id
    assert sent.timestamp_ms * 1_000_000 == process.begin_ns == poll.begin_ns
    assert poll.end_ns == decide.begin_ns <= decide.end_ns == send.begin_ns
    assert send.begin_ns <= commit.begin_ns < commit.end_ns == send.end_ns == process.end_ns
    assert process.end_ns <= fan_out.begin_ns < fan_out.end_ns
    assert ["CONSUMER", "CLIENT", "INTERNAL", "PRODUCER", "CLIENT", "INTERNAL"] == [
        each.kind for each in (process, poll, decide, send, commit, fan_out)
    ]
    assert {"vendor=x1"} == {each.tracestate for each in (process, poll, send)}
    assert {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(sent.partition),
        "messaging.kafka.offset": sent.offset,
        "messaging.consumer.group.name": topic,
    } == process.attributes


def test_outputs_carry_the_trace_and_the_span_that_sends_them(scene: Scene) -> None:
    """
    The trace is the caller's; the parent is the worker's span where it tells one, also on what a
    fan-out sends, and as it came where it tells none.
    """
    send = scene.one("objection", "send").span_id
    caused = {
        name: [each for each in records if (each.header("ce_subject") or b"").decode() == UID]
        for name, records in scene.outputs.items()
    }
    purged = [each for each in caused["training-content"] if each.value is None]
    carried = {each.header("traceparent") for each in (*purged, caused["eligibility"][-1])}
    others = {each.key_text: each.header("traceparent") for each in scene.outputs["eligibility"]}

    assert ITEMS == len(purged)
    assert {f"00-{TRACES['objection']}-{send}-01".encode()} == carried
    assert traceparent("unsampled") == others["ann"]
    assert others["bob"] is None
    assert INVALID.encode() == others["cat"]


def test_a_store_tells_what_it_hides_and_erases(scene: Scene) -> None:
    """
    Each output is followed from the broker into the store and to its acknowledgements, under the
    span that sent it; the items of a batch share spans.
    """
    send = scene.one("objection", "send")
    spans = {each.span_id: each for each in scene.of("objection", STORE)}
    roots = [each for each in spans.values() if each.kind == "CONSUMER"]

    assert {send.span_id} == {each.parent_id for each in roots}
    assert ITEMS == purged_items(roots)
    assert {"st"} == {each.attributes["objections.store"] for each in roots}
    for root in roots:
        within = {
            each.name.split()[0]: each for each in spans.values() if each.parent_id == root.span_id
        }
        assert {"poll", "apply", "hidden", "erased"} == within.keys()
        assert root.begin_ns == within["poll"].begin_ns
        assert within["poll"].end_ns == within["apply"].begin_ns <= within["apply"].end_ns
        assert within["apply"].end_ns == root.end_ns == within["hidden"].begin_ns
        assert within["hidden"].begin_ns < within["hidden"].end_ns <= within["erased"].end_ns
        assert root.attributes["messaging.kafka.message.tombstone"] is True


def test_a_content_record_is_told_up_to_the_store(scene: Scene) -> None:
    """
    It is allowed, so there is nothing to hide.
    """
    topic = scene.topic["content"]
    names = {each.name for each in scene.of("item", WORKER)}
    in_store = {each.name.split()[0] for each in scene.of("item", STORE)}

    assert {f"process {topic}", f"poll {topic}", "decide", "send", f"commit {topic}"} == names
    assert {"process", "poll", "apply"} == in_store


def test_a_bad_record_is_told_as_an_error(scene: Scene) -> None:
    """
    By the stable code of its dead letter.
    """
    process = scene.one("bad", f"process {scene.topic['objections']}")

    assert process.failed
    assert "field_missing" == process.attributes["error.type"]


def test_what_nobody_records_has_no_spans(scene: Scene) -> None:
    """
    Without a `traceparent`, with one that is not valid or not sampled, nothing is told.
    """
    told = {each.trace_id for each in scene.collector.spans}

    assert {TRACES[name] for name in ("objection", "item", "bad", "away")} == told


def test_spans_tell_of_nobody(scene: Scene) -> None:
    """
    No id of a user, an item or an objection is in any name or attribute.
    """
    text = json.dumps(scene.collector.spans)

    assert [] == [mark for mark in (UID, CID, OID, "bob", "cat", "dan") if mark in text]


def test_a_collector_that_is_away_holds_up_nothing_and_is_told_of_once(scene: Scene) -> None:
    """
    Decisions go on without it, its loss and its return are each one line, and a worker that is
    asked to end does so in time.
    """
    lost = scene.sent["away 0"]
    told = {
        (
            each.attributes["messaging.destination.partition.id"],
            each.attributes["messaging.kafka.offset"],
        )
        for each in scene.of("away", WORKER)
        if each.kind == "CONSUMER"
    }
    decided = {each.key_text for each in scene.outputs["eligibility"]}

    assert {"e0", "e1", "e2", "back", "eve"} <= decided
    assert 1 == scene.worker_log.count("does not take spans")
    assert 1 == scene.worker_log.count("takes spans again")
    assert "Failed to export" not in scene.worker_log
    assert (str(lost.partition), lost.offset) not in told
    assert 0 == scene.status


def test_explain_tells_the_same_times_from_the_topics_alone(scene: Scene) -> None:
    """
    Of the decision, of an item and of the objection, with the trace: received, decided, published,
    and when the store had hidden and erased it, all of it in order.
    """
    found, sent = scene.explained, scene.sent["objection"]
    step = found["history"]["steps"][-1]
    (action,) = found["objection"]["actions"]
    answer = found["item"]["steps"][-1]
    stages = ["received", "decided", "published", "hidden", "erased"]

    assert sent.place == step["place"]
    for timeline in (each["timeline"] for each in (step, action, answer)):
        moments = timeline["moments"]
        after_ms = [each["after_ms"] for each in moments]
        assert TRACES["objection"] == timeline["trace_id"]
        assert stages == [each["stage"] for each in moments]
        assert [None, None, None, "st", "st"] == [each["store"] for each in moments]
        assert sorted(after_ms) == after_ms
        assert 0 == after_ms[0] < after_ms[-1]
        assert sent.timestamp_ms == read_rfc3339(moments[0]["at"])
    first = found["item"]["steps"][1]["timeline"]
    assert TRACES["item"] == first["trace_id"]
    assert "applied" == first["moments"][-1]["stage"]
    without = scene.without_stores["history"]["steps"][-1]["timeline"]["moments"]
    assert step["timeline"]["moments"][:3] == without
    assert ITEMS == action["items"]
    assert f"; trace {TRACES['objection']}" in scene.text
    assert f"\nObjection {OID}\n  filed " in scene.text


def test_so_many_a_second_are_traced_and_content_leaves_room() -> None:
    """
    Whatever is sampled: a process makes spans for no more, and some are left for objections.
    """
    rate = Rate(per_s=4)

    assert [True, True, False] == [rate.take(SECOND_NS, leave=2) for _ in range(3)]
    assert [True, True, False] == [rate.take(SECOND_NS) for _ in range(3)]
    assert rate.take(2 * SECOND_NS)


def test_a_collector_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A process that ends gives what is left a moment, and not the exporter's ten seconds.
    """
    monkeypatch.setattr("streams.tracing.export.CLOSE_S", 0.2)
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{HOST}:{port}")
        spans = open_spans("tests", os.environ)
        assert spans is not None
        span = spans.begin("process x", Kind.CONSUMER, TraceContext(1, 2, sampled=True), 1, {})
        assert span is not None
        span.end(2)
        began_s = time.monotonic()
        spans.close()

        assert time.monotonic() - began_s < 5


def test_a_sampler_that_is_asked_for_decides_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    OTEL_TRACES_SAMPLER holds as everywhere; what it leaves out has no span.
    """
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    spans = open_spans("tests", os.environ)
    assert spans is not None

    assert spans.begin("x", Kind.CONSUMER, TraceContext(1, 2, sampled=True), 1, {}) is None
    spans.close()


def test_off_nothing_of_it_is_imported() -> None:
    """
    A worker and a subscriber that nobody asks for spans have not even read OpenTelemetry's code.
    """
    code = (
        "import sys, streams.worker.run, streams.commands.subscribe, streams.subscriber\n"
        "from streams.tracing import open_spans\n"
        "assert open_spans('x', {}) is None\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'opentelemetry'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()


@pytest.mark.parametrize(
    "header, valid",
    [
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", True),
        (b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes", True),
        (b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", False),
        (b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more", False),
        (b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        (b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", False),
        (b"00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1", False),
        (b" 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("00-٤bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".encode(), False),
        (b"", False),
        (None, False),
    ],
)
def test_a_traceparent_is_read_as_w3c_writes_it(header: bytes | None, *, valid: bool) -> None:
    """
    Later versions may have more behind; nothing else may differ.
    """
    found = trace_context(header)

    assert valid == (found is not None)
    if found is not None and header is not None:
        assert b"00" + header[2:55] == found.traceparent


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    """
    Asked for and not installed: exit status 2 before anything is begun, and what to install.
    """
    code = (
        "import sys; sys.modules['opentelemetry'] = None\nfrom streams.commands import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "worker"],
        env={
            **environ_of("127.0.0.1:1", "", {"STATE_DIR": tmp_path / "state"}),
            "OTEL_TRACES_EXPORTER": "otlp",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert 2 == done.returncode, done.stderr
    assert "objection-streams[tracing]" in done.stderr


@pytest.mark.parametrize(
    "environ, asked_for",
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "x"}, None),
        ({"OTEL_TRACES_EXPORTER": ""}, None),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "Console"}, "console"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "True"}, None),
        ({"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "otlp"),
    ],
)
def test_it_is_asked_for_by_standard_variables(
    environ: dict[str, str], asked_for: str | None
) -> None:
    """
    An exporter or an endpoint asks for it; an empty variable is none.
    """
    assert asked_for == exporter_asked_for(environ)


@pytest.mark.parametrize(
    "environ, names",
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ),
    ],
)
def test_what_cannot_be_is_refused(environ: dict[str, str], names: str) -> None:
    """
    An exporter or a protocol that there is not is named, with what is expected.
    """
    with pytest.raises(UsageProblem, match=names):
        exporter_asked_for(environ)

"""The benchmark runs both systems, compares what they allow, and leaves nothing behind."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from streams.bench import connection, peers, report, systems, workload
from streams.bench.latency import growth, spread
from streams.bench.run import differences
from streams.bench.throughput import Throughput
from streams.bench.watch import Seen
from streams.errors import UsageProblem
from streams.kafka.local import LocalKafka
from tests.bench_command import TIMEOUT_S, bench

NOW_MS = 1_780_000_000_000


def left_behind(kafka: LocalKafka, folder: Path) -> list[str]:
    """Return processes, files and topics that are still there."""
    running = [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in part for part in process.info["cmdline"] or ())
    ]
    files = [str(path) for path in folder.glob("objections-bench-*")]
    found = AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=10).topics
    return [*running, *files, *(name for name in found if name.startswith("bench-"))]


def test_throughput_of_both(kafka: LocalKafka, tmp_path: Path) -> None:
    """
    Both systems work off the same input and end with what the core allows; ratios are given.
    """
    found = bench(kafka, tmp_path, "throughput", "--records=3000", "--repeats=1")

    assert found["measurement"] == "throughput"
    assert found["ok"] is True
    assert [run["system"] for run in found["runs"]] == ["ours", "faust"]
    for run in found["runs"]:
        assert run["records"] == 3_000
        assert run["events_per_s"] > 0
        assert run["resident_mib"] > 0
        assert 0 <= run["stolen_share"] < 1
        assert run["differences"] == []
    assert set(found["summary"]["ours"]["events_per_s"]) == {"median", "least", "greatest"}
    assert "faust" in found["ratios"]
    assert [] == left_behind(kafka, tmp_path)


def test_latency_of_both(kafka: LocalKafka, tmp_path: Path) -> None:
    """
    Both systems answer what is offered; percentiles are ordered and tell what they cover.
    """
    options = ("--rates=50", "--seconds=3", "--warmup=1")
    found = bench(kafka, tmp_path, "latency", *options)

    assert found["measurement"] == "latency"
    assert [run["system"] for run in found["runs"]] == ["ours", "faust"]
    for run in found["runs"]:
        answers = run["answers"]
        assert run["finished"] is True
        assert run["differences"] == []
        assert 0 < answers["count"] < 150
        assert 0 < answers["p50_ms"] <= answers["p99_ms"] <= answers["worst_ms"]
    assert "p99_ms" in found["ratios"]["50"]["faust"]
    assert [] == left_behind(kafka, tmp_path)


def test_a_store(kafka: LocalKafka, tmp_path: Path) -> None:
    """
    Objections are followed into a data store, and so is an account of many items.
    """
    options = ("--rate=50", "--seconds=1", "--items=3", "--account-items=200", "--partitions=2")
    sink = f"--sink=lite=sqlite:{tmp_path / 'lite.db'}"
    (run,) = bench(kafka, tmp_path, "stores", sink, *options)["runs"]

    assert (run["store"], run["objections"], run["account_items"]) == ("lite", 50, 200)
    assert 0 < run["published"]["p50_ms"] <= run["hidden"]["p50_ms"] <= run["hidden"]["worst_ms"]
    assert 0 < run["account_published_s"] <= run["account_hidden_s"]
    assert [] == left_behind(kafka, tmp_path)


def test_interrupt_leaves_nothing(kafka: LocalKafka, tmp_path: Path) -> None:
    """
    Ctrl-C in the middle of a run ends every process, and deletes files and topics.
    """
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from streams.commands import main; main()", "bench"),
            *("latency", "--peers=faust", "--rates=50", f"--bootstrap={kafka.bootstrap}"),
        ],
        env=dict(os.environ) | {"TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline_s = time.monotonic() + TIMEOUT_S
        while not list(tmp_path.glob("objections-bench-*/*/faust.log")):
            assert time.monotonic() < deadline_s, "the run did not begin"
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, 2)  # as a terminal does: to the whole group
        _, said = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()

    assert process.returncode == 130, said.decode()
    assert said.decode().endswith("objections: interrupted\n")
    assert "Traceback" not in said.decode()
    _, alive = psutil.wait_procs(children, timeout=5)
    # Nobody waits for a grandchild's end where process 1 does not, as in some containers.
    assert [] == [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    assert [] == left_behind(kafka, tmp_path)


def test_workload_is_repeatable_and_mixed() -> None:
    """
    One seed gives one input, in the contract's shape and a heavy-tailed, realistic mix.
    """
    records = workload.make(20_000, seed=1)
    shares = Counter(record.topic for record in records)
    by_user = Counter(record.key for record in records if record.topic == "content")

    assert records == workload.make(20_000, seed=1)
    assert records != workload.make(20_000, seed=2)
    assert records[:500] != workload.make(500, seed=2)
    assert 0.7 < shares["content"] / 20_000 < 0.9
    assert 0.01 < shares["objections"] / 20_000 < 0.05
    assert by_user.most_common(1)[0][1] > 20 * by_user.total() / len(by_user)
    allowed = workload.expected(records, NOW_MS)
    answered = workload.answered_ids(records)
    assert allowed.items < answered
    assert 0.2 < len(allowed.items) / len(answered) < 0.8


def test_differences_are_named() -> None:
    """
    What stands but must not, and what is missing, is told by topic.
    """
    allowed = workload.Allowed(frozenset({"c1"}), frozenset({"facebook/u1"}))
    seen = Seen(items={"c2"}, products={"facebook/u1"})

    found = differences(seen, allowed)

    assert found == [
        "training-content: 1 allowed, but must not be: c2",
        "training-content: 1 not allowed, but must be: c1",
    ]


def test_peers_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    Without the source tree the Faust app is missing: the error says so and offers `ours`.
    """
    systems.check_available(("ours", "faust"))
    with pytest.raises(UsageProblem, match="nobody"):
        systems.check_available(("nobody",))
    monkeypatch.setattr(peers, "PROGRAMS", tmp_path)
    with pytest.raises(UsageProblem, match="--peers ours"):
        systems.check_available(("ours", "faust"))


def test_percentiles_and_growth() -> None:
    """
    Percentiles are values that occurred, and a system that falls behind is told by its medians.
    """
    assert spread([]).p50_ms is None
    found = spread(float(value) for value in range(1, 102))
    assert (found.count, found.p50_ms, found.p99_ms, found.worst_ms) == (101, 51, 100, 101)
    assert growth([5.0] * 100) == 0
    assert growth([float(value) for value in range(100)]) == 75


def test_ratios_are_of_medians() -> None:
    """
    A ratio is our median by the peer's.
    """
    runs = [_run("ours", 30.0), _run("faust", 2.0), _run("ours", 10.0), _run("ours", 20.0)]

    summary = report.throughput_summary(runs)

    assert summary["ours"]["events_per_s"] == report.Middle(20.0, 10.0, 30.0)
    assert report.ratios(summary)["faust"]["events_per_s"] == 10.0
    assert any("10.0x" in line for line in report.throughput_table(runs))


def test_a_table_tells_what_of_the_machine_others_had() -> None:
    """Latencies of an hour in which neighbours were busy are not those of the program."""
    begun = systems.Usage(0.0, 0, machine_s=100.0, stolen_s=1.0)
    ended = systems.Usage(0.0, 0, machine_s=300.0, stolen_s=7.0)

    share = ended.stolen_since(begun)

    assert 0.03 == share
    assert 0.0 == ended.stolen_since(ended)
    lines = report.throughput_table([_run("ours", 1.0), _run("ours", 1.0, stolen_share=share)])
    assert any("host: 2.5 (2.0-3.0) % of its processor time" in line for line in lines)


def _run(system: str, events_per_s: float, stolen_share: float = 0.02) -> Throughput:
    return Throughput(
        system=system,
        records=100,
        measured_records=100,
        measured_s=1.0,
        events_per_s=events_per_s,
        cpu_us_per_event=1.0,
        cpu_cores=1.0,
        resident_mib=1.0,
        stolen_share=stolen_share,
        outputs=100,
        differences=(),
    )


def test_a_kafka_that_is_started_is_shown_no_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Clients are as OBJECTIONS_KAFKA_ variables say, which peers cannot be; not of a Kafka of ours.
    """
    monkeypatch.setenv("OBJECTIONS_KAFKA_SECURITY_PROTOCOL", "SSL")
    place = peers.Place("127.0.0.1:1", "p.", 1, tmp_path)

    assert "SSL" == connection.options_at("127.0.0.1:1")["security.protocol"]
    with pytest.raises(UsageProblem, match="give --peers ours"):
        systems.System("faust", place)
    with connection.kafka_of_our_own():
        assert "security.protocol" not in connection.options_at("127.0.0.1:1")
        systems.System("faust", place)
    assert "OBJECTIONS_KAFKA_SECURITY_PROTOCOL" in os.environ

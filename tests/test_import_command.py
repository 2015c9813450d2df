"""
`objections import` on a real Kafka: what arrives, what goes on after an end, what is verified.

Two scenes: topics with a worker, and topics without one, where an import is ended half-way.
"""

import contextlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.commands import main
from streams.importing import place as places
from streams.importing.send import ROWS_TWICE_MAX
from streams.kafka.local import LocalKafka
from streams.kafka.partitioner import partition_of
from tests.worker_process import PARTITIONS, Worker, apply_topics, settings_of, wait_for
from tests.worker_settings import environ_of, new_prefix

ROWS = 60_000
ROWS_PER_S = 12_000  # slow enough for an end half-way, whatever the machine


class Scene(NamedTuple):
    """Topics under a prefix."""

    kafka: LocalKafka
    prefix: str

    def run(self, *arguments: object, stdin: bytes | None = None) -> Result:
        """Run `objections import` in this process."""
        variables = {
            "OBJECTIONS_BOOTSTRAP": self.kafka.bootstrap,
            "OBJECTIONS_TOPIC_PREFIX": self.prefix,
        }
        runner = CliRunner(env=variables)
        try:
            return runner.invoke(main, ["import", *map(str, arguments)], input=stdin)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(
                    number,
                    signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL,
                )

    def begin(self, *arguments: object) -> "subprocess.Popen[bytes]":
        """Start it as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "streams.commands", "import", *map(str, arguments)],
            env={**environ_of(self.kafka.bootstrap, self.prefix, {}), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def records(self, topic: str) -> list[tuple[bytes, dict[str, Any]]]:
        """Return all there is in *topic*, each in the partition of its key."""
        settings = settings_of(self.kafka, self.prefix)
        consumer = Consumer(
            settings.kafka(group_id="test", auto_offset_reset="earliest", enable_partition_eof=True)
        )
        consumer.assign([TopicPartition(settings.topic(topic), n, 0) for n in range(PARTITIONS)])
        found = []
        unread = set(range(PARTITIONS))
        with contextlib.closing(consumer):
            while unread:
                for message in consumer.consume(20_000, 0.5):
                    error, key, value = message.error(), message.key(), message.value()
                    if error is not None:
                        assert error.code() == KafkaError._PARTITION_EOF, error
                        unread.discard(message.partition() or 0)
                        continue
                    assert key is not None
                    assert value is not None
                    assert message.partition() == partition_of(key, PARTITIONS)
                    found.append((key, json.loads(value)))
        return found


@pytest.fixture(scope="module")
def served(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Return topics with a worker."""
    prefix = new_prefix()
    apply_topics(kafka, prefix)
    with Worker(kafka, prefix, tmp_path_factory.mktemp("worker") / "state") as worker:
        worker.wait_ready()
        yield Scene(kafka, prefix)


@pytest.fixture
def scene(kafka: LocalKafka, prefix: str) -> Scene:
    """Return topics without a worker."""
    apply_topics(kafka, prefix)
    return Scene(kafka, prefix)


def objections(path: Path, ids: Iterable[object], action: str = "filed") -> Path:
    """Write a CSV of an objection each of these ids."""
    rows = "".join(f"user-{each},o-{each},{action}\n" for each in ids)
    path.write_text(f"UserID,objection_id,action\n{rows}", encoding="utf-8")
    return path


def test_every_objection_has_a_receipt(served: Scene, tmp_path: Path) -> None:
    """
    What is imported is verified at the end; refused rows are kept and never stop their neighbours.
    """
    path = objections(tmp_path / "objections.csv", range(500))
    with path.open("a", encoding="utf-8") as file:
        file.write("user-x,o-x,maybe\n")
    mapped = ("--map", "user_id=UserID")

    first = served.run(path, *mapped)
    again = served.run(path, *mapped)
    verified = served.run(path, *mapped, "--verify")

    assert [1, 1, 1] == [each.exit_code for each in (first, again, verified)], first.output
    assert "500 of 501 rows sent to objections" in first.stdout
    assert "all 500 objections have a receipt" in first.stdout
    assert "1 of 501 rows were refused: they are in" in first.stderr
    (refused,) = (tmp_path / "objections.csv.rejected.jsonl").read_text().splitlines()
    assert (502, "user-x,o-x,maybe") == (json.loads(refused)["line"], json.loads(refused)["row"])
    assert "was imported before, nothing was left to send" in again.stdout
    assert "all 500 objections have a receipt" in verified.stdout
    sent = Counter(value["objection_id"] for _, value in served.records("objections"))
    assert {f"o-{each}": 1 for each in range(500)} == sent


def test_an_objection_without_a_receipt_is_named(served: Scene, tmp_path: Path) -> None:
    """
    Rows that never were imported are missing: named with their lines, all of them in a file.
    """
    assert 0 == served.run(objections(tmp_path / "1.csv", ["a"]), *MAPPED).exit_code
    path = objections(tmp_path / "2.csv", ["a", *(f"gone{each}" for each in range(12))])

    result = served.run(path, *MAPPED, "--verify", "--missing", tmp_path / "missing.jsonl")
    other_action = objections(tmp_path / "3.csv", ["a"], "withdrawn")

    assert 1 == result.exit_code
    assert "missing: line 3, user-gone0/o-gone0/filed" in result.stdout
    assert "… and 2 more" in result.stdout
    assert "12 of 13 objections have no receipt" in result.stderr
    missing = [json.loads(each) for each in (tmp_path / "missing.jsonl").read_text().splitlines()]
    assert [
        {"line": n + 3, "receipt": f"user-gone{n}/o-gone{n}/filed"} for n in range(12)
    ] == missing
    assert "user-a/o-a/withdrawn" in served.run(other_action, *MAPPED, "--verify").stdout


MAPPED = ("--topic", "objections", "--map", "user_id=UserID")


def test_other_topics_are_verified_by_what_workers_have_read(served: Scene, tmp_path: Path) -> None:
    """
    Ages, notices and content, from all formats at once; without an import nobody can tell.
    """
    ages = tmp_path / "ages.csv"
    ages.write_text("user_id,observed_at,birth_date\nu1,2026-04-15T09:00:00Z,1990-01-02\n")
    notices = tmp_path / "notices.jsonl"
    notices.write_text('{"user_id":"u1","notice_id":"n1","delivered_at":"2026-04-15T09:00:00Z"}\n')

    unknown = served.run("--verify", ages)
    done = served.run(ages, notices)
    verified = served.run("--verify", ages, notices)

    assert 1 == unknown.exit_code
    assert "no finished import of this file" in unknown.stderr.replace("\n", " ")
    assert (0, 0) == (done.exit_code, verified.exit_code), done.output + verified.output
    for result in (done, verified):
        assert 2 == result.stdout.count("the workers are done with all 1 rows")
    assert [(b"u1", "1990-01-02")] == [
        (key, value["birth_date"]) for key, value in served.records("account-ages")
    ]


def test_standard_input_is_imported_and_verified(served: Scene, tmp_path: Path) -> None:
    """
    A pipe has no place to go on from, but the same verification at its end.
    """
    rows = [{"user_id": f"p{n}", "form": n, "action": "filed"} for n in range(50)]
    data = "".join(json.dumps(each) + "\n" for each in rows).encode()
    options = ("--topic", "objections", "--format", "jsonl", "--id-from", "form")

    result = served.run("-", *options, stdin=data)
    verified = served.run("-", *options, "--verify", stdin=data)

    assert (0, 0) == (result.exit_code, verified.exit_code), result.output + verified.output
    for each in (result, verified):
        assert "all 50 objections have a receipt" in each.stdout
    channels = {v["channel"] for _, v in served.records("objections") if v["user_id"][0] == "p"}
    assert {"import"} == channels


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_import_goes_on_where_it_ended(
    scene: Scene, tmp_path: Path, number: signal.Signals
) -> None:
    """
    After kill -9 nothing is missing and no more is sent twice than said; after Ctrl-C nothing is.
    """
    path = objections(tmp_path / "objections.csv", range(ROWS))
    beside = places.beside(path)
    running = scene.begin(path, *MAPPED, "--rate", ROWS_PER_S, "--wait", 0)

    def is_under_way() -> bool:
        place = places.read(beside)
        return place is not None and place.rows > 0

    wait_for(is_under_way, "rows are acknowledged")
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    place = places.read(beside)
    rest = scene.run(path, *MAPPED, "--full-speed")

    assert (130 if number == signal.SIGINT else -number) == running.returncode, said
    assert place is not None
    assert 0 < place.rows < ROWS
    assert not place.finished
    assert 0 == rest.exit_code, rest.output
    assert f"went on after row {place.rows:,}" in rest.stdout
    sent = Counter(value["objection_id"] for _, value in scene.records("objections"))
    twice = sum(sent.values()) - len(sent)
    assert ROWS == len(sent)
    assert twice <= (0 if number == signal.SIGINT else ROWS_TWICE_MAX)


def test_without_a_worker_it_says_that_nobody_has_come_to_it(scene: Scene, tmp_path: Path) -> None:
    """
    It imports at full speed, says that it waits, and `--verify` names what has no receipt; another
    file under the same name, and topics made anew, are not gone on with.
    """
    path = objections(tmp_path / "objections.csv", range(3))

    done = scene.run(path, *MAPPED)
    verified = scene.run(path, *MAPPED, "--verify")
    objections(path, range(4))
    changed = scene.run(path, *MAPPED)
    anew = scene.run(path, *MAPPED, "--restart")

    told = (done, verified, changed, anew)
    assert [0, 1, 2, 0] == [each.exit_code for each in told], [each.stderr for each in told]
    assert f"No worker of group {scene.prefix}objections is running" in done.stdout
    assert "3 of 3 objections have no receipt" in verified.stderr
    assert "speaks of another file" in changed.stderr
    assert 7 == len(scene.records("objections"))


def test_a_dry_run_writes_nothing(scene: Scene, tmp_path: Path) -> None:
    """
    Neither Kafka nor the folder is written to.
    """
    path = objections(tmp_path / "objections.csv", range(3))

    assert 0 == scene.run(path, *MAPPED, "--dry-run").exit_code
    assert [] == scene.records("objections")
    assert [path] == list(tmp_path.iterdir())


def test_without_kafka_or_topics(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    No Kafka: exit status 3.  No topic: exit status 2, naming it.
    """
    path = objections(tmp_path / "objections.csv", range(3))

    away = Scene(kafka, prefix).run(path, *MAPPED, "--bootstrap", "127.0.0.1:1")
    empty = Scene(kafka, prefix).run(path, *MAPPED)

    assert (3, 2) == (away.exit_code, empty.exit_code), away.output + empty.output
    assert "Kafka at 127.0.0.1:1" in away.stderr
    assert f"has no topic {prefix}objections" in empty.stderr
    assert [path] == list(tmp_path.iterdir())

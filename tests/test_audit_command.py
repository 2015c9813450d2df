"""
`objections audit` as a process, on a real Kafka, beside a subscriber and after it.
"""

import json
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from streams.audit.run import Wanted
from streams.audit.run import audit as run
from streams.kafka.local import LocalKafka
from streams.sinks.sink import Place
from streams.testing.output_log import invent, partition_of
from tests.subscribing import STORE, Outputs, Running, SqliteScene
from tests.worker_settings import environ_of, wait_for


def audit(outputs: Outputs, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command on *outputs*."""
    return subprocess.run(
        [sys.executable, "-m", "streams.commands", "audit", *arguments],
        env=environ_of(outputs.kafka.bootstrap, outputs.settings.topic_prefix, {}),
        capture_output=True,
        text=True,
        check=False,
    )


def report_of(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """Return what `--json` printed."""
    assert "Traceback" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def alter(path: Path, *statements: str) -> None:
    """Change a store past its sink."""
    with sqlite3.connect(path) as connection:
        for each in statements:
            connection.execute(each)
    connection.close()


def test_planted_leftovers(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    Leftovers of every kind are found, named and mended beside a running subscriber; then it is
    clean, and stays right.
    """
    outputs = Outputs(kafka, prefix)
    scene = SqliteScene(outputs, tmp_path / "store.sqlite")
    log = outputs.log
    for name in ("u1", "u2", "u3"):
        log.user(name, 1)
        for number in range(4):
            log.item(f"{name}-{number}", name, 1, 1)
    log.item("u1-0", "u1", 2, 1, allowed=False)
    log.user("u3", 2, allowed=False)
    outputs.send()
    sink = ("--sink", f"sqlite:{scene.path}", "--store", STORE)
    with Running(outputs, scene.sink()) as running:
        running.wait_ready()
        wait_for(lambda: outputs.acknowledged("hidden") == outputs.ends(), "acknowledgements")
        clean = audit(outputs, *sink)
        assert (0, "") == (clean.returncode, clean.stderr)
        assert "Nothing is wrong: 7 items in the store, 7 allowed by the topics" in clean.stdout

        alter(
            scene.path,
            # An item and an account that are purged, below and above their pairs.
            "UPDATE items SET allowed = 1, epoch = 1, user_id = 'u1', product = 'instagram', "
            "kind = 'post' WHERE content_id = 'u1-0'",
            "UPDATE accounts SET allowed = 1, epoch = 99 WHERE user_id = 'u3'",
            "INSERT INTO items SELECT 'never', user_id, product, kind, modality, language, "
            "created_at, 5, 1, 1, partition, generation FROM items WHERE content_id = 'u1-1'",
            "UPDATE items SET kind = 'comment', user_id = 'u1' WHERE content_id = 'u2-1'",
            "UPDATE items SET allowed = 0 WHERE content_id = 'u2-2'",
            "DELETE FROM items WHERE content_id = 'u2-3'",
            "UPDATE items SET epoch = 77 WHERE content_id = 'u2-0'",
        )
        found = audit(outputs, *sink, "--json")
        report = report_of(found)
        assert 1 == found.returncode
        named = {(each["kind"], each["topic"], each["key"]) for each in report["findings"]}
        content, users = "training-content", "training-users"
        assert {
            ("forbidden", content, "u1-0"),
            ("forbidden", users, "instagram/u3"),
            *(("forbidden", content, f"u3-{number}") for number in range(4)),
            ("unknown", content, "never"),
            ("outdated", content, "u2-1"),
            ("missing", content, "u2-2"),
            ("missing", content, "u2-3"),
            ("memory", content, "u2-0"),
        } == named
        assert (0, 0, []) == (report["late"], report["on_their_way"], report["lag"])
        assert 7 == report["failed"]

        told = audit(outputs, *sink, "--limit", "1")
        assert 1 == told.returncode
        assert "forbidden: 6 found in the store, purged in the topics" in told.stdout
        assert "… and 5 more (--limit)" in told.stdout
        assert "7 keys were in the store that must not be. Remedy: --repair" in told.stderr

        mended = audit(outputs, *sink, "--repair")
        assert 1 == mended.returncode, "it was there"
        assert "; all mended:" in mended.stdout, mended.stdout + mended.stderr
        assert "must not be (mended" in mended.stderr
        again = report_of(audit(outputs, *sink, "--json"))
        assert {} == {kind: count for kind, count in again["counts"].items() if count}
        assert outputs.usable() == scene.usable()

        # The order of pairs holds as before: what was ahead of the topic is not any more.
        log.item("u2-0", "u2", 3, 1, allowed=False)
        log.user("u3", 3)
        outputs.send()
        scene.wait_until_equal()


def test_beside_running_traffic(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    While grants and purges go through a subscriber, no audit takes what is under way for wrong.
    """
    outputs = Outputs(kafka, prefix)
    scene = SqliteScene(outputs, tmp_path / "store.sqlite")
    invent(outputs.log, 20, seed=0)
    outputs.send()
    ending = threading.Event()

    def send() -> None:
        seed = 1
        while not ending.is_set():
            invent(outputs.log, 25, seed)
            outputs.send()
            seed += 1

    with Running(outputs, scene.sink()) as running:
        running.wait_ready()
        sender = threading.Thread(target=send)
        sender.start()
        try:
            reports = [
                run(outputs.settings, scene.sink(), Wanted("it", STORE), lambda _: None)
                for _ in range(6)
            ]
        finally:
            ending.set()
            sender.join()
        scene.wait_until_equal()

    assert [] == [each for report in reports for each in report.findings]
    assert any(report.lag for report in reports), "nothing was under way"


def test_what_is_not_acknowledged_is_late(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    Behind the topics a store is late and nothing is wrong; what it acknowledged it must hold,
    also where it went back to a backup since.
    """
    outputs = Outputs(kafka, prefix)
    scene = SqliteScene(outputs, tmp_path / "store.sqlite")
    outputs.log.user("u1", 1)
    for number in range(3):
        outputs.log.item(f"c{number}", "u1", 1, 1)
    outputs.send()
    scene.once()
    backup = scene.path.read_bytes()
    outputs.log.item("c0", "u1", 2, 1, allowed=False)
    outputs.log.item("c9", "u1", 2, 1)
    outputs.log.item("c1", "u1", 2, 2, kind="comment")
    outputs.send()
    sink = ("--sink", f"sqlite:{scene.path}", "--json", "--store", STORE)

    behind = audit(outputs, *sink)
    report = report_of(behind)
    assert 0 == behind.returncode, behind.stderr
    assert (1, 2, []) == (report["late"], report["on_their_way"], report["findings"])
    assert [4] == [each["records"] for each in report["lag"]]
    told = audit(outputs, *sink[:2])
    assert "Nothing is wrong, but 1 items are late: 3 items in the store" in told.stdout

    scene.once()
    for path in tmp_path.glob("store.sqlite*"):
        path.unlink()
    scene.path.write_bytes(backup)
    back = audit(outputs, *sink, "--repair")
    report = report_of(back)
    assert 1 == back.returncode
    assert {"forbidden": 1, "outdated": 1, "missing": 1} == {
        kind: count for kind, count in report["counts"].items() if count and kind != "memory"
    }
    assert outputs.usable() == scene.usable()
    assert 0 == audit(outputs, *sink).returncode


def test_what_is_not_erased_in_time(
    kafka: LocalKafka, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Purges that a store has hidden and not erased are named once they are past its schedule.
    """
    outputs = Outputs(kafka, prefix)
    scene = SqliteScene(outputs, tmp_path / "store.sqlite")
    outputs.log.user("u1", 1)
    outputs.log.item("c1", "u1", 1, 1)
    outputs.log.item("c1", "u1", 2, 1, allowed=False)
    outputs.send()
    sink = scene.sink(erase_every_s=3_600)
    with Running(outputs, sink) as running:
        running.wait_ready()
        wait_for(lambda: outputs.acknowledged("hidden") == outputs.ends(), "acknowledgements")
        early = run(outputs.settings, scene.sink(3_600), Wanted("it", STORE), lambda _: None)
        monkeypatch.setattr("streams.audit.run.ERASING_S", -7_300)
        late = run(outputs.settings, scene.sink(3_600), Wanted("it", STORE), lambda _: None)

    assert [] == early.unerased
    place = Place("training-content", partition_of("u1"))
    assert [place] == [Place(each.topic, each.partition) for each in late.unerased]
    assert 0 == late.found


@pytest.mark.parametrize(
    "arguments,status,said",
    [
        (("--sink", "sqlite:/no/such/store"), 2, "/no/such/store does not exist"),
        (("--sink", "ftp:x"), 2, "is of no known kind"),
        (("--sink", "redis://127.0.0.1:1/0"), 3, "Redis at 127.0.0.1:1 cannot be reached"),
        (("--sink", "sqlite:x", "--store", "a b"), 2, "--store is 'a b'"),
    ],
)
def test_asked_wrongly(arguments: tuple[str, ...], status: int, said: str) -> None:
    """
    What cannot be is refused with what was found, what is expected and the exit status for it.
    """
    done = subprocess.run(
        [sys.executable, "-m", "streams.commands", "audit", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )

    assert status == done.returncode, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_was_never_filled(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    Nothing is said to be right of a store that nobody has ever filled.
    """
    outputs = Outputs(kafka, prefix)
    path = tmp_path / "other.sqlite"
    sqlite3.connect(path).close()

    done = audit(outputs, "--sink", f"sqlite:{path}")

    assert 2 == done.returncode
    assert "holds no item and no position: nothing was ever applied to it" in done.stderr

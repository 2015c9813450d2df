"""
The demo does what it shows: it proves its own outcome, finds what is wrong, and leaves nothing.

It runs as a process of its own on the tests' Kafka; a Kafka of its own is started by LocalKafka,
which has its own tests.
"""

import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable, write_deltalake
from rich.console import Console

from streams.core.policy import Policy
from streams.demo import run
from streams.demo.check import store_differences
from streams.demo.figures import Figures
from streams.demo.report import Report
from streams.demo.stores import FEATURE_STORE, TRAINING_INDEX, DeltaStore, SqliteStore
from streams.errors import CheckFailed
from streams.kafka.local import LocalKafka
from streams.proof import INPUTS, Truth, expected, read
from streams.settings import Settings
from tests.worker_process import wait_for

WAIT_S = 90.0
STOP_S = 30.0


class RunningDemo:
    """A demo that was started with *arguments*; its folder is made under *place*."""

    def __init__(self, kafka: LocalKafka, place: Path, *arguments: str) -> None:
        self.place = place
        self.out = place / "out.txt"
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams.commands", "demo", "--bootstrap", kafka.bootstrap,
                 *arguments],
                stdout=out,
                stderr=out,
                env=os.environ | {"TMPDIR": str(place), "COLUMNS": "200"},
            )  # fmt: skip

    @property
    def said(self) -> str:
        """All it has said."""
        return self.out.read_text()

    @property
    def workers(self) -> list[psutil.Process]:
        """Its worker, if that runs."""
        return self.running("worker")

    def running(self, command: str) -> list[psutil.Process]:
        """Return its processes that run `objections` *command*."""
        children = psutil.Process(self.process.pid).children()
        return [each for each in children if command in each.cmdline()]

    @property
    def folders(self) -> list[Path]:
        """What it has left on the disk."""
        return list(self.place.glob("objections-demo-*"))

    def wait(self, condition: Callable[[], object]) -> None:
        """Return when *condition* holds."""
        deadline_s = time.monotonic() + WAIT_S
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline_s, self.said
            time.sleep(0.05)

    def end(self, number: int = signal.SIGINT) -> int:
        """Interrupt it; return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


@contextmanager
def started(kafka: LocalKafka, place: Path, *arguments: str) -> Iterator[RunningDemo]:
    """Run a demo; nothing of it is left running."""
    demo = RunningDemo(kafka, place, *arguments)
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.end(signal.SIGTERM)


def topics_of(kafka: LocalKafka) -> set[str]:
    """Return the names of all topics of demos."""
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})
    return {name for name in client.list_topics(timeout=10).topics if name.startswith("demo-")}


@pytest.fixture(scope="module")
def kept(
    kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningDemo, dict[str, Any]]]:
    """Return a demo that has ended well and keeps running, and its figures."""
    place = tmp_path_factory.mktemp("demo")
    with started(kafka, place, "--keep", "--json", str(place / "figures.json")) as demo:
        demo.wait(lambda: "until Ctrl-C" in demo.said)
        yield demo, json.loads((place / "figures.json").read_text())


@pytest.fixture
def truth(kafka: LocalKafka, kept: tuple[RunningDemo, dict[str, Any]]) -> Truth:
    """Return what the kept demo's stores must hold."""
    settings = Settings(bootstrap=kafka.bootstrap, topic_prefix=kept[1]["prefix"])
    return expected(read(settings, INPUTS), Policy(), time.time_ns() // 1_000_000)


@pytest.fixture
def features(kept: tuple[RunningDemo, dict[str, Any]], tmp_path: Path) -> SqliteStore:
    """Return a copy of the kept demo's feature table."""
    copy = SqliteStore(FEATURE_STORE, tmp_path / "features.sqlite")
    (folder,) = kept[0].folders
    with sqlite3.connect(folder / copy.path.name) as source, sqlite3.connect(copy.path) as target:
        source.backup(target)
    return copy


@pytest.fixture
def index(kept: tuple[RunningDemo, dict[str, Any]], tmp_path: Path) -> DeltaStore:
    """Return a copy of the kept demo's training index; nobody writes there any more."""
    copy = DeltaStore(TRAINING_INDEX, tmp_path / "index")
    (folder,) = kept[0].folders
    shutil.copytree(folder / copy.path.name, copy.path)
    return copy


@pytest.mark.parametrize(
    "change, named",
    [
        ("", None),
        ("UPDATE items SET allowed = 1 WHERE content_id = :purged", "its data is in the store"),
        ("DELETE FROM items WHERE content_id = :usable", "may be used, but cannot be reached"),
        ("UPDATE items SET language = 'xx' WHERE content_id = :usable", "language='xx'"),
        ("UPDATE accounts SET allowed = 0 WHERE allowed", "may be used, but cannot be reached"),
        ("UPDATE items SET user_id = 'u' WHERE content_id = :purged", "its data is in the store"),
    ],
)
def test_a_feature_table_that_was_tampered_with_is_found(
    features: SqliteStore, truth: Truth, change: str, named: str | None
) -> None:
    """
    The check passes a store as the demo left it; one row changed in it fails, and is named.
    """
    with sqlite3.connect(features.path) as store:
        purged = store.execute("SELECT min(content_id) FROM items WHERE NOT allowed").fetchone()[0]
        usable = store.execute("SELECT min(content_id) FROM usable").fetchone()[0]
        store.execute(change, {"purged": purged, "usable": usable})

    found = store_differences(truth, features)

    assert_named(found, FEATURE_STORE, named)


def changed(rows: pa.Table, name: str, value: str) -> pa.Table:
    """Return *rows* with *value* in the column *name*."""
    column = pa.array([value] * rows.num_rows)
    return rows.set_column(rows.schema.get_field_index(name), name, column)


def rewrite(table: DeltaTable, change: Callable[[pa.Table], pa.Table]) -> None:
    """Put what *change* makes of the rows of *table* in their place."""
    write_deltalake(table, change(table.to_pyarrow_table()), mode="overwrite")


def smuggle(table: DeltaTable) -> None:
    """Put an item into *table* that nobody allowed."""
    row = table.to_pyarrow_table().slice(0, 1)
    write_deltalake(table, changed(row, "content_id", "smuggled"), mode="append")


def smuggle_file(table: DeltaTable) -> None:
    """Leave a file of *table* behind that holds such an item, in no version of it."""
    before = table.version()
    smuggle(table)
    folder = Path(table.table_uri.removeprefix("file:"))
    (folder / "_delta_log" / f"{before + 1:020}.json").unlink()


@pytest.mark.parametrize(
    "tamper, named",
    [
        (lambda _: None, None),
        (lambda table: rewrite(table, lambda rows: rows.slice(1)), "cannot be reached"),
        (lambda table: rewrite(table, lambda rows: changed(rows, "language", "xx")), "'xx'"),
        (smuggle, "smuggled: can be reached, but may not be used"),
        (smuggle_file, "smuggled: its data is in the store"),
    ],
)
def test_a_training_index_that_was_tampered_with_is_found(
    index: DeltaStore, truth: Truth, tamper: Callable[[DeltaTable], None], named: str | None
) -> None:
    """
    The same of tables, and of a file that no table refers to: the bytes are what counts.
    """
    tamper(DeltaTable(index.path / "items"))

    found = store_differences(truth, index)

    assert_named(found, TRAINING_INDEX, named)


def assert_named(found: list[str], name: str, named: str | None) -> None:
    """Check that nothing was found, or what is *named* of the store *name*."""
    if named is None:
        assert [] == found
    else:
        assert [line for line in found if named in line and line.startswith(name)], found


def test_figures_are_sane(kept: tuple[RunningDemo, dict[str, Any]]) -> None:
    """
    The demo takes under a minute; objections purge, also the largest account, and are measured.
    """
    demo, figures = kept
    latencies = figures["latencies"]

    assert figures["ok"]
    assert [] == figures["differences"]
    assert figures["seconds"] < 60
    assert 286 == figures["users_known"]
    assert 19_000 < figures["items_known"] < 20_000
    assert 0 < figures["items_allowed"] < figures["items_allowed_before"]
    assert figures["items_purged"] > figures["largest_account_items_purged"] > 1_000
    for field in ("partial", "withdrawn"):
        assert 0 < figures[f"objections_{field}"] < figures["objections_filed"]
    assert figures["under_age"] > 0
    assert figures["late_items"] > 100
    assert {
        "decided",
        "published",
        "hidden in feature-store",
        "erased from feature-store",
        "hidden in training-index",
        "erased from training-index",
    } == latencies.keys()
    for each in latencies.values():
        assert 0 <= each["p50_ms"] <= each["p99_ms"] <= each["worst_ms"] < 30_000
        assert each["objections"] > 20
    for store in (FEATURE_STORE, TRAINING_INDEX):
        hidden, erased = (latencies[f"{what} {store}"] for what in ("hidden in", "erased from"))
        assert latencies["published"]["p50_ms"] <= hidden["p50_ms"] <= erased["p50_ms"]
    assert "Proven" in demo.said


def test_the_receipt_is_what_the_command_prints(
    kept: tuple[RunningDemo, dict[str, Any]], kafka: LocalKafka
) -> None:
    """
    The demo shows the largest account's receipt, complete, as `objections receipt` prints it.
    """
    demo, figures = kept
    objection_id = figures["receipt"][0].split()[1]
    printed = subprocess.run(
        [sys.executable, "-m", "streams.commands", "receipt", objection_id],
        env=os.environ
        | {
            "OBJECTIONS_BOOTSTRAP": kafka.bootstrap,
            "OBJECTIONS_TOPIC_PREFIX": figures["prefix"],
        },
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert figures["receipt"] == printed.splitlines()
    assert printed in demo.said
    assert re.search(r"published +after .*, \d{4} items", printed)
    for store in (FEATURE_STORE, TRAINING_INDEX):
        assert re.search(rf"{store} +hidden after .*, erased after ", printed)


def test_kept_running_it_can_be_looked_at_and_leaves_nothing(
    kafka: LocalKafka, kept: tuple[RunningDemo, dict[str, Any]]
) -> None:
    """
    Addresses are printed and answer; after Ctrl-C status 0, and no process, file or topic is left.
    """
    demo, figures = kept
    processes = [*demo.workers, *demo.running("subscribe")]
    (features,) = re.findall(r"sqlite3 (\S+) 'SELECT \* FROM usable'", demo.said)
    (look,) = re.findall(r'python -c "(.*)"', demo.said)

    assert 3 == len(processes)
    with sqlite3.connect(features) as store:
        usable = store.execute("SELECT count(*) FROM usable").fetchone()[0]
    assert figures["items_allowed"] == usable
    shown = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True)
    assert "content_id" in shown.stdout
    assert kafka.bootstrap in demo.said
    assert re.search(r"worker +http://127\.0\.0\.1:\d+/", demo.said)
    assert {name for name in topics_of(kafka) if name.startswith(figures["prefix"])}

    assert 0 == demo.end()

    assert not any(each.is_running() for each in processes)
    assert [] == demo.folders
    wait_for(
        lambda: not {name for name in topics_of(kafka) if name.startswith(figures["prefix"])},
        "its topics to go",
    )


@pytest.mark.parametrize(
    "command, named, log",
    [
        ("worker", "the worker", "worker.log"),
        (TRAINING_INDEX, f"the subscriber of {TRAINING_INDEX}", f"{TRAINING_INDEX}.log"),
    ],
)
def test_a_process_that_dies_ends_the_demo(
    kafka: LocalKafka, tmp_path: Path, command: str, named: str, log: str
) -> None:
    """
    Status 1, and what is said names who ended and the tail of its log, which is kept.
    """
    with started(kafka, tmp_path) as demo:
        demo.wait(lambda: "deciding" in demo.said or "sending" in demo.said)
        (died,) = demo.running(command if command == "worker" else f"--store={command}")
        died.kill()

        assert 1 == demo.process.wait(STOP_S)
    assert f"{named} ended with status -9" in demo.said
    (folder,) = demo.folders
    told = (folder / log).read_text().splitlines()
    assert told
    assert told[-1][-50:] in demo.said
    assert "Traceback" not in demo.said


def test_ctrl_c_at_any_time_leaves_nothing(kafka: LocalKafka, tmp_path: Path) -> None:
    """
    Interrupted while it works: status 130, no process, no file, no topic, no traceback.
    """
    before = topics_of(kafka)
    with started(kafka, tmp_path) as demo:
        demo.wait(lambda: "Starting a worker" in demo.said and demo.workers)
        processes = [*demo.workers, *demo.running("subscribe")]

        assert 130 == demo.end()
    assert "Traceback" not in demo.said
    assert not any(each.is_running() for each in processes)
    assert [] == demo.folders
    wait_for(lambda: topics_of(kafka) <= before, "its topics to go")


def test_what_is_wrong_fails_the_demo(
    kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An item smuggled into a store while the demo runs ends it with `CheckFailed`, and is named.
    """
    told: list[Figures] = []
    honest = run.Demo.play

    def smuggle(demo: run.Demo) -> Figures:
        (path,) = tmp_path.glob("objections-demo-*/features.sqlite")
        with sqlite3.connect(path, timeout=STOP_S) as store:
            store.execute("INSERT INTO items (content_id, user_id, allowed) VALUES ('x', 'u', 1)")
        return honest(demo)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(run, "APPLIED_TIMEOUT_S", 2.0)
    monkeypatch.setattr(run.Demo, "play", smuggle)
    out = io.StringIO()
    report = Report(Console(file=out, width=200))

    with pytest.raises(CheckFailed) as failed:
        run.run_demo(run.Options(kafka.bootstrap), report, told.append)

    shutil.rmtree(next(tmp_path.glob("objections-demo-*")))

    line = f"{FEATURE_STORE} x: its data is in the store, but may not be used"
    assert 1 == failed.value.exit_status
    assert line in told[0].differences
    assert line in out.getvalue()

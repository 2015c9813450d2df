"""
`objections subscribe` as a process: killed at any moment, stopped in order, and asked wrongly.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.errors import UsageProblem
from streams.kafka.local import LocalKafka
from streams.sinks.sqlite import SqliteSink
from streams.sinks.urls import make_sink
from streams.testing.output_log import invent
from tests.subscribing import STORE, Outputs, SqliteScene
from tests.worker_settings import environ_of, wait_for


def start(outputs: Outputs, *arguments: str) -> "subprocess.Popen[str]":
    """Start the command on *outputs*."""
    environ = environ_of(
        outputs.kafka.bootstrap,
        outputs.settings.topic_prefix,
        {"SESSION_TIMEOUT_MS": 1_000},  # how long the group waits for one that was killed
    )
    return subprocess.Popen(
        [sys.executable, "-m", "streams.commands", "subscribe", "--store", STORE, *arguments],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_at_any_moment(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    Killed again and again while it follows: nothing is lost, and nothing purged comes back.
    """
    outputs = Outputs(kafka, prefix)
    scene = SqliteScene(outputs, tmp_path / "store.sqlite")
    moments = random.Random(1)
    for number in range(4):
        invent(outputs.log, 60, seed=number)
        outputs.send()
        process = start(outputs, "--sink", f"sqlite:{scene.path}")
        wait_for(lambda number=number: rows(scene.path) > 6 * number, "some of it")  # type: ignore[misc]
        time.sleep(moments.random() * 0.05)
        process.kill()
        process.communicate()

    with start(outputs, "--sink", f"sqlite:{scene.path}", "--once") as process:
        _, told = process.communicate(timeout=60)

    assert 0 == process.returncode, told
    assert f"{STORE} is ready: 4 partitions" in told
    assert outputs.usable() == scene.usable()
    assert outputs.ends() == outputs.acknowledged("erased")


def rows(path: Path) -> int:
    """Return how many keys the store has heard of in its highest epoch, in tens of changes."""
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        return 0
    try:
        ((epoch,),) = connection.execute("SELECT max(epoch) FROM items").fetchall()
    except sqlite3.OperationalError:
        return 0  # not made yet
    finally:
        connection.close()
    return (epoch or 0) // 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_order(
    kafka: LocalKafka, prefix: str, tmp_path: Path, number: signal.Signals
) -> None:
    """
    A signal ends it with status 0 once all it applied is acknowledged; the ready file goes.
    """
    outputs = Outputs(kafka, prefix)
    outputs.log.user("u1", 1)
    outputs.log.item("c1", "u1", 1, 1)
    outputs.send()
    ready = tmp_path / "ready"
    url = f"sqlite://{tmp_path}/store.sqlite?erase_every_s=0"
    with start(outputs, "--sink", url, "--ready-file", str(ready)) as process:
        wait_for(ready.exists, "the ready file")
        process.send_signal(number)
        _, told = process.communicate(timeout=60)

    assert 0 == process.returncode, told
    assert "Traceback" not in told
    assert not ready.exists()
    assert outputs.ends() == outputs.acknowledged("hidden") == outputs.acknowledged("erased")


@pytest.mark.parametrize(
    "arguments,status,said",
    [
        (("--sink", "ftp://x"), 2, "'ftp://x' is of no known kind; expected one of redis:"),
        (("--sink", "sqlite://"), 2, "names no path; expected sqlite:///absolute/path"),
        (("--sink", "sqlite:x", "--store", "a b"), 2, "--store is 'a b', expected a name"),
        (("--sink", "sqlite:x", "--topics", "eligibility"), 2, "--topics is 'eligibility'"),
        (("--sink", "sqlite:/no/such/x"), 3, "/no/such/x cannot be opened"),
    ],
)
def test_asked_wrongly(arguments: tuple[str, ...], status: int, said: str) -> None:
    """
    What cannot be is refused with what was found, what is expected and the exit status for it.
    """
    told = subprocess.run(
        [sys.executable, "-m", "streams.commands", "subscribe", "--store", STORE, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OBJECTIONS_BOOTSTRAP": "127.0.0.1:1"},
    )

    assert status == told.returncode, told.stderr
    assert said in told.stderr
    assert "Traceback" not in told.stderr


def test_urls() -> None:
    """
    A URL is a path with options of all sinks, or what a client of the store takes.
    """
    relative = make_sink("sqlite:store.sqlite?erase_every_s=7")

    assert isinstance(relative, SqliteSink)
    assert 7.0 == relative.erase_every_s
    with pytest.raises(UsageProblem, match="could not convert"):
        make_sink("sqlite:store.sqlite?erase_every_s=often")
    with pytest.raises(UsageProblem, match=r"oracle://me:\(hidden\)@host"):
        make_sink("oracle://me:secret@host/x")

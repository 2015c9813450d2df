"""
A worker whose call to Kafka does not come back, or never does what it is asked for, ends.
"""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streams.errors import Halt
from streams.kafka.local import LocalKafka
from streams.worker import transaction
from streams.worker.transaction import Publisher
from streams.worker.watchdog import LOOKS_MAX, Call, Watchdog
from tests.worker_settings import settings_of

END_S = 30.0


def test_a_call_that_does_not_come_back_ends_the_worker() -> None:
    """Not the first slow one, nor as many in turn; and it is named."""
    said: list[str] = []
    call = Call("commit")
    calls = [None, *(Call("commit") for _ in range(LOOKS_MAX)), *[call] * (LOOKS_MAX + 1)]
    watchdog = Watchdog(iter(calls).__next__, said.append)

    for _ in calls[:-1]:
        watchdog.look()
    assert not said
    watchdog.look()

    assert 1 == len(said)
    assert said[0].startswith("commit: a call to Kafka has not come back for 20 s")


def test_a_worker_without_calls_goes_on() -> None:
    """However long it is idle."""
    said: list[str] = []
    watchdog = Watchdog(lambda: None, said.append)

    for _ in range(2 * LOOKS_MAX):
        watchdog.look()

    assert not said


def test_the_process_ends_with_the_reason(tmp_path: Path) -> None:
    """With status 1 and a last line, whatever its other threads are waiting for."""
    script = (
        "import logging, threading, streams.worker.watchdog as w; w.LOOK_S = 0.01\n"
        "logging.basicConfig(); call = w.Call('send_offsets'); w.Watchdog(lambda: call).start()\n"
        "threading.Event().wait()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
        cwd=tmp_path,
    )

    assert 1 == done.returncode
    (line,) = done.stderr.splitlines()
    assert "send_offsets: a call to Kafka has not come back" in line
    assert line.endswith("Start the worker again")


def test_what_kafka_does_not_do_in_time_ends_the_worker(
    kafka: LocalKafka,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kafka stands still: the same call is made again, and given up with the last answer."""
    monkeypatch.setattr(transaction, "INSIST_S", 1.0)
    monkeypatch.setattr(transaction, "CALL_TIMEOUT_S", 0.6)
    publisher = Publisher(settings_of(kafka, prefix), f"{prefix}worker")
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        with (
            caplog.at_level(logging.WARNING, transaction.__name__),
            pytest.raises(Halt, match=r"init_transactions: Kafka has not done it for 1 s: .+again"),
        ):
            publisher.start()
    finally:
        os.kill(kafka.pid, signal.SIGCONT)
        publisher.close()
    assert "trying again in" in caplog.text
    assert publisher.call is None

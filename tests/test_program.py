"""
Programs that end with us, at whatever moment we are interrupted.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from streams.kafka.local import LocalKafka
from streams.program import Program

SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[psutil.Process]:
    """
    Interrupt us as soon as a program has started; return that.

    The signal comes when the process is there, and nobody has been told of it yet.
    """
    started: list[psutil.Process] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, command: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(command, *arguments, **options)
            if not started and (command[-1] == SLEEP or "kafka.Kafka" in command):
                started.append(psutil.Process(self.pid))
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    return started


def test_ctrl_c_while_it_starts_leaves_no_process(
    tmp_path: Path, started: list[psutil.Process]
) -> None:
    """And acts as it would have otherwise."""
    command = [sys.executable, "-c", SLEEP]
    before = signal.getsignal(signal.SIGINT)

    with (
        pytest.raises(KeyboardInterrupt),
        Program("a program", command, dict(os.environ), tmp_path / "log"),
    ):
        raise AssertionError("it was interrupted before")

    (process,) = started
    assert not process.is_running()
    assert before == signal.getsignal(signal.SIGINT)


def test_ctrl_c_while_kafka_starts_leaves_no_process(
    tmp_path: Path, started: list[psutil.Process]
) -> None:
    """Nor a port that is taken."""
    kafka = LocalKafka(tmp_path)

    with pytest.raises(KeyboardInterrupt):
        kafka.start()

    (process,) = started
    assert not process.is_running()
    assert not kafka.running

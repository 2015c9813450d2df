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

from streams.program import Program


def test_ctrl_c_while_it_starts_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes when the process is there, and nobody has been told of it yet."""
    started: list[psutil.Process] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            if not started:
                started.append(psutil.Process(self.pid))
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    before = signal.getsignal(signal.SIGINT)

    with (
        pytest.raises(KeyboardInterrupt),
        Program("a program", command, dict(os.environ), tmp_path / "log"),
    ):
        raise AssertionError("it was interrupted before")

    (process,) = started
    assert not process.is_running()
    assert before == signal.getsignal(signal.SIGINT)

"""
`objections bench` as tests run it: behind others, as it takes all the time there is.

Beside it other tests look whether a worker is on time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from streams.kafka.local import LocalKafka

TIMEOUT_S: Final = 300  # the first time peers are fetched, which takes a minute or two
BATCH_RECORDS: Final = "50"  # or a small input is done before any clock can start


def bench(kafka: LocalKafka, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run `objections bench` and return its JSON."""
    path = folder / "bench.json"
    done = subprocess.run(
        [
            *("nice", "-n", "10"),
            *(sys.executable, "-c", "from streams.commands import main; main()", "bench"),
            *arguments,
            f"--json={path}",
            f"--bootstrap={kafka.bootstrap}",
        ],
        env=dict(os.environ) | {"TMPDIR": str(folder), "OBJECTIONS_BATCH_RECORDS": BATCH_RECORDS},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    content: dict[str, Any] = json.loads(path.read_text())
    return content

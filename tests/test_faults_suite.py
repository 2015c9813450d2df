"""
The fault suite in its quick form: the faults that no other test brings about, one of each kind,
on three brokers.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

KINDS: Final = ("one-broker-kill", "network-cut", "group-coordinator", "clock", "store")
SEED: Final = 23446  # its first five are one of each, and short; both brokers are killed
TIMEOUT_S: Final = 400


def test_lost_brokers_cut_connections_a_damaged_store_and_a_wrong_clock_do_no_harm(
    tmp_path: Path,
) -> None:
    """
    One after another under load: a broker of three is killed, and then the one that keeps the
    workers' group, until another keeps it.  What stands in the end is what the inputs say.
    """
    path = tmp_path / "faults.json"
    done = subprocess.run(
        [
            *("nice", "-n", "5"),  # beside it other tests look whether a worker is on time
            *(sys.executable, "-c", "from streams.commands import main; main()"),
            *("bench", "faults", "--brokers=3", f"--seed={SEED}", f"--kinds={','.join(KINDS)}"),
            *(f"--faults={len(KINDS)}", "--minutes=3", "--rate=150", f"--json={path}"),
        ],
        env=dict(os.environ) | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    content = json.loads(path.read_text())
    assert dict.fromkeys(KINDS, 1) == {
        kind: about["times"] for kind, about in content["faults"].items()
    }
    assert [] == content["violations"]
    assert min(content["objections"].values(), default=0) > 0
    assert min(content["items"].values(), default=0) > 0
    assert "kernel network" in content["skipped"]

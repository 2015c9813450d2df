"""
Applies batches to a store in a process of its own, to be killed half-way or run beside others.

`python -m streams.testing.child` reads a pickled (factory, batches) from standard input and writes
a line once the store is open, and the number of each batch once it is applied.
"""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

from streams.sinks.sink import Batch, Sink

OPEN: Final = "open"


def start(factory: Callable[[], Sink], batches: Sequence[Batch]) -> subprocess.Popen[str]:
    """Start a process that applies *batches*; *factory* must pickle."""
    child = subprocess.Popen(
        [sys.executable, "-m", "streams.testing.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(sys.path) + "\n")
    child.stdin.write(pickle.dumps((factory, list(batches))).hex() + "\n")
    child.stdin.flush()
    return child


def wait_for(child: "subprocess.Popen[str]", wanted: str) -> None:
    """Return when *child* has written the line *wanted*; fails when it ends before."""
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == wanted:
            return
    message = f"the child ended with status {child.wait()} before it said {wanted!r}"
    raise AssertionError(message)


def finish(child: "subprocess.Popen[str]") -> None:
    """Return when *child* has ended well."""
    with child:
        child.communicate()
    assert child.returncode == 0, f"the child ended with status {child.returncode}"


def kill(child: "subprocess.Popen[str]") -> None:
    """End *child* at once, wherever it is."""
    with child:
        child.kill()


def main() -> None:
    """Do what standard input says."""
    # The factory's module may lie where only the parent looked; so its paths come first.
    sys.path += [path for path in json.loads(sys.stdin.readline()) if path not in sys.path]
    factory: Callable[[], Sink]
    batches: list[Batch]
    factory, batches = pickle.loads(bytes.fromhex(sys.stdin.readline()))  # noqa: S301 - our parent
    sink = factory()
    sink.open()
    print(OPEN, flush=True)
    for number, each in enumerate(batches):
        sink.apply(each)
        print(number, flush=True)
    sink.close()


if __name__ == "__main__":
    main()

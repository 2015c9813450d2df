"""
Looks for bytes that a decoder does not take as it should, guided by what code they reach.

    pip install atheris                       (Linux, Python 3.11 to 3.13; not among the extras)
    python -m tests.fuzz.search --list
    python -m tests.fuzz.search "value in objections" --seconds 60
    python -m tests.fuzz.search --all --seconds 600

`--seconds` is for each decoder.  What it finds is written to `crash-...` in the folder `--keep`
(default: a temporary one) and told with its traceback; exit status 1.  What was found belongs
into NASTY of tests/test_fuzz.py.
"""

import argparse
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> int:
    """Search one decoder in this process, or several in one of their own each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("decoder", nargs="?", help="its name, as --list tells it")
    parser.add_argument("--list", action="store_true", help="the names of all decoders")
    parser.add_argument("--all", action="store_true", help="one after the other")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", type=Path, help="where inputs are kept from one run to the next")
    options = parser.parse_args()
    if options.list or options.all:
        from tests.fuzz.decoders import DECODERS

        if options.list:
            sys.stdout.write("\n".join(DECODERS) + "\n")
            return 0
        with tempfile.TemporaryDirectory(prefix="objections-fuzz-") as made:
            keep = options.keep or Path(made)
            return max(_search_apart(name, options.seconds, keep) for name in DECODERS)
    if options.decoder is None:
        parser.error("nothing says what to search, expected a decoder, --all or --list")
    with tempfile.TemporaryDirectory(prefix="objections-fuzz-") as made:
        _search(options.decoder, options.seconds, options.keep or Path(made))
    return 0


def _search_apart(name: str, seconds: int, keep: Path) -> int:
    command = [sys.executable, "-m", "tests.fuzz.search", name]
    command += ["--seconds", str(seconds), "--keep", str(keep)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    lines = done.stdout.splitlines()
    said = next((line for line in reversed(lines) if line.startswith(("Done", "stat::"))), "")
    sys.stdout.write(f"{name}: {'ok' if done.returncode == 0 else 'FAILED'} {said}\n")
    if done.returncode:
        begin = next((at for at, line in enumerate(lines) if "Uncaught" in line), -40)
        sys.stdout.write("\n".join(lines[begin:]) + "\n")
    return min(done.returncode, 1)


def _search(name: str, seconds: int, keep: Path) -> None:
    try:
        atheris: Any = import_module("atheris")
    except ImportError:
        sys.exit("atheris is not installed. Remedy: pip install atheris")
    with atheris.instrument_imports(include=["streams"]):
        from tests.fuzz.decoders import DECODERS
    if name not in DECODERS:
        sys.exit(f"{name!r} is no decoder. Remedy: see --list")
    decoder = DECODERS[name]
    folder = keep / name.replace(" ", "-").replace(",", "").replace("'", "")
    folder.mkdir(parents=True, exist_ok=True)
    for number, good in enumerate(decoder.good):
        (folder / f"good-{number}").write_bytes(good)

    def feed(data: bytes) -> None:
        with suppress(*decoder.errors):
            decoder.feed(data)

    limits = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", f"-max_total_time={seconds}"]
    atheris.Setup([sys.argv[0], str(folder), f"-artifact_prefix={keep}/", *limits], feed)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())

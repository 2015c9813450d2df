"""
Build the files of `deploy/` that repeat what stands elsewhere; run it from the repository's root.

    python -m deploy.derived [--check]
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from deploy.derived.build import FOLDER, built
from deploy.derived.files import keep

_DOES: Final = "Build asyncapi.yaml and the Helm chart's files; run it from the repository's root."


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 1 where `--check` finds a file that is not what is built."""
    parser = argparse.ArgumentParser(prog="python -m deploy.derived", description=_DOES)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 when a file would change"
    )
    parser.add_argument(
        "--out", type=Path, default=FOLDER, metavar="FOLDER", help="default: the folder deploy"
    )
    chosen = parser.parse_args(arguments)
    if not chosen.out.is_dir():
        parser.error(f"--out is '{chosen.out}', which is no folder; expected one that exists")
    files = {chosen.out / name: text for name, text in built().items()}
    return keep(files, "python -m deploy.derived", check=chosen.check)


if __name__ == "__main__":
    sys.exit(main())

"""
Build `rules.yml` and `dashboard.json` beside this file; run it from the repository's root.

    python -m deploy.monitoring [--runbook URL] [--check]
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from deploy.derived.files import keep
from deploy.monitoring.build import FOLDER, built
from deploy.monitoring.rules import RUNBOOK

_DOES: Final = "Build rules.yml and dashboard.json; run it from the repository's root."


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 1 where `--check` finds a file that is not what is built."""
    parser = argparse.ArgumentParser(prog="python -m deploy.monitoring", description=_DOES)
    parser.add_argument(
        "--runbook",
        default=RUNBOOK,
        metavar="URL",
        help="where people find RUNBOOK.md, rendered with anchors (default: %(default)s)",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 when a file would change"
    )
    parser.add_argument(
        "--out", type=Path, default=FOLDER, metavar="FOLDER", help="default: this file's folder"
    )
    chosen = parser.parse_args(arguments)
    if not chosen.out.is_dir():
        parser.error(f"--out is '{chosen.out}', which is no folder; expected one that exists")
    files = {chosen.out / name: text for name, text in built(chosen.runbook).items()}
    return keep(files, "python -m deploy.monitoring", check=chosen.check)


if __name__ == "__main__":
    sys.exit(main())

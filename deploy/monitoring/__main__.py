"""
Build `rules.yml` and `dashboard.json` beside this file; run it from the repository's root.

    python -m deploy.monitoring [--runbook URL] [--check]
"""

import argparse
import sys
from pathlib import Path
from typing import Final

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
    status = 0
    for name, text in built(chosen.runbook).items():
        path: Path = chosen.out / name
        if not chosen.check:
            path.write_text(text, "utf-8")
            print(path)
        elif not path.exists() or path.read_text("utf-8") != text:
            print(f"{path} is not what is built: run python -m deploy.monitoring", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())

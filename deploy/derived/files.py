"""Built files: written, or compared with what lies there."""

import sys
from collections.abc import Mapping
from pathlib import Path


def keep(built: Mapping[Path, str], command: str, *, check: bool) -> int:
    """
    Write the files *built* and print their paths; with *check* only compare.

    Returns the exit status: 1 where a file is not what is built, which *command* would mend.
    """
    status = 0
    for path, text in built.items():
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            print(path)
        elif not path.exists() or path.read_text("utf-8") != text:
            print(f"{path} is not what is built: run {command}", file=sys.stderr)
            status = 1
    return status

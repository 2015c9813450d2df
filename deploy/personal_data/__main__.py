"""
Build `README.md` beside this file; run it from the repository's root.

    python -m deploy.personal_data [--check]
"""

import argparse
import sys

from deploy.personal_data.page import PAGE, page

_DOES = "Build the page on personal data; run it from the repository's root."


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 1 where `--check` finds another page than is built."""
    parser = argparse.ArgumentParser(prog="python -m deploy.personal_data", description=_DOES)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 when the page would change"
    )
    if not parser.parse_args(arguments).check:
        PAGE.write_text(page(), "utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text("utf-8") == page():
        return 0
    print(f"{PAGE} is out of date: run python -m deploy.personal_data", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

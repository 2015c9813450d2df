"""
Build `README.md` beside this file; run it from the repository's root.

    python -m deploy.personal_data [--check]
"""

import argparse
import sys

from deploy.derived.files import keep
from deploy.personal_data.page import PAGE, page

_DOES = "Build the page on personal data; run it from the repository's root."


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 1 where `--check` finds another page than is built."""
    parser = argparse.ArgumentParser(prog="python -m deploy.personal_data", description=_DOES)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 when the page would change"
    )
    check = parser.parse_args(arguments).check
    return keep({PAGE: page()}, "python -m deploy.personal_data", check=check)


if __name__ == "__main__":
    sys.exit(main())

"""
The contract's sentences and the tests that hold them: `python -m tests.contract_table` prints it.
"""

import tomllib
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("contract_sentences.toml")


def sentences() -> list[dict[str, Any]]:
    """Return all rows: section, quote, tests, and `open` where there is none."""
    found: list[dict[str, Any]] = tomllib.loads(TABLE.read_text("utf-8"))["sentence"]
    return found


def as_markdown() -> str:
    """Return the table for people."""
    lines = ["| section | sentence | tests |", "|---|---|---|"]
    for each in sentences():
        held_by = ", ".join(f"`{name}`" for name in each["tests"]) or f"open: {each['open']}"
        lines.append(f"| {each['section']} | {each['quote'].replace('|', '/')} | {held_by} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(as_markdown())

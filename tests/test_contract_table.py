"""The table of the contract's sentences names tests that exist."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.contract_table import as_markdown, sentences

FOLDER = Path(__file__).parent


def names_of_tests() -> set[str]:
    """Return the ids of all tests as pytest takes them, read from the source alone."""
    return {
        f"tests/{path.name}::{name}"
        for path in FOLDER.glob("test_*.py")
        for name in _tests_in(ast.parse(path.read_text("utf-8")).body)
    }


def _tests_in(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from (f"{node.name}::{name}" for name in _tests_in(node.body))


def test_every_sentence_has_a_test_or_a_reason() -> None:
    """A row has tests, or says why there is none; not both."""
    wrong = [each["quote"] for each in sentences() if bool(each["tests"]) == bool(each.get("open"))]

    assert [] == wrong


def test_every_test_named_exists() -> None:
    """Whoever renames a test mends the table."""
    known = names_of_tests()

    assert set() == {name for each in sentences() for name in each["tests"]} - known


def test_no_sentence_is_told_twice_and_all_are_shown() -> None:
    """The rendered table has a line for each row."""
    quotes = [each["quote"] for each in sentences()]

    assert len(quotes) == len(set(quotes))
    assert len(quotes) + 2 == len(as_markdown().splitlines())

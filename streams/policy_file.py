"""
A policy's YAML file -> `Policy`, or every problem with the line it stands on.

The text of a plain value counts, not what YAML 1.1 makes of it: `NO` is Norway, not false.
Source of the keys and their defaults: contract.md, "Decisions".
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml

from streams.core.policy import COVERABLE_KINDS, Policy
from streams.core.reasons import KINDS, PRODUCTS
from streams.core.times import to_ms
from streams.errors import UsageProblem

VERSION_MAX: Final = 2**31 - 1
ADULT_AGE_MAX: Final = 150
WINDOW_DAYS_MAX: Final = 36_500

_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_NULLS: Final = ("", "~", "null", "Null", "NULL")
_SHOWN_MAX: Final = 60  # characters of what a file held


def policy_of(path: Path | None) -> Policy:
    """Return the policy in the file of OBJECTIONS_POLICY, or without one that built in."""
    return Policy() if path is None else read_policy(path)


def read_policy(path: Path) -> Policy:
    """
    Return the policy in the file at *path*.

    Raises UsageProblem (exit status 2) with all that is wrong, a line each: file and line, what
    was found, what is expected.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"OBJECTIONS_POLICY: {path} cannot be read: {error}") from error
    return parse_policy(text, str(path))


def parse_policy(text: str, name: str) -> Policy:
    """Return the policy that *text*, the content of file *name*, holds; raises as `read_policy`."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError as error:
        raise UsageProblem(f"{name}: this is no policy: it is nested too deep") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error)
        raise UsageProblem(f"{name}{line}: this is no YAML: {problem}") from error
    reader = _Reader(name)
    fields = {} if root is None else reader.fields(root)
    if reader.problems:
        raise UsageProblem("\n".join(reader.problems))
    return Policy(**fields)


class _Wrong(Exception):
    """What stands at *node* is not what is expected: the text completes "expected ..."."""

    def __init__(self, node: yaml.Node, expected: str) -> None:
        super().__init__(expected)
        self.node = node


class _Reader:
    def __init__(self, name: str) -> None:
        self.problems: list[str] = []
        self._name = name

    def fields(self, root: yaml.Node) -> dict[str, Any]:
        """Return the fields of `Policy` that are given."""
        if not isinstance(root, yaml.MappingNode):
            self._say(root, "expected keys and values, such as `version: 2`")
            return {}
        found: dict[str, Any] = {}
        seen: set[str] = set()
        for key_node, value_node in root.value:
            key = str(key_node.value)
            if key in seen:
                self._say(key_node, f"`{key}` stands here for the second time; remove one")
            elif key not in _KEYS:
                self._say(key_node, _unknown_key(key))
            else:
                self._take(key, value_node, found)
            seen.add(key)
        return found

    def _take(self, key: str, node: yaml.Node, found: dict[str, Any]) -> None:
        field, read = _KEYS[key]
        if isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULLS:
            return  # as if left out
        try:
            found[field] = read(node)
        except _Wrong as wrong:
            held = wrong.node.value if isinstance(wrong.node, yaml.ScalarNode) else "nested"
            self._say(wrong.node, f"`{key}` holds {_shown(held)}, expected {wrong}")

    def _say(self, node: yaml.Node, problem: str) -> None:
        self.problems.append(f"{self._name}:{node.start_mark.line + 1}: {problem}")


def _whole(least: int, most: int) -> Callable[[yaml.Node], int]:
    def read(node: yaml.Node) -> int:
        expected = f"a whole number from {least} to {most}"
        if not isinstance(node, yaml.ScalarNode) or not re.fullmatch(r"\d{1,10}", node.value):
            raise _Wrong(node, expected)
        number = int(node.value)
        if not least <= number <= most:
            raise _Wrong(node, expected)
        return number

    return read


def _instant(node: yaml.Node) -> int:
    expected = "a time with an offset, such as 2025-04-14T00:00:00Z"
    if not isinstance(node, yaml.ScalarNode) or not re.match(r"\d{4}-\d\d-\d\d[Tt ]", node.value):
        raise _Wrong(node, expected)
    try:
        moment = datetime.fromisoformat(node.value)
    except ValueError:
        raise _Wrong(node, expected) from None
    if moment.tzinfo is None:
        raise _Wrong(node, expected)
    return to_ms(moment)


def _countries(node: yaml.Node) -> frozenset[str]:
    expected = "ISO 3166-1 codes of two capital letters in a list, such as [DE, FR, NO]"
    return frozenset(_texts(node, expected, lambda text: _COUNTRY.fullmatch(text) is not None))


def _names(known: tuple[str, ...], remark: str = "") -> Callable[[yaml.Node], frozenset[str]]:
    def read(node: yaml.Node) -> frozenset[str]:
        expected = f"a list out of {', '.join(known)}{remark}"
        return frozenset(_texts(node, expected, lambda text: text in known))

    return read


def _texts(node: yaml.Node, expected: str, fits: Callable[[str], bool]) -> Iterator[str]:
    if not isinstance(node, yaml.SequenceNode):
        raise _Wrong(node, expected)
    for each in node.value:
        if not isinstance(each, yaml.ScalarNode) or not fits(each.value):
            raise _Wrong(each, expected)
        yield each.value


_KEYS: Final[dict[str, tuple[str, Callable[[yaml.Node], Any]]]] = {
    "version": ("version", _whole(1, VERSION_MAX)),
    "adult_age": ("adult_age", _whole(0, ADULT_AGE_MAX)),
    "notice_window_days": ("notice_window_days", _whole(0, WINDOW_DAYS_MAX)),
    "notices_from": ("notices_from_ms", _instant),
    "countries": ("countries", _countries),
    "products": ("products", _names(PRODUCTS)),
    "kinds": ("kinds", _names(COVERABLE_KINDS, " (private messages are never used)")),
}
assert set(COVERABLE_KINDS) < set(KINDS)


def _unknown_key(key: str) -> str:
    near = get_close_matches(key, _KEYS, 1)
    meant = f"; did you mean `{near[0]}`?" if near else f"; known are {', '.join(_KEYS)}"
    return f"`{_shown(key)}` is no key of a policy{meant}"


def _shown(held: object) -> str:
    text = str(held)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."

"""
Joins of what two know, for facts that grow: idempotent, commutative and associative.
"""

from collections.abc import Callable
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Any)
Value = TypeVar("Value")


def join(
    known: dict[Key, Value],
    news: dict[Key, Value],
    both: Callable[[Value, Value], Value],
    at_most: int,
) -> dict[Key, Value]:
    """
    Return the entries of *known* and *news*; of too many the *at_most* with the least keys.

    both: joins two values of one key.
    """
    if not news:
        return known
    merged = dict(known)
    for key, value in news.items():
        before = merged.get(key)
        merged[key] = value if before is None else both(before, value)
    while len(merged) > at_most:
        del merged[max(merged)]
    return merged

"""
Dead letters that can only be dismissed together: one stands for all of its user before it.

A user's row keeps so many of them (core/user.py), an item's likewise, and nothing tells which of
the others were mended.  Source: contract.md, "Bad records".
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from streams.dead_letters.letter import Choice, Letter
from streams.dead_letters.log import Log
from streams.dead_letters.survey import survey
from streams.errors import CheckFailed

Whose = tuple[str | None, str, int]  # user_id, topic, partition


class Dismissed(NamedTuple):
    """A letter to dismiss, with *covered* others of its user before it: 0 if by itself."""

    letter: Letter
    covered: int = 0


def together(log: Log, chosen: Sequence[Letter]) -> list[Dismissed]:
    """
    Return what is to be sent so that all *chosen*, which are open, are dismissed.

    Where one stands for more, all up to the last one chosen are dismissed at once, as far as
    nothing unchosen lies between.  Raises CheckFailed where that is not even so up to that one.
    """
    by_whose: dict[Whose, list[Letter]] = defaultdict(list)
    for letter in chosen:
        by_whose[_whose(letter)].append(letter)
    found = []
    for whose, letters in by_whose.items():
        for_more = [letter.place.offset for letter in letters if letter.stands_for_more]
        if for_more:
            found += _at_once(log, whose, letters, max(for_more))
        else:
            found += [Dismissed(letter) for letter in letters]
    return found


def _at_once(log: Log, whose: Whose, chosen: list[Letter], at_least: int) -> list[Dismissed]:
    places = {letter.place for letter in chosen}
    of_user = survey(log, Choice(inputs=frozenset({chosen[0].input}), user_id=whose[0]))
    left = [
        letter.place.offset
        for letter in of_user
        if letter.open and _whose(letter) == whose and letter.place not in places
    ]
    before = sum(offset <= at_least for offset in left)
    if before:
        place = next(each.place for each in chosen if each.place.offset == at_least)
        raise CheckFailed(
            f"{place}: it stands for all dead letters of its user in {place.topic}/"
            f"{place.partition} before it, and {before} of them would be dismissed unchosen. "
            "Nothing was sent. Remedy: replay what is to count, then choose all by --user and "
            f"--topic {chosen[0].input}."
        )
    end = min(left) if left else None
    covered = [letter for letter in chosen if end is None or letter.place.offset < end]
    last = max(covered, key=lambda letter: letter.place.offset)
    rest = [Dismissed(letter) for letter in chosen if end is not None and letter.place.offset > end]
    return [Dismissed(last, len(covered) - 1), *rest]


def _whose(letter: Letter) -> Whose:
    return letter.user_id, letter.place.topic, letter.place.partition

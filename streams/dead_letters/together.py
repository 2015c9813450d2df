"""
Dead letters that can only be dismissed together: one stands for all of its user before it.

A user's row keeps so many of them (core/user.py), an item's likewise, and nothing tells which of
the others were mended.  Source: contract.md, "Bad records".
"""

from collections.abc import Sequence

from streams.dead_letters.letter import Choice, Letter
from streams.dead_letters.log import Log
from streams.dead_letters.survey import survey
from streams.errors import CheckFailed

Whose = tuple[str | None, str, int]  # user_id, topic, partition


def check_whole(log: Log, chosen: Sequence[Letter]) -> None:
    """Raise CheckFailed where one that stands for more was *chosen* without those."""
    places = {letter.place for letter in chosen}
    for letter in chosen:
        if not letter.stands_for_more:
            continue
        of_user = survey(log, Choice(inputs=frozenset({letter.input}), user_id=letter.user_id))
        through = {_whose(letter): letter.place.offset}
        left = sum(
            each.open and _is_covered(each, through) and each.place not in places
            for each in of_user
        )
        if left:
            raise CheckFailed(
                f"{letter.place}: it stands for all dead letters of its user in "
                f"{letter.place.topic}/{letter.place.partition} before it, and {left} of them "
                "would be dismissed unchosen. Nothing was sent. Remedy: replay what is to count, "
                f"then choose all by --user and --topic {letter.input}."
            )


def without_covered(letters: Sequence[Letter]) -> list[Letter]:
    """Return those of *letters* that are not dismissed along with another of them."""
    through: dict[Whose, int] = {}
    for letter in letters:
        if letter.stands_for_more:
            whose = _whose(letter)
            through[whose] = max(letter.place.offset, through.get(whose, 0))
    return [
        letter
        for letter in letters
        if not _is_covered(letter, through) or through[_whose(letter)] == letter.place.offset
    ]


def _is_covered(letter: Letter, through: dict[Whose, int]) -> bool:
    return letter.place.offset <= through.get(_whose(letter), -1)


def _whose(letter: Letter) -> Whose:
    return letter.user_id, letter.place.topic, letter.place.partition

"""
The bytes of bad records: from their dead letters, or from where they lay where those were cut.
"""

from collections.abc import Generator
from itertools import groupby
from typing import Final, NamedTuple

from streams.dead_letters.letter import Letter, Place
from streams.dead_letters.log import DEAD_LETTERS, Log

ONE_BY_ONE_MAX: Final = 20  # letters; for more of a partition all between them is read


class Original(NamedTuple):
    """What was in a bad record; None is a null."""

    value: bytes | None


def original(log: Log, letter: Letter) -> Original | None:
    """Return all of what was in the record; None where it is nowhere any more."""
    place = letter.place
    if letter.at is not None and letter.complete:
        place = Place(log.settings.topic(DEAD_LETTERS), *letter.at)
    message = log.record_at(place)
    return None if message is None else Original(message.value())


def originals(log: Log, letters: list[Letter]) -> Generator[tuple[Letter, Original | None]]:
    """Yield *letters*, in another order, with what was in them; one at a time is in memory."""
    complete = [letter for letter in letters if letter.complete]
    complete.sort(key=_at)
    for _, group in groupby(complete, lambda letter: _at(letter)[0]):
        of_partition = list(group)
        if len(of_partition) > ONE_BY_ONE_MAX:
            yield from _in_one_go(log, of_partition)
        else:
            for letter in of_partition:
                yield letter, original(log, letter)
    for letter in letters:
        if not letter.complete:
            yield letter, original(log, letter)


def _in_one_go(log: Log, letters: list[Letter]) -> Generator[tuple[Letter, Original | None]]:
    """Yield *letters*, of one partition and in its order, with what was in them."""
    number, first = _at(letters[0])
    wanted = {_at(letter)[1]: letter for letter in letters}
    for message in log.read({(DEAD_LETTERS, number): first}, DEAD_LETTERS):
        letter = wanted.pop(message.offset() or 0, None)
        if letter is not None:
            yield letter, Original(message.value())
        if not wanted:
            return
    for letter in wanted.values():  # they came to the end of their retention just now
        yield letter, None


def _at(letter: Letter) -> tuple[int, int]:
    assert letter.at is not None, f"{letter.place} is no longer kept"
    return letter.at

"""
Finds the dead letters in question and which of them are open.

The order makes one picture of topics that go on moving: letters first, then the group's offsets,
then the changelog to its end, then what the group has not read.  So a letter that was seen has its
row in the changelog, and whatever has resolved one since is either a row or an input behind the
offsets.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from streams.core.decode import Headers
from streams.dead_letters.letter import Choice, Letter, Place, in_order, read_letter
from streams.dead_letters.log import DEAD_LETTERS, USERS_CHANGELOG, Log, Spot
from streams.dead_letters.standing import Standing
from streams.errors import CommandError
from streams.state.rows import NewerRow

if TYPE_CHECKING:
    from confluent_kafka import Message

FROM_THE_BEGINNING: Final = 0


def survey(log: Log, choice: Choice) -> list[Letter]:
    """Return the dead letters that *choice* takes, open or not, in the order of their time."""
    one = choice.place is not None
    numbers = [choice.place.partition] if choice.place is not None else list(log.partitions)
    numbers = [number for number in numbers if number in log.partitions]
    inputs = {log.settings.topic(name): name for name in log.inputs}
    kept: set[Place] = set()
    found: dict[Place, Letter] = {}
    ends = dict.fromkeys(((DEAD_LETTERS, number) for number in numbers), FROM_THE_BEGINNING)
    for letter in _letters(log, ends, inputs):
        kept.add(letter.place)
        if choice.takes(letter):
            found[letter.place] = letter
    if one and any(letter.user_id is None for letter in found.values()):
        numbers = list(log.partitions)  # whoever it is about may be anywhere
    standing = Standing(
        found.values(),
        {name: full_name for full_name, name in inputs.items()},
        log.settings.subjects(),
        choice.user_id,
    )
    _learn(log, standing, numbers)
    for letter in _letters(log, ends, inputs):  # those the changelog may already tell of
        kept.add(letter.place)
    for letter in found.values():
        standing.judge(letter)
    lost = [letter for letter in standing.no_longer_kept(kept) if choice.takes(letter)]
    return in_order([*found.values(), *lost])


def _letters(log: Log, ends: dict[Spot, int], inputs: dict[str, str]) -> Iterator[Letter]:
    """Yield the dead letters from *ends* on, which are moved to behind them."""
    for message in log.read(dict(ends), DEAD_LETTERS):
        at = message.partition() or 0, message.offset() or 0
        ends[DEAD_LETTERS, at[0]] = at[1] + 1
        letter = read_letter(_headers(message), message.key(), message.value(), at, inputs)
        if letter is not None:
            yield letter


def _learn(log: Log, standing: Standing, numbers: list[int]) -> None:
    """Learn the state of partitions *numbers*, and what the workers have yet to read of them."""
    begins = log.committed([(name, number) for name in log.inputs for number in numbers])
    rows = dict.fromkeys(((USERS_CHANGELOG, number) for number in numbers), FROM_THE_BEGINNING)
    for message in log.read(rows, "the users' state"):
        key = message.key()
        if key is None:
            continue
        try:
            standing.learn_row(message.partition() or 0, key, message.value())
        except NewerRow as error:
            raise CommandError(f"{_place(message)}: {error}") from error
    standing.check_naming(log.settings.topic(USERS_CHANGELOG))
    for message in log.read(begins, "what the workers have yet to read"):
        standing.learn_input(
            log.names[message.topic() or ""],
            message.partition() or 0,
            message.offset() or 0,
            message.key(),
            message.value(),
            message.timestamp()[1],
            _headers(message),
        )


def _headers(message: "Message") -> Headers:
    headers: Headers = message.headers()  # type: ignore[assignment] # always a list
    return headers


def _place(message: "Message") -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"

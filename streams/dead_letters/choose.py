"""
What somebody asks for -> the dead letters that are meant.
"""

import msgspec

from streams.core.records import DeadLetterRef
from streams.dead_letters.letter import INPUTS, Choice, Place
from streams.errors import UsageProblem
from streams.settings import Settings


def choose(
    settings: Settings,
    place: str | None,
    topics: tuple[str, ...],
    errors: tuple[str, ...],
    user_id: str | None,
    since: int | None,
    until: int | None,
) -> Choice:
    """
    Return what is chosen by place or by all the rest; topics by either of their names.

    Raises UsageProblem.
    """
    by_options = topics or errors or user_id is not None or since is not None or until is not None
    if place is not None and by_options:
        raise UsageProblem("a PLACE and options that choose were given, expected one of them.")
    return Choice(
        None if place is None else _place(settings, place),
        frozenset(_input(settings, topic) for topic in topics),
        frozenset(errors),
        user_id,
        since,
        until,
    )


def _place(settings: Settings, text: str) -> Place:
    try:
        msgspec.convert(text, DeadLetterRef)
    except msgspec.ValidationError:
        example = f"{settings.topic(INPUTS[0])}/3/120"
        raise UsageProblem(
            f"{text!r} is no place, expected topic/partition/offset as in {example}."
        ) from None
    topic, number, offset = text.rsplit("/", 2)
    return Place(settings.topic(_input(settings, topic)), int(number), int(offset))


def _input(settings: Settings, topic: str) -> str:
    """Return the name in the contract of an input, given by that or in full."""
    for name in INPUTS:
        if topic in (settings.topic(name), name):
            return name
    known = ", ".join(settings.topic(name) for name in INPUTS)
    raise UsageProblem(f"{topic!r} is no input, expected one of {known}.")

import pytest

from streams.audit.promise import Word, promise
from streams.sinks.sink import TRAINING_CONTENT, TRAINING_USERS, Place, Position
from streams.training.positions import Positions, TopicPosition

PLACE = Place(TRAINING_CONTENT, 1)


def ends(*offsets: int) -> Positions:
    """Return topics that end there."""
    topics = {
        name: TopicPosition(name, "id", list(offsets), 1)
        for name in (TRAINING_USERS, TRAINING_CONTENT)
    }
    return Positions("cluster", 0, topics)


@pytest.mark.parametrize(
    "position,acknowledged,promised,resyncing",
    [
        (Position("id", 7, 2), None, 7, False),
        (Position("id", 7, 2), 5, 7, False),
        (Position("id", 5, 2), 7, 7, False),  # back to a backup: what it said stands
        (None, 7, 7, False),
        (None, None, 0, False),
        (Position("id", 7, 3), None, 0, True),  # in a resync a position says nothing
        (Position("id", 7, 3), 4, 4, True),
        (Position("another", 7, 2), 7, 0, True),  # of a topic that was made anew
        (None, 11, 0, False),  # above the end nothing counts
    ],
)
def test_what_is_promised(
    position: Position | None, acknowledged: int | None, promised: int, resyncing: bool
) -> None:
    """
    The further of position and acknowledgement counts, where they are about this log.
    """
    word = Word(
        {} if position is None else {PLACE: position},
        {} if acknowledged is None else {PLACE: acknowledged},
        {},
    )

    found = promise(word, ends(10, 10))

    assert promised == found.offsets[TRAINING_CONTENT][1]
    assert resyncing == found.resyncing[TRAINING_CONTENT][1]
    assert 0 == found.offsets[TRAINING_CONTENT][0]


def test_what_is_not_followed_is_no_lag() -> None:
    """
    A store that never said a word of a topic is not behind in it; one that never spoke, in both.
    """
    word = Word({PLACE: Position("id", 7, 2)}, {}, {})

    assert {PLACE: 3, Place(TRAINING_CONTENT, 0): 10} == promise(word, ends(10, 10)).behind(
        ends(10, 10)
    )
    assert 40 == sum(promise(Word({}, {}, {}), ends(10, 10)).behind(ends(10, 10)).values())

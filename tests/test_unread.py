"""Since when unread records can have been there: never told too late, close where it is quiet."""

from hypothesis import given
from hypothesis import strategies as st

from streams.worker.unread import LOOKS_MAX, Unread

# A second of a topic's life: how many records arrive, and how many are read.
seconds = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=400)


@given(seconds)
def test_no_unread_record_is_older_than_told(life: list[tuple[int, int]]) -> None:
    """
    Whatever arrives and is read in whatever order, the oldest unread record came at or after.
    """
    unread, arrived, position = Unread(), list[float](), 0
    for second, (new, read) in enumerate(life):
        arrived += [float(second)] * new
        position = min(position + read, len(arrived))
        unread.look(second + 0.5, len(arrived), position)

        if position < len(arrived) and unread.since_s is not None:
            assert unread.since_s <= arrived[position]


def test_a_busy_topic_is_told_by_its_last_looks() -> None:
    """
    Where records never stop coming but are read a second later, nobody is told of an old one.
    """
    unread = Unread()
    for second in range(1_000):
        unread.look(float(second), end=second * 100 + 100, position=second * 100)

    assert unread.since_s == 998.0


def test_a_stalled_topic_keeps_its_age_and_little_memory() -> None:
    """
    However many looks find more unread, it stays known since when, and the looks stay few.
    """
    unread = Unread()
    unread.look(1.0, end=10, position=10)
    for second in range(2, 5_000):
        unread.look(float(second), end=10 + second, position=10)

    assert unread.since_s == 1.0
    assert len(unread._looks) <= LOOKS_MAX


def test_nothing_is_told_before_an_end_was_read() -> None:
    """
    What was unread when the partition came may be of any age.
    """
    unread = Unread()
    unread.look(1.0, end=10, position=3)

    assert unread.since_s is None

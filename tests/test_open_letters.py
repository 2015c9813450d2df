"""
The count of open dead letters: kept by changes, it is what a look at all of the state finds.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.policy import Policy
from streams.core.user import is_resolved, unresolved
from streams.state import rows
from streams.state.store import Memory, Store
from streams.worker.copies import store_rows
from streams.worker.folded import Folded
from streams.worker.intake import Fetched, Intake, take_in
from streams.worker.names import ACCOUNT_AGES, CONTENT, INPUTS, NOTICES, OBJECTIONS
from streams.worker.open_letters import OpenLetters, begin_index
from streams.worker.partition import Partition
from tests.limits import limits
from tests.making import NOW_MS, age, content, grown_up, notice, objection, to_bytes

PREFIX = f"{CONTENT}/0/"
USERS = ("u1", "u2")
MEMORY = Memory(1024 * 1024)


class Sent(NamedTuple):
    """A record; resolves: what its header says, None for no header."""

    topic: str
    record: dict[str, Any]
    resolves: str | None = None


class Message:
    """What the intake asks of a fetched message."""

    def __init__(self, offset: int, sent: Sent) -> None:
        self._offset, self._sent = offset, sent

    def key(self) -> bytes:
        return str(self._sent.record["user_id"]).encode()

    def value(self) -> bytes:
        return to_bytes(self._sent.record)

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 2, NOW_MS

    def headers(self) -> list[tuple[str, bytes]] | None:
        resolves = self._sent.resolves
        return None if resolves is None else [("dlq_resolves", resolves.encode())]


class Desk:
    """A partition that is fed, whose cycles are committed or rolled back."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path, MEMORY)
        self.partition = self.take_over()
        self.ends = dict.fromkeys(INPUTS, 0)

    def take_over(self) -> Partition:
        positions = dict.fromkeys(INPUTS, 0)
        return Partition(0, self.store, {}, positions, Policy(), "/test", CONTENT, 3, NOW_MS)

    def fold(self, *records: Sent) -> Folded:
        intakes: list[Intake] = []
        for topic in INPUTS:
            begin = self.ends[topic]
            sent = [each for each in records if each.topic == topic]
            messages: list[Any] = [Message(begin + at, each) for at, each in enumerate(sent)]
            if messages:
                intakes.append(take_in(Fetched(topic, 0, messages, begin), topic))
                self.ends[topic] += len(messages)
        return self.partition.fold(intakes, NOW_MS, 5, 1_000)

    def commit(self, *records: Sent) -> None:
        folded = self.fold(*records)
        self.store.write([*folded.users_rows, *folded.content_rows, *folded.local_rows], {})
        self.partition.persisted(folded)

    def open(self) -> dict[str, int]:
        """Return what the count says, without topics that have none."""
        return _without_zeros(self.partition.letters.counts())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Return a desk over a new store, whose partition may grant."""
    made = Desk(tmp_path / "0")
    made.partition.release_at({})
    yield made
    made.store.close()


def looked_up(store: Store) -> dict[str, int]:
    """Return what stands, by looking at every row there is."""
    users = {rows.user_of(key): rows.decode_user(data).user for key, data in store.scan(rows.USER)}
    refs = [ref for user in users.values() for ref in unresolved(user)]
    for key, _ in store.scan(rows.DEAD_LETTER):
        user_id, offset = rows.dead_letter_of(key)
        user = users[user_id]
        if not (user.deleted or is_resolved(user, f"{PREFIX}{offset}")):
            refs.append(f"{PREFIX}{offset}")
    return dict(Counter(ref.split("/")[0] for ref in refs))


def _without_zeros(counts: Any) -> dict[str, int]:
    return {topic: number for topic, number in counts.items() if number}


refs = st.builds(
    lambda topic, offset: f"{topic}/0/{offset}",
    st.sampled_from((OBJECTIONS, ACCOUNT_AGES, NOTICES, CONTENT)),
    st.integers(0, 6),
)
headers = st.none() | refs
users = st.sampled_from(USERS)
items = st.sampled_from(("c1", "c2"))
records = st.one_of(
    st.builds(lambda u, h: Sent(OBJECTIONS, objection(user_id=u), h), users, headers),
    st.builds(lambda u: Sent(OBJECTIONS, objection(user_id=u, action="shout")), users),
    st.builds(
        lambda u, ref, through: Sent(
            OBJECTIONS,
            {"user_id": u, "action": "dismissed", "dead_letter": ref, "through": through},
        ),
        users,
        refs,
        st.sampled_from([None, False, True]),
    ),
    st.builds(lambda u, h: Sent(ACCOUNT_AGES, grown_up(user_id=u), h), users, headers),
    st.builds(lambda u: Sent(ACCOUNT_AGES, age(user_id=u, country="de")), users),
    st.builds(lambda u: Sent(ACCOUNT_AGES, age(user_id=u, account="deleted")), users),
    st.builds(lambda u, h: Sent(NOTICES, notice(user_id=u), h), users, headers),
    st.builds(lambda u: Sent(NOTICES, {"user_id": u}), users),
    st.builds(
        lambda u, c, h, n: Sent(CONTENT, content(user_id=u, content_id=u + c, revision=n), h),
        users,
        items,
        headers,
        st.integers(0, 3),
    ),
    st.builds(
        lambda u, c: Sent(CONTENT, content(user_id=u, content_id=u + c, product="x")), users, items
    ),
)
cycles = st.lists(st.tuples(st.lists(records, max_size=4), st.booleans()), max_size=8)


@settings(max_examples=60)  # each is a store on disk
@given(cycles, st.booleans(), st.sampled_from([1, 2, 1_000]))
def test_the_count_is_what_all_of_the_state_comes_to(
    story: list[tuple[list[Sent], bool]], holding: bool, kept: int
) -> None:
    """
    After every cycle, committed or rolled back, while grants are held or not, however much is kept
    of a user; and a partition that takes the store over, or one restored from the changelog's
    rows, counts the same.
    """
    with limits(kept), TemporaryDirectory() as folder:
        desk = Desk(Path(folder) / "0")
        if not holding:
            desk.partition.release_at({})
        for sent, aborted in story:
            if aborted:
                positions = dict(desk.ends)
                desk.fold(*sent)
                desk.partition.roll_back(dict(positions))
                desk.ends = positions
            desk.commit(*sent)
            assert looked_up(desk.store) == desk.open()
            assert looked_up(desk.store) == _without_zeros(OpenLetters(desk.store, PREFIX).counts())
        restored = Store(Path(folder) / "restored", MEMORY)
        begin_index(restored)
        kinds = (rows.USER, rows.JOB, rows.DEAD_LETTER, rows.POSITION)
        changelog = chain.from_iterable(desk.store.scan(kind) for kind in kinds)
        restored.write([row for each in changelog for row in store_rows(*each)], {})
        assert desk.open() == _without_zeros(OpenLetters(restored, PREFIX).counts())
        desk.store.close()
        restored.close()


def test_cycles_under_way_are_not_counted(desk: Desk) -> None:
    """
    What is folded counts when it is committed, in its turn; what is rolled back never does.
    """
    bad = Sent(OBJECTIONS, objection(action="shout"))
    first = desk.fold(bad)
    before = desk.open()
    second = desk.fold(bad, Sent(ACCOUNT_AGES, age(country="de")))
    desk.partition.persisted(first)
    between = desk.open()
    desk.partition.persisted(second)

    assert before == {}
    assert between == {OBJECTIONS: 1}
    assert desk.open() == {OBJECTIONS: 2, ACCOUNT_AGES: 1}


def test_an_older_versions_store_is_counted(desk: Desk) -> None:
    """
    A store from before there was an index is indexed once, when it is taken over.
    """
    desk.commit(Sent(OBJECTIONS, objection(action="shout")), Sent(OBJECTIONS, objection()))
    index = [key for key, _ in desk.store.scan(rows.LETTERS)]
    marks = [key for key, _ in desk.store.scan(rows.META + b"letters")]
    desk.store.write([(key, None) for key in (*index, *marks)], {})

    assert (len(index), len(marks)) == (1, 1)
    assert desk.take_over().letters.counts() == {OBJECTIONS: 1}
    assert index == [key for key, _ in desk.store.scan(rows.LETTERS)]


def test_an_item_is_not_counted_once_it_is_mended_while_grants_are_held(tmp_path: Path) -> None:
    """
    It stays as it is until it may be answered; what is resolved is out of the count at once.
    """
    desk = Desk(tmp_path / "0")
    desk.commit(Sent(CONTENT, content()), Sent(CONTENT, content(product="x")))
    before = desk.open()
    desk.commit(
        Sent(
            OBJECTIONS,
            {"user_id": "u1", "action": "dismissed", "dead_letter": f"{PREFIX}1"},
        )
    )

    assert before == {CONTENT: 1}
    assert desk.open() == looked_up(desk.store) == {}
    assert list(desk.store.scan(rows.DEAD_LETTER))  # and yet it is still in the state
    desk.store.close()


def test_an_account_that_is_deleted_has_none_open(desk: Desk) -> None:
    """
    They leave the count with the decision, not with the last of many items.
    """
    desk.commit(Sent(OBJECTIONS, objection(action="shout")))
    desk.commit(
        *(Sent(CONTENT, content(content_id=f"c{number}", product="x")) for number in range(20))
    )
    before = desk.open()
    desk.commit(Sent(ACCOUNT_AGES, age(account="deleted")))

    assert before == {OBJECTIONS: 1, CONTENT: 20}
    assert desk.open() == {}
    for _ in range(10):
        desk.commit()
    assert desk.open() == looked_up(desk.store) == {}


def test_a_dismissal_of_all_up_to_one_ends_items_too(desk: Desk) -> None:
    """
    Those of items up to that place count no more, and one behind it does.
    """
    bad = [Sent(CONTENT, content(content_id=f"c{number}", product="x")) for number in range(3)]
    desk.commit(*bad)
    through = {"user_id": "u1", "action": "dismissed", "dead_letter": PREFIX + "1", "through": True}
    desk.commit(Sent(OBJECTIONS, through))

    assert {CONTENT: 1} == desk.open() == looked_up(desk.store)

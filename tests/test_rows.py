"""
Rows as bytes: they come back as they were, in an order that keeps users apart.
"""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.changes import Cause, Held, UserRow
from streams.core.fanout import Era, Job, Range
from streams.core.item import NO_REVISION, Item
from streams.core.outputs import REVISION_MAX
from streams.core.times import NEVER_MS
from streams.core.user import Level, Statement, User
from streams.core.verdict import Decision
from streams.errors import Halt
from streams.state import rows

NEWER = bytes([max(rows.VERSIONS.values()) + 1])

# As a worker wrote them that did not know of holds, seeds, phases and cursors.
USER_OF_VERSION_1 = (
    "010000000000000008979681a26f31cd010f93c0c0c0910591a5742f302f3191a5742f302f32c203"
    "939401020304060708010994a174000aa26f31"
)
# And one that did not know of dismissals of all up to a place.
USER_OF_VERSION_4 = (
    "0400000000000000089a9781a26f310f93c0c0c0910791a5742f302f3991a5742f302f39c281a3742f30030393"
    "9401020304050608010994a1740102a26f31c0c2c0"
)
USER_OF_VERSION_2 = (
    "020000000000000008999681a26f310f93c0c093059196c20000c200a2444506910792a6742f302f3130"
    "a5742f302f3991a5742f302f39c203939401020304050608010994a1740102a26f319294a174000ac00bc3"
)
JOB_OF_VERSION_1 = "01959192049394010203040607909100a1740b"
ITEM_OF_VERSION_1 = (
    "010000000000000001000000000000000c000000000000000d020301010000000200000000000000"
    "0e000000000000000f7b7d"
)

# Every id that a record may carry: any text of UTF-8 with up to 256 bytes, NUL included.
ids = st.text(min_size=1, max_size=64).filter(lambda text: _utf8(text) is not None)
instants = st.integers(0, NEVER_MS)
offsets = st.integers(0, 2**63 - 1)


def _utf8(text: str) -> bytes | None:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None


days = st.integers(-25_000, 60_000)
statements = st.builds(
    Statement, st.booleans(), days, st.integers(0, 2), st.booleans(), days, st.just("DE") | ids
)
levels = st.none() | st.builds(Level, instants, st.lists(statements).map(tuple), instants)
users = st.builds(
    User,
    st.dictionaries(ids, st.integers(0, 511)),
    st.tuples(levels, levels, levels),
    st.lists(instants).map(tuple),
    st.lists(ids).map(tuple),
    st.lists(ids).map(tuple),
    st.booleans(),
    st.dictionaries(ids, offsets),
)
decisions = st.builds(
    Decision,
    st.tuples(*[st.integers(0, 2**16)] * 4),
    instants,
    st.integers(0, 15),
)
causes = st.builds(Cause, ids, st.integers(0, 1000), st.integers(-1, 2**62), st.none() | ids)
user_rows = st.builds(
    UserRow,
    users,
    st.integers(1, 2**40),
    decisions,
    instants,
    st.integers(1, 1000),
    instants,
    causes,
    st.none() | st.builds(Held, causes, instants),
)
era_indexes = st.lists(st.integers(0, 8), max_size=3).map(tuple)
ranges = st.builds(Range, ids.map(str.encode), era_indexes)
jobs = st.builds(
    Job,
    st.lists(st.builds(Era, st.integers(-1, 2**62), decisions), min_size=1, max_size=3).map(tuple),
    st.lists(ranges, max_size=3).map(tuple),
    era_indexes,
    ids,
    instants,
    st.none() | st.binary(),
    st.integers(0, 1),
    st.binary(max_size=256),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
item_states = st.builds(
    Item,
    st.integers(NO_REVISION, REVISION_MAX),
    st.integers(0, 3),
    st.binary(),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(-NEVER_MS, NEVER_MS),
    st.booleans(),
    st.booleans(),
    st.integers(-1, 2**63 - 1),
    st.lists(offsets, max_size=5, unique=True).map(sorted).map(tuple),
)


@given(user_rows)
def test_a_users_row_comes_back_as_it_was(row: UserRow) -> None:
    """A user's facts, decision and hold survive, and the next change is told without the rest."""
    data = rows.encode_user(row)

    assert row == rows.decode_user(data)
    assert row.next_change_ms == rows.next_change_ms(data)


@given(jobs)
def test_a_job_comes_back_as_it_was(job: Job) -> None:
    """A fan-out goes on exactly where its row says: cursor, phase and what stood before."""
    assert job == rows.decode_job(rows.encode_job(job))


@given(item_states)
def test_an_item_comes_back_as_it_was(item: Item) -> None:
    """All facts about an item survive, the bytes of its record and its dead letters included."""
    assert item == rows.decode_item(rows.encode_item(item))


@given(offsets, ids)
def test_numbers_and_texts_come_back_as_they_were(number: int, text: str) -> None:
    """Positions and content ids survive."""
    assert number == rows.decode_number(rows.encode_number(number))
    assert text == rows.decode_text(rows.encode_text(text))


@pytest.mark.parametrize(
    "decode,highest",
    [
        (rows.decode_user, rows.USER_VERSION),
        (rows.next_change_ms, rows.USER_VERSION),
        (rows.decode_job, rows.JOB_VERSION),
        (rows.decode_item, rows.ITEM_VERSION),
        (rows.decode_number, rows.PLAIN_VERSION),
        (rows.decode_text, rows.PLAIN_VERSION),
    ],
)
@pytest.mark.parametrize("data", [NEWER + bytes(64), bytes(64), b""])
def test_a_newer_version_is_refused_with_the_reason(
    decode: Callable[[bytes], object], highest: int, data: bytes
) -> None:
    """A row of another version is never guessed at: the error names both, and the remedy."""
    found = data[0] if any(data) else "none"
    told = f"version {found}, this program reads versions up to {highest}: .* run that version"

    with pytest.raises(rows.NewerRow, match=told):
        decode(data)


@pytest.mark.parametrize("kind", [rows.USER, rows.JOB, rows.ITEM, rows.DEAD_LETTER, rows.POSITION])
def test_a_newer_row_is_known_by_its_key_alone(kind: bytes) -> None:
    """A restore refuses a newer row of any kind before it is in the store."""
    rows.check(kind + b"x", bytes([rows.VERSIONS[kind]]))

    with pytest.raises(Halt, match="a newer worker has written it"):
        rows.check(kind + b"x", bytes([rows.VERSIONS[kind] + 1]))


def test_rows_as_versions_before_wrote_them_are_read() -> None:
    """
    What a version before wrote is read for ever: fields it did not know have their defaults.
    """
    user = User({"o1": 271}, (None, None, None), (5,), ("t/0/1",), ("t/0/2",))
    row = UserRow(user, 3, Decision((1, 2, 3, 4), 6, 7), 8, 1, 9, Cause("t", 0, 10, "o1"))
    job = Job((Era(4, row.decision),), (), (0,), "t", 11)
    item = Item(1, 2, b"{}", 3, 1, 12, True, False, 13, (14, 15))

    assert row == rows.decode_user(bytes.fromhex(USER_OF_VERSION_1))
    assert job == rows.decode_job(bytes.fromhex(JOB_OF_VERSION_1))
    assert item == rows.decode_item(bytes.fromhex(ITEM_OF_VERSION_1))


def test_users_of_version_2_are_read() -> None:
    """A user whose row is older has dismissed nothing but single dead letters."""
    said = Statement(country="DE")
    user = User(
        {"o1": 15},
        (None, None, Level(5, (said,), 6)),
        (7,),
        ("t/0/10", "t/0/9"),
        ("t/0/9",),
        dismissed={},
    )
    held = Held(Cause("t", 0, 10), 11)
    row = UserRow(
        user, 3, Decision((1, 2, 3, 4), 5, 6), 8, 1, 9, Cause("t", 1, 2, "o1"), held, seeded=True
    )

    assert row == rows.decode_user(bytes.fromhex(USER_OF_VERSION_2))


def test_users_of_version_4_are_read() -> None:
    """A user whose row is older has no links, and objections filed nobody knows when."""
    user = User({"o1": 15}, (None, None, None), (7,), ("t/0/9",), ("t/0/9",), dismissed={"t/0": 3})
    row = UserRow(user, 3, Decision((1, 2, 3, 4), 5, 6), 8, 1, 9, Cause("t", 1, 2, "o1"))

    assert row == rows.decode_user(bytes.fromhex(USER_OF_VERSION_4))


@given(ids, ids, ids, ids)
def test_items_of_a_user_share_a_prefix_with_nobody(
    user_id: str, other: str, content_id: str, also: str
) -> None:
    """The keys of a user's items begin with a prefix that no other user's do, ids of any bytes."""
    prefix = rows.items_prefix(user_id)

    assert rows.item_key(user_id, content_id).startswith(prefix)
    assert (user_id == other) == rows.item_key(other, also).startswith(prefix)
    assert not rows.items_prefix(other).startswith(prefix) or user_id == other


@given(ids, ids, ids)
def test_items_are_ordered_by_the_bytes_of_their_ids(user_id: str, one: str, other: str) -> None:
    """The order of keys is the order in which a fan-out walks: by the UTF-8 bytes of the ids."""
    by_key = rows.item_key(user_id, one) < rows.item_key(user_id, other)

    assert (one.encode() < other.encode()) == by_key


@given(ids, ids, ids, offsets, offsets)
def test_keys_of_different_rows_differ(
    user_id: str, other: str, content_id: str, offset: int, later: int
) -> None:
    """No row can take another's place: of another kind, user, item or dead letter."""
    keys = [rows.user_key(user_id), rows.job_key(user_id), rows.item_key(user_id, content_id)]
    keys += [rows.dead_letter_key(user_id, offset), rows.position_key(user_id)]
    keys += [rows.timer_key(offset, user_id), rows.META + user_id.encode()]

    assert len(keys) == len(set(keys))
    same = (user_id, offset) == (other, later)
    assert same == (rows.dead_letter_key(user_id, offset) == rows.dead_letter_key(other, later))
    assert (user_id == other) == (rows.user_key(user_id) == rows.user_key(other))


@given(instants, ids, instants, ids)
def test_timers_are_ordered_by_their_instants(
    due_ms: int, user_id: str, later_ms: int, other: str
) -> None:
    """The first timer of a scan is the one that is due first; its key says when and for whom."""
    key = rows.timer_key(due_ms, user_id)

    assert (due_ms, user_id) == rows.timer_of(key)
    if due_ms < later_ms:
        assert key < rows.timer_key(later_ms, other)


@given(ids)
def test_a_users_id_is_read_back_from_its_keys(user_id: str) -> None:
    """Users and jobs are found again by their keys alone."""
    assert user_id == rows.user_of(rows.user_key(user_id))
    assert user_id == rows.user_of(rows.job_key(user_id))


def test_the_version_is_the_first_byte_of_every_value() -> None:
    """The layout is for ever: a program of any age finds the version in the first byte."""
    row = UserRow(User(), 1, Decision((0, 0, 0, 0), 0, 0), 7, 1, 0, Cause("t", 0, 0))

    assert rows.encode_user(row)[:9] == struct.pack(">Bq", rows.USER_VERSION, 7)
    assert rows.encode_item(Item())[:1] == b"\x01"
    assert rows.encode_number(5) == b"\x01" + bytes(7) + b"\x05"
    assert rows.encode_text("c1") == b"\x01c1"

"""The index allows what a naive reading of the two locks allows, and nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.training import table
from streams.training.hashing import KEY_BYTES, TEXT_BYTES_MAX, Hasher, Hashes
from streams.training.index import Index, State
from streams.training.table import ABSENT, Table

TOPICS = Path(__file__).parents[1] / "topics"

USERS = ("u1", "u2", "u3")
PRODUCTS = ("facebook", "instagram")
ITEMS = tuple(f"c-{number}" for number in range(6))

accounts = st.tuples(st.just("training-users"), st.sampled_from(PRODUCTS), st.sampled_from(USERS))
items = st.tuples(st.just("training-content"), st.sampled_from(ITEMS), st.just(""))
# What is written of a key, in the log's order: whether it stands.
logs = st.lists(st.tuples(st.one_of(accounts, items), st.booleans()), max_size=60)


def owner(content_id: str) -> tuple[str, str]:
    """Return product and user of an item, which never change."""
    number = int(content_id.removeprefix("c-"))
    return PRODUCTS[number % 2], USERS[number % 3]


def record(key: tuple[str, str, str], stands: bool) -> tuple[str, bytes, bytes | None]:
    """Return topic, key and value."""
    topic, first, second = key
    if topic == "training-users":
        return topic, f"{first}/{second}".encode(), b"{}" if stands else None
    product, user_id = owner(first)
    value = json.dumps({"user_id": user_id, "product": product, "epoch": 1}).encode()
    return topic, first.encode(), value if stands else None


def naive(log: Sequence[tuple[tuple[str, str, str], bool]], content_id: str) -> State:
    """Return what the last records say, read one by one into a dict."""
    last = dict(log)
    product, user_id = owner(content_id)
    mine = last.get(("training-content", content_id, ""))
    if mine is None:
        return State.UNKNOWN
    if not mine:
        return State.PURGED
    if not last.get(("training-users", product, user_id), False):
        return State.LOCKED
    return State.ALLOWED


def put(index: Index, log: Sequence[tuple[tuple[str, str, str], bool]], size: int) -> None:
    """Hand a log to the index in batches of *size*, each of one topic."""
    for begin in range(0, len(log), size):
        batch = [record(*each) for each in log[begin : begin + size]]
        for topic in ("training-users", "training-content"):
            chosen = [each for each in batch if each[0] == topic]
            index.put(topic, [each[1] for each in chosen], [each[2] for each in chosen])


@given(log=logs, more=logs, size=st.integers(1, 20), pending=st.integers(1, 10))
def test_two_locks_as_a_naive_reading(
    log: list[Any], more: list[Any], size: int, pending: int
) -> None:
    """
    An item is allowed while its record and its account's stand, whatever came in which batches.
    """
    index = Index()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "PENDING_ROWS_MIN", pending)
        put(index, log, size)
        first = index.states(index.hasher.of_texts(ITEMS))
        put(index, more, size)
        second = index.states(index.hasher.of_texts(ITEMS))

    assert [naive(log, each) for each in ITEMS] == first.tolist()
    assert [naive([*log, *more], each) for each in ITEMS] == second.tolist()


def test_examples_of_the_topics_are_read() -> None:
    """
    Records as the topics' own examples have them open and close the two locks.
    """
    index = Index()
    for topic in ("training-users", "training-content"):
        path = TOPICS / topic / "accepted" / "allowed.json"
        example = json.loads(path.read_text("utf-8"))
        index.put(topic, [example["key"].encode()], [json.dumps(example["value"]).encode()])

    assert [State.ALLOWED] == index.states(index.hasher.of_texts(["c-77"])).tolist()

    users = json.loads((TOPICS / "training-users/accepted/purged.json").read_text("utf-8"))
    index.put("training-users", [users["key"].encode()], [None])

    assert [State.LOCKED] == index.states(index.hasher.of_texts(["c-77"])).tolist()


def test_a_record_that_cannot_be_read_allows_nothing() -> None:
    """
    A value that is no such JSON object closes the item's lock.
    """
    index = Index()
    index.put("training-users", [b"facebook/u1", b"/"], [b"{}", b"{}"])
    bad = [b"", b"{}", b"[]", b"null", b"\xff", b'{"user_id": "u1"}', b'{"user_id":1,"product":2}']
    keys = [f"c-{number}".encode() for number in range(len(bad))]
    index.put("training-content", keys, bad)

    states = index.states(index.hasher.of(keys))

    assert State.ALLOWED not in states.tolist()


@given(
    texts=st.lists(st.binary(max_size=TEXT_BYTES_MAX + 3), max_size=30),
    seed=st.binary(min_size=8, max_size=8),
)
def test_hashes_are_those_of_the_formula(texts: list[bytes], seed: bytes) -> None:
    """
    A text's hash is the sum that its module tells; of none and of one too long it is nobody's.
    """
    key = (seed * KEY_BYTES)[:KEY_BYTES]
    keys = [int.from_bytes(key[at : at + 8], "little") for at in range(0, KEY_BYTES, 8)]

    def expected(text: bytes) -> tuple[int, int]:
        if not 0 < len(text) <= TEXT_BYTES_MAX:
            return 0, 0
        parts = []
        for part in range(4):
            column = keys[part::4]
            total = column[0] + column[1] * len(text)
            for number in range(0, len(text), 4):
                word = int.from_bytes(text[number : number + 4].ljust(4, b"\0"), "little")
                total += column[2 + number // 4] * word
            parts.append(total % 2**64 >> 32)
        return parts[0] << 32 | parts[1], parts[2] << 32 | parts[3]

    found = Hasher(key).of(texts)

    assert [expected(each) for each in texts] == list(
        zip(found.high.tolist(), found.low.tolist(), strict=True)
    )


def test_a_key_is_drawn_for_each_index() -> None:
    """
    Nobody can choose ids that meet: two indexes hash differently, the same key hashes alike.
    """
    one, other = Hasher(), Hasher()

    assert one.of([b"c-1"]).high != other.of([b"c-1"]).high
    assert one.of([b"c-1"]).high == Hasher(one.key).of([b"c-1"]).high


small = st.integers(0, 3)
puts = st.lists(st.lists(st.tuples(small, small, st.integers(0, 99)), max_size=8), max_size=8)


@given(batches=puts, pending=st.integers(1, 12))
def test_a_table_tells_apart_what_shares_half_a_hash(
    batches: list[list[tuple[int, int, int]]], pending: int
) -> None:
    """
    It is a dict with 128-bit keys, also where the first or the second halves are equal.
    """
    model: dict[tuple[int, int], int] = {}
    made = Table(np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "PENDING_ROWS_MIN", pending)
        for batch in batches:
            model.update({(high, low): value for high, low, value in batch})
            made.put(
                hashes([each[:2] for each in batch]), np.array([each[2] for each in batch], int)
            )
        made.settle()
    model.pop((0, 0), None)  # nobody's
    asked = [(high, low) for high in range(4) for low in range(4)]

    rows = made.find(hashes(asked)).tolist()

    found = {
        key: int(made.columns[0][row]) for key, row in zip(asked, rows, strict=True) if row >= 0
    }
    assert model == found
    assert rows.count(ABSENT) == len(asked) - len(model)
    assert sorted(made.hashes.high.tolist()) == made.hashes.high.tolist()


def hashes(pairs: Sequence[tuple[int, int]]) -> Hashes:
    """Return hashes of these halves."""
    return Hashes(
        np.array([each[0] for each in pairs], np.uint64),
        np.array([each[1] for each in pairs], np.uint64),
    )

"""
How many dead letters of a partition stand against a user or an item, for a metric.

Counted once when the partition is taken over, from the few rows that can hold any, and then kept
by what each cycle changes: a scrape reads a number.  Users who ever had a dead letter are in an
index, which is of the local store alone since it follows from their rows, as timers do.
Dead letters that restrict nobody (of `notices`, without a valid key, of no readable content_id)
are not counted: nothing stands, and for those without a key nothing could ever end it.
Of one user's, or one item's, no more are counted than its row keeps: see core/user.py.
Source: contract.md, "Bad records" and "Metrics".
"""

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Final

from streams.core.changes import UserChange
from streams.core.fold import Fold
from streams.core.refs import offset_of
from streams.core.user import NOBODY, User, is_resolved, unresolved
from streams.state import rows
from streams.state.layer import Layer
from streams.state.store import Row, Store
from streams.state.view import View

CHUNK_USERS: Final = 1_000  # rows in memory at once while counting

_INDEXED: Final = rows.META + b"letters_indexed"  # the index misses nobody
_REF: Final = re.compile(rb"/[0-9]+/[0-9]")  # of "topic/partition/offset" in a user's row


class OpenLetters:
    """
    The count of one partition, whose state is *store*.

    dead_letter_prefix: "topic/partition/" of this partition of `content`.
    """

    def __init__(self, store: Store, dead_letter_prefix: str) -> None:
        self._prefix = dead_letter_prefix
        self._content = _topic_of(dead_letter_prefix + "0")
        _complete_index(store)
        self._counts = Counter(self._count(store))
        self._under_way: deque[Counter[str]] = deque()  # of cycles not persisted yet

    def counts(self) -> Mapping[str, int]:
        """Return how many stand, by the full names of their topics; none is left out or 0."""
        return self._counts

    def fold(self, view: View, fold: Fold, layer: Layer) -> list[Row]:
        """
        Note what a cycle changes; return the rows of users who are new to the index.

        view: what was known before the cycle; layer: what it made of it.
        """
        changed = [
            (user_id, change)
            for user_id, change in fold.users.items()
            if change.after is not change.before and _has_news(change)
        ]
        news: Counter[str] = Counter()
        self._under_way.append(news)
        if not changed and not layer.dead_letters:
            return []
        touched = {pair: content_id is not None for pair, content_id in layer.dead_letters.items()}
        for user_id, change in changed:
            before, after = _facts(change)
            news.update(map(_topic_of, unresolved(after)))
            news.subtract(map(_topic_of, unresolved(before)))
            for offset in self._offsets_touched(view, user_id, before, after):
                touched.setdefault((user_id, offset), True)
        for (user_id, offset), left in touched.items():
            before, after = _facts(fold.users[user_id])
            known = view.item_of_dead_letter(user_id, offset) is not None
            stood = known and self._stands(before, offset)
            now = left and (known or (user_id, offset) in layer.dead_letters)
            news[self._content] += int(now and self._stands(after, offset)) - int(stood)
        return [
            (rows.letters_key(user_id), b"")
            for user_id, change in changed
            if _has_refs(change.after.user) and not _has_refs(_facts(change)[0])
        ]

    def persisted(self) -> None:
        """Count what the oldest cycle under way has changed."""
        counts = self._counts
        for topic, number in self._under_way.popleft().items():
            counts[topic] += number

    def roll_back(self) -> None:
        """Forget the cycles under way."""
        self._under_way.clear()

    def _offsets_touched(
        self, view: View, user_id: str, before: User, after: User
    ) -> Iterable[int]:
        """Return the dead letters of items that the news of their user may have ended."""
        if after.deleted:
            return () if before.deleted else view.dead_letters_of(user_id)
        touched: set[int] = set()
        if after.dismissed != before.dismissed:
            touched |= view.dead_letters_of(user_id)
        if after.resolved is not before.resolved:
            mended = set(after.resolved).difference(before.resolved)
            touched.update(offset_of(ref) for ref in mended if ref.startswith(self._prefix))
        return touched

    def _stands(self, user: User, offset: int) -> bool:
        return not (user.deleted or is_resolved(user, f"{self._prefix}{offset}"))

    def _count(self, store: Store) -> Iterator[str]:
        """Yield the topic of every dead letter that stands."""
        indexed = (rows.user_of(key) for key, _ in store.scan(rows.LETTERS))
        for _, user in _with_users(store, ((user_id, ()) for user_id in indexed)):
            yield from map(_topic_of, unresolved(user))
        letters = (rows.dead_letter_of(key) for key, _ in store.scan(rows.DEAD_LETTER))
        of_items = (
            (user_id, tuple(offset for _, offset in group))
            for user_id, group in groupby(letters, lambda letter: letter[0])
        )
        for offsets, user in _with_users(store, of_items):
            for offset in offsets:
                if self._stands(user, offset):
                    yield self._content


def begin_index(store: Store) -> None:
    """Note that *store*, which is empty, has every user in its index from the start."""
    store.write([(_INDEXED, b"")], {})


def index_rows(key: bytes, value: bytes) -> list[Row]:
    """Return the index's row that follows from a user's row, if one does."""
    if b"/" in value and _REF.search(value):
        return [(rows.LETTERS + key[1:], b"")]
    return []


def _complete_index(store: Store) -> None:
    """Index a store that a version without the index has written: once, over all users."""
    if store.get(_INDEXED) is not None:
        return
    batch: list[Row] = []
    for key, value in store.scan(rows.USER):
        batch += index_rows(key, value)
        if len(batch) >= CHUNK_USERS:
            store.write(batch, {})
            batch = []
    store.write([*batch, (_INDEXED, b"")], {})


def _with_users(
    store: Store, letters: Iterable[tuple[str, tuple[int, ...]]]
) -> Iterator[tuple[tuple[int, ...], User]]:
    """Yield the facts about each user beside what came with the user_id."""
    chunk: list[tuple[str, tuple[int, ...]]] = []
    for each in letters:
        chunk.append(each)
        if len(chunk) == CHUNK_USERS:
            yield from _facts_of(store, chunk)
            chunk = []
    yield from _facts_of(store, chunk)


def _facts_of(
    store: Store, chunk: list[tuple[str, tuple[int, ...]]]
) -> Iterator[tuple[tuple[int, ...], User]]:
    found = store.get_many([rows.user_key(user_id) for user_id, _ in chunk]) if chunk else []
    for (_, offsets), data in zip(chunk, found, strict=True):
        yield offsets, NOBODY if data is None else rows.decode_user(data).user


def _has_news(change: UserChange) -> bool:
    """Whether dead letters of the user may have come or gone."""
    after = change.after.user
    if change.before is not None and change.before.user is after:
        return False
    return after.deleted or bool(after.dead_letters or after.resolved or after.dismissed)


def _has_refs(user: User) -> bool:
    return bool(user.dead_letters) or bool(user.resolved)


def _facts(change: UserChange) -> tuple[User, User]:
    before = NOBODY if change.before is None else change.before.user
    return before, change.after.user


def _topic_of(ref: str) -> str:
    return ref.rsplit("/", 2)[0]

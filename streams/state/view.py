"""
A partition's state as the fold reads it: the store, and above it what is not persisted yet.

A `Layer` holds what one cycle changed.  While a cycle's transaction commits, the next
one folds over its layer; when the rows are in the store the layer is dropped; when the
transaction is aborted all layers are.
"""

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import Final

from streams.core.changes import UserRow
from streams.core.fanout import Job
from streams.core.item import Item
from streams.state import rows
from streams.state.layer import Layer
from streams.state.store import Store

RECENT_USERS_MAX: Final = 4_000  # rows kept decoded: active users are asked for again and again


class View:
    """
    What is known of a partition's users and items: implements `streams.core.changes.Known`.

    jobs: the fan-outs under way, by user, oldest first: of the store and the layers together.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.jobs: dict[str, Job] = {}
        self._layers: list[Layer] = []  # newest last
        self._users: dict[str, UserRow | None] = {}  # fetched ahead, for one cycle
        self._recent: dict[str, UserRow] = {}  # as in the store
        self._items: dict[tuple[str, str], Item | None] = {}
        self.reload_jobs()

    def reload_jobs(self) -> None:
        """Read the jobs from the store, forgetting those of layers."""
        found = self.store.scan(rows.JOB)
        self.jobs = {rows.user_of(key): rows.decode_job(data) for key, data in found}

    def push(self, layer: Layer) -> None:
        """Let *layer* stand above what is known."""
        self._layers.append(layer)
        for user_id, job in layer.jobs.items():
            if job is None:
                self.jobs.pop(user_id, None)
            else:
                self.jobs[user_id] = job

    def pop(self, layer: Layer) -> None:
        """Drop the oldest layer, now that its rows are in the store."""
        assert self._layers[0] is layer
        del self._layers[0]
        self._recent.update(layer.users)
        for user_id in list(islice(self._recent, max(len(self._recent) - RECENT_USERS_MAX, 0))):
            del self._recent[user_id]

    def drop(self) -> None:
        """Forget all layers: their transaction was aborted."""
        self._layers.clear()
        self.reload_jobs()

    def fetch(self, user_ids: Iterable[str], item_ids: Iterable[tuple[str, str]]) -> None:
        """Read the rows a cycle will ask for, many at once."""
        user_ids = [user_id for user_id in user_ids if not self._at_hand(user_id)]
        item_ids = list(item_ids)
        keys = [rows.user_key(user_id) for user_id in user_ids]
        keys += [rows.item_key(*item_id) for item_id in item_ids]
        found = self.store.get_many(keys) if keys else []
        self._users = {
            user_id: None if data is None else rows.decode_user(data)
            for user_id, data in zip(user_ids, found, strict=False)
        }
        self._recent.update({user_id: row for user_id, row in self._users.items() if row})
        self._items = {
            item_id: None if data is None else rows.decode_item(data)
            for item_id, data in zip(item_ids, found[len(user_ids) :], strict=True)
        }

    def user(self, user_id: str) -> UserRow | None:
        """Return the row of *user_id*."""
        for layer in reversed(self._layers):
            if (row := layer.users.get(user_id)) is not None:
                return row
        if (row := self._recent.get(user_id)) is not None:
            return row
        if user_id in self._users:
            return self._users[user_id]
        data = self.store.get(rows.user_key(user_id))
        return None if data is None else rows.decode_user(data)

    def _at_hand(self, user_id: str) -> bool:
        return user_id in self._recent or any(user_id in layer.users for layer in self._layers)

    def item(self, user_id: str, content_id: str) -> Item | None:
        """Return the state of an item."""
        for layer in reversed(self._layers):
            of_user = layer.items.get(user_id)
            if of_user is not None and (key := content_id.encode()) in of_user:
                return of_user[key]
        if (user_id, content_id) in self._items:
            return self._items[user_id, content_id]
        data = self.store.get(rows.item_key(user_id, content_id))
        return None if data is None else rows.decode_item(data)

    def item_of_dead_letter(self, user_id: str, offset: int) -> str | None:
        """Return the content_id of the unreadable `content` record at *offset*."""
        for layer in reversed(self._layers):
            if (user_id, offset) in layer.dead_letters:
                return layer.dead_letters[user_id, offset]
        data = self.store.get(rows.dead_letter_key(user_id, offset))
        return None if data is None else rows.decode_text(data)

    def dead_letters_of(self, user_id: str) -> set[int]:
        """Return the offsets of the unreadable `content` records of a user's items."""
        prefix = rows.dead_letters_prefix(user_id)
        found = {rows.dead_letter_of(key)[1] for key, _ in self.store.scan(prefix)}
        for layer in self._layers:
            for (owner, offset), content_id in layer.dead_letters.items():
                if owner == user_id:
                    (found.discard if content_id is None else found.add)(offset)
        return found

    def items_of(self, user_id: str, after: bytes = b"") -> Iterator[tuple[bytes, Item]]:
        """Yield a user's items behind content id *after*, in the order of their ids' bytes."""
        changed: dict[bytes, Item | None] = {}
        for layer in self._layers:
            changed.update(layer.items.get(user_id, {}))
        prefix = rows.items_prefix(user_id)
        start = len(prefix)
        in_store = (
            (content_id, rows.decode_item(data))
            for key, data in self.store.scan(prefix, after)
            if (content_id := key[start:]) not in changed
        )
        above = [
            (content_id, item)
            for content_id, item in sorted(changed.items(), key=_content_id)
            if item is not None and content_id > after
        ]
        return merge(in_store, above, key=_content_id) if above else in_store

    def due(self, now_ms: int, limit: int, after_ms: int = -1) -> list[tuple[int, str]]:
        """
        Return timers due at *now_ms*, the oldest *limit* of them: instant and user_id.

        after_ms: those of later instants only.
        """
        found: list[tuple[int, str]] = []
        after = rows.timer_key(after_ms + 1, "")[1:] if after_ms >= 0 else b""
        for key, _ in self.store.scan(rows.TIMER, after):
            due_ms, user_id = rows.timer_of(key)
            if due_ms > now_ms or len(found) >= limit:
                break
            found.append((due_ms, user_id))
        return found

    def due_at(self, due_ms: int, limit: int, after_user_id: str = "") -> list[tuple[int, str]]:
        """Return the next *limit* timers due at *due_ms*, behind *after_user_id*, by user_id."""
        after = rows.timer_key(due_ms, after_user_id)[1:]
        found: list[tuple[int, str]] = []
        for key, _ in self.store.scan(rows.TIMER, after):
            timer = rows.timer_of(key)
            if timer[0] != due_ms or len(found) >= limit:
                break
            found.append(timer)
        return found


def _content_id(pair: tuple[bytes, object]) -> bytes:
    return pair[0]

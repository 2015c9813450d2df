"""
The state as the fold reads it: what is not persisted yet stands above what is.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.core.changes import Cause, UserRow
from streams.core.fanout import Era, Job, anew
from streams.core.item import Item
from streams.core.user import User
from streams.core.verdict import Decision
from streams.state import rows
from streams.state.layer import Layer
from streams.state.store import Memory, Row, Store
from streams.state.view import View

DECISION = Decision((0, 0, 0, 0), 0, 7)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return an empty store."""
    opened = Store(tmp_path / "0", Memory(1024 * 1024))
    yield opened
    opened.close()


def user_row(epoch: int) -> UserRow:
    """Return a user's row that is told by its epoch."""
    return UserRow(User(), epoch, DECISION, 0, 1, 0, Cause("t", 0, 0))


def item(revision: int) -> Item:
    """Return an item that is told by its revision."""
    return Item(revision=revision)


def job(received_ms: int) -> Job:
    """Return a fan-out that is told by its time."""
    return anew(Era(0, DECISION), "objections", received_ms, None)


def items_row(user_id: str, content_id: str, revision: int) -> Row:
    """Return the stored row of an item."""
    return rows.item_key(user_id, content_id), rows.encode_item(item(revision))


def layer(
    users: dict[str, int] | None = None,
    items: dict[str, int | None] | None = None,
    jobs: dict[str, int | None] | None = None,
) -> Layer:
    """Return a layer of epochs by user, revisions by item of user `u`, times by job."""
    made = Layer()
    made.users = {user_id: user_row(epoch) for user_id, epoch in (users or {}).items()}
    made.items = {
        "u": {
            content_id.encode(): None if revision is None else item(revision)
            for content_id, revision in (items or {}).items()
        }
    }
    made.jobs = {
        user_id: None if received_ms is None else job(received_ms)
        for user_id, received_ms in (jobs or {}).items()
    }
    return made


def epoch_of(view: View, user_id: str) -> int | None:
    """Return the epoch of a user, None for one never seen."""
    row = view.user(user_id)
    return None if row is None else row.epoch


def revision_of(view: View, content_id: str) -> int | None:
    """Return the revision of an item of `u`, None for one not known."""
    found = view.item("u", content_id)
    return None if found is None else found.revision


def walk(view: View, after: str = "") -> list[tuple[str, int]]:
    """Return the items of `u` as a fan-out meets them."""
    found = view.items_of("u", after.encode())
    return [(content_id.decode(), each.revision) for content_id, each in found]


def test_the_newest_layer_wins_over_older_ones_and_the_store(store: Store) -> None:
    """A user or an item is what the last cycle made of it, else an earlier one, else the store."""
    store.write([(rows.user_key(name), rows.encode_user(user_row(1))) for name in "abc"], {})
    store.write([items_row("u", name, 1) for name in "abc"], {})
    view = View(store)

    view.push(layer(users={"a": 2, "b": 2}, items={"a": 2, "b": 2}))
    view.push(layer(users={"a": 3}, items={"a": 3}))

    assert [3, 2, 1, None] == [epoch_of(view, name) for name in "abcd"]
    assert [3, 2, 1, None] == [revision_of(view, name) for name in "abcd"]


def test_what_was_fetched_ahead_stays_below_the_layers(store: Store) -> None:
    """Rows read from the store for a cycle never hide what an unpersisted cycle has changed."""
    store.write([(rows.user_key("a"), rows.encode_user(user_row(1))), items_row("u", "a", 1)], {})
    view = View(store)
    view.push(layer(users={"a": 2}, items={"a": 2}))

    view.fetch(["a", "b"], [("u", "a"), ("u", "b")])

    assert [2, None] == [epoch_of(view, name) for name in "ab"]
    assert [2, None] == [revision_of(view, name) for name in "ab"]


def test_what_was_fetched_ahead_is_for_one_cycle(store: Store) -> None:
    """The next cycle's fetch sees what has been persisted since, also where nothing was before."""
    view = View(store)
    view.fetch(["a"], [("u", "a")])
    assert epoch_of(view, "a") is None

    store.write([(rows.user_key("a"), rows.encode_user(user_row(1))), items_row("u", "a", 1)], {})
    view.fetch(["a"], [("u", "a")])

    assert 1 == epoch_of(view, "a")
    assert 1 == revision_of(view, "a")


def test_a_removed_item_is_not_found_below(store: Store) -> None:
    """An item that a layer removes is gone, even where the store still has it."""
    store.write([items_row("u", name, 1) for name in "abc"], {})
    view = View(store)

    view.push(layer(items={"b": None}))

    assert revision_of(view, "b") is None
    assert [("a", 1), ("c", 1)] == walk(view)


def test_a_walk_merges_store_and_layers_in_order(store: Store) -> None:
    """A user's items come once each, ordered by their ids' bytes, each as of its last cycle."""
    store.write([items_row("u", name, 1) for name in ("a", "c", "e", "ü", "z")], {})
    store.write([items_row("v", "b", 9), items_row("uu", "b", 9), items_row("", "b", 9)], {})
    view = View(store)

    view.push(layer(items={"b": 2, "c": 2, "z": None}))
    view.push(layer(items={"b": 3, "d": 3, "zz": 3}))

    whole = [("a", 1), ("b", 3), ("c", 2), ("d", 3), ("e", 1), ("zz", 3), ("ü", 1)]
    assert whole == walk(view)
    assert whole[2:] == walk(view, "b")  # behind one of a layer
    assert whole[3:] == walk(view, "c")  # behind one of both
    assert whole[5:] == walk(view, "f")  # behind one that is not there
    assert [] == walk(view, "ü")


def test_items_above_the_store_alone_are_walked(store: Store) -> None:
    """A user whose items are all unpersisted has a walk like any other."""
    view = View(store)
    view.push(layer(items={"b": 1, "a": 1}))

    assert [("a", 1), ("b", 1)] == walk(view)
    assert [("b", 1)] == walk(view, "a")


def test_a_persisted_layer_makes_way_for_the_store(store: Store) -> None:
    """Once its rows are in the store a layer is dropped, the oldest first, and nothing is lost."""
    view = View(store)
    first, second = layer(users={"a": 1, "b": 1}), layer(users={"a": 2})
    view.push(first)
    view.push(second)
    store.write([(rows.user_key(name), rows.encode_user(user_row(1))) for name in "ab"], {})

    view.pop(first)

    assert [2, 1] == [epoch_of(view, name) for name in "ab"]
    store.write([(rows.user_key("a"), rows.encode_user(user_row(2)))], {})
    view.pop(second)
    assert [2, 1] == [epoch_of(view, name) for name in "ab"]


def test_layers_are_persisted_in_order(store: Store) -> None:
    """Dropping any but the oldest layer is a mistake of ours, and is caught."""
    view = View(store)
    first, second = layer(users={"a": 1}), layer(users={"a": 2})
    view.push(first)
    view.push(second)

    with pytest.raises(AssertionError):
        view.pop(second)


def test_a_rollback_forgets_all_layers(store: Store) -> None:
    """After `drop` users, items and fan-outs are those of the store: the last committed state."""
    store.write([(rows.user_key("a"), rows.encode_user(user_row(1))), items_row("u", "a", 1)], {})
    store.write([(rows.job_key("a"), rows.encode_job(job(1)))], {})
    store.write([(rows.job_key("b"), rows.encode_job(job(1)))], {})
    view = View(store)
    view.push(layer(users={"a": 2, "b": 2}, items={"a": None, "b": 2}, jobs={"a": None, "c": 2}))
    view.push(layer(jobs={"b": 3}))
    assert {"b": job(3), "c": job(2)} == view.jobs

    view.drop()

    assert [1, None] == [epoch_of(view, name) for name in "ab"]
    assert [("a", 1)] == walk(view)
    assert {"a": job(1), "b": job(1)} == view.jobs


def test_fan_outs_of_the_store_and_the_layers_are_one_list(store: Store) -> None:
    """A fan-out is under way from the cycle that begins it to the one that ends it."""
    store.write([(rows.job_key("a"), rows.encode_job(job(1)))], {})
    view = View(store)
    assert {"a": job(1)} == view.jobs

    view.push(layer(jobs={"b": 2}))
    assert {"a": job(1), "b": job(2)} == view.jobs

    view.push(layer(jobs={"a": None}))
    assert {"b": job(2)} == view.jobs


def test_the_item_of_a_dead_letter_is_found(store: Store) -> None:
    """An unreadable record's item is found by the record's offset, through layers and store."""
    store.write([(rows.dead_letter_key("u", 5), rows.encode_text("c5"))], {})
    store.write([(rows.dead_letter_key("u", 6), rows.encode_text("c6"))], {})
    view = View(store)
    above = Layer()
    above.dead_letters = {("u", 6): None, ("u", 7): "c7"}

    view.push(above)

    assert ["c5", None, "c7", None] == [view.item_of_dead_letter("u", at) for at in (5, 6, 7, 8)]
    assert view.item_of_dead_letter("v", 5) is None


def test_timers_due_come_oldest_first(store: Store) -> None:
    """Timers are due at their instant, not before; no more than asked for, the oldest of them."""
    due = [(30, "c"), (10, "a"), (20, "b"), (20, "a"), (31, "d")]
    store.write([(rows.timer_key(at_ms, user_id), b"") for at_ms, user_id in due], {})
    view = View(store)

    assert [(10, "a"), (20, "a"), (20, "b"), (30, "c")] == view.due(30, 10)
    assert [(10, "a"), (20, "a")] == view.due(30, 2)
    assert [] == view.due(9, 10)

"""
The demo's parts: made-up data that is the same each time, a store with two locks, percentiles.
"""

from collections import Counter
from pathlib import Path

import pytest

from streams.demo.activity import by_size, read_activity
from streams.demo.figures import latencies, percentiles, purged_items
from streams.demo.script import Script, write_script
from streams.demo.store import FEATURE_STORE, Store, contents
from streams.proof import Record
from tests.making import NOW_MS
from tests.test_proof import of_log

ITEM = (
    b'{"content_id": "c1", "user_id": "u1", "revision": 1, "product": "instagram", "kind": "post",'
    b' "modality": "text", "language": "de-DE", "created_at": "2026-04-15T09:00:00Z", "epoch": 1}'
)


@pytest.fixture(scope="module")
def script() -> Script:
    """Return the demo's script."""
    return write_script(read_activity(), NOW_MS, "run")


def test_the_activity_is_real_and_whole() -> None:
    """The bundled rows are 20,000 items by 286 accounts, ordered by time, with a heavy tail."""
    activity = read_activity()

    assert 20_000 == len(activity) == len({each.content_id for each in activity})
    assert 286 == len(by_size(activity))
    assert 2_467 == Counter(each.user_id for each in activity)[by_size(activity)[0]]
    assert sorted(each.created_at for each in activity) == [each.created_at for each in activity]


def test_what_is_made_up_is_the_same_in_every_run(script: Script) -> None:
    """A second run sends the same records in the same order."""
    assert script == write_script(read_activity(), NOW_MS, "run")


def test_everybody_and_everything_is_in_the_script(script: Script) -> None:
    """Each item is sent once in its first revision: replayed, or late."""
    steps = script.replay + script.disturbance
    first = [
        s.value["content_id"] for s in steps if s.topic == "content" and s.value["revision"] == 1
    ]

    assert {each.content_id for each in read_activity()} == set(first)
    assert 20_000 == len(first)
    assert script.objection_ids == {
        step.value["objection_id"]
        for step in script.disturbance
        if step.topic == "objections" and step.value["action"] == "filed"
    }


def test_the_largest_account_objects_and_its_items_still_arrive(script: Script) -> None:
    """The hardest case is played: items of an account come after its objection."""
    largest = by_size(read_activity())[0]
    its_own = [step for step in script.disturbance if step.value["user_id"] == largest]
    objection = next(at for at, step in enumerate(its_own) if step.topic == "objections")

    assert "products" not in its_own[objection].value
    assert [step for step in its_own[objection:] if step.topic == "content"]


def test_proportions_are_those_of_a_network(script: Script) -> None:
    """Most items are public posts and comments; some are for friends, a few private messages."""
    items = [step.value for step in script.replay if step.topic == "content"]
    public = sum(each["visibility"] == "public" for each in items) / len(items)
    private_messages = sum(each["kind"] == "private_message" for each in items) / len(items)
    languages = {each["language"] for each in items}

    assert 0.7 < public < 0.9
    assert 0.005 < private_messages < 0.03
    assert len(languages) > 20


def account(epoch: int, *, allowed: bool, offset: int = 0) -> Record:
    """Return a record or tombstone of u1's account on Instagram."""
    headers = (("objections_epoch", b"%d" % epoch),)
    value = b"{}" if allowed else None
    return Record("training-users", 0, offset, 0, b"instagram/u1", value, headers)


def item(epoch: int, revision: int, *, allowed: bool) -> Record:
    """Return a record or tombstone of u1's item c1."""
    (record,) = of_log((epoch, revision, allowed))
    return record._replace(value=ITEM if allowed else None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a store is to be."""
    return tmp_path / "store.sqlite"


@pytest.mark.parametrize(
    "accounts, items, usable, kept",
    [
        ([account(1, allowed=True)], [item(1, 1, allowed=True)], 1, 1),
        ([], [item(1, 1, allowed=True)], 0, 1),
        ([account(1, allowed=True)], [], 0, 0),
        ([account(1, allowed=True), account(2, allowed=False)], [item(1, 1, allowed=True)], 0, 1),
        ([account(2, allowed=False), account(1, allowed=True)], [item(1, 1, allowed=True)], 0, 1),
        ([account(2, allowed=False), account(2, allowed=True)], [item(1, 1, allowed=True)], 0, 1),
        ([account(1, allowed=True)], [item(2, 1, allowed=False), item(1, 9, allowed=True)], 0, 0),
        ([account(1, allowed=True)], [item(1, 2, allowed=False), item(1, 1, allowed=True)], 0, 0),
        ([account(1, allowed=True)], [item(1, 1, allowed=False), item(1, 1, allowed=True)], 0, 0),
        ([account(1, allowed=True)], [item(1, 1, allowed=True), item(1, 1, allowed=False)], 0, 0),
        ([account(1, allowed=True)], [item(1, 1, allowed=False), item(2, 1, allowed=True)], 1, 1),
    ],
)
def test_a_store_has_two_locks_and_the_highest_pair_holds(
    path: Path, accounts: list[Record], items: list[Record], usable: int, kept: int
) -> None:
    """
    Usable is what both locks let through; a lower pair is dropped, a tombstone wins a tie.
    """
    store = Store(path, FEATURE_STORE)
    store.apply(accounts, items)
    store.close()

    found = contents(path)

    assert (usable, kept) == (len(found.usable), len(found.kept))


def test_a_store_goes_on_where_it_stopped(path: Path) -> None:
    """The place read up to is kept with the rows, and each time is as good as once."""
    store = Store(path, FEATURE_STORE)
    store.apply([account(1, allowed=True, offset=4)], [item(1, 1, allowed=True)])
    store.apply([account(1, allowed=True, offset=4)], [item(1, 1, allowed=True)])
    store.close()
    again = Store(path, FEATURE_STORE)
    positions = again.positions()
    again.close()

    assert {("training-users", 0): 5, ("x.training-content", 0): 1} == positions
    assert {"c1"} == contents(path).usable.keys()


@pytest.mark.parametrize(
    "times_ms, p50_ms, p99_ms, worst_ms",
    [([7], 7, 7, 7), ([3, 1, 2], 2, 3, 3), (list(range(1, 201)), 100, 198, 200)],
)
def test_percentiles(times_ms: list[int], p50_ms: int, p99_ms: int, worst_ms: int) -> None:
    """Percentiles are nearest-rank: times that were really measured."""
    assert (len(times_ms), p50_ms, p99_ms, worst_ms) == percentiles(times_ms)


def test_latencies_end_with_the_last_tombstone_an_objection_caused() -> None:
    """
    From the objection's time stamp to the last tombstone that names it, and to the store's commit.
    """
    objection = Record(
        "objections", 0, 0, 1_000, b"u1", b'{"objection_id": "o1", "action": "filed"}'
    )
    other = objection._replace(timestamp_ms=5, value=b'{"objection_id": "o2", "action": "filed"}')
    caused = (("ce_subject", b"u1"), ("objections_received_at", b"1000"))
    users = [Record("training-users", 0, 0, 1_010, b"instagram/u1", None, caused)]
    content = [
        Record("training-content", 0, at, ms, b"c%d" % at, None, caused)
        for at, ms in enumerate((1_020, 1_050, 1_030))
    ]
    purged_ms = {each.place: each.timestamp_ms + 7 for each in (*users, *content)}

    found = latencies([objection, other], {"o1"}, users, content, {"index": purged_ms})

    worst = {name: each.worst_ms for name, each in found.items()}
    assert {
        "account's tombstone": 10,
        "last item's tombstone": 50,
        "hidden in index": 17,
        "removed from index": 57,
    } == worst


def test_purged_is_what_stood_once() -> None:
    """An item that never stood is not purged, nor is one that stands again."""
    never = of_log((1, 1, False))
    again = of_log((1, 1, True), (2, 1, False), (3, 1, True))
    purged = of_log((1, 1, True), (2, 1, False))

    assert {} == purged_items(never) == purged_items(again)
    assert {"c1": "u1"} == purged_items(purged)

"""
The demo's parts: made-up data that is the same each time, and figures.
"""

from collections import Counter

import pytest
from msgspec.structs import replace

from streams.core.receipts import Receipt, StoreProgress
from streams.demo.activity import by_size, read_activity
from streams.demo.figures import Latency, latencies, percentiles, purged_items
from streams.demo.script import Script, write_script
from tests.making import NOW_MS
from tests.test_proof import of_log


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


@pytest.mark.parametrize(
    "times_ms, p50_ms, p99_ms, worst_ms",
    [([7], 7, 7, 7), ([3, 1, 2], 2, 3, 3), (list(range(1, 201)), 100, 198, 200)],
)
def test_percentiles(times_ms: list[int], p50_ms: int, p99_ms: int, worst_ms: int) -> None:
    """Percentiles are nearest-rank: times that were really measured."""
    assert (len(times_ms), p50_ms, p99_ms, worst_ms) == percentiles(times_ms)


def test_latencies_are_what_receipts_tell() -> None:
    """
    From when an objection was received; withdrawals and those with nothing to purge do not count.
    """
    second = "2026-04-15T09:00:0{}Z".format
    index = StoreProgress(second(3), second(4))
    receipt = Receipt("o1", "u1", "filed", second(0), second(1), second(2), 3, {"index": index})
    others = [
        replace(receipt, action="withdrawn", received_at=second(1)),
        replace(receipt, items=0, received_at=second(1)),
    ]

    found = latencies([receipt, *others])

    assert {
        "decided": Latency(1, 1_000, 1_000, 1_000),
        "published": Latency(1, 2_000, 2_000, 2_000),
        "hidden in index": Latency(1, 3_000, 3_000, 3_000),
        "erased from index": Latency(1, 4_000, 4_000, 4_000),
    } == found


def test_purged_is_what_stood_once() -> None:
    """An item that never stood is not purged, nor is one that stands again."""
    never = of_log((1, 1, False))
    again = of_log((1, 1, True), (2, 1, False), (3, 1, True))
    purged = of_log((1, 1, True), (2, 1, False))

    assert {} == purged_items(never) == purged_items(again)
    assert {"c1": "u1"} == purged_items(purged)

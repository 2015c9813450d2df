"""
Time passing, on a real Kafka: on time, once, after restarts and moves, and never before purges.
"""

import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from streams.core.reasons import PRODUCTS
from streams.kafka.local import LocalKafka
from streams.proof import Record
from tests.making import content, grown_up, notice, objection
from tests.worker_process import (
    PARTITIONS,
    Inputs,
    Watch,
    Worker,
    apply_topics,
    assert_proven,
    read_outputs,
    wait_for,
    wait_until_caught_up,
)

WINDOW: Final = timedelta(days=30)
ON_TIME_MS: Final = 1_000
GRANT_RATE: Final = 500
SLACK_MS: Final = 500  # between the worker's look at its rate and the broker's time stamp
CROWD: Final = 1_200  # users due at once: 4,800 grants


def test_windows_end_on_time_before_and_after_a_move(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Each notice window's end allows its user within a second, whoever owns the partition by then.

    Of two workers one is killed half-way: what it owned fires at the other once it has taken over,
    and nothing fires twice.
    """
    apply_topics(kafka, prefix)
    users = [f"u{number}" for number in range(40)]
    with (
        Worker(kafka, prefix, tmp_path / "stays", SESSION_TIMEOUT_MS=2_000) as stays,
        Worker(kafka, prefix, tmp_path / "goes", SESSION_TIMEOUT_MS=2_000) as goes,
        Inputs(kafka, prefix) as inputs,
        Watch(kafka, prefix) as watch,
    ):
        stays.wait_ready()
        goes.wait_ready()
        begun = datetime.now(UTC)
        for number, user in enumerate(users):
            ends = begun + timedelta(seconds=5 + number * 0.2)
            inputs.queue("account-ages", grown_up(user_id=user))
            delivered_at = (ends - WINDOW).isoformat()
            inputs.queue("notices", notice(user_id=user, delivered_at=delivered_at))
        inputs.flush()
        wait_for(lambda: len(_by_clock(watch)) >= len(users) // 4, "the first windows to end")
        goes.kill9()
        killed_ms = int(datetime.now(UTC).timestamp() * 1000)
        wait_for(lambda: len(_by_clock(watch)) == len(users), "all windows to end")
        wait_for(lambda: stays.get("/readyz").text.startswith("serving 4"), "the take-over")
        wait_until_caught_up(kafka, prefix, workers=[stays])
        assert stays.metric("objections_clock_overdue_seconds") == 0

    late_ms = [each.timestamp_ms - _due_ms(each) for each in _by_clock_of(kafka, prefix)]
    before = [
        late
        for late, each in zip(late_ms, _by_clock_of(kafka, prefix), strict=True)
        if each.timestamp_ms < killed_ms
    ]
    assert min(late_ms) >= 0
    assert max(before) <= ON_TIME_MS
    assert late_ms[-1] <= ON_TIME_MS
    assert len(late_ms) == len(users)
    assert_proven(kafka, prefix)


def test_windows_end_on_time_after_a_restart_without_its_state(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    The timers of a worker that is started anew, with its state gone, are those it had.

    What came due meanwhile fires at once, what comes due later within a second; nothing twice.
    """
    apply_topics(kafka, prefix)
    users = [f"u{number}" for number in range(40)]
    with (
        Worker(kafka, prefix, tmp_path / "state") as worker,
        Inputs(kafka, prefix) as inputs,
        Watch(kafka, prefix) as watch,
    ):
        worker.wait_ready()
        begun = datetime.now(UTC)
        for number, user in enumerate(users):
            ends = begun + timedelta(seconds=3 + number * 0.25)
            inputs.queue("account-ages", grown_up(user_id=user))
            inputs.queue("notices", notice(user_id=user, delivered_at=(ends - WINDOW).isoformat()))
        inputs.flush()
        watch.wait_until_caught_up(workers=[worker])
        worker.leave()
        shutil.rmtree(worker.state_dir)
        worker.start()
        worker.wait_ready()
        ready_ms = int(datetime.now(UTC).timestamp() * 1000)
        wait_for(lambda: len(_by_clock(watch)) == len(users), "all windows to end")
        watch.wait_until_caught_up(workers=[worker])

    fired = _by_clock_of(kafka, prefix)
    late_ms = [
        each.timestamp_ms - max(_due_ms(each), ready_ms)
        for each in fired
        if each.timestamp_ms > ready_ms
    ]
    assert min(each.timestamp_ms - _due_ms(each) for each in fired) >= 0
    assert max(late_ms) <= ON_TIME_MS
    assert len(late_ms) > 0
    assert len(fired) == len(users)
    assert_proven(kafka, prefix)


def test_a_crowd_due_at_once_goes_at_the_rate_set_and_delays_no_objection(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Grants by the clock are rationed, objections are not: one filed amid the crowd purges at once.

    A kill in the middle loses none of them and repeats none.
    """
    apply_topics(kafka, prefix)
    due = datetime(2026, 5, 2, 12, tzinfo=UTC)
    offset_s = (due - datetime.now(UTC)).total_seconds()
    before_s, after_s = offset_s - 3_600, offset_s + 60
    delivered_at = (due - WINDOW).isoformat()
    with Inputs(kafka, prefix) as inputs:
        inputs.queue("account-ages", grown_up(user_id="objector"))
        inputs.queue("notices", notice(user_id="objector", delivered_at="2020-01-01T00:00:00Z"))
        inputs.queue("content", content(user_id="objector"))
        for number in range(CROWD):
            user = f"u{number}"
            inputs.queue("account-ages", grown_up(user_id=user))
            inputs.queue("notices", notice(user_id=user, delivered_at=delivered_at))
        inputs.flush()
        state = tmp_path / "state"
        with Worker(kafka, prefix, state, CLOCK_OFFSET_S=before_s) as worker:
            wait_until_caught_up(kafka, prefix, clock_offset_s=before_s, workers=[worker])
        assert _by_clock_of(kafka, prefix) == []

        with (
            Watch(kafka, prefix) as watch,
            Worker(kafka, prefix, state, CLOCK_OFFSET_S=after_s, GRANT_RATE=GRANT_RATE) as worker,
        ):
            wait_for(lambda: len(_by_clock(watch)) > CROWD // 4, "a quarter of the crowd")
            overdue_s, read_s = _overdue_s(worker), time.monotonic()
            assert overdue_s > 0
            worker.kill9()
            worker.start()
            wait_for(lambda: len(_by_clock(watch)) > CROWD // 2, "half of the crowd")
            (sent,) = inputs.send(("objections", objection(user_id="objector")))
            wait_for(lambda: _purged(watch, "objector") is not None, "the objector's purge")
            # All are due at one moment, so as long as any waits it gets later with every second.
            later_s, passed_s = _overdue_s(worker), time.monotonic() - read_s
            waiting = CROWD - len(_by_clock(watch))
            assert later_s - overdue_s == pytest.approx(passed_s, abs=1.0)
            wait_until_caught_up(kafka, prefix, clock_offset_s=after_s, workers=[worker])
            assert worker.metric("objections_clock_overdue_seconds") == 0
            purge = _purged(watch, "objector")

    fired = _by_clock_of(kafka, prefix)
    assert waiting > 0
    assert purge is not None
    assert purge.timestamp_ms - sent.timestamp_ms < ON_TIME_MS
    assert len(fired) == CROWD
    assert {_due_ms(each) for each in fired} == {int(due.timestamp() * 1000)}
    _assert_rationed(kafka, prefix)
    assert_proven(kafka, prefix, clock_offset_s=after_s)


def _overdue_s(worker: Worker) -> float:
    """Return how late the oldest timer of any partition is."""
    name = "objections_clock_overdue_seconds{"
    return max(age_s for series, age_s in worker.metrics().items() if series.startswith(name))


def _assert_rationed(kafka: LocalKafka, prefix: str) -> None:
    """What two starts may allow at once, and what the rate adds since; no more at any time."""
    grants = sorted(
        each.timestamp_ms
        for each in read_outputs(kafka, prefix)["training-users"]
        if each.value is not None and b"objector" not in (each.key or b"")
    )
    at_once = 2 * (GRANT_RATE + PARTITIONS * len(PRODUCTS))
    for number, at_ms in enumerate(grants):
        assert number <= at_once + (at_ms - grants[0] + SLACK_MS) / 1000 * GRANT_RATE


def _by_clock(watch: Watch) -> list[Record]:
    """Return the decisions so far that time has caused."""
    return [each for each in watch.outputs()["eligibility"] if _cause(each) == "clock"]


def _by_clock_of(kafka: LocalKafka, prefix: str) -> list[Record]:
    with Watch(kafka, prefix) as watch:
        return sorted(_by_clock(watch), key=lambda each: each.timestamp_ms)


def _cause(decision: Record) -> str:
    cause: str = json.loads(decision.value or b"")["cause"]["topic"]
    return cause


def _due_ms(decision: Record) -> int:
    return int(decision.header("objections_received_at") or b"")


def _purged(watch: Watch, user_id: str) -> Record | None:
    for each in watch.outputs()["training-users"]:
        if each.value is None and (each.key or b"").endswith(f"/{user_id}".encode()):
            return each
    return None

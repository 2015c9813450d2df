"""Peers do the same job and end where the core ends; those that cannot run are named."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streams.bench import activity, peers, peers_report, workload
from streams.bench.latency import Latency, Spread
from streams.commands.bench_peers import available
from streams.errors import Unreachable
from streams.kafka.cache import Say
from streams.kafka.local import LocalKafka
from tests.bench_command import bench

NOW_MS = 1_790_000_000_000


def bench_peers(kafka: LocalKafka, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run `objections bench peers` once and return its JSON."""
    return bench(kafka, folder, "peers", "--repeats=1", "--partitions=2", *arguments)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["kstreams-eos", "quix-eos"])
def test_a_peer_ends_where_the_core_ends(kafka: LocalKafka, tmp_path: Path, name: str) -> None:
    """
    What a peer allows in the end, objections and withdrawals included, is what the core computes.
    """
    # The whole file once: most withdrawals come late in it.
    options = ("--parts=throughput", "--records=20700", "--peer-records=20700")
    found = bench_peers(kafka, tmp_path, f"--peers={name}", *options)

    (run,) = found["throughput"]["runs"]
    assert (run["system"], run["records"], run["differences"]) == (name, 20_700, [])
    assert run["measured_records"] <= 18_630  # the warm-up is left out
    assert run["outputs"] > 20_700  # of the items of those who object more than once


def test_an_account_objects_in_the_middle(kafka: LocalKafka, tmp_path: Path) -> None:
    """
    While others write an account objects, and the time to its last tombstone is told.
    """
    options = ("--parts=account", "--account-items=300", "--account-rate=200")
    found = bench_peers(kafka, tmp_path, "--peers=bare", *options, "--seconds=2", "--warmup=1")

    (run,) = found["account"]["runs"]
    assert (run["finished"], run["differences"], run["account_items"]) == (True, [], 300)
    assert 0 < run["account_purged_s"]
    assert 0 < run["answers"]["p99_ms"] <= run["answers"]["p999_ms"] <= run["answers"]["worst_ms"]


def test_activity_is_repeated_with_fresh_ids() -> None:
    """
    The file is repeated: other users and items, the same shape; a seed gives the same records.
    """
    records = activity.from_activity(50_000, seed=1)
    content = [record for record in records if record.topic == "content"]
    shares = Counter(record.topic for record in records)
    allowed = workload.expected(records, NOW_MS)

    assert records == activity.from_activity(50_000, seed=1)
    assert records[:10_000] == activity.from_activity(10_000, seed=1)
    assert len({record.id for record in content}) == len(content)
    assert 2 * 287 < len({record.key for record in content}) <= 3 * 287
    assert set(shares) == {"objections", "account-ages", "notices", "content"}
    assert b'"withdrawn"' in b"".join(each.value for each in records if each.topic == "objections")
    assert 0.3 < len(allowed.items) / len(content) < 0.7


def test_an_account_may_be_used_until_it_objects() -> None:
    """
    All items of the account that objects in the middle are allowed before, and none after.
    """
    known = activity.account(20, "account")

    before = workload.expected(known, NOW_MS)
    after = workload.expected([*known, activity.objection("account")], NOW_MS)

    assert len(before.items) == 20
    assert after == workload.Allowed(frozenset(), frozenset())


def test_a_peer_that_cannot_run_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of all, one that is missing is named in a line with the remedy; asked for by name, it is an
    error.
    """

    def missing(_say: Say) -> None:
        message = "it could not be fetched; check the network"
        raise Unreachable(message)

    absent = {
        name: peer._replace(prepare=missing if name.startswith("quix") else lambda _say: None)
        for name, peer in peers.PEERS.items()
    }
    monkeypatch.setattr("streams.bench.systems.PEERS", absent)
    said: list[str] = []

    def say(_passing: str, stays: str = "") -> None:
        said.append(stays)

    found = available("all", say)

    assert found == ("ours", "bare", "kstreams", "kstreams-eos", "faust")
    assert said == [
        "quix is left out: it could not be fetched; check the network",
        "quix-eos is left out: it could not be fetched; check the network",
    ]
    with pytest.raises(Unreachable, match="check the network"):
        available("ours,quix", say)


def test_ratios_stand_beside_each_peer() -> None:
    """
    A peer's figure has ours by it beside it; one that fell behind is marked.
    """
    runs = [_latency("ours", 10.0, kept_up=True), _latency("quix", 40.0, kept_up=False)]

    ours, theirs = peers_report.table([], runs)[1:3]

    assert ours.split()[-1] == "2.00"
    assert "40.0 0.25x" in theirs
    assert theirs.endswith("DID NOT KEEP UP")
    assert "2.0 % of its processor time" in "".join(peers_report.table([], runs))


def _latency(system: str, p99_ms: float, *, kept_up: bool) -> Latency:
    answers = Spread(100, p99_ms / 2, p99_ms, 2 * p99_ms, 1.5 * p99_ms)
    return Latency(
        system=system,
        rate=200.0,
        offered_per_s=200.0,
        records=100,
        kept_up=kept_up,
        growth_ms=0.0,
        unanswered_at_end=0,
        finished=True,
        answers=answers,
        objections=answers,
        account_items=10,
        account_purged_s=2.0,
        cpu_us_per_event=1.0,
        resident_mib=1.0,
        stolen_share=0.02,
        differences=(),
    )

"""Who has still to be told, and that nobody is allowed untold."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given

from streams.core.notices import country_of, notice_is_owed, told_from_ms
from streams.core.policy import Policy
from streams.core.times import DAY_MS, NEVER_MS
from streams.core.user import User, merge
from streams.core.verdict import decide, while_read_again, without_grants
from streams.kafka.local import LocalKafka
from tests.making import (
    ALLOWED,
    DEFAULTS,
    NOW_MS,
    age,
    grown_up,
    ms,
    notice,
    objection,
    reasons,
    user_of,
)
from tests.strategies import all_users, nows, policies
from tests.worker_process import Inputs, Watch, Worker, apply_topics
from tests.worker_settings import environ_of

PARTITIONS = 2


def _allows(user: User, policy: Policy, now_ms: int) -> bool:
    return not all(decide(user, policy, now_ms).decision.reasons)


def _deliveries(user: User, policy: Policy) -> list[int]:
    """Return the deliveries that count, as the contract says it."""
    from_ms = policy.notices_from_ms
    return [each for each in user.notices_ms if from_ms is None or each >= from_ms]


@given(all_users, policies, nows)
@example(ALLOWED, DEFAULTS, NOW_MS)
def test_no_decision_allows_without_a_notice(user: User, policy: Policy, now_ms: int) -> None:
    """
    Whatever else is known, a product is allowed only once the window since a delivery has passed.
    """
    told = [
        each
        for each in _deliveries(user, policy)
        if each + policy.notice_window_days * DAY_MS <= now_ms
    ]

    if _allows(user, policy, now_ms):
        assert told
        assert told_from_ms(user, policy) <= now_ms
    if not told:
        assert not _allows(user, policy, now_ms)


@given(all_users, all_users, policies, nows, nows)
def test_no_held_or_rebuilt_decision_allows_more(
    user: User, other: User, policy: Policy, before_ms: int, now_ms: int
) -> None:
    """
    What stands while grants are held, or facts are read again, allows nothing that did not stand.
    """
    stands = decide(other, policy, before_ms).decision
    decision = decide(user, policy, now_ms).decision

    for held in (without_grants(stands, decision), while_read_again(stands, user, decision)):
        assert all(new or not old for old, new in zip(stands.reasons, held.reasons, strict=True))


@given(all_users, policies, nows)
def test_a_notice_ends_what_is_owed(user: User, policy: Policy, now_ms: int) -> None:
    """
    A notice is owed to open accounts in covered countries without one, and one ends it.
    """
    covered = "COUNTRY_NOT_COVERED" not in reasons(user, policy=policy, now_ms=now_ms)
    told = merge(user, user_of(notice(delivered_at="2026-07-01T00:00:00Z")))

    owed = not user.deleted and covered and not _deliveries(user, policy)

    assert owed == notice_is_owed(user, policy, now_ms)
    assert not notice_is_owed(told, policy, now_ms)


def test_country_is_that_of_the_highest_level() -> None:
    """
    The mailer is told the country that counts; an unknown one is empty.
    """
    low, high = grown_up(country="FR"), grown_up(country="DE", assurance="verified")

    assert "DE" == country_of(user_of(low, high))
    assert "" == country_of(user_of(age()))
    assert "" == country_of(User())
    assert NEVER_MS == told_from_ms(user_of(grown_up()), DEFAULTS)
    assert ms("2026-01-31T00:00:00Z") == told_from_ms(ALLOWED, DEFAULTS)


def _run(kafka: LocalKafka, prefix: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "streams.commands", *arguments],
        env=environ_of(kafka.bootstrap, prefix, {}),
        capture_output=True,
        text=True,
        check=False,
    )


def test_list_and_proof_on_a_real_kafka(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    The list names who has still to be told, and the audit finds a permission that nobody was told
    of.
    """
    apply_topics(kafka, prefix, PARTITIONS)
    with (
        Worker(kafka, prefix, tmp_path / "worker") as worker,
        Inputs(kafka, prefix) as inputs,
        Watch(kafka, prefix) as watch,
    ):
        worker.wait_ready()
        inputs.send(
            *(("account-ages", grown_up(user_id=name)) for name in ("told", "new", "late", "gone")),
            ("notices", notice(user_id="told")),
            ("notices", notice(user_id="told", notice_id="n2")),
            ("account-ages", grown_up(user_id="abroad", country="US")),
            ("account-ages", grown_up(user_id="nowhere", country=None)),
            ("account-ages", age(user_id="child", age_band="under_18", country="FR")),
            ("account-ages", grown_up(user_id="against")),
            ("objections", objection(user_id="against")),
            ("account-ages", age(user_id="gone", account="deleted")),
        )
        watch.wait_until_caught_up(workers=[worker])
        worker.leave()

        # Delivered, and no worker has read it yet.
        inputs.send(("notices", notice(user_id="late")))
        path = tmp_path / "to-tell.csv"
        done = _run(kafka, prefix, "notices", "-o", str(path))

        assert 0 == done.returncode, done.stderr
        rows = list(csv.reader(path.read_text("utf-8").splitlines()))
        assert ["user_id", "country"] == rows[0]
        assert [["against", "DE"], ["child", "FR"], ["new", "DE"]] == sorted(rows[1:])
        assert 0o600 == path.stat().st_mode & 0o777
        assert "3 users have still to be told" in done.stderr
        assert "of 1 more no country is known" in done.stderr
        assert "1 records of ages and notices wait for a worker" in done.stderr

        proven = _run(kafka, prefix, "audit", "--notices")
        assert (0, "") == (proven.returncode, proven.stderr)
        assert "4 of 4 permissions have a notice" in proven.stdout

        forged = {"user_id": "new", "product": "instagram", "epoch": 9}
        inputs.queue("training-users", forged, "instagram/new")
        inputs.flush()
        found = _run(kafka, prefix, "audit", "--notices", "--json")
        assert 1 == found.returncode, found.stderr
        report = json.loads(found.stdout)
        assert (1, 5, 0) == (report["untold_n"], report["permissions"], report["unproven"])
        assert ("new", "instagram", None) == tuple(
            report["untold"][0][name] for name in ("user_id", "product", "told_from")
        )
        assert "1 permissions stand for users who were not told in time" in found.stderr

        lines = _run(kafka, prefix, "notices")
        users = {json.loads(line)["user_id"] for line in lines.stdout.splitlines()}
        assert {"against", "child", "new"} == users


@pytest.mark.parametrize(
    "arguments",
    [[], ["--notices", "--repair"], ["--notices", "--sink", "sqlite:x"]],
    ids=["neither", "repair", "both"],
)
def test_audit_is_of_a_store_or_of_notices(arguments: list[str]) -> None:
    """
    One of the two is asked for; anything else has status 2.
    """
    done = subprocess.run(
        [sys.executable, "-m", "streams.commands", "audit", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 2 == done.returncode
    assert "expected either --sink URL" in done.stderr

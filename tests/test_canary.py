"""
The canary: on a real Kafka with a worker and a store, and its accounts without.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import OK
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from streams.canary.account import CONTENT, PREFIX, USERS, Account, Heard, account
from streams.canary.erasures import Erasures
from streams.canary.numbers import Numbers
from streams.commands import main
from streams.core.levels import Ack
from streams.core.policy import Policy
from streams.core.receipts import ERASED as ERASED_PHASE
from streams.core.receipts import HIDDEN as HIDDEN_PHASE
from streams.core.subjects import PLAIN, Subjects
from streams.errors import UsageProblem
from streams.kafka.local import LocalKafka
from streams.kafka.partitioner import partition_of
from streams.monitor.levels import StoreLevels
from streams.settings import Settings
from streams.sinks.sqlite import SqliteSink
from streams.subscriber import Subscriber
from streams.worker.receipt_notes import Following
from tests.canary_process import Canary, HastyCanary
from tests.making import NOW_MS, item_facts, reasons, reasons_of_item, user_of
from tests.worker_process import (
    Worker,
    apply_topics,
    assert_proven,
    settings_of,
    wait_for,
    wait_until_caught_up,
)
from tests.worker_settings import environ_of

PARTITIONS: Final = 2
STORE: Final = "index"
FOLLOWS: Final = f"{STORE}=training-users+training-content"
TURNS: Final = 'objections_canary_turns_total{outcome="hidden"}'
HIDDEN: Final = f'objections_canary_hidden_seconds_count{{store="{STORE}"}}'
WAITING: Final = f'objections_canary_waiting_seconds{{store="{STORE}"}}'
ERASED: Final = f'objections_canary_erased_seconds_count{{store="{STORE}"}}'
UNERASED: Final = f'objections_canary_unerased_seconds{{store="{STORE}"}}'
PUBLISHED: Final = "objections_canary_published_seconds_count"


def test_it_measures_the_way_to_a_store_and_leaves_nothing_behind(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Turn after turn, withdrawn and filed anew, in all partitions.  While the store stands still its
    age grows; when it goes on it is counted, and when it has erased, that as well.  At the end
    nothing of the accounts may be used.
    """
    apply_topics(kafka, prefix, partitions=PARTITIONS)
    settings = settings_of(kafka, prefix)
    with (
        Worker(kafka, prefix, tmp_path / "worker", STORES=FOLLOWS) as worker,
        HastyCanary(kafka, prefix, tmp_path / "canary", STORES=FOLLOWS) as canary,
    ):
        worker.wait_ready()
        with following(settings, tmp_path / "store"):
            wait_for(lambda: numbers(canary).get(TURNS, 0) > PARTITIONS, "a second turn")
        wait_for(lambda: numbers(canary)[WAITING] > 2, "the store to be missed")
        still = numbers(canary)
        with following(settings, tmp_path / "store"):
            wait_for(lambda: numbers(canary)[TURNS] > still[TURNS], "it to go on")
            wait_for(lambda: numbers(canary)[ERASED] > still[ERASED], "something to be erased")
            after = numbers(canary)
            page = canary.get("/").text
            canary.terminate()
            wait_until_caught_up(kafka, prefix, workers=[worker])
        outputs = assert_proven(kafka, prefix)

        assert still[PUBLISHED] == still[HIDDEN] + 1
        assert after[HIDDEN] > still[HIDDEN]
        assert after[HIDDEN] >= after[ERASED]
        assert still[UNERASED] == 0 or still[UNERASED] > still[WAITING]
        assert after[PUBLISHED] >= after[HIDDEN] >= after[TURNS]
        assert f"partition {0}" in page or f"partition {1}" in page
        assert f"{STORE}: " in page
        decisions = {each.key_text: each for each in outputs["eligibility"]}
        last = [json.loads(each.value or b"") for each in decisions.values()]
        assert PARTITIONS == len(last)
        for decision in last:
            assert decision["user_id"].startswith(PREFIX)
            assert ["ACCOUNT_DELETED"] == decision["reasons"]
        assert {0, 1} == {each.partition for each in decisions.values()}
        withdrawn = [each for each in outputs["training-content"] if each.value is not None]
        assert len(withdrawn) > PARTITIONS


@contextmanager
def following(settings: Settings, path: Path) -> Iterator[None]:
    """Let a store follow."""
    subscriber = Subscriber(SqliteSink(path), STORE, settings=settings)
    thread = threading.Thread(target=subscriber.run)
    thread.start()
    try:
        yield
    finally:
        subscriber.stop()
        thread.join()


def numbers(canary: Canary) -> dict[str, float]:
    """Return what it tells; nothing while it begins."""
    return canary.metrics() if canary.get("/metrics").status == OK else {}


def test_one_erasure_of_a_store_and_partition_is_followed_at_a_time() -> None:
    """
    It is measured from its own filing, whatever is filed since; the oldest one's age is told, and a
    store whose group's offsets tell of no erasing has none.
    """
    now_s = 100.0
    told = Numbers(["index", "search"], ["index"], clock_s=lambda: now_s)
    levels = StoreLevels(2, _fail)
    erasures = Erasures(levels, told)
    index, search = Following("index", (USERS,), True), Following("search", (USERS,), False)

    def file(number: int, offset: int) -> None:
        told.filed(["index", "search"])
        for store in (index, search):
            told.hidden(store.name)
            erasures.begin(store, number, {USERS: offset})

    def erase(number: int, offset: int) -> float:
        levels.on_acks([Ack("index", USERS, number, HIDDEN_PHASE, 100, 0)], [])
        levels.on_acks([Ack("index", USERS, number, ERASED_PHASE, offset, 0)], [])
        erasures.look()
        return sample(told, "objections_canary_erased_seconds_count")

    file(0, 7)
    now_s = 110.0
    file(0, 9)
    file(1, 3)
    assert 0 == erase(0, 7)  # up to it, and not beyond
    assert {"index": 10.0} == told.unerased_s()
    now_s = 130.0
    assert 1 == erase(0, 8)
    assert 30 == sample(told, "objections_canary_erased_seconds_sum")
    assert {"index": 20.0} == told.unerased_s()
    assert 2 == erase(1, 4)
    assert {"index": 0.0} == told.unerased_s()
    file(0, 20)
    assert 2 == erase(0, 20)
    assert 3 == erase(0, 21)


def sample(told: Numbers, name: str) -> float:
    """Return a number of the store `index`."""
    (line,) = re.findall(rf'(?m)^{name}{{store="index"}} (\S+)$', told.text().decode())
    return float(line)


def _fail(error: BaseException) -> None:
    raise error


def test_without_a_store_there_is_nothing_to_measure() -> None:
    """Exit status 2, with the remedy, and no Kafka is asked."""
    result = CliRunner().invoke(main, ["canary"], env=environ_of("127.0.0.1:1", "t.", {}))

    assert 2 == result.exit_code
    assert "OBJECTIONS_STORES is not set, expected the data stores" in result.stderr


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(countries=frozenset({"CH"}), products=frozenset({"messenger"}), adult_age=90),
        Policy(kinds=frozenset({"comment"}), notices_from_ms=NOW_MS - 31 * 86_400_000),
    ],
)
def test_its_account_is_allowed_by_the_policy_and_lies_where_it_is_to_be(policy: Policy) -> None:
    """Whatever the policy covers; and its objection forbids it."""
    for partition in range(7):
        who = account("x", partition, 7, policy, PLAIN)
        told = dict(who.introduced(NOW_MS))
        item = item_facts(told["content"]).facts
        user = user_of(told["account-ages"], told["notices"])
        objected = user_of(told["account-ages"], told["notices"], who.objection("o", "filed")[1])

        assert partition == partition_of(who.user_id.encode(), 7)
        assert set() == reasons(user, who.product, policy)
        assert set() == reasons_of_item(item, user, policy)
        assert {"OBJECTION"} == reasons(objected, who.product, policy)
        assert {"ACCOUNT_DELETED"} == reasons(user_of(who.deleted(NOW_MS)[1]), who.product)


def test_a_policy_that_covers_nobody_is_told() -> None:
    """Before anything is sent."""
    with pytest.raises(UsageProblem, match="policy 1 covers no product"):
        account("x", 0, 1, Policy(products=frozenset()), PLAIN)


def test_it_hears_of_its_own_account_alone() -> None:
    """By its name in the outputs, which may be a pseudonym; the last word counts."""
    who: Account = account("x", 0, 1, Policy(), Subjects("k" * 32))
    heard = Heard(who)
    users, content = who.keys[USERS], who.keys[CONTENT]
    heard.take(USERS, users, 3, tombstone=False)
    heard.take(USERS, b"facebook/somebody", 4, tombstone=True)
    half = heard.allowed
    heard.take(CONTENT, content, 7, tombstone=False)
    allowed = heard.allowed
    heard.forget()
    heard.take(USERS, users, 9, tombstone=True)
    heard.take(CONTENT, content, 8, tombstone=True)

    assert who.user_id.encode() not in users
    assert (False, True) == (half, allowed)
    assert heard.purged
    assert (9, 8) == (heard.offset(USERS), heard.offset(CONTENT))

"""
Linked accounts on a real Kafka: owners of different partitions tell each other, also through kills.

Accounts lie in partitions of their own, half of them with either worker.
"""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from streams.kafka.local import LocalKafka
from streams.kafka.partitioner import partition_of
from streams.proof import compacted
from tests.fault_load import Frozen, bring_back, commits, rollbacks
from tests.making import content, grown_up, link, notice, objection
from tests.worker_process import (
    PARTITIONS,
    WAIT_S,
    Inputs,
    Worker,
    apply_topics,
    assert_proven,
    read_outputs,
    wait_for,
    wait_until_caught_up,
)
from tests.worker_settings import environ_of

LINKED: Final = "account-links"
COVERED: Final = ["OBJECTION"]
STORE: Final = "store"


def linked(user_id: str, other: str) -> tuple[str, Any]:
    """Return a record that links two accounts."""
    return LINKED, link(user_id=user_id, linked_user_id=other)


def unlinked(user_id: str, other: str) -> tuple[str, Any]:
    """Return a record that says that two accounts are not linked any more."""
    record = link(user_id=user_id, linked_user_id=other, action="unlinked")
    return LINKED, {**record, "occurred_at": "2026-04-16T09:00:00Z"}


def users_in(*numbers: int) -> Iterator[str]:
    """Yield new users of the partitions *numbers*, in turn."""
    for turn in count():
        number = numbers[turn % len(numbers)]
        yield next(
            user_id
            for user_id in (f"u{turn}-{each}" for each in count())
            if partition_of(user_id.encode(), PARTITIONS) == number
        )


def eligible(user_id: str) -> list[tuple[str, Any]]:
    """Return records by which *user_id* may be used, with an item."""
    return [
        ("account-ages", grown_up(user_id=user_id)),
        ("notices", notice(user_id=user_id)),
        ("content", content(user_id=user_id, content_id=f"c-{user_id}")),
    ]


def reasons(kafka: LocalKafka, prefix: str) -> dict[str, list[str]]:
    """Return the reasons that stand against each user, by what was published last."""
    found = compacted(read_outputs(kafka, prefix)["eligibility"])
    return {
        user_id: msgspec.json.decode(record.value or b"")["reasons"]
        for user_id, record in found.items()
    }


class Store:
    """A data store in the file *path*, and the subscriber that fills it."""

    def __init__(self, kafka: LocalKafka, prefix: str, path: Path) -> None:
        self._environ = environ_of(kafka.bootstrap, prefix, {})
        self._path = path

    def _command(self, name: str) -> list[str]:
        sink = ["--sink", f"sqlite:{self._path}", "--store", STORE]
        return [sys.executable, "-m", "streams.commands", name, *sink]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command("subscribe"), env=self._environ)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(WAIT_S)

    def usable(self) -> set[str]:
        """Return the items that may be used."""
        try:
            with sqlite3.connect(self._path) as connection:
                return {row[0] for row in connection.execute("SELECT content_id FROM usable")}
        except sqlite3.OperationalError:
            return set()  # the subscriber has not made it yet

    def audit(self) -> "subprocess.CompletedProcess[str]":
        """Compare it with the topics."""
        command = self._command("audit")
        return subprocess.run(
            command, env=self._environ, capture_output=True, text=True, timeout=WAIT_S, check=False
        )


def test_an_objection_covers_linked_accounts_of_other_owners(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Before the link or after it, along a chain, while an owner is killed or frozen.

    Unlinking undoes nothing; a withdrawal undoes it everywhere; a store follows all of it.
    """
    apply_topics(kafka, prefix)
    everybody = list(islice(users_in(0, 1, 2, 3), 7))
    ann, ben, cem, dan, eve, fay, gil = everybody
    one, two = (Worker(kafka, prefix, tmp_path / name) for name in ("one", "two"))
    store = Store(kafka, prefix, tmp_path / "store.sqlite")
    with one, two, store, Inputs(kafka, prefix) as inputs:
        one.wait_ready()
        two.wait_ready()

        def tell(*records: tuple[str, Any]) -> dict[str, list[str]]:
            inputs.send(*records)
            wait_until_caught_up(kafka, prefix, workers=[one, two])
            return reasons(kafka, prefix)

        found = tell(*(record for user_id in everybody for record in eligible(user_id)))
        assert {user_id: [] for user_id in everybody} == found
        filed = ("objections", objection(user_id=ann))
        found = tell(linked(ann, ben), linked(cem, ben), filed)
        assert [COVERED, COVERED, COVERED, []] == [found[each] for each in everybody[:4]]
        found = tell(linked(dan, cem))  # later: it hears of ann's, over three accounts
        assert COVERED == found[dan]

        two.kill9()
        inputs.send(("objections", objection(user_id=eve, objection_id="o2")), linked(fay, eve))
        two.start()
        found = tell(unlinked(ben, ann), unlinked(cem, ben))
        assert [*[COVERED] * 6, []] == [found[each] for each in everybody]

        two.wait_ready()
        said = len(one.log())
        frozen = Frozen(len(two.log()), commits(two), rollbacks(two))
        two.freeze()
        inputs.send(linked(gil, eve))
        wait_for(lambda: "[0, 1, 2, 3]" in one.log()[said:], "one worker takes everybody over")
        wait_until_caught_up(kafka, prefix, workers=[one])
        two.thaw()
        bring_back(two, frozen)
        found = tell(("objections", objection(user_id=ann, action="withdrawn")))
        covered = [eve, fay, gil]
        assert {each: COVERED if each in covered else [] for each in everybody} == found
        free = {f"c-{each}" for each in everybody if each not in covered}
        wait_for(lambda: store.usable() == free, "the store holds what may be used")
        audit = store.audit()
        assert audit.returncode == 0, audit.stdout + audit.stderr
    assert_proven(kafka, prefix)

"""
The audit trail on a real Kafka: whole after a crash and a move, and each break of it is named.

A broken chain is a copy of a real one, in which a record was tampered with.
"""

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from confluent_kafka import Producer, TopicPartition

from streams.audit.report import report
from streams.audit.trail import Verified, verify
from streams.core.trail import AUDIT_TRAIL, HASH, Head
from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.proof.records import read
from streams.state import rows
from tests.making import grown_up, notice, objection
from tests.worker_inputs import Inputs
from tests.worker_process import Worker, read_receipts, wait_until_caught_up
from tests.worker_settings import apply_topics, environ_of, settings_of, wait_for

ELIGIBILITY: Final = "eligibility"
USERS_CHANGELOG: Final = "objections-users-changelog"
COPIED: Final = (AUDIT_TRAIL, ELIGIBILITY, USERS_CHANGELOG)
OLD_USER: Final = "u-old"
USERS: Final = ("u-ann", "u-ben", "u-cem")


class Copied(NamedTuple):
    """One record of a chain, to be tampered with."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]


class Original(NamedTuple):
    """The records of a whole chain and what belongs to it, by topic; one partition."""

    kafka: LocalKafka
    prefix: str
    records: dict[str, list[Copied]]

    def copy(self, prefix: str, **changed: list[Copied]) -> str:
        """Write the records, or *changed* ones of the trail, under another prefix; return it."""
        apply_topics(self.kafka, prefix, partitions=1)
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap})
        for topic in COPIED:
            for each in changed.get("trail", []) if topic == AUDIT_TRAIL else self.records[topic]:
                producer.produce(f"{prefix}{topic}", each.value, each.key, 0, headers=each.headers)
        assert producer.flush(30) == 0
        return prefix

    def verify(self, prefix: str) -> Verified:
        """Return what is found of the chain under *prefix*."""
        (found,) = verify(settings_of(self.kafka, prefix), print, eligibility=True)
        return found

    @property
    def trail(self) -> list[Copied]:
        """The records of the chain."""
        return list(self.records[AUDIT_TRAIL])


@pytest.fixture(scope="module")
def original(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Original:
    """
    Return the chain of a worker that was killed, and of one that took over without its state.

    There was one before them, when the topic did not exist yet.
    """
    prefix, folder = "trail.", tmp_path_factory.mktemp("trail")
    apply_topics(kafka, prefix, partitions=1)
    without_trail(kafka, prefix, folder / "first")
    apply_topics(kafka, prefix, partitions=1)
    for name in ("first", "second"):
        with Worker(kafka, prefix, folder / name) as worker, Inputs(kafka, prefix) as inputs:
            worker.wait_ready()
            for each in USERS:
                inputs.send(("account-ages", grown_up(user_id=each)))
                inputs.send(("notices", notice(user_id=each)))
                wait_until_caught_up(kafka, prefix, workers=[worker])
                # By itself: it is to be a decision of its own.
                inputs.send(("objections", objection(user_id=each, objection_id=f"o-{name}")))
                wait_until_caught_up(kafka, prefix, workers=[worker])
            wait_for(lambda: published(kafka, prefix), "every receipt to be published")
            worker.kill9()
    found = read(settings_of(kafka, prefix), COPIED)
    records = {
        topic: [Copied(each.key, each.value, list(each.headers)) for each in found[topic]]
        for topic in COPIED
    }
    return Original(kafka, prefix, records)


def published(kafka: LocalKafka, prefix: str) -> bool:
    """Whether the last record of each receipt says that all it caused is committed."""
    return all(each["published_at"] for each in read_receipts(kafka, prefix).values())


def without_trail(kafka: LocalKafka, prefix: str, state_dir: Path) -> None:
    """Let a worker that finds no topic for a trail decide on a user, and leave."""
    client, name = admin.connect(settings_of(kafka, prefix)), f"{prefix}{AUDIT_TRAIL}"
    client.delete_topics([name])[name].result()
    wait_for(lambda: name not in client.list_topics(timeout=5).topics, "the topic is gone")
    with Worker(kafka, prefix, state_dir) as worker, Inputs(kafka, prefix) as inputs:
        worker.wait_ready()
        inputs.send(("account-ages", grown_up(user_id=OLD_USER)))
        wait_until_caught_up(kafka, prefix, workers=[worker])
        worker.leave()
    assert f"{name} does not exist: NO AUDIT TRAIL IS KEPT" in worker.log()


def sealed(value: dict[str, Any], key: bytes | None) -> Copied:
    """Return a record with *value* and the hash that belongs to it, as a careful hand makes it."""
    data = msgspec.json.encode(value)
    return Copied(key, data, [(HASH, sha256(data).hexdigest())])


def altered(record: Copied) -> dict[str, Any]:
    """Return the value of *record* with one product more allowed."""
    found: dict[str, Any] = json.loads(record.value or b"")
    found["decisions"][0]["allowed"] = ["whatsapp"]
    return found


def test_a_killed_and_a_moved_worker_leave_it_whole(original: Original) -> None:
    """
    Numbers follow each other over both; every decision that stands is proven, or is older.
    """
    found = original.verify(original.prefix)

    assert found.broken is None
    assert found.begins == 1
    assert found.records == found.sequence == len(original.trail) >= 2 * len(USERS)
    assert (found.proven, found.older, found.differences) == (len(USERS), 1, [])
    epochs = [json.loads(each.value or b"")["epoch"] for each in original.records[ELIGIBILITY]]
    assert found.decisions >= len(set(epochs))


def test_a_removed_record(original: Original, prefix: str) -> None:
    """The next one is not the one that was expected."""
    found = original.verify(original.copy(prefix, trail=original.trail[:2] + original.trail[3:]))

    assert found.broken == (0, 2, "sequence 3", "sequence 4")


def test_an_altered_record(original: Original, prefix: str) -> None:
    """By whoever forgot the hash it is found at once, else one record later."""
    trail = original.trail
    careless = trail[2]._replace(value=msgspec.json.encode(altered(trail[2])))
    found = original.verify(original.copy(f"{prefix}a.", trail=[*trail[:2], careless, *trail[3:]]))
    careful = sealed(altered(trail[2]), trail[2].key)
    then = original.verify(original.copy(f"{prefix}b.", trail=[*trail[:2], careful, *trail[3:]]))

    assert found.broken is not None
    assert (found.broken.offset, found.broken.expected[:20]) == (2, "the record with hash")
    assert then.broken is not None
    assert (then.broken.offset, then.broken.expected[:9]) == (3, "previous ")


def test_the_last_record_altered(original: Original, prefix: str) -> None:
    """No record follows it, but the workers' state knows its hash."""
    trail = original.trail
    last = sealed(altered(trail[-1]), trail[-1].key)
    found = original.verify(original.copy(prefix, trail=[*trail[:-1], last]))

    assert found.broken is not None
    assert found.broken.offset == len(trail) - 1
    assert "by the workers' state" in found.broken.expected


def test_an_inserted_record(original: Original, prefix: str) -> None:
    """However well it fits what is before it, what follows does not fit it."""
    trail = original.trail
    told = json.loads(trail[2].value or b"")
    forged = sealed({**altered(trail[2]), "previous": told["previous"]}, trail[2].key)
    found = original.verify(original.copy(prefix, trail=[*trail[:2], forged, *trail[2:]]))

    assert found.broken == (0, 3, "sequence 4", "sequence 3")


def test_records_in_another_order(original: Original, prefix: str) -> None:
    """Two that have changed places."""
    trail = original.trail
    trail[1], trail[2] = trail[2], trail[1]
    found = original.verify(original.copy(prefix, trail=trail))

    assert found.broken == (0, 1, "sequence 2", "sequence 3")


def test_a_missing_end(original: Original, prefix: str) -> None:
    """The records that are left are whole; the state knows of more."""
    trail = original.trail
    found = original.verify(original.copy(prefix, trail=trail[:-2]))

    assert found.broken is not None
    assert f"up to sequence {len(trail)} (by the workers' state)" in found.broken.expected
    assert found.broken.found == f"the end of the topic behind sequence {len(trail) - 2}"


def test_a_beginning_that_was_cut(original: Original, prefix: str) -> None:
    """Retention takes the oldest: that is told, and what is left is verified."""
    original.copy(prefix, trail=original.trail)
    place = TopicPartition(f"{prefix}{AUDIT_TRAIL}", 0, 3)
    client = admin.connect(settings_of(original.kafka, prefix))
    for future in client.delete_records([place]).values():
        future.result()
    found = original.verify(prefix)

    assert found.broken is None
    assert (found.begins, found.records) == (4, len(original.trail) - 3)
    assert found.proven is not None
    assert found.older is not None
    assert found.proven + found.older == len(USERS) + 1
    assert found.differences == []


def test_a_decision_that_is_not_the_trails(original: Original, prefix: str) -> None:
    """Somebody else wrote to `eligibility`: the chain is whole, and the decision is named."""
    key, value, headers = original.records[ELIGIBILITY][-1]
    forged = (value or b"").replace(b'"eligible":false', b'"eligible":true')
    original.records[ELIGIBILITY].append(Copied(key, forged, headers))
    try:
        found = original.verify(original.copy(prefix, trail=original.trail))
    finally:
        original.records[ELIGIBILITY].pop()

    assert found.broken is None
    assert found.differences_n == 1
    assert found.differences[0].subject == sha256(key or b"").hexdigest()[:32]


def test_the_command(original: Original, prefix: str, tmp_path: Path) -> None:
    """It prints heads, verifies them later, names the break, and fails by its exit status."""
    heads = command(original.kafka, original.prefix)
    whole = command(original.kafka, original.prefix, "--verify", "--expect", heads.stdout.strip())
    original.copy(prefix, trail=original.trail[:2] + original.trail[3:])
    broken = command(original.kafka, prefix, "--verify", "--json")

    assert heads.returncode == 0, heads.stderr
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.splitlines()[-1].startswith("whole: 1 chains, ")
    assert broken.returncode == 1
    assert json.loads(broken.stdout)[0]["broken"] == [0, 2, "sequence 3", "sequence 4"]
    assert "1 of 1 chains are broken" in broken.stderr


def command(kafka: LocalKafka, prefix: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `objections audit trail`."""
    return subprocess.run(
        [sys.executable, "-m", "streams.commands", "audit", "trail", *arguments],
        env=environ_of(kafka.bootstrap, prefix, {}),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_state_knows_the_last_record(original: Original) -> None:
    """Its row is written in the record's own transaction."""
    known = [each for each in original.records[USERS_CHANGELOG] if each.key == rows.TRAIL_KEY]
    last = original.trail[-1]
    head = Head(len(original.trail), sha256(last.value or b"").hexdigest())

    assert len(known) == len(original.trail)
    assert rows.decode_text(known[-1].value or b"") == f"{head.sequence}/{head.hash}"


def test_the_report_counts_what_was_filed(original: Original, tmp_path: Path) -> None:
    """Two objections of each user, by channel and country, with their receipts; and no user."""
    page, table = tmp_path / "report.html", tmp_path / "report.csv"
    environ = environ_of(original.kafka.bootstrap, original.prefix, {})
    done = subprocess.run(
        [
            *(sys.executable, "-m", "streams.commands", "audit", "report"),
            *("--html", page, "--csv", table),
        ],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    none = report(settings_of(original.kafka, original.prefix), 0, 1, 0, print)

    assert done.returncode == 0, done.stderr
    assert "6 objections, 0 withdrawals, 0 overdue" in done.stdout
    lines = table.read_text().splitlines()
    assert "channel,unknown,objections,6" in lines
    assert "country,DE,objections,6" in lines
    assert "delay,published,reached,6" in lines
    assert "DE" in page.read_text()
    assert not any(user in table.read_text() for user in USERS)
    assert none.objections == 0

"""
A worker with OBJECTIONS_SUBJECT_KEY on a real Kafka: pseudonyms in all it writes, for good.

One prefix and its worker live through it: a restart without local state, wrong keys, and the loss
of the changelogs, after which the state is rebuilt from the outputs.
"""

import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from streams import proof
from streams.commands import main
from streams.core.policy import Policy
from streams.core.subjects import HEADER, Subjects
from streams.intake.desk import Desk
from streams.kafka.local import LocalKafka
from streams.kafka.partitioner import partition_of
from streams.proof import OUTPUTS, Record, compacted
from tests.making import content, grown_up, notice, objection
from tests.restore_scene import recreate
from tests.worker_process import (
    Inputs,
    Worker,
    apply_topics,
    assert_proven,
    settings_of,
    wait_for,
    wait_until_caught_up,
)
from tests.worker_settings import environ_of, new_prefix

PARTITIONS: Final = 2
SESSION_TIMEOUT_MS: Final = 10_000  # none is killed, so nobody waits for it
KEY: Final = "key-3kQx9-of-pseudonyms-0123456789abcdef"
OTHER_KEY: Final = KEY[::-1]
SUBJECTS: Final = Subjects(KEY)
CHANGELOGS: Final = ("objections-users-changelog", "objections-content-changelog")
USERS: Final = tuple(f"user3kQx9-{name}" for name in ("ann", "bob", "cat", "dan", "eve"))
ANN, BOB, CAT, DAN, EVE = USERS
NOT_THE_KEY: Final[tuple[dict[str, Any], ...]] = ({}, {"SUBJECT_KEY": OTHER_KEY})
STILL: Final = tuple(f"user3kQx9-still{number}" for number in range(4))


class Scene:
    """The prefix, and the worker that knows the key."""

    def __init__(self, kafka: LocalKafka, folder: Path) -> None:
        self.kafka, self.folder = kafka, folder
        self.prefix = new_prefix()
        self.worker = self.another("state", SUBJECT_KEY=KEY)
        self.file = folder / "objections.jsonl"
        self.file.write_text(json.dumps(objection(user_id=BOB, objection_id="o-bob")) + "\n")

    def another(self, name: str, **variables: Any) -> Worker:
        """Return a worker with a folder of its own, not started."""
        return Worker(
            self.kafka,
            self.prefix,
            self.folder / name,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            **variables,
        )

    def send(self, *records: tuple[str, dict[str, Any]]) -> None:
        """Send records, and wait until all is decided."""
        with Inputs(self.kafka, self.prefix) as inputs:
            inputs.send(*records)
        self.catch_up()

    def catch_up(self) -> None:
        """Wait until the worker has nothing to do."""
        wait_until_caught_up(self.kafka, self.prefix, workers=[self.worker])

    def proven(self) -> dict[str, list[Record]]:
        """Return the outputs, proven from the inputs and the key."""
        return assert_proven(self.kafka, self.prefix, subjects=SUBJECTS, once=False)

    def run(self, *arguments: str, key: str | None = KEY) -> Result:
        """Run `objections` with a key, or without one."""
        variables = {} if key is None else {"SUBJECT_KEY": key}
        environ = environ_of(self.kafka.bootstrap, self.prefix, variables)
        return CliRunner().invoke(main, list(arguments), env=environ, catch_exceptions=False)

    def refused(self) -> list[Worker]:
        """Return workers with another key and with none, once they have ended."""
        found = [
            self.another(f"other-{uuid.uuid4().hex}", **variables) for variables in NOT_THE_KEY
        ]
        for each in found:
            each.start()
        for each in found:
            each.wait_end(30)
        return found


def allowed(*users: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield records of users who may be used, with an item each."""
    for user_id in users:
        yield "account-ages", grown_up(user_id=user_id)
        yield "notices", notice(user_id=user_id)
        yield "content", content(user_id=user_id, content_id=f"c-{user_id[-6:]}")


@pytest.fixture(scope="module")
def scene(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Return the prefix once some records are decided; its worker runs."""
    found = Scene(kafka, tmp_path_factory.mktemp("subject-key"))
    apply_topics(kafka, found.prefix, PARTITIONS)
    with found.worker as worker:
        worker.wait_ready()
        found.send(
            *allowed(ANN, BOB, CAT, DAN, *STILL),
            ("account-ages", grown_up(user_id=EVE)),
            ("objections", objection(user_id=BOB, objection_id="o-bob")),
            ("objections", {"user_id": CAT, "action": "nonsense"}),
            ("account-ages", {**grown_up(user_id=DAN), "account": "deleted"}),
        )
        yield found


def since(before: list[Record], after: list[Record]) -> list[Record]:
    """Return what was published since *before*."""
    known = {each.place for each in before}
    return [each for each in after if each.place not in known]


def everything(scene: Scene) -> dict[str, list[Record]]:
    """Return all that a worker has written."""
    names = (*OUTPUTS, "receipts", "dead-letters", *CHANGELOGS)
    return proof.read(settings_of(scene.kafka, scene.prefix), names)


def test_no_id_is_in_what_a_worker_writes(scene: Scene) -> None:
    """
    Keys, values and headers have pseudonyms; each record lies in its user's partition.

    Ids are left in the bytes of input records alone: dead letters, and what items' rows keep.
    """
    scene.proven()
    written = everything(scene)
    partitions = {
        SUBJECTS.of(each).encode(): partition_of(each.encode(), PARTITIONS)
        for each in (*USERS, *STILL)
    }

    for name, records in written.items():
        assert records, name
        for each in records:
            texts = [each.key or b"", *(f"{pair}".encode() for pair in each.headers)]
            if name not in ("dead-letters", CHANGELOGS[1]):
                texts.append(each.value or b"")
            if name != "dead-letters":
                assert [] == [text for text in texts if b"3kQx9" in text], name
            if name in (*OUTPUTS, "receipts"):
                assert SUBJECTS.fingerprint.encode() == each.header(HEADER)
                named = each.header("ce_subject") or (each.key or b"").partition(b"/")[0]
                assert partitions[named] == each.partition
    assert [CAT.encode()] == [each.key for each in written["dead-letters"]]
    assert KEY not in scene.worker.log()
    assert SUBJECTS.fingerprint in scene.worker.log()


def test_commands_that_know_the_key_are_given_ids(scene: Scene) -> None:
    """
    A user is explained, an objection followed and a file verified by ids, as without a key.
    """
    explained = scene.run("explain", BOB, "--json")
    receipt = scene.run("receipt", "o-bob", "--user", BOB, "--json")
    verified = scene.run("import", "--verify", str(scene.file), "--topic", "objections")

    assert 0 == explained.exit_code, explained.output
    told = json.loads(explained.output)
    assert (BOB, SUBJECTS.of(BOB)) == (told["user_id"], told["subject"])
    assert ["OBJECTION"] == told["decision"]["reasons"]
    assert 1 == told["items"]["known"], told["items"]
    assert 0 == receipt.exit_code, receipt.output
    assert SUBJECTS.of(BOB) == json.loads(receipt.stdout)["user_id"]
    assert 0 == verified.exit_code, verified.output


def test_who_has_still_to_be_told_is_listed_by_id(scene: Scene) -> None:
    """
    The list of people without a notice has ids: they are who is to be told.
    """
    listed = scene.run("notices")

    assert 0 == listed.exit_code, listed.output
    assert [EVE] == [json.loads(line)["user_id"] for line in listed.stdout.splitlines()]


def test_the_form_finds_receipts_by_id(scene: Scene) -> None:
    """
    Who shows people their receipts asks for them by id.
    """
    desk = Desk(settings_of(scene.kafka, scene.prefix, SUBJECT_KEY=KEY), PARTITIONS, scene.folder)
    desk.start()
    try:
        wait_for(lambda: desk.is_complete, "the receipts")
        assert ["o-bob"] == list(desk.of_user(BOB))
        assert {"filed"} == desk.receipts(BOB, "o-bob").keys()
    finally:
        desk.stop()


@pytest.mark.parametrize("key", [None, OTHER_KEY])
def test_commands_without_the_key_say_so(scene: Scene, key: str | None) -> None:
    """
    Without the key, or with another one, a command that needs it ends with status 2.
    """
    for arguments in (
        ("explain", BOB),
        ("receipt", "o-bob", "--user", BOB),
        ("dead-letters", "list"),
        ("notices",),
        ("import", "--verify", str(scene.file), "--topic", "objections"),
    ):
        done = scene.run(*arguments, key=key)

        assert 2 == done.exit_code, (arguments, done.output)
        assert "OBJECTIONS_SUBJECT_KEY" in done.output
        assert KEY not in done.output
        assert OTHER_KEY not in done.output
    assert 0 == scene.run("receipt", "o-bob", key=key).exit_code


def test_a_dead_letter_is_dismissed_by_id(scene: Scene) -> None:
    """
    Dead letters show the id their record had, and are dismissed by it.
    """
    listed = scene.run("dead-letters", "list", "--json")
    dismissed = scene.run("dead-letters", "dismiss", "--user", CAT, "--yes")
    scene.catch_up()

    assert [CAT] == [json.loads(line)["user_id"] for line in listed.stdout.splitlines()]
    assert 0 == dismissed.exit_code, dismissed.output
    last = compacted(scene.proven()["eligibility"])[SUBJECTS.of(CAT)]
    assert [] == json.loads(last.value or b"")["reasons"]


def test_wiped_state_comes_back_and_other_keys_are_refused(scene: Scene) -> None:
    """
    Who has no key, or another one, ends with status 2 before anything is written.

    With the key a wiped state is restored, and nothing is published for what has not changed.
    """
    before = scene.proven()
    scene.worker.leave()
    for other in scene.refused():
        assert 2 == other.status(), other.log()
        assert f"{CHANGELOGS[0]}/" in other.log()
        assert "names users by pseudonyms" in other.log()
        assert KEY not in other.log()
        assert OTHER_KEY not in other.log()
    shutil.rmtree(scene.worker.state_dir)
    scene.worker.start()
    scene.worker.wait_ready()
    scene.send(("objections", objection(user_id=ANN, objection_id="o-ann")))

    after = scene.proven()
    for name in OUTPUTS:
        news = since(before[name], after[name])
        assert {SUBJECTS.of(ANN)} == {(each.header("ce_subject") or b"").decode() for each in news}


def test_a_lost_state_is_rebuilt_from_outputs_of_the_same_key(scene: Scene) -> None:
    """
    Both changelogs are lost: the outputs' key is looked at, and the state rebuilt from them.

    Epochs go on, and who is allowed is not purged in between.
    """
    scene.worker.leave()
    before = scene.proven()
    recreate(settings_of(scene.kafka, scene.prefix), CHANGELOGS, PARTITIONS)
    for other in scene.refused():
        assert 2 == other.status(), other.log()
        assert f"{scene.prefix}eligibility/" in other.log()
        assert "names users by pseudonyms" in other.log()
        assert "rebuilding" not in other.log()
    scene.worker.start()
    scene.worker.wait_ready()
    scene.send(("objections", objection(user_id=CAT, objection_id="o-cat")))

    settings = settings_of(scene.kafka, scene.prefix)
    after = proof.read(settings, OUTPUTS)
    truth = proof.expected(
        proof.read(settings, proof.INPUTS), Policy(), int(time.time() * 1000), SUBJECTS
    )
    assert [] == proof.differences(truth, *(compacted(after[name]) for name in OUTPUTS))
    assert [] == proof.log_violations(chain(*after.values()))
    assert PARTITIONS == scene.worker.log().count("rebuilt: ")
    still = {SUBJECTS.of(each) for each in STILL}
    news = since(before["training-users"], after["training-users"])
    assert not [each for each in news if each.value is None and each.key_text[-64:] in still]
    scene.worker.leave()
    scene.worker.start()  # the rebuilt state knows its key
    scene.worker.wait_ready()

"""`objections explain`, on a real Kafka with a real worker: for people and for machines."""

import os
import pty
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from click.testing import Result
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from streams.explain.explanation import Explanation
from streams.kafka.local import HOST, LocalKafka
from streams.kafka.partitioner import partition_of
from streams.kafka.ports import free_port
from streams.settings import Settings
from streams.state import rows
from tests.explain_scene import (
    OF_AGE_KID,
    WINDOW_ENDS_KID,
    Told,
    explained,
    run_explain,
    tell,
)
from tests.making import content, grown_up, notice, objection
from tests.worker_process import Inputs, Worker, apply_topics, settings_of
from tests.worker_settings import ANSWER_S, environ_of, new_prefix


class Scene(NamedTuple):
    """A story that was decided; *beside*: what was said of one user while the worker ran."""

    kafka: LocalKafka
    prefix: str
    told: Told
    beside: dict[str, Any]
    groups: list[str]

    def explained(self, *arguments: str, **variables: object) -> Any:
        """Return what --json prints."""
        return explained(self.kafka.bootstrap, self.prefix, *arguments, **variables)

    def run(self, *arguments: str, **variables: object) -> Result:
        """Run the command."""
        return run_explain(self.kafka.bootstrap, self.prefix, *arguments, **variables)


@pytest.fixture(scope="module")
def scene(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Return the story once it is told; its worker has been stopped since."""
    prefix = new_prefix()
    apply_topics(kafka, prefix)
    with Worker(kafka, prefix, tmp_path_factory.mktemp("explain") / "state") as worker:
        worker.wait_ready()
        told = tell(kafka, prefix, worker)
        beside = explained(kafka.bootstrap, prefix, "ann")
        assert worker.get("/readyz").text.startswith("serving 4"), "the worker was disturbed"
        groups = _groups(settings_of(kafka, prefix))
        _look_while_busy(kafka, prefix)
    return Scene(kafka, prefix, told, beside, groups)


def _look_while_busy(kafka: LocalKafka, prefix: str) -> None:
    """A user whose decisions change all the time is never called wrong."""
    with Inputs(kafka, prefix) as inputs:
        inputs.send(("account-ages", grown_up(user_id="busy")), ("notices", notice(user_id="busy")))
        for number in range(6):
            for part in range(10):
                own = {"user_id": "busy", "objection_id": f"o{number}.{part}"}
                inputs.queue("objections", objection(**own))
                inputs.queue("objections", objection(**own, action="withdrawn"))
                inputs.queue("content", content(user_id="busy", content_id=f"b{number}.{part}"))
            inputs.producer.flush()
            assert explained(kafka.bootstrap, prefix, "busy")["ok"]


def _groups(settings: Settings) -> list[str]:
    client = AdminClient(settings.kafka())
    listed = client.list_consumer_groups().result(ANSWER_S)
    return [x.group_id for x in listed.valid if x.group_id.startswith(settings.topic_prefix)]


def because(found: Any, product: str) -> dict[str, list[Any]]:
    """Return what causes each reason against a product."""
    (of_product,) = (each for each in found["products"] if each["product"] == product)
    return {each["reason"]: each["because"] for each in of_product["reasons"]}


def facts(found: Any, standing: str) -> list[str]:
    """Return the places that state the facts of *standing*."""
    return [y["place"] for x in found["facts"] if x["standing"] == standing for y in x["sources"]]


def test_reasons_and_facts_come_with_the_places_of_their_records(scene: Scene) -> None:
    """What the worker decided, by which records; what else was said, and why it does not count."""
    found, place = scene.explained("ann"), scene.told.place

    assert found["partition"] == scene.told.at["item"].partition
    assert found["decision"]["reasons"] == ["OBJECTION"]
    assert found["decision"]["cause"]["topic"] == scene.told.at["dismissal"].topic
    assert found["decision"]["cause"]["offset"] == scene.told.at["dismissal"].offset
    assert [
        {
            "says": "objection o1, filed for facebook",
            "places": [place("facebook")],
            "until": None,
        }
    ] == because(found, "facebook")["OBJECTION"]
    assert {} == because(found, "instagram")
    in_force = ("facebook", "verified age", "notice", "bad item", "dismissal")
    assert {place(name) for name in in_force} == set(facts(found, "in_force"))
    superseded = (
        "instagram", "withdrawal", "own age", "newer own age", "later notice", "in vain", "bad age",
    )  # fmt: skip
    assert {place(name) for name in superseded} == set(facts(found, "superseded"))
    permissions = {x["product"]: x["permission"]["stands"] for x in found["products"]}
    assert {
        "facebook": False,
        "instagram": True,
        "whatsapp": True,
        "messenger": True,
    } == permissions
    assert found["ok"]
    assert [] == found["mismatches"] + found["pending"]
    assert msgspec.convert(found, Explanation).user_id == "ann"


def test_the_history_leads_from_records_to_epochs(scene: Scene) -> None:
    """Each record of the user, what it changed, and the place of the decision it caused."""
    steps = scene.explained("ann")["history"]["steps"]
    by_place = {step["place"]: step for step in steps}
    place = scene.told.place

    epochs = [step["epoch"] for step in steps if step["epoch"] is not None]
    assert sorted(set(epochs)) == epochs
    for name in ("newer own age", "notice", "in vain"):
        assert "unchanged" == by_place[place(name)]["effect"]
    for name in ("facebook", "instagram", "bad age", "withdrawal", "dismissal"):
        assert "decided" == by_place[place(name)]["effect"]
    withdrawal = by_place[place("withdrawal")]
    assert [{"product": "instagram", "begun": [], "ended": ["OBJECTION"], "allowed": False}] == (
        withdrawal["changes"]  # not yet: the unreadable record stands
    )
    assert by_place[place("bad age")]["unreadable"]
    assert withdrawal["published"].startswith(f"{scene.prefix}eligibility/")


def test_items_are_counted_and_told(scene: Scene) -> None:
    """Allowed and purged, by reason; one with all its records and answers."""
    found = scene.explained("ann", "--items", "--limit", "3", "--item", "a.1")

    items = found["items"]
    assert (4, 1, 3) == (items["known"], items["allowed"], items["purged"])
    assert {"NOT_PUBLIC": 1, "OBJECTION": 1, "UNREADABLE_INPUT": 1} == items["by_reason"]
    listed = {each["content_id"]: each["published"] for each in items["listed"]}
    assert {"a.1": "allowed", "a.2": "purged", "a.3": "purged"} == listed
    story = found["item"]
    assert scene.told.place("item") == story["steps"][0]["place"]
    says = [step["says"].partition(" (")[0] for step in story["steps"][1:]]
    assert ["allowed", "purged", "allowed"] == says[-3:]


def test_the_next_change_is_told(scene: Scene) -> None:
    """The notice window ends first; coming of age is told with the date that says so."""
    found = scene.explained("kid")

    assert {"NOTICE_PENDING", "UNDER_AGE"} == set(because(found, "facebook"))
    assert OF_AGE_KID == because(found, "facebook")["UNDER_AGE"][0]["until"]
    assert WINDOW_ENDS_KID == found["next_change"]["at"]
    assert "all products: -NOTICE_PENDING" == found["next_change"]["says"]
    assert {"MINOR_AT_CREATION": 1, "NOTICE_PENDING": 1, "UNDER_AGE": 1} == (
        found["items"]["by_reason"]
    )


def test_of_a_deleted_account_only_what_remains_is_told(scene: Scene) -> None:
    """Though the inputs still hold a birth date and an objection."""
    text, found = scene.run("gone").stdout, scene.explained("gone")

    assert ["ACCOUNT_DELETED"] == found["decision"]["reasons"]
    assert [scene.told.place("deletion")] == facts(found, "in_force")
    assert [] == facts(found, "superseded")
    for kept in ("1977", "o-of-gone"):
        assert kept not in text + str(found)
    assert "the input topics still hold: objections 1, account-ages 2, content 1" in text
    assert 1 == found["items"]["purged_besides"]


def test_people_read_the_same(scene: Scene) -> None:
    """Sections in plain words, with the places."""
    done = scene.run("ann", "--items")

    assert 0 == done.exit_code, done.stderr
    assert "" == done.stderr
    place = scene.told.place
    for line in (
        "NOT ELIGIBLE: OBJECTION",
        f"    OBJECTION: objection o1, filed for facebook [{place('facebook')}]",
        "  instagram, whatsapp, messenger: allowed",
        "  objection o2, filed for instagram: withdrawn, for good",
        f"      withdrawn by {place('withdrawal')}, received ",
        "  birth date 1991-03-09, country FR (verified, observed 2026-02-01T00:00:00.000Z): the ",
        "  none: only a record can change this decision",
        f"{place('notice')}: notice delivered 2026-01-01T00:00:00.000Z -> changed nothing",
        "  4 known: 1 allowed, 3 purged",
    ):
        assert line in done.stdout
    assert "birth date 1991-03-09" not in scene.run("ann", "--redact").stdout


def test_beside_a_worker_and_without_one_the_same_is_told(scene: Scene) -> None:
    """No worker is disturbed, no group but the workers' own is left behind."""
    without = scene.explained("ann")

    assert {**scene.beside, "asked_at": ""} == {**without, "asked_at": ""}
    assert [f"{scene.prefix}objections"] == scene.groups
    assert scene.groups == _groups(settings_of(scene.kafka, scene.prefix))


def test_what_no_worker_has_read_is_not_decided_yet(scene: Scene) -> None:
    """With no worker records wait, and a user known from them alone is told as undecided."""
    with Inputs(scene.kafka, scene.prefix) as inputs:
        filed, item, new = inputs.send(
            ("objections", objection(user_id="kid", objection_id="o-kid")),
            ("content", content(user_id="kid", content_id="k.2")),
            ("objections", objection(user_id="newcomer")),
        )

    kid, newcomer = scene.explained("kid"), scene.explained("newcomer")
    text = scene.run("newcomer").stdout

    assert [filed.place] == [each["place"] for each in kid["pending"]]
    assert (1, item.place) == (kid["pending_content"], kid["pending_content_from"])
    assert "OBJECTION" not in kid["decision"]["reasons"]
    assert kid["ok"]
    assert newcomer["decision"] is None
    assert [new.place] == [each["place"] for each in newcomer["pending"]]
    assert "Not decided yet, so nothing of this user may be used." in text


def test_an_unknown_user_ends_with_status_1(scene: Scene) -> None:
    """The partition looked at is named, and what may be wrong."""
    done = scene.run("nobody")

    assert 1 == done.exit_code
    assert "" == done.stdout
    number = partition_of(b"nobody", 4)
    assert f"user 'nobody' is unknown: partition {number}, where Kafka's murmur2" in done.stderr


def test_a_row_of_a_newer_worker_is_refused(scene: Scene) -> None:
    """Guessing at it could hide a fact: the place, and what to run instead, are named."""
    number = partition_of(b"newer", 4)
    with Inputs(scene.kafka, scene.prefix) as inputs:
        key, value = rows.user_key("newer"), bytes([rows.USER_VERSION + 1])
        inputs.queue("objections-users-changelog", value, key, (), number)
        (sent,) = inputs.flush()

    done = scene.run("newer")

    assert 1 == done.exit_code
    assert f"{sent.place}: a user's row in the state has version" in done.stderr


def test_what_an_aborted_transaction_wrote_is_not_there(scene: Scene) -> None:
    """Readers and workers never see it, and neither does who asks."""
    settings = settings_of(scene.kafka, scene.prefix)
    ours = {"transactional_id": f"{scene.prefix}aborts", "partitioner": "murmur2_random"}
    producer = Producer(settings.kafka(**ours))
    producer.init_transactions(ANSWER_S * 2)
    producer.begin_transaction()
    value = msgspec.json.encode(objection(user_id="aborted"))
    producer.produce(settings.topic("objections"), value, b"aborted")
    producer.flush()
    producer.abort_transaction(ANSWER_S * 2)

    assert "user 'aborted' is unknown" in scene.run("aborted").stderr


def test_a_published_record_that_was_not_decided_ends_with_status_1(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written by somebody else: it is said, on standard error too, after looking again."""
    monkeypatch.setattr("streams.commands.explain.LOOK_AGAIN_S", (0.1,))
    number = scene.told.at["item"].partition
    forged = msgspec.json.encode({"user_id": "ann", "product": "facebook", "epoch": 99})
    headers = [("objections_epoch", b"99")]
    with Inputs(scene.kafka, scene.prefix) as inputs:
        inputs.queue("training-users", forged, b"facebook/ann", headers, number)
        (sent,) = inputs.flush()

    done = scene.run("ann", "--no-items")

    said = f"training-users facebook/ann ({sent.place}): stands, but may not be used"
    with Inputs(scene.kafka, scene.prefix) as inputs:  # for the tests that follow
        inputs.queue("training-users", None, b"facebook/ann", headers, number)
        inputs.flush()
    assert 1 == done.exit_code
    assert f"objections: {said}" in done.stderr
    assert f"  {said}" in done.stdout
    assert 0 == scene.run("ann", "--no-items").exit_code


def test_the_workers_policy_is_asked_for(scene: Scene, tmp_path: Path) -> None:
    """By --policy or by OBJECTIONS_POLICY; a wrong file is refused with status 2."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 7\nadult_age: 21\n")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("adult_age: soon\n")
    said = "decided by the policy of version 1, explained here by version 7"

    by_option = scene.run("kid", "--no-items", "--policy", str(policy))
    by_setting = scene.run("kid", "--no-items", POLICY=policy)
    refused = scene.run("kid", "--policy", str(wrong))

    for done in (by_option, by_setting):
        assert 0 == done.exit_code, done.stderr
        assert said in done.stdout
    assert 2 == refused.exit_code
    assert "wrong.yaml:1: `adult_age` holds soon" in refused.stderr


@pytest.mark.parametrize(
    "arguments,said",
    [
        (("",), "USER is '', expected an id of 1 to 256 bytes"),
        (("ü" * 129,), "expected an id of 1 to 256 bytes"),
        (("ann", "--no-items", "--items"), "expected one of them"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: tuple[str, ...], said: str) -> None:
    """Before any Kafka is asked."""
    done = run_explain(f"{HOST}:1", "p.", *arguments)

    assert 2 == done.exit_code
    assert said in done.stderr


def test_kafka_that_does_not_answer_ends_with_status_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address and the remedy are named."""
    monkeypatch.setattr("streams.explain.reading.ANSWER_S", 1.0)
    done = run_explain(f"{HOST}:{free_port()}", "p.", "ann")

    assert 3 == done.exit_code
    assert "cannot be reached" in done.stderr
    assert "Remedy" in done.stderr


def test_topics_that_are_missing_end_with_status_1(kafka: LocalKafka) -> None:
    """They are named."""
    done = run_explain(kafka.bootstrap, "no-such-prefix.", "ann")

    assert 1 == done.exit_code
    assert "has no no-such-prefix.objections-users-changelog, " in done.stderr


def test_a_terminal_sees_progress_and_ctrl_c_ends_it(scene: Scene) -> None:
    """While a topic is read a passing line says how far; an interrupt ends it with status 130."""
    settings = settings_of(scene.kafka, scene.prefix)
    pid, terminal = pty.fork()
    if pid == 0:  # the child, whose standard error is a terminal
        os.chdir(Path(__file__).parents[1])
        arguments = [sys.executable, "-m", "streams.commands", "explain", "ann"]
        environ = environ_of(settings.bootstrap, scene.prefix, {})
        os.execve(arguments[0], arguments, environ)  # noqa: S606  (no shell is wanted)
    seen = b""
    interrupted = False
    try:
        while chunk := os.read(terminal, 4096):
            seen += chunk
            if b"reading " in seen and not interrupted:
                os.kill(pid, signal.SIGINT)
                interrupted = True
    except OSError:  # the terminal's other end is closed
        pass
    _, status = os.waitpid(pid, 0)

    assert b"reading " in seen
    assert b"objections-users-changelog/" in seen
    assert 130 == os.waitstatus_to_exitcode(status), seen
    assert b"Traceback" not in seen


def test_murmur2_is_kafkas_own(scene: Scene) -> None:
    """The partitions are those that a producer with murmur2 has chosen."""
    keys = [f"{'k' * (number % 9)}ü{number}" for number in range(60)]
    with Inputs(scene.kafka, scene.prefix) as inputs:
        for key in keys:
            inputs.queue("receipts", b"{}", key)
        sent = inputs.flush()

    assert [partition_of(key.encode(), 4) for key in keys] == [each.partition for each in sent]

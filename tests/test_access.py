"""
Who may do what: a real Kafka that demands TLS and passwords, with the rights of deploy/acls.

Each role does its whole job with them, and can do nothing else; who is refused is told why.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count
from typing import Any, Final

import pytest
import trustme
from confluent_kafka import KafkaError, KafkaException, Producer

import topics
from deploy.acls.grant import grant
from deploy.acls.roles import Place, read_roles, rules
from streams import proof
from streams.bench.faults.watch import Watch
from streams.core.policy import Policy
from streams.kafka import admin
from streams.kafka.reader import reader
from streams.proof import INPUTS, OUTPUTS, compacted
from streams.worker import rights
from tests.access_asking import read_all, readable, writable
from tests.access_scene import (
    DENIED_PREFIX,
    LACKING,
    PREFIX,
    REVOKED,
    ROLES,
    SESSION_TIMEOUT_MS,
    STRANGER,
    TABLE_PREFIX,
    Access,
    Done,
    access,
    revoke,
)
from tests.canary_process import Canary
from tests.intake_scene import Intake, Page
from tests.making import content, grown_up, notice, objection
from tests.monitor_scene import Monitor
from tests.secured_kafka import ADMIN, password_of
from tests.worker_inputs import Inputs
from tests.worker_process import Worker
from tests.worker_settings import QUIET, WAIT_S, wait_for

WRONG: Final = "pw-wrong-7Hq2xZ"
SERVICES: Final = ("worker", "monitor")
SINK: Final = "store.sqlite"

# What the issue of rights is about, said apart from deploy/acls: who may read, who may write.
READERS: Final = {
    "objections": "worker auditor operator monitor",
    "account-ages": "worker auditor operator monitor",
    "notices": "worker auditor operator monitor",
    "account-links": "worker auditor operator monitor",
    "objections-links": "worker auditor monitor",
    "content": "worker auditor operator monitor",
    "eligibility": "worker auditor",
    "training-users": "worker subscriber auditor monitor canary",
    "training-content": "worker subscriber auditor monitor canary",
    "purge-acks": "worker subscriber auditor monitor canary",
    "receipts": "importer intake auditor",
    "dead-letters": "auditor operator",
    "audit-trail": "worker auditor",
    "objections-users-changelog": "worker auditor operator monitor",
    "objections-content-changelog": "worker auditor",
}
WRITERS: Final = {
    "objections": "importer intake operator canary",
    "account-ages": "importer operator canary",
    "notices": "importer operator canary",
    "account-links": "importer operator",
    "objections-links": "worker",
    "content": "importer operator canary",
    "eligibility": "worker",
    "training-users": "worker",
    "training-content": "worker",
    "purge-acks": "subscriber",
    "receipts": "worker",
    "dead-letters": "worker",
    "audit-trail": "worker",
    "objections-users-changelog": "worker",
    "objections-content-changelog": "worker",
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """Return the Kafka that refuses, with records that make a worker write."""
    with access(tmp_path_factory.mktemp("access")) as found:
        options = found.secured.options(ADMIN)
        with Inputs(found.secured.kafka, DENIED_PREFIX, **options) as inputs:
            inputs.send(
                ("account-ages", grown_up(user_id="ann")),
                ("notices", notice(user_id="ann")),
                ("content", content(user_id="ann")),
            )
        yield found


@pytest.fixture(scope="module")
def worker(scene: Access) -> Iterator[Worker]:
    """Return a worker with its role's rights, which has decided on what the importer brought."""
    with scene.worker("state") as found:
        found.wait_ready()
        for topic in ("account-ages", "notices", "objections", "content"):
            done = scene.run("importer", "import", scene.file(topic), "--topic", topic)
            assert 0 == done.status, done
        yield found


def test_every_topic_is_in_the_tables() -> None:
    """
    The tables say of every topic who may read and who may write it.
    """
    assert set(topics.names()) == READERS.keys() == WRITERS.keys()


def test_what_a_worker_looks_for_at_its_start_is_its_role() -> None:
    """
    The rights a worker looks for are those that its role is granted.
    """
    role = read_roles()["worker"]

    assert set(role.read) == set(rights.READ)
    assert set(role.write) == set(rights.WRITTEN)


def test_worker_and_importer_do_their_jobs(scene: Access, worker: Worker) -> None:
    """
    The worker is ready and publishes what follows from the importer's records.
    """
    found = read_all(scene, "auditor", ("eligibility", "training-content"))

    assert {"ann", "bob"} == {key for topic, key in found if topic == "eligibility"}
    assert found["training-content", "a1"] is not None
    assert found["training-content", "b1"] is None
    assert (200, "serving") == (worker.get("/readyz").status, worker.get("/readyz").text[:7])
    assert "authorization" not in worker.log().lower()


def test_subscriber_and_auditor_do_their_jobs(scene: Access, worker: Worker) -> None:
    """
    A store is filled and acknowledged; it is audited; a user, an objection are explained.
    """
    sink = f"sqlite:{scene.folder / SINK}"
    filled = scene.run("subscriber", "subscribe", "--sink", sink, "--store", "index", "--once")
    audited = scene.run("auditor", "audit", "--sink", sink, "--store", "index", "--json")
    explained = scene.run("auditor", "explain", "bob", "--json")
    receipt = scene.run("auditor", "receipt", "o-bob")
    kept = scene.folder / "kept.jsonl"
    filtered = scene.run("auditor", "filter", scene.file("content"), "--out", kept)
    checked = scene.run("auditor", "topics", "check")

    assert 0 == filled.status, filled
    assert 0 == audited.status, audited
    assert 1 == json.loads(audited.output)["items_found"]
    assert 0 == explained.status, explained
    assert "o-bob" in explained.output
    assert 0 == receipt.status, receipt
    assert 0 == filtered.status, filtered
    assert ["a1"] == [json.loads(x)["content_id"] for x in kept.read_text().splitlines()]
    assert checked.status in (0, 1), checked  # replication 1 is a finding
    assert "refused" not in checked.errors


def test_operator_does_its_job(scene: Access, worker: Worker) -> None:
    """
    Dead letters are listed and dismissed.
    """
    with Inputs(scene.secured.kafka, PREFIX, **scene.secured.options(ADMIN)) as inputs:
        inputs.send(("notices", {"user_id": "cat"}))
    listed: list[Done] = []

    def is_listed() -> bool:
        listed[:] = [scene.run("operator", "dead-letters", "list")]
        return "field_missing" in listed[0].output or listed[0].status != 0

    wait_for(is_listed, "the dead letter")
    assert 0 == listed[0].status, listed
    dismissed = scene.run("operator", "dead-letters", "dismiss", "--user=cat", "--yes")
    assert 0 == dismissed.status, dismissed


def test_monitor_does_its_job(scene: Access, worker: Worker) -> None:
    """
    The monitor is ready, with its rights and without the worker's.
    """
    variables = scene.secured.variables("monitor", STORES="index=training-users+training-content")
    with Monitor(scene.secured.kafka, PREFIX, scene.folder / "monitor", **variables) as monitor:
        monitor.wait_ready()
        assert 0 == monitor.metric("objections_consumer_lag_records")


def test_the_form_does_its_job(scene: Access, worker: Worker) -> None:
    """
    An objection is saved, its receipt told, and no right is missed.
    """
    variables = scene.secured.variables("intake")
    with Intake(scene.secured.kafka, PREFIX, scene.folder / "intake", **variables) as intake:
        intake.wait_ready()
        page = Page.open(f"{intake.link('ann')}?lang=en").send("facebook")
        assert "Your objection has been saved" == page.heading
        wait_for(lambda: "Removal ordered" in Page.open(page.url).text, "the receipt")
        assert "uthoriz" not in intake.log()


def test_the_canary_does_its_job(scene: Access, worker: Worker) -> None:
    """
    Its account is allowed, objects, and is purged; it waits for a store, and no right is missed.
    """
    variables = scene.secured.variables("canary", STORES="index=training-users+training-content")
    with Canary(scene.secured.kafka, PREFIX, scene.folder / "canary", **variables) as canary:
        canary.wait_ready()
        wait_for(
            lambda: canary.metric("objections_canary_published_seconds_count") > 0,
            "the canary's purge",
        )
        assert canary.metric("objections_canary_waiting_seconds") > 0
        assert "uthoriz" not in canary.log()


def test_rights_are_compared(scene: Access, capsys: pytest.CaptureFixture[str]) -> None:
    """
    `--check` is content with what was granted, and names what lacks and what is beyond.
    """
    assert 0 == scene.deploy_acls(TABLE_PREFIX, "--check", "--principal=monitor=User:monitor")
    with pytest.raises(SystemExit) as ended:
        scene.deploy_acls(TABLE_PREFIX, "--check", "--principal=subscriber=User:monitor")

    told = capsys.readouterr().err
    assert 1 == ended.value.code
    assert f"missing: User:monitor Write on topic {TABLE_PREFIX}purge-acks" in told
    assert f"User:monitor allow read on topic {TABLE_PREFIX}objections (literal)" in told
    with pytest.raises(SystemExit) as refused:
        scene.deploy_acls(TABLE_PREFIX, "--principal=worker=User:worker", principal="worker")
    assert 1 == refused.value.code
    assert "refused granting" in capsys.readouterr().err


@pytest.mark.parametrize("role", [*ROLES, STRANGER])
def test_reads_what_its_role_reads_and_nothing_else(scene: Access, role: str) -> None:
    """
    Of each topic Kafka gives a role what the table says: all of it, or a refusal.
    """
    allowed = {name for name, who in READERS.items() if role in who.split()}

    assert allowed == readable(scene, role)


@pytest.mark.parametrize("role", [*ROLES, STRANGER])
def test_writes_what_its_role_writes_and_nothing_else(scene: Access, role: str) -> None:
    """
    Kafka takes a role's records for the topics the table says, and for no other.
    """
    allowed = {name for name, who in WRITERS.items() if role in who.split()}

    assert allowed == writable(scene, role)


@pytest.mark.parametrize("role", [role for role in (*ROLES, STRANGER) if role != "worker"])
def test_only_workers_use_the_workers_group_and_transactions(scene: Access, role: str) -> None:
    """
    Nobody else can join their group, or fence their producers.
    """
    settings = scene.secured.settings(role, TABLE_PREFIX)
    producer = Producer(settings.kafka(transactional_id=f"{settings.group}-x"), logger=QUIET)
    consumer = reader(settings, logger=QUIET)
    consumer.subscribe([settings.topic("objections")])

    def is_refused() -> bool:
        message = consumer.poll(1.0)
        error = None if message is None else message.error()
        return error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED

    with pytest.raises(KafkaException) as fenced:
        producer.init_transactions(WAIT_S)
    wait_for(is_refused, "the group's refusal", 20)
    consumer.close()

    assert KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED == fenced.value.args[0].code()


@pytest.fixture(scope="module")
def ended(scene: Access) -> dict[str, Worker]:
    """Return the workers that lack a right each, all started at once, by their users' names."""
    workers = {
        name: Worker(
            scene.secured.kafka,
            DENIED_PREFIX,
            scene.folder / name,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            GROUP=name,
            **scene.secured.variables(name),
        )
        for name in LACKING
    }
    for each in workers.values():
        each.start()
    for each in workers.values():
        each.wait_end()
    return workers


@pytest.mark.parametrize(
    "name,said",
    [
        ("lacks-group", "being in group lacks-group"),
        ("lacks-transactions", "using the transactional id lacks-transactions-"),
        ("lacks-output", "denied.training-users: Write"),
        ("lacks-input", "denied.content"),
        ("lacks-changelog", "denied.objections-content-changelog: Read"),
    ],
)
def test_a_right_that_lacks_is_named(ended: dict[str, Worker], name: str, said: str) -> None:
    """
    A worker without a right ends, and says who may not do what, and what to do.
    """
    log = ended[name].log()

    assert 1 == ended[name].status(), log
    assert said in log
    assert f"the user {name}" in log
    assert "deploy/acls/README.md" in log
    assert password_of(name) not in log


def test_a_right_taken_away_ends_a_worker_that_loses_nothing(scene: Access) -> None:
    """
    A worker that may no longer write an output says which, and ends; granted again, it goes on.
    """
    settings = scene.secured.settings(ADMIN, DENIED_PREFIX, GROUP=REVOKED)
    client = admin.connect(settings)
    mine = rules("worker", f"User:{REVOKED}", Place(DENIED_PREFIX, REVOKED))
    topic = settings.topic("training-users")
    worker = Worker(
        scene.secured.kafka,
        DENIED_PREFIX,
        scene.folder / REVOKED,
        session_timeout_ms=SESSION_TIMEOUT_MS,
        GROUP=REVOKED,
        **scene.secured.variables(REVOKED),
    )
    options = scene.secured.options(ADMIN)
    said = (
        objection(user_id="ann", objection_id=f"o{number}", action=action)
        for number in count()
        for action in ("filed", "withdrawn")
    )
    with (
        worker,
        Inputs(scene.secured.kafka, DENIED_PREFIX, **options) as inputs,
        Watch(settings) as watch,
    ):

        def decided() -> bool:
            return not watch.left(int(time.time() * 1000))

        worker.wait_ready()
        wait_for(decided, "the first decisions")
        revoke(client, topic, REVOKED)

        def ended() -> bool:
            inputs.send(("objections", next(said)))
            return not worker.running

        wait_for(ended, "the worker's end")
        assert 1 == worker.wait_end(), worker.log_tail()
        assert f"the user {REVOKED} writing its outputs ({topic}: Write)" in worker.log()
        assert "deploy/acls/README.md" in worker.log()
        inputs.send(("objections", objection(user_id="ann", objection_id="last")))
        grant(client, settings, mine)
        worker.start()
        worker.wait_ready()
        wait_for(decided, "all that came meanwhile")
    outputs = proof.read(settings, OUTPUTS)
    truth = proof.expected(proof.read(settings, INPUTS), Policy(), int(time.time() * 1000))
    assert [] == proof.differences(truth, *(compacted(outputs[name]) for name in OUTPUTS))
    assert [] == proof.log_violations(chain(*outputs.values()))
    assert "OBJECTION" in truth.users["ann"].reasons["facebook"]


def test_a_benchmark_runs_where_tls_and_passwords_are_demanded(scene: Access) -> None:
    """
    All clients of a benchmark connect as the variables say: those who write, read and make topics.
    """
    done = scene.process(
        ADMIN,
        *("bench", "throughput", "--peers=ours", "--records=300", "--repeats=1", "--partitions=2"),
        f"--bootstrap={scene.secured.kafka.bootstrap}",
    )

    assert 0 == done.status, done
    assert "ours-1: " in done.errors


@pytest.fixture(scope="module")
def refused(scene: Access) -> dict[tuple[str, str], Done]:
    """Return how commands end with a wrong password, a wrong certificate, and without any right."""
    other = scene.folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    sink = f"sqlite:{scene.folder / 'shut-out.sqlite'}"
    commands: dict[str, tuple[object, ...]] = {
        "worker": ("worker",),
        "monitor": ("monitor",),
        "topics": ("topics", "check"),
        "import": ("import", scene.file("notices"), "--topic=notices"),
        "subscribe": ("subscribe", "--store=s", f"--sink={sink}"),
    }
    wrong: dict[str, tuple[object, tuple[str, ...]]] = {
        "KAFKA_SASL_PASSWORD": (WRONG, tuple(commands)),
        "KAFKA_SSL_CA_LOCATION": (other, ("worker", "monitor")),
    }

    def run(case: tuple[str, str]) -> Done:
        variable, name = case
        more: dict[str, Any] = {
            "HTTP": "127.0.0.1:0",
            "STATE_DIR": scene.folder / f"{name}-{variable}",
        }
        if variable == STRANGER:
            return scene.process(STRANGER, *commands[name], **more)
        more[variable] = wrong[variable][0]
        run_it = scene.process if name in SERVICES else scene.run
        return run_it("worker", *commands[name], **more)

    cases = [(variable, name) for variable, (_, names) in wrong.items() for name in names]
    apart = [(STRANGER, "worker"), *(case for case in cases if case[1] in SERVICES)]
    with ThreadPoolExecutor(len(apart)) as pool:
        ended = pool.map(run, apart)  # while the others run here
        here = {case: run(case) for case in cases if case not in apart}
        return here | dict(zip(apart, ended, strict=True))


def test_whom_kafka_does_not_let_in_is_told_why(refused: dict[tuple[str, str], Done]) -> None:
    """
    A wrong password, a wrong certificate: status 2, the variable to set, and no password.
    """
    for (variable, name), done in refused.items():
        if variable == STRANGER:
            continue
        assert 2 == done.status, (name, done)
        of_password = variable == "KAFKA_SASL_PASSWORD"
        said = "does not let the user worker in" if of_password else "the certificate of Kafka"
        assert said in done.errors, (name, done)
        assert f"OBJECTIONS_{variable}" in done.errors, (name, done)
        assert WRONG not in done.errors + done.output
        assert password_of("worker") not in done.errors + done.output
        assert "Traceback" not in done.errors


def test_a_stranger_is_told_of_rights(refused: dict[tuple[str, str], Done]) -> None:
    """
    Where Kafka hides the topics, their absence is not said to be the only reason.
    """
    done = refused[STRANGER, "worker"]

    assert 1 == done.status, done
    assert "Kafka also hides topics that the user stranger has no right to" in done.errors

"""What a worker says that is not let in, or lacks a right: the thing, the remedy, no password."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.access_scene import DENIED_PREFIX, LACKING, Access, access
from tests.making import content, grown_up, notice
from tests.secured_kafka import ADMIN, password_of
from tests.worker_inputs import Inputs
from tests.worker_process import Worker

WRONG = "pw-wrong-7Hq2xZ"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """Return the Kafka that refuses, with records that make a worker write."""
    with access(tmp_path_factory.mktemp("refused")) as found:
        variables = found.secured.variables(ADMIN)
        options = {name.removeprefix("KAFKA_").lower(): value for name, value in variables.items()}
        with Inputs(found.secured.kafka, DENIED_PREFIX, **options) as inputs:
            inputs.send(
                ("account-ages", grown_up(user_id="ann")),
                ("notices", notice(user_id="ann")),
                ("content", content(user_id="ann")),
            )
        yield found


@pytest.fixture(scope="module")
def ended(scene: Access) -> dict[str, Worker]:
    """Return the workers that lack a right each, all started at once, by their users' names."""
    workers = {
        name: Worker(
            scene.secured.kafka,
            DENIED_PREFIX,
            scene.folder / name,
            GROUP=name,
            **scene.secured.variables(name),
        )
        for name in LACKING
    }
    for each in workers.values():
        each.start()
    for each in workers.values():
        each.wait_end(25)
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


@pytest.mark.parametrize(
    "variable,said,remedy",
    [
        (
            "KAFKA_SASL_PASSWORD",
            "does not let the user worker in",
            "OBJECTIONS_KAFKA_SASL_PASSWORD",
        ),
        (
            "KAFKA_SSL_CA_LOCATION",
            "the certificate of Kafka",
            "OBJECTIONS_KAFKA_SSL_CA_LOCATION",
        ),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("worker",),
        ("monitor",),
        ("topics", "check"),
        ("explain", "ann"),
        ("import",),
        ("dead-letters", "list"),
        ("subscribe", "--store=s", "--sink=sqlite:"),
    ],
    ids=lambda command: command[0],
)
def test_whom_kafka_does_not_let_in_is_told_why(
    scene: Access,
    tmp_path: Path,
    command: tuple[str, ...],
    variable: str,
    said: str,
    remedy: str,
) -> None:
    """
    A wrong password, a wrong certificate: status 2, the variable to set, and no password.
    """
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    wrong = WRONG if variable == "KAFKA_SASL_PASSWORD" else other
    if command == ("import",):
        command = ("import", str(scene.file("notices")), "--topic=notices")
    if command[0] == "subscribe":
        command = (*command[:-1], f"{command[-1]}{tmp_path / 'store.sqlite'}")
    done = scene.run(
        "worker", *command, STATE_DIR=tmp_path / "state", HTTP="127.0.0.1:0", **{variable: wrong}
    )

    assert 2 == done.status, done
    assert said in done.errors
    assert f"Remedy: set {remedy}" in done.errors or remedy in done.errors
    for password in (WRONG, password_of("worker")):
        assert password not in done.errors + done.output
    assert "Traceback" not in done.errors


def test_a_stranger_is_told_of_rights(scene: Access, tmp_path: Path) -> None:
    """
    Where Kafka hides the topics, their absence is not said to be the only reason.
    """
    done = scene.run("stranger", "worker", STATE_DIR=tmp_path / "state", HTTP="127.0.0.1:0")

    assert 1 == done.status, done
    assert "Kafka also hides topics that the user stranger has no right to" in done.errors

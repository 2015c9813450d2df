"""deploy/compose.yaml: as the Compose Specification wants it, and fitting to what it starts."""

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from click import Command, Context, Group
from confluent_kafka.admin import AdminClient
from jsonschema import Draft202012Validator

from streams.commands import main
from streams.kafka.local import HOST, LocalKafka
from streams.kafka.ports import free_ports
from tests.conftest import QUICK
from tests.deploying import DEPLOY, ROOT, TOKEN, read_settings, read_yaml, schema_of_others

COMPOSE: Final = read_yaml(DEPLOY / "compose.yaml")
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]
OURS: Final = {name: each for name, each in SERVICES.items() if "build" in each}
SECRET: Final = "http-token"
SCRAPED: Final = ("worker", "monitor", "intake", "canary")
PORT: Final = 6066
ANSWER_S: Final = 30.0


def binds(service: dict[str, Any]) -> dict[str, Path]:
    """Return the files of the repository that *service* sees, by their path in the container."""
    parts = [each.split(":") for each in service.get("volumes", ())]
    return {part[1]: DEPLOY / part[0] for part in parts if part[0].startswith(".")}


def test_it_is_a_compose_file() -> None:
    """
    The schema of the Compose Specification finds nothing.
    """
    schema = schema_of_others("compose-spec")

    assert [] == [each.message for each in Draft202012Validator(schema).iter_errors(COMPOSE)]


@pytest.mark.parametrize("name", OURS)
def test_settings_are_known_and_good(name: str) -> None:
    """
    Every OBJECTIONS_ variable of a service is a setting, with a value the settings take.
    """
    environ = OURS[name].get("environment", {})

    assert environ.keys() <= {each for each in environ if each.startswith("OBJECTIONS_")}
    assert "kafka:9092" == read_settings(environ).bootstrap


@pytest.mark.parametrize("name", OURS)
def test_commands_are_understood(name: str) -> None:
    """
    Every command line of ours names a command and options that it has.
    """
    words = list(OURS[name]["command"])
    command: Command = main
    while isinstance(command, Group):
        found = command.get_command(Context(command), words.pop(0))
        assert found is not None, OURS[name]["command"]
        command = found

    assert command.make_context(name, words).params.keys()


@pytest.mark.parametrize("name", OURS)
def test_ours_may_do_little(name: str) -> None:
    """
    Our containers have a read-only root, no capabilities and no way to more of them.
    """
    service = OURS[name]

    assert (True, ["ALL"], ["no-new-privileges:true"]) == (
        service["read_only"],
        service["cap_drop"],
        service["security_opt"],
    )
    assert not service.get("privileged")


def test_paths_are_in_the_repository() -> None:
    """
    Every file that is mounted is there, and read-only.
    """
    mounted = [each for service in SERVICES.values() for each in service.get("volumes", ())]

    assert [] == [each for each in mounted if each.startswith(".") and not each.endswith(":ro")]
    assert [] == [
        str(path)
        for service in SERVICES.values()
        for path in binds(service).values()
        if not path.is_file()
    ]
    for service in OURS.values():
        assert (ROOT, True) == (
            (DEPLOY / service["build"]["context"]).resolve(),
            (ROOT / service["build"]["dockerfile"]).is_file(),
        )


def test_the_token_stays_out_of_the_repository() -> None:
    """
    The files of secrets are ignored by git; nothing here holds their values.
    """
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    for each in COMPOSE["secrets"].values():
        assert f"/{(DEPLOY / each['file']).relative_to(ROOT)}" in ignored
    for service in OURS.values():
        assert not {TOKEN, "OBJECTIONS_INTAKE_KEY"} & service.get("environment", {}).keys()


@pytest.mark.parametrize("name", SCRAPED)
def test_secrets_get_from_their_files_to_the_command(name: str, tmp_path: Path) -> None:
    """
    The entry point hands each secret's content on as its setting, and the command's words as they
    are; without the file it ends, and nothing is served.
    """
    shell, options, script, zero = SERVICES[name]["entrypoint"]
    names = SERVICES[name]["secrets"]
    variables = " ".join(f"$OBJECTIONS_{each.replace('-', '_').upper()}" for each in names)
    told = tmp_path / "objections"
    told.write_text(f'#!/bin/sh\necho "$0 $* [{variables}]"\n')
    told.chmod(told.stat().st_mode | stat.S_IXUSR)
    for each in names:
        (tmp_path / each).write_text(f"s3cret of {each}\n")
    script = script.replace("$$", "$")
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shell, options, text, zero, "worker", "a b"],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run(script.replace("/run/secrets", str(tmp_path)))
    values = " ".join(f"s3cret of {each}" for each in names)
    assert f"{told} worker a b [{values}]\n" == done.stdout
    failed = run(script.replace("/run/secrets", str(tmp_path / "absent")))
    assert failed.returncode != 0
    assert failed.stdout == ""


def test_only_this_machine_can_ask() -> None:
    """
    Every published port is one of 127.0.0.1, each once.
    """
    ports = [each for service in SERVICES.values() for each in service.get("ports", ())]

    assert ports
    assert [] == [each for each in ports if not each.startswith("127.0.0.1:")]
    assert len(ports) == len({each.split(":")[1] for each in ports})


def test_whatever_is_named_is_there() -> None:
    """
    Volumes, secrets and services that a service names are declared.
    """
    for service in SERVICES.values():
        volumes = [each.split(":")[0] for each in service.get("volumes", ())]
        assert {each for each in volumes if not each.startswith(".")} <= COMPOSE["volumes"].keys()
        assert {*service.get("secrets", ())} <= COMPOSE["secrets"].keys()
        assert service.get("depends_on", {}).keys() <= SERVICES.keys()


def test_who_waits_for_whom_can_be_told() -> None:
    """
    Who is waited for until healthy has a health check, who until completed ends by itself.
    """
    waits = {
        (other, each["condition"])
        for service in SERVICES.values()
        for other, each in service.get("depends_on", {}).items()
    }

    assert {("kafka", "service_healthy"), ("topics", "service_completed_successfully")} <= waits
    for other, condition in waits:
        if condition == "service_healthy":
            assert "healthcheck" in SERVICES[other], other
        else:
            assert SERVICES[other]["restart"] == "no", other
    assert ["topics"] == [name for name, each in SERVICES.items() if "healthcheck" not in each]


def test_the_store_is_the_one_receipts_wait_for() -> None:
    """
    Whoever waits for stores expects the acknowledgements of the subscriber, of a durable Redis.
    """
    words = SERVICES["feature-store"]["command"]
    store = words[words.index("--store") + 1]

    for name in ("worker", "monitor", "canary"):
        stores = read_settings(SERVICES[name]["environment"]).stores
        assert [(store, {"training-users", "training-content"})] == [
            (each.name, set(each.topics)) for each in stores
        ]
    assert words[words.index("--sink") + 1].startswith("redis://redis:")
    assert ["--appendonly", "yes"] == SERVICES["redis"]["command"][1:3]


def test_prometheus_scrapes_what_the_rules_name() -> None:
    """
    The jobs are those of deploy/monitoring, ask the containers with the token, and the rules are
    beside their configuration.
    """
    mounted = binds(SERVICES["prometheus"])
    config = read_yaml(mounted["/etc/prometheus/prometheus.yml"])
    jobs = {each["job_name"]: each for each in config["scrape_configs"]}
    shipped = read_yaml(DEPLOY / "monitoring" / "prometheus.yml")

    assert [each["job_name"] for each in shipped["scrape_configs"]] == list(jobs)
    assert [f"{name}:{PORT}" for name in SCRAPED] == [
        target
        for job in jobs.values()
        for each in job["static_configs"]
        for target in each["targets"]
    ]
    assert [SECRET] == SERVICES["prometheus"]["secrets"] == SERVICES["worker"]["secrets"]
    for job in jobs.values():
        assert f"/run/secrets/{SECRET}" == job["authorization"]["credentials_file"]
    assert mounted["/etc/prometheus/rules.yml"] == DEPLOY / "monitoring" / "rules.yml"
    for name in SCRAPED:
        settings = read_settings(SERVICES[name]["environment"])
        assert ("0.0.0.0", PORT) == (settings.http_host, settings.http_port)


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    """
    The source of data is the Prometheus here, and the provider looks where the dashboard lies.
    """
    mounted = binds(SERVICES["grafana"])
    (source,) = read_yaml(mounted["/etc/grafana/provisioning/datasources/objections.yml"])[
        "datasources"
    ]
    (provider,) = read_yaml(mounted["/etc/grafana/provisioning/dashboards/objections.yml"])[
        "providers"
    ]
    (dashboard,) = [path for path, file in mounted.items() if file.suffix == ".json"]

    assert ("prometheus", "http://prometheus:9090") == (source["type"], source["url"])
    assert provider["options"]["path"] == str(Path(dashboard).parent)
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert dashboard == home


def test_kafka_starts_with_these_settings(tmp_path: Path) -> None:
    """
    A real Kafka takes the broker's settings, but for names and ports, and tells whoever comes in
    by a listener to go on by that one.
    """
    environ = dict(SERVICES["kafka"]["environment"])
    # The local Kafka has a quorum of its own; that of the container is the container.
    voter = f"{environ['KAFKA_NODE_ID']}@kafka:9093"
    assert environ.pop("KAFKA_CONTROLLER_QUORUM_VOTERS") == voter
    assert environ.pop("KAFKA_LOG_DIRS") in SERVICES["kafka"]["volumes"][0]
    outside, inside, controller = free_ports(3)
    places = {"29092": outside, "9092": inside, "9093": controller}
    properties = {"controller.quorum.bootstrap.servers": f"{HOST}:{controller}"}
    for variable, value in environ.items():
        name = variable.removeprefix("KAFKA_").lower().replace("_", ".")
        properties[name] = re.sub(
            r"://(?:kafka|127\.0\.0\.1)?:(\d+)",
            lambda found: f"://{HOST}:{places[found[1]]}",
            value,
        )

    with LocalKafka(tmp_path, port=outside, properties=QUICK | properties):
        for port in (outside, inside):
            client = AdminClient({"bootstrap.servers": f"{HOST}:{port}"})
            brokers = client.list_topics(timeout=ANSWER_S).brokers.values()
            assert [port] == [each.port for each in brokers]

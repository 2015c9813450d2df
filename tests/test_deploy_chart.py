"""The Helm chart: its data and values; and, where helm is installed, what it renders."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft7Validator

import topics
from deploy.derived import __main__ as derived
from deploy.derived.build import built, version
from deploy.derived.chart import ROLES
from deploy.monitoring import limits
from deploy.monitoring.rules import rules
from streams.policy_file import read_policy
from streams.settings import PREFIX, VARIABLES, Settings
from tests.charting import (
    CHART,
    EXAMPLE,
    Resource,
    environ_of,
    helm,
    of_kind,
    parts,
    pod_of,
    render,
    settings_of,
)
from tests.deploying import DEPLOY, TOKEN, read_yaml

SCHEMA: Final = json.loads((CHART / "values.schema.json").read_text("utf-8"))
PARTITIONS: Final = 12


def merged(base: Any, more: Any) -> Any:
    """Return *base* with the values of *more* over it, as Helm does."""
    if not (isinstance(base, dict) and isinstance(more, dict)):
        return more
    return base | {name: merged(base.get(name), each) for name, each in more.items()}


@pytest.fixture(scope="module")
def rendered() -> list[Resource]:
    """Return what the chart makes of the example's values."""
    return render()


@pytest.mark.parametrize("name", built())
def test_files_are_what_is_built(name: str) -> None:
    """
    What is checked in is what `python -m deploy.derived` makes.
    """
    assert (DEPLOY / name).read_text("utf-8") == built()[name], "run python -m deploy.derived"


def test_check_names_what_has_drifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    `--check` writes nothing and ends with 1, naming the file and the remedy.
    """
    assert derived.main(["--out", str(tmp_path)]) == 0
    assert derived.main(["--out", str(tmp_path), "--check"]) == 0
    (tmp_path / "asyncapi.yaml").write_text("asyncapi: 2.0.0\n")
    capsys.readouterr()

    assert derived.main(["--out", str(tmp_path), "--check"]) == 1
    assert "asyncapi.yaml is not what is built: run python -m deploy.derived" in (
        capsys.readouterr().err
    )


def test_versions_agree() -> None:
    """
    Chart and image are of the project's version.
    """
    chart = read_yaml(CHART / "Chart.yaml")

    assert {version()} == {chart["version"], chart["appVersion"]}


def test_values_are_those_the_schema_knows() -> None:
    """
    Defaults and example fit the schema, which knows each default and refuses what it does not.
    """
    defaults, example = read_yaml(CHART / "values.yaml"), read_yaml(EXAMPLE)
    validator = Draft7Validator(SCHEMA)

    assert defaults.keys() == SCHEMA["properties"].keys() - {"global"}
    for values in (defaults, merged(defaults, example)):
        assert [] == [each.message for each in validator.iter_errors(values)]
    for wrong in (
        {"worker": {"replica": 2}},
        {"worker": {"replicas": 0}},
        {"stores": {"index": "objections"}},
        {"settings": {"OBJECTIONS_HTTP": "0.0.0.0:80"}},
        {"settings": {"OBJECTIONS_GRANT_RATE": 1_000_000}},  # Helm would make it 1e+06.
        {"policy": {"adult_age": 16}},
        {"intake": {"key": "a secret's value"}},
        {"intake": {"contact": "dpo@example.org"}},
        {"canary": {"everySeconds": 301}},
    ):
        assert not validator.is_valid(merged(defaults, wrong)), wrong


def test_templates_name_settings_that_exist() -> None:
    """
    Every OBJECTIONS_ variable in a template is a setting.
    """
    named = {
        name
        for path in (CHART / "templates").iterdir()
        for name in re.findall(r"OBJECTIONS_[A-Z_]+", path.read_text("utf-8"))
    }
    known = {TOKEN, *(PREFIX + name for name in VARIABLES)}

    assert named
    assert [] == [name for name in named - known if not name.startswith("OBJECTIONS_KAFKA_")]


def test_the_worker_may_do_what_the_topics_say() -> None:
    """
    Its role reads and writes each topic that names the worker as a reader or a writer.
    """
    role = read_yaml(ROLES)["worker"]

    for name in topics.names():
        found = topics.definition(name)
        for people, part in ((found.readers, "read"), (found.writers, "write")):
            if any(each.startswith("worker") for each in people):
                assert name in role[part], f"{part} {name}"


def test_topics_are_rendered_in_full(rendered: list[Resource]) -> None:
    """
    Each topic has its prefix, its number of partitions and its whole configuration, and outlives
    the release.
    """
    found = {each["spec"]["topicName"]: each for each in of_kind(rendered, "KafkaTopic")}

    assert {f"eu.{name}" for name in topics.names()} == found.keys()
    for name in topics.names():
        definition, resource = topics.definition(name), found[f"eu.{name}"]
        spec = resource["spec"]
        shared = definition.partitions == "shared"
        assert spec["partitions"] == (PARTITIONS if shared else definition.partitions)
        config = {key: each.value for key, each in definition.config.items()}
        assert config | {"min.insync.replicas": "2"} == spec["config"]
        assert resource["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_users_have_their_roles_rights(rendered: list[Resource]) -> None:
    """
    Names have prefix and group in them, and no rule is for everything.
    """
    users = {each["metadata"]["name"]: each["spec"] for each in of_kind(rendered, "KafkaUser")}
    rules_of = {name: each["authorization"]["acls"] for name, each in users.items()}
    worker = {
        (each["resource"]["type"], each["resource"]["name"]): each
        for each in rules_of["t-objection-streams-worker"]
    }

    ours = ("worker", "monitor", "intake", "canary", "imports")
    assert {f"t-objection-streams-{each}" for each in ours} < set(users)
    assert "Write" in worker["topic", "eu.training-users"]["operations"]
    assert "Write" not in worker["topic", "eu.objections"]["operations"]
    assert ["Read"] == worker["group", "eu.objections"]["operations"]
    assert "prefix" == worker["transactionalId", "eu.objections-"]["resource"]["patternType"]
    assert ["Describe"] == worker["group", "connect-index"]["operations"]
    for each in (rule for acls in rules_of.values() for rule in acls):
        assert each["resource"]["name"].strip("*")
        assert "All" not in each["operations"]
        assert "{" not in each["resource"]["name"]


def test_pods_have_settings_that_are_good(rendered: list[Resource]) -> None:
    """
    All get the same group, prefix and stores; passwords, keys and token are references.
    """
    environs = {name: environ_of(pod_of(each)) for name, each in parts(rendered).items()}
    settings: dict[str, Settings] = {name: settings_of(each) for name, each in environs.items()}

    assert {"worker", "monitor", "intake", "canary"} == settings.keys()
    for each in settings.values():
        assert ("eu.", "eu.objections") == (each.topic_prefix, each.group)
        assert {"feature-store", "index"} == {store.name for store in each.stores}
    assert settings["worker"].grant_rate == 4000
    for name, environ in environs.items():
        user = f"t-objection-streams-{name}"
        assert environ["OBJECTIONS_KAFKA_SASL_USERNAME"] == user
        assert environ["OBJECTIONS_KAFKA_SASL_PASSWORD"] == f"{user}/password"
        assert environ[TOKEN] == "objections-http/token"
    assert not of_kind(rendered, "Secret")


def test_pods_may_do_little(rendered: list[Resource]) -> None:
    """
    No root, no writable root, no way to more rights, no token of Kubernetes; every path that is
    mounted has its volume, and the state is one that stays.
    """
    for resource in parts(rendered).values():
        pod = resource["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        } == container["securityContext"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        claims = resource["spec"].get("volumeClaimTemplates", ())
        volumes = {*(each["name"] for each in pod["volumes"])}
        volumes |= {each["metadata"]["name"] for each in claims}
        mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        assert mounts.keys() == volumes
        if claims:
            state_dir = settings_of(environ_of(pod)).state_dir
            assert mounts["state"] in map(str, state_dir.parents)


def test_workers_restart_one_by_one_when_ready(rendered: list[Resource]) -> None:
    """
    Probes ask the paths of the contract; Kafka is waited for; one worker at most is away.
    """
    (worker,) = of_kind(rendered, "StatefulSet")
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    startup = container["startupProbe"]
    (budget,) = [
        each
        for each in of_kind(rendered, "PodDisruptionBudget")
        if each["metadata"]["name"].endswith("-worker")
    ]

    assert ["/healthz", "/healthz", "/readyz"] == [
        container[name]["httpGet"]["path"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    ]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 3600
    assert worker["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert budget["spec"]["maxUnavailable"] == 1
    selector = budget["spec"]["selector"]["matchLabels"].items()
    assert selector <= worker["spec"]["template"]["metadata"]["labels"].items()


def test_the_policy_is_one_the_worker_reads(rendered: list[Resource], tmp_path: Path) -> None:
    """
    The file in the ConfigMap is the policy of the values, where OBJECTIONS_POLICY says.
    """
    (config,) = [each for each in of_kind(rendered, "ConfigMap") if "policy.yaml" in each["data"]]
    (worker,) = of_kind(rendered, "StatefulSet")
    (tmp_path / "policy.yaml").write_text(config["data"]["policy.yaml"])

    assert read_policy(tmp_path / "policy.yaml").version == 2
    pod = worker["spec"]["template"]["spec"]
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert environ_of(pod)["OBJECTIONS_POLICY"] == f"{mounts['policy']}/policy.yaml"


def test_prometheus_gets_our_rules_and_jobs(rendered: list[Resource]) -> None:
    """
    The rules are those of deploy/monitoring, and the jobs have the names these look for.
    """
    (found,) = of_kind(rendered, "PrometheusRule")
    monitors = of_kind(rendered, "PodMonitor")
    endpoints = [each["spec"]["podMetricsEndpoints"][0] for each in monitors]

    assert rules() == found["spec"]
    jobs = (limits.WORKER_JOB, limits.MONITOR_JOB, limits.INTAKE_JOB, limits.CANARY_JOB)
    assert list(jobs) == [each["relabelings"][0]["replacement"] for each in endpoints]
    assert [{"credentials": {"name": "objections-http", "key": "token"}}] * len(jobs) == [
        each["authorization"] for each in endpoints
    ]


@pytest.mark.parametrize(
    "value, told",
    [
        ("worker.replicas=13", "expected at most strimzi.partitions (12)"),
        ("kafka.bootstrap=", "kafka.bootstrap is empty, expected HOST:PORT"),
        ("httpToken.secret=", "httpToken.secret is empty, expected the name of a Secret"),
        ("strimzi.minInsyncReplicas=3", "expected less than strimzi.replicas (3)"),
        ("intake.key.secret=", "intake.key.secret is empty, expected the name of a Secret"),
        ("stores=null", "stores is empty, expected the data stores that the canary is to measure"),
        ("strimzi.enabled=false", "kafka.credentials.worker has no secret or no username"),
    ],
)
def test_what_cannot_work_is_refused(value: str, told: str) -> None:
    """
    The chart refuses, naming the value, what was found and what is expected.
    """
    done = helm("--values", str(EXAMPLE), "--set", value)

    assert done.returncode != 0
    assert told in done.stderr

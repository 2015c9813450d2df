"""What the tests of the Helm chart share: what it renders, where helm is, and its parts."""

import subprocess
from typing import Any, Final

import pytest
import yaml

from deploy.checking.tools import find
from streams.settings import Settings
from tests.deploying import DEPLOY, read_settings
from tests.servers import ABSENT

CHART: Final = DEPLOY / "helm" / "objection-streams"
EXAMPLE: Final = DEPLOY / "helm" / "example-values.yaml"
KUBERNETES: Final = "1.35.0"

Resource = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Return what helm says of the chart; skips the test without it."""
    found = find("helm")
    if found is None:
        pytest.skip(f"no helm {ABSENT}: deploy/check --install gets it")
    command = [found, "template", "t", str(CHART), "--kube-version", KUBERNETES, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def render() -> list[Resource]:
    """Return what the chart makes of the example's values."""
    done = helm("--values", str(EXAMPLE))
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def of_kind(resources: list[Resource], kind: str) -> list[Resource]:
    """Return the resources of one *kind*."""
    return [each for each in resources if each["kind"] == kind]


def environ_of(pod: Resource) -> dict[str, str]:
    """Return the variables of a pod's container; a secret's value is its place."""
    (container,) = pod["containers"]
    return {
        each["name"]: each.get("value") or "/".join(each["valueFrom"]["secretKeyRef"].values())
        for each in container["env"]
    }


def parts(resources: list[Resource]) -> dict[str, Resource]:
    """Return what runs, by its name without the release's."""
    found = (*of_kind(resources, "StatefulSet"), *of_kind(resources, "Deployment"))
    return {each["metadata"]["name"].removeprefix("t-objection-streams-"): each for each in found}


def pod_of(resource: Resource) -> Resource:
    """Return the pods' specification of what runs."""
    spec: Resource = resource["spec"]["template"]["spec"]
    return spec


def settings_of(environ: dict[str, str]) -> Settings:
    """Return the settings of a pod; a key's place is no key."""
    key = "OBJECTIONS_INTAKE_KEY"
    return read_settings(environ | ({key: "k" * 32} if key in environ else {}))

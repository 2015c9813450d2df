"""The Helm chart: linted, rendered, and held against the schemas of Kubernetes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.checking.tools import DEPLOY, Checks, python_packages

CHART: Final = DEPLOY / "helm" / "objection-streams"
# Once with everything switched on, once with the least that has to be said.
VALUES: Final = {
    "all": ("--values", str(DEPLOY / "helm" / "example-values.yaml")),
    "least": (
        "--set=kafka.bootstrap=kafka:9092",
        "--set=kafka.securityProtocol=PLAINTEXT",
        "--set=httpToken.secret=objections-http",
    ),
}
_CUSTOM: Final = "KafkaTopic,KafkaUser,PodMonitor,PrometheusRule"


def check_chart(checks: Checks, folder: Path, kubernetes: str, crds: Path | None) -> None:
    """
    Check the chart for a version of *kubernetes*; *folder* is for what is made on the way.

    crds: a folder with the definitions of custom resources, which are not looked at without.
    """
    helm = checks.tool("helm", "helm")
    if helm is None:
        return
    kubeconform = checks.tool("kubeconform", "kubeconform")
    locations = list(_schema_locations(folder, kubernetes, crds))
    if not locations:
        checks.absent("kubeconform", f"kubernetes-validate with schemas of {kubernetes}")
    version = ("--kube-version", kubernetes)
    for name, values in VALUES.items():
        checks.run(f"helm lint, {name}", helm, "lint", "--strict", *version, CHART, *values)
        text = checks.run(f"helm template, {name}", helm, "template", "t", *version, CHART, *values)
        rendered = folder / f"{name}.yaml"
        rendered.write_text(text)
        if kubeconform and locations:
            options = ["-strict", "-summary", *locations, *([] if crds else ["-skip", _CUSTOM])]
            told = checks.run(f"kubeconform, {name}", kubeconform, *options, rendered)
            print(f"     {told.strip().splitlines()[-1]}")


def _schema_locations(folder: Path, kubernetes: str, crds: Path | None) -> Iterator[str]:
    """Return options that tell kubeconform where schemas are: a package's, and those of *crds*."""
    package = Path("kubernetes_validate") / "kubernetes-json-schema" / f"v{kubernetes}-local-strict"
    places = [place / package for place in python_packages() if (place / package).is_dir()]
    if not places:
        return
    _write_schemas(places[0], folder)
    yield from ("-schema-location", f"{folder}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json")
    if crds:
        _write_custom_schemas(crds, folder)
        custom = f"{folder}/{{{{ .ResourceKind }}}}-{{{{ .ResourceAPIVersion }}}}.custom.json"
        yield from ("-schema-location", custom)


def _write_schemas(place: Path, folder: Path) -> None:
    """Write Kubernetes' schemas so that they find each other as files."""
    for path in place.glob("*.json"):
        if path.name != "all.json":
            text = path.read_text("utf-8").replace("/api/_definitions.json", "_definitions.json")
            (folder / path.name).write_text(text.replace('"$id"', '"x-id"'))


def _write_custom_schemas(crds: Path, folder: Path) -> None:
    """Write a schema for each version of each definition in *crds*."""
    for path in sorted(crds.glob("*.yaml")):
        for definition in yaml.safe_load_all(path.read_text("utf-8")):
            kind = definition["spec"]["names"]["kind"].lower()
            for version in definition["spec"]["versions"]:
                schema = _closed(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                name = f"{kind}-{version['name']}.custom.json"
                (folder / name).write_text(json.dumps(schema))


def _closed(schema: Any) -> Any:
    """Return *schema* so that a field it does not name is wrong: the API server would drop it."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and not is_open:
        made["additionalProperties"] = False
    return made

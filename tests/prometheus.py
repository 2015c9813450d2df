"""
Prometheus's programs: `promtool`, and a server of a test's own that scrapes what it is told to.

Where they are not installed a test is skipped with the reason, and fails where CI is set.
"""

import json
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from streams.kafka.local import HOST
from streams.kafka.ports import free_port
from tests.servers import ABSENT
from tests.worker_settings import wait_for

ANSWER_S: Final = 10.0
STOP_S: Final = 10.0

Sample = tuple[dict[str, str], float]  # labels, value


def program(name: str) -> str:
    """Return the path of *name*, `prometheus` or `promtool`; skips the test without it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} {ABSENT}: apt-get install prometheus")
    return found


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Return what promtool has said."""
    command = [program("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that runs."""

    url: str

    def query(self, expr: str) -> list[Sample]:
        """Return the samples of *expr* at this moment; ValueError, saying why, if it is wrong."""
        answer = self._get(f"/api/v1/query?{urllib.parse.urlencode({'query': expr})}")
        if answer["status"] != "success":
            raise ValueError(f"{expr}: {answer['error']}")
        data = answer["data"]
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(each["metric"], float(each["value"][1])) for each in data["result"]]

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.query("1"))
        except (OSError, ValueError):
            return False

    def problems(self) -> list[str]:
        """Return the last error of each rule that could not be evaluated."""
        groups = self._get("/api/v1/rules")["data"]["groups"]
        found = [each for group in groups for each in group["rules"]]
        return [f"{each['name']}: {each['lastError']}" for each in found if each.get("lastError")]

    def _get(self, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=ANSWER_S) as response:  # noqa: S310
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            answer = json.load(error)
        return answer


@contextmanager
def prometheus(
    folder: Path, targets: Mapping[str, Sequence[str]], rules: Mapping[str, Any]
) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes *targets* (by job) and evaluates *rules* every second."""
    command = program("prometheus")
    folder.mkdir(exist_ok=True)
    (folder / "rules.yml").write_text(yaml.safe_dump(dict(rules)), "utf-8")
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
            for job, addresses in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    address = f"{HOST}:{free_port()}"
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(
            [
                command,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        server = Prometheus(f"http://{address}")
        wait_for(server.is_ready, "Prometheus")
        yield server
    except BaseException as error:
        said = (folder / "prometheus.log").read_text("utf-8", errors="replace")
        error.add_note("\n".join(said.splitlines()[-10:]))
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

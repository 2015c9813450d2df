"""
The processes of compose.yaml without containers: the same commands, settings and entry points.

Kafka is the local one; names and ports become those of this machine, paths those of a folder.
An objection is sent, and has to reach the store and complete its receipt, while a real Prometheus
asks whoever serves metrics with the token, by the configuration and the rules of `deploy/`.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml
from confluent_kafka import Producer

from deploy.checking.tools import DEPLOY, ROOT, Checks, find
from streams.kafka.local import HOST, LocalKafka
from streams.kafka.ports import free_ports

WAIT_S: Final = 90.0
STOP_S: Final = 60.0
LOOK_AGAIN_S: Final = 0.3
ANSWER_S: Final = 5.0
LOG_END: Final = 1_500  # characters
SERVED: Final = ("worker", "monitor", "intake", "canary")
OBJECTION: Final = {"user_id": "u1", "objection_id": "o-1", "action": "filed"}


class Scene:
    """What runs: *folder* holds state, logs, the token and `objections` as a program."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self._services = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
        self.folder = folder
        names = (*SERVED, "form", "redis", "prometheus")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.token = secrets.token_hex(32)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._moved = {
            "kafka:9092": bootstrap,
            "redis:6379": f"{HOST}:{self.ports['redis']}",
            "/run/secrets": str(folder),
            "/tmp/ready": str(folder / "ready"),  # noqa: S108 - of the container
            "$$": "$",
        }
        (folder / "http-token").write_text(f"{self.token}\n")
        (folder / "intake-key").write_text(f"{secrets.token_hex(32)}\n")
        program = folder / "objections"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m streams.commands "$@"\n')
        program.chmod(0o755)

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start the service *name* of compose.yaml."""
        service = self._services[name]
        environ = {key: self._here(name, text) for key, text in service["environment"].items()}
        environ["OBJECTIONS_STATE_DIR"] = str(self.folder / f"state-{name}")
        words = [*service.get("entrypoint", ["objections"]), *service["command"]]
        return self.run(name, *(self._here(name, word) for word in words), **environ)

    def start_redis(self) -> None:
        """Start Redis as compose.yaml does, in a folder here."""
        place = ["--dir", str(self.folder), "--bind", HOST, "--port", str(self.ports["redis"])]
        self.run("redis", *self._services["redis"]["command"], *place)

    def start_prometheus(self, program: str) -> None:
        """Start Prometheus with compose.yaml's configuration, asking every second."""
        text = (DEPLOY / "compose" / "prometheus.yml").read_text("utf-8")
        text = text.replace("/run/secrets", str(self.folder))
        text = re.sub(r"\b\d+s$|\b5s(?= #)", "1s", text, flags=re.MULTILINE)
        for name in SERVED:
            text = text.replace(f"{name}:6066", f"{HOST}:{self.ports[name]}")
        (self.folder / "prometheus.yml").write_text(text)
        rules = (DEPLOY / "monitoring" / "rules.yml").read_text("utf-8")
        (self.folder / "rules.yml").write_text(rules)
        self.run(
            "prometheus",
            program,
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/prometheus",
            f"--web.listen-address={HOST}:{self.ports['prometheus']}",
        )

    def run(self, name: str, *command: str, **environ: str) -> subprocess.Popen[bytes]:
        """Run *command*, its output in a file of the folder."""
        path = f"{self.folder}:{os.environ['PATH']}"
        with self.log_of(name).open("wb") as log:
            self.running[name] = subprocess.Popen(
                command, cwd=ROOT, env={"PATH": path, **environ}, stdout=log, stderr=log
            )
        return self.running[name]

    def log_of(self, name: str) -> Path:
        """Return the file with what the process *name* has said."""
        return self.folder / f"{name}.log"

    def get(self, name: str, path: str, token: str = "") -> tuple[int, str]:
        """Return status and text that the process *name* answers; 0 where it does not."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://{HOST}:{self.ports[name]}{path}"
        asked = urllib.request.Request(url, headers=headers)
        try:
            with urllib.request.urlopen(asked, timeout=ANSWER_S) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""

    def is_ready(self, name: str) -> bool:
        """Whether the process *name* says so, without the token."""
        return self.get(name, "/readyz")[0] == 200

    def is_up(self) -> bool:
        """Whether Prometheus has scraped all jobs."""
        status, text = self.get(
            "prometheus", f"/api/v1/query?{urllib.parse.urlencode({'query': 'up'})}"
        )
        found: list[Any] = json.loads(text)["data"]["result"] if status == 200 else []
        up = {each["metric"]["job"] for each in found if each["value"][1] == "1"}
        return up == {f"objections-{name}" for name in SERVED}

    def _here(self, name: str, text: str) -> str:
        for theirs, ours in self._moved.items():
            text = text.replace(theirs, ours)
        text = text.replace("0.0.0.0:6080", f"0.0.0.0:{self.ports['form']}")
        return text.replace("0.0.0.0:6066", f"0.0.0.0:{self.ports.get(name)}")


def check_scene(checks: Checks) -> None:
    """Run what compose.yaml runs, and send an objection through it."""
    redis, prometheus = find("redis-server"), find("prometheus")
    if redis is None or prometheus is None:
        checks.absent("scene", "redis-server or prometheus (Debian's packages)")
        return
    with (
        tempfile.TemporaryDirectory(prefix="objections-scene-") as folder,
        LocalKafka(Path(folder) / "kafka") as kafka,
        _scene(Path(folder), kafka.bootstrap) as scene,
    ):
        checks.note("scene: topics apply", scene.start("topics").wait(WAIT_S) == 0)
        scene.start_redis()
        for name in (*SERVED, "feature-store"):
            scene.start(name)
        checks.note("scene: the store is ready", _waited((scene.folder / "ready").exists))
        checks.note("scene: the form opens", _waited(lambda: scene.get("form", "/")[0] == 200))
        for name in SERVED:
            ready = _waited(partial(scene.is_ready, name))
            checks.note(f"scene: {name} is ready, told without a token", ready)
            status = [scene.get(name, "/metrics", token)[0] for token in ("", scene.token)]
            checks.note(f"scene: {name} tells metrics to who has the token", status == [401, 200])
        scene.start_prometheus(prometheus)
        checks.note("scene: Prometheus scrapes all by the token", _waited(scene.is_up))
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2_random"})
        producer.produce("objections", json.dumps(OBJECTION).encode(), b"u1")
        producer.flush()
        command = [sys.executable, "-m", "streams.commands", "receipt", "o-1"]
        command += ["--bootstrap", kafka.bootstrap]
        completed = _waited(lambda: b"completed" in _output(command))
        checks.note("scene: the objection is hidden in the store, its receipt complete", completed)
        for name in ("feature-store", *SERVED):
            scene.running[name].terminate()
            checks.note(f"scene: {name} stops in order", scene.running[name].wait(STOP_S) == 0)
        if any(each.startswith("scene") for each in checks.failed):
            for name in scene.running:
                print(f"== {name}\n{scene.log_of(name).read_text()[-LOG_END:]}")


@contextmanager
def _scene(folder: Path, bootstrap: str) -> Iterator[Scene]:
    """Leave none of its processes behind."""
    scene = Scene(folder, bootstrap)
    try:
        yield scene
    finally:
        for process in scene.running.values():
            process.kill()
            process.wait()


def _waited(holds: Callable[[], bool]) -> bool:
    """Return whether it *holds* within the time there is."""
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(LOOK_AGAIN_S)
    return True


def _output(command: list[str]) -> bytes:
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).stdout

"""
A real Kafka Connect worker on a free port, with Debezium's JDBC sink, as a process of tests.

It takes deploy/connect/worker.properties as it is, and adds where it finds what.
"""

import http.client
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from streams.errors import Unreachable
from streams.kafka import jars
from streams.kafka.local import HOST, LocalKafka
from streams.kafka.ports import free_port
from streams.watcher import let_go, signals_held_back, start_watched
from tests.servers import ABSENT
from tests.worker_settings import wait_for

DEPLOY: Final = Path(__file__).parents[1] / "deploy" / "connect"
ANSWER_S: Final = 60.0  # it answers late while it starts
STARTED_S: Final = 120.0

CONNECT: Final = jars.Program(
    f"connect-{jars.KAFKA_VERSION}",
    f"Kafka Connect {jars.KAFKA_VERSION}",
    (f"org.apache.kafka:connect-runtime:{jars.KAFKA_VERSION}", jars.LOG4J),
    40,
)
# Without the drivers of other databases, and what the worker has: 80 MB less.
JDBC_SINK: Final = jars.Program(
    "debezium-jdbc-3.6.0",
    "Debezium's JDBC sink 3.6.0",
    (
        "io.debezium:debezium-connector-jdbc:3.6.0.Final",
        # Asked for under a group that has moved.
        "org.hibernate.orm:hibernate-agroal:7.2.0.Final",
    ),
    32,
    frozenset(
        {
            "at.yawk.lz4",
            "com.fasterxml.jackson.core",
            "com.github.luben",
            "com.microsoft.sqlserver",
            "com.mysql",
            "com.oracle.database.jdbc",
            "org.apache.kafka",
            "org.hibernate",
            "org.mariadb.jdbc",
            "org.slf4j",
            "org.xerial.snappy",
        }
    ),
)
_JAVA_OPTIONS: Final = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_LOG4J: Final = """\
<Configuration status="WARN">
  <Appenders>
    <Console name="out"><PatternLayout pattern="%d %p %m (%c)%n%throwable"/></Console>
  </Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


class Connect(NamedTuple):
    """A worker that runs."""

    port: int
    log_path: Path
    process: "subprocess.Popen[bytes]"

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return what its REST answers; fails unless it says that it went well."""
        status, text = self._asked(method, path, body)
        assert status < http.client.BAD_REQUEST, f"{method} {path}: {text}; {self.tail()}"
        return json.loads(text) if text else None

    def _asked(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ANSWER_S)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def answers(self) -> bool:
        """Return whether it is there; fails with its log when it has ended."""
        assert self.process.poll() is None, self.tail()
        try:
            return self._asked("GET", "/connectors")[0] == http.client.OK  # 404 while it starts
        except (OSError, http.client.HTTPException):
            return False

    def runs(self, name: str) -> bool:
        """Return whether all tasks of connector *name* run; fails when one has failed."""
        tasks = self.ask("GET", f"/connectors/{name}/status")["tasks"]
        failed = [task for task in tasks if task["state"] == "FAILED"]
        assert not failed, f"{failed}; {self.tail()}"
        return bool(tasks) and all(task["state"] == "RUNNING" for task in tasks)

    def wait_stopped(self, path: str) -> None:
        """Return once the connector at *path* has stopped."""
        wait_for(
            lambda: self.ask("GET", f"{path}/status")["connector"]["state"] == "STOPPED",
            "the connector to stop",
        )

    def tail(self) -> str:
        """Return the end of its log."""
        return f"the end of {self.log_path}:\n{self.log_path.read_text('utf-8')[-8_000:]}"


def connector(file: str) -> dict[str, Any]:
    """Return what deploy/connect/*file* holds, to be posted."""
    found: dict[str, Any] = json.loads((DEPLOY / file).read_text("utf-8"))
    return found


@contextmanager
def connect_worker(
    kafka: LocalKafka, folder: Path, variables: Mapping[str, str]
) -> Iterator[Connect]:
    """Run a worker with *variables* in its environment; its files lie in *folder*."""
    try:
        class_path = jars.class_path(program=CONNECT)
        plugin = jars.class_path(program=JDBC_SINK)[0].parent
    except Unreachable as error:
        pytest.skip(f"no Kafka Connect {ABSENT}: {error}")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "debezium-jdbc").symlink_to(plugin)
    port = free_port()
    ours = {
        "bootstrap.servers": kafka.bootstrap,
        "listeners": f"http://{HOST}:{port}",
        "offset.storage.file.filename": folder / "offsets",
        "plugin.path": folder / "plugins",
        "plugin.discovery": "service_load",  # without looking through every class
    }
    lines = [f"{name}={value}\n" for name, value in ours.items()]
    properties = folder / "worker.properties"
    properties.write_text((DEPLOY / "worker.properties").read_text("utf-8") + "".join(lines))
    (folder / "log4j2.xml").write_text(_LOG4J)
    log_path = folder / "connect.log"
    command = [
        *(str(jars.java()), *_JAVA_OPTIONS),
        f"-Dlog4j2.configurationFile={folder / 'log4j2.xml'}",
        *("-cp", ":".join(str(jar) for jar in class_path)),
        *("org.apache.kafka.connect.cli.ConnectStandalone", str(properties)),
    ]
    with signals_held_back():
        process, watcher = start_watched(command, log_path, environ={**os.environ, **variables})
    found = Connect(port, log_path, process)
    try:
        wait_for(found.answers, "Kafka Connect", STARTED_S)
        yield found
    except BaseException as error:
        error.add_note(found.tail())
        raise
    finally:
        process.kill()  # nothing of it is used again
        process.wait()
        let_go(watcher)

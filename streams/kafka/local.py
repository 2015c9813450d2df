"""
A real Apache Kafka on this machine, for development, tests, demo and benchmarks.

One JVM is broker and controller at once, alone or as a node of a `LocalCluster`.
It listens on 127.0.0.1 only, without encryption unless it is given another protocol and what that
needs.
It runs in a session of its own, so that a terminal's Ctrl-C reaches us and not it,
and a watcher kills it when our process ends in whatever way: no Kafka is left behind.
Data, configuration and log are in one folder; the same folder started again has the same data.
"""

import base64
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import Unreachable, UsageProblem
from streams.kafka import jars, local_properties
from streams.kafka.cache import Say, say_on_stderr
from streams.kafka.local_properties import ALONE, LOG4J, Node, properties_of
from streams.kafka.ports import free_port, is_free
from streams.watcher import Process, let_go, signals_held_back, start_watched

HOST = local_properties.HOST
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0  # An orderly stop takes about a second; after this it is killed.
_FORMAT_TIMEOUT_S = 60.0
_METADATA_TIMEOUT_S = 1.0
_POLL_PAUSE_S = 0.05
_LOG_TAIL_LINES = 15
_PORT_ATTEMPTS = 3  # A free port may be taken by another process before Kafka takes it.

# Java's first limit of metadata, 21 MiB, is reached while Kafka works: it then stands still for a
# full collection, 180 ms on two cores.
_JAVA_OPTIONS = ("-Xms256m", "-Xmx512m", "-XX:MetaspaceSize=128m")
_SMALL_HEAP = ("-Xms64m", "-Xmx256m")  # of several beside each other; the later option holds
# Starts sooner and spares processor and memory; slower at full load.
_QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# As Kafka's own scripts start it: at 2,000 events/s it stands still for up to 25 ms at a time, and
# for up to 45 with the serial collector.
_LIKE_ITS_SCRIPTS = ("-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")


class LocalKafka:
    """
    One Kafka in *folder*, which is made if need be; `with LocalKafka(folder) as kafka:` runs it.

    port: where clients connect; 0 takes a free one and keeps it over restarts.
    c1_only: start quickly; False lets Java optimise fully, for benchmarks.
    properties: broker properties that add to or replace ours.
    proxied: ports of a second listener: the one it takes, and the one it tells clients who come
    there, where something between them and Kafka listens.
    protocol: what clients speak with it (`SASL_SSL`); `properties` hold what that needs.
    format_arguments: further ones of Kafka's storage tool (`--add-scram`, ...).
    client: options with which librdkafka is let in, to see that it is ready.
    node: which one of a cluster it is, and with whom; alone by default.
    say: gets lines for people about what takes long (a first download).

    Not thread-safe: one thread at a time starts and stops it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        c1_only: bool = True,
        properties: Mapping[str, str] | None = None,
        proxied: tuple[int, int] | None = None,
        protocol: str = "PLAINTEXT",
        format_arguments: Sequence[str] = (),
        client: Mapping[str, str] | None = None,
        node: Node = ALONE,
        say: Say = say_on_stderr,
    ) -> None:
        self._proxied = proxied
        self.folder = folder.absolute()
        self.port = port
        self._any_port = port == 0
        self._controller_port = 0
        self._c1_only = c1_only
        self._properties = dict(properties or {})
        self._protocol = protocol
        self._format_arguments = tuple(format_arguments)
        self._client = dict(client or {})
        self._node = node
        self._say = say
        self._process: Process | None = None
        self._watcher: Process | None = None

    @property
    def bootstrap(self) -> str:
        """What clients take as `bootstrap.servers`."""
        assert self.port, "the port is not known before start()"
        return f"{HOST}:{self.port}"

    @property
    def log_path(self) -> Path:
        """All that Kafka and its Java say, over all starts."""
        return self.folder / "kafka.log"

    @property
    def pid(self) -> int:
        """Process id of the running Kafka, for tests that send it signals."""
        assert self._process is not None, "Kafka is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there; True also for one that was stopped with SIGSTOP."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """
        Start Kafka and return when it has answered a metadata request.

        Raises UsageProblem when the port is taken or the extra is missing,
        Unreachable, with the end of its log, when it does not come up.
        """
        assert not self.running, "Kafka is running already"
        command = [
            str(jars.java()),
            *_JAVA_OPTIONS,
            *(_QUICK_START if self._c1_only else _LIKE_ITS_SCRIPTS),
        ]
        command += () if self._node.alone else _SMALL_HEAP
        class_path = ":".join(str(jar) for jar in jars.class_path(self._say))
        command += [f"-Dlog4j2.configurationFile={self.folder / 'log4j2.xml'}", "-cp", class_path]
        for attempts_left in reversed(range(_PORT_ATTEMPTS)):
            self._configure()
            if not (self.folder / "data" / "meta.properties").exists():
                self._format(command)
            broker = [*command, "kafka.Kafka", str(self._properties_path)]
            try:
                with signals_held_back():
                    self._process, self._watcher = start_watched(broker, self.log_path)
                self._wait_until_ready()
            except BaseException as error:
                self.kill()
                lost_port = self._any_port and not is_free(self.port)
                lost = lost_port or not is_free(self._controller_port)
                if not (attempts_left and lost and isinstance(error, Unreachable)):
                    raise
                self.port = 0 if lost_port else self.port
            else:
                return

    def stop(self) -> None:
        """Stop Kafka in order, or kill it when that takes long; no harm when it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._say(f"Kafka did not stop within {STOP_TIMEOUT_S:.0f} s and is killed")
        finally:
            self.kill()

    def kill(self) -> None:
        """
        End Kafka with SIGKILL; `start` again finds what it had written.

        Seen in Kafka 4.3.1: a transaction committed within milliseconds before the kill may stay
        open for ever.  Loading it, the lone broker takes partitions that have no leader yet for
        deleted and writes no marker there.  Let commits be read before killing.
        """
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        if self._watcher is not None:
            let_go(self._watcher)
            self._watcher = None

    def wait(self) -> None:
        """
        Return never while Kafka runs.

        Raises Unreachable when it ended by itself.
        """
        assert self._process is not None, "Kafka is not running"
        status = self._process.wait()
        raise Unreachable(self._ended(f"ended by itself with status {status}"))

    @property
    def _properties_path(self) -> Path:
        return self.folder / "server.properties"

    def _configure(self) -> None:
        """Write the configuration, with ports that are free now."""
        if not self.port:
            self.port = free_port()
        elif not is_free(self.port):
            message = (
                f"port {self.port} on {HOST} is taken, so no Kafka can be started there; "
                "stop what listens on it or give another port."
            )
            raise UsageProblem(message)
        self._controller_port = self._node.controllers.get(self._node.number) or free_port(
            besides={self.port, *(self._proxied or ())}
        )
        properties = properties_of(
            self._node,
            self._protocol,
            self.port,
            self._controller_port,
            self._proxied,
            self.folder / "data",
        )
        lines = [f"{name}={value}\n" for name, value in (properties | self._properties).items()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._properties_path.write_text("".join(lines), encoding="utf-8")
        (self.folder / "log4j2.xml").write_text(LOG4J, encoding="utf-8")

    def _format(self, command: list[str]) -> None:
        """Make an empty Kafka's data folder."""
        configuration = str(self._properties_path)
        with self.log_path.open("ab") as log:
            done = subprocess.run(
                [
                    *command,
                    "kafka.tools.StorageTool",
                    "format",
                    "-g",
                    "-t",
                    self._node.cluster_id or new_cluster_id(),
                    "-c",
                    configuration,
                    *(["--standalone"] if self._node.alone else []),
                    *self._format_arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=_FORMAT_TIMEOUT_S,
                check=False,
            )
        if done.returncode:
            raise Unreachable(self._ended("could not prepare its data folder"))

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not _accepts(self.port):
            self._check_starting(deadline_s)
            time.sleep(_POLL_PAUSE_S)
        client = AdminClient({**self._client, "bootstrap.servers": self.bootstrap, "log_level": 0})
        while True:
            self._check_starting(deadline_s)
            try:
                if self._node.number in client.list_topics(timeout=_METADATA_TIMEOUT_S).brokers:
                    return
            except KafkaException:
                continue

    def _check_starting(self, deadline_s: float) -> None:
        assert self._process is not None, "Kafka is not running"
        status = self._process.poll()
        if status is not None:
            raise Unreachable(self._ended(f"ended with status {status} while starting"))
        if time.monotonic() > deadline_s:
            raise Unreachable(self._ended(f"was not ready within {START_TIMEOUT_S:.0f} s"))

    def _ended(self, what: str) -> str:
        """Return the message that the local Kafka *what*, with the end of its log."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(f"  {line}" for line in lines[-_LOG_TAIL_LINES:]) or "  (empty)"
        return f"the local Kafka {what}; the end of {self.log_path}:\n{tail}"


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def new_cluster_id() -> str:
    """Return a new cluster's id: 16 random bytes, not to be taken for an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text

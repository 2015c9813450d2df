"""
A prefix with `objections monitor` and a worker that comes and goes, and what both tell by moments.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer, TopicPartition

from streams import proof
from streams.commands import main
from streams.kafka.local import HOST, LocalKafka
from streams.settings import Settings
from tests.making import content, grown_up, notice, objection
from tests.worker_process import (
    ROOT,
    Answer,
    Inputs,
    Worker,
    apply_topics,
    assert_proven,
    settings_of,
    wait_for,
    wait_until_caught_up,
)
from tests.worker_settings import QUIET, environ_of, new_prefix

PARTITIONS: Final = 2
ITEMS: Final = 300
USERS, CONTENT = "training-users", "training-content"
STORES: Final = f"features={USERS};index={USERS}+{CONTENT}"
LAG: Final = "objections_consumer_lag_records"
OLDEST: Final = "objections_oldest_unpropagated_seconds"
UNACKNOWLEDGED: Final = "objections_oldest_unacknowledged_seconds"
PROPAGATION: Final = "objections_propagation_seconds"
UP: Final = "objections_monitor_up"
GROWS_S: Final = 1.1  # between two looks at what is to grow

Metrics = dict[str, float]


class Monitor(Worker):
    """`objections monitor` as a process."""

    command = "monitor"


@dataclass
class Scene:
    """
    A prefix with a monitor, and a worker that comes and goes.

    seen: what the monitor told, by moment; of_worker: what the worker told at the same moment.
    """

    kafka: LocalKafka
    prefix: str
    monitor: Monitor
    worker: Worker
    reader: Consumer
    seen: dict[str, Metrics] = field(default_factory=dict)
    of_worker: dict[str, Metrics] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    told: dict[str, Result] = field(default_factory=dict)
    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    published: dict[str, dict[str, int]] = field(default_factory=dict)
    second: subprocess.CompletedProcess[str] | None = None
    ended: int | None = None
    instance: str = ""

    @property
    def settings(self) -> Settings:
        return settings_of(self.kafka, self.prefix)

    def look(self, name: str) -> Metrics:
        """Keep what is told now as *name*."""
        if self.worker.running:
            self.of_worker[name] = self.worker.metrics()
        self.seen[name] = self.monitor.metrics()
        return self.seen[name]

    def look_twice(self, name: str) -> None:
        """Keep what is told now, and a second later; what is looked at is that it grows."""
        self.look(name)
        time.sleep(GROWS_S)
        self.look(f"{name} later")

    def wait_quiet(self) -> None:
        """Wait until the monitor tells that nothing waits."""
        left: Metrics = {}

        def quiet() -> bool:
            found = self.monitor.metrics().items()
            left.clear()
            left.update({each: n for each, n in found if n and each.startswith((LAG, OLDEST))})
            return not left

        try:
            wait_for(quiet, "nothing that waits")
        except AssertionError as error:
            error.add_note(f"{left}\n{self.monitor.get('/readyz')}")
            raise

    def of(self, name: str, moment: str, place: str) -> float:
        """Return a series of the monitor, of one of `places`."""
        return self.seen[moment][series(name, *self.places[place])]

    def once(self, name: str, *arguments: str) -> None:
        """Keep what `objections monitor --once` says as *name*."""
        variables = {"TOPIC_PREFIX": self.prefix, "STORES": STORES}
        environ = {f"OBJECTIONS_{each}": text for each, text in variables.items()}
        arguments = ("monitor", "--bootstrap", self.kafka.bootstrap, "--once", *arguments)
        self.told[name] = CliRunner().invoke(main, arguments, env=environ)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Return what another `objections monitor`, a process of its own, has said."""
        return subprocess.run(
            [sys.executable, "-m", "streams.commands", "monitor", *arguments],
            cwd=ROOT,
            env=environ_of(self.kafka.bootstrap, self.prefix, {}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def acknowledge(self, store: str, phase: str, *topics: str) -> None:
        """Let a store say that it has applied all there is of *topics*."""
        producer = Producer(self.settings.kafka(), logger=QUIET)
        for full in map(self.settings.topic, topics):
            for partition in range(PARTITIONS):
                _, end = self.reader.get_watermark_offsets(TopicPartition(full, partition), 10)
                place = {"store": store, "topic": full, "partition": partition, "phase": phase}
                ack = {**place, "offset": end, "at": "2026-07-01T00:00:00Z"}
                key = "/".join(map(str, place.values()))
                producer.produce(self.settings.topic("purge-acks"), json.dumps(ack), key)
        assert not producer.flush(10)


def series(name: str, topic: str, partition: int) -> str:
    """Return the name of a series, with its labels."""
    return f'{name}{{partition="{partition}",topic="{topic}"}}'


def of_store(metrics: Mapping[str, float], store: str, phase: str) -> float:
    """Return how long *store* has owed an acknowledgement."""
    return metrics[f'{UNACKNOWLEDGED}{{phase="{phase}",store="{store}"}}']


@contextmanager
def transaction(kafka: LocalKafka, prefix: str) -> Iterator[Inputs]:
    """Yield a producer of inputs within a transaction, which is the caller's to end."""
    with Inputs(kafka, prefix, transactional_id=f"{prefix}upstream") as inputs:
        inputs.producer.init_transactions()
        inputs.producer.begin_transaction()
        yield inputs


def play(kafka: LocalKafka, folder: Path) -> Scene:
    """Return the scene, played to its end; *folder* is for state and logs."""
    prefix = new_prefix()
    apply_topics(kafka, prefix, partitions=PARTITIONS)
    small = {"FANOUT_INLINE_ITEMS": 5, "FANOUT_SLICE_ITEMS": 5}
    worker = Worker(kafka, prefix, folder / "worker", STORES=STORES, **small)
    with (
        Monitor(kafka, prefix, folder / "monitor", STORES=STORES) as monitor,
        Inputs(kafka, prefix) as inputs,
    ):
        reader = Consumer(settings_of(kafka, prefix).kafka(group_id="nobody"), logger=QUIET)
        played = Scene(kafka, prefix, monitor, worker, reader)
        monitor.wait_ready()
        played.look("empty")
        played.answers["unowned"] = monitor.get("/")
        with worker:
            _end_in_control_records(played)
            _stop_acknowledging(played)
            _die_within_a_fanout(played, inputs)
            shutil.rmtree(worker.state_dir)
            worker.start()
            played.wait_quiet()
            wait_until_caught_up(kafka, prefix, workers=[worker])
            played.look("finished")
            played.once("finished", "--max-age-s", "1000")
            _wait_for_a_transaction(played, inputs)
            assert_proven(kafka, prefix)
            played.instance = (worker.state_dir / "instance").read_text()
            wait_for(lambda: _shows_owner(played, monitor), "the owner")
            played.once("owned", "--json")
        played.answers["/healthz"] = monitor.get("/healthz")
        played.second = played.run("--http", f"{HOST}:{monitor.port}")
        played.ended = monitor.terminate(signal.SIGINT)
        reader.close()
    return played


def _end_in_control_records(scene: Scene) -> None:
    """Whoever writes the inputs does so in transactions, and gives the last one up."""
    with transaction(scene.kafka, scene.prefix) as inputs:
        inputs.queue("account-ages", grown_up(user_id="many"))
        inputs.queue("notices", notice(user_id="many"))
        for number in range(ITEMS):
            inputs.queue("content", content(user_id="many", content_id=f"many{number}"))
        inputs.flush()
        inputs.producer.commit_transaction()
        inputs.producer.begin_transaction()
        given_up = inputs.send(("objections", objection(user_id="many", objection_id="never")))[0]
        inputs.producer.abort_transaction()
    scene.places["many"] = given_up.topic, given_up.partition
    wait_until_caught_up(scene.kafka, scene.prefix, workers=[scene.worker])
    scene.wait_quiet()
    scene.look("control")
    for name, records in proof.read(scene.settings, ["eligibility", USERS, CONTENT]).items():
        tombstones = sum(1 for each in records if each.value is None)
        scene.published[name] = {"record": len(records) - tombstones, "tombstone": tombstones}


def _stop_acknowledging(scene: Scene) -> None:
    """One store applies everything; the other hides it and does not erase it."""
    scene.acknowledge("features", "erased", USERS)
    scene.acknowledge("index", "hidden", USERS, CONTENT)

    def told() -> bool:
        found = scene.monitor.metrics()
        owed = [of_store(found, "features", each) for each in ("hidden", "erased")]
        return [*owed, of_store(found, "index", "hidden")] == [0, 0, 0]

    wait_for(told, "the acknowledgements")
    scene.look_twice("stores")


def _die_within_a_fanout(scene: Scene, inputs: Inputs) -> None:
    """The worker dies with a fan-out under way, and content comes that nobody reads."""

    def under_way() -> bool:
        found = scene.look("under way")
        place = scene.places["many"]
        of_worker = scene.of_worker["under way"]  # asked a little earlier
        oldest, lag = series(OLDEST, *place), series(LAG, *place)
        if found[lag] or of_worker[lag]:
            return False
        return min(found[oldest], of_worker[oldest]) > 0

    with scene.worker.slowed():
        inputs.send(("objections", objection(user_id="many")))
        wait_for(under_way, "a fan-out under way")
        scene.worker.kill9()
    sent = inputs.send(("content", content(user_id="late", content_id="late")))[0]
    scene.places["late"] = sent.topic, sent.partition
    scene.look_twice("dead")
    scene.once("dead", "--json", "--max-age-s", "1")
    os.kill(scene.kafka.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: scene.monitor.get("/readyz").status != 200, "that Kafka is missed")
        scene.answers["away"] = scene.monitor.get("/readyz")
        scene.look_twice("away")
    finally:
        os.kill(scene.kafka.pid, signal.SIGCONT)
    wait_for(lambda: scene.look("back")[UP] == 1, "the monitor to hear of Kafka again")


def _shows_owner(played: Scene, monitor: Monitor) -> bool:
    """Keep the page, and return whether it tells of the owner: Kafka may not have, in time."""
    played.answers["/"] = monitor.get("/")
    return played.instance in played.answers["/"].text


def _wait_for_a_transaction(scene: Scene, inputs: Inputs) -> None:
    """An objection waits behind a transaction that its writer does not end."""
    with transaction(scene.kafka, scene.prefix) as upstream:
        upstream.send(("objections", objection(user_id="many", objection_id="never")))
        sent = inputs.send(("objections", objection(user_id="many", objection_id="o2")))[0]
        scene.places["stuck"] = place = sent.topic, sent.partition
        wait_for(lambda: scene.look("stuck")[series(LAG, *place)] > 0, "the lag")
        scene.look_twice("stuck")
        upstream.producer.abort_transaction()
    scene.wait_quiet()
    wait_until_caught_up(scene.kafka, scene.prefix, workers=[scene.worker])

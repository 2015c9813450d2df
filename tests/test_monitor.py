"""
`objections monitor` on a real Kafka: what it tells with a worker, without one, and without Kafka.

One scene, played once; each test looks at what it needs of it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer, TopicPartition

from streams import proof
from streams.commands import main
from streams.kafka.local import HOST, LocalKafka
from streams.settings import Settings
from streams.worker.names import INPUTS
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
from tests.worker_settings import QUIET, environ_of

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


@pytest.fixture(scope="module")
def scene(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Return the scene, played to its end."""
    prefix = f"t{uuid.uuid4().hex[:10]}."
    apply_topics(kafka, prefix, partitions=PARTITIONS)
    folder = tmp_path_factory.mktemp("monitor")
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
        played.answers |= {path: monitor.get(path) for path in ("/", "/healthz")}
        played.second = played.run("--http", f"{HOST}:{monitor.port}")
        played.ended = monitor.terminate(signal.SIGINT)
        reader.close()
        yield played


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
        return found[series(LAG, *place)] == 0 and found[series(OLDEST, *place)] > 0

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


def test_all_partitions_are_told_of_before_there_is_a_worker(scene: Scene) -> None:
    """
    With no group and no record each input and partition has its series, and they are 0.
    """
    found = scene.seen["empty"]
    places = [(f"{scene.prefix}{name}", number) for name in INPUTS for number in range(PARTITIONS)]

    for name in (LAG, OLDEST):
        told = {each: value for each, value in found.items() if each.startswith(name)}
        assert dict.fromkeys([series(name, *place) for place in places], 0.0) == told
    assert 1 == found[UP]
    assert 0 == of_store(found, "index", "erased")


def test_control_records_and_what_was_given_up_are_no_lag(scene: Scene) -> None:
    """
    Behind the last record there are commit markers and a transaction that was aborted: nobody waits
    for them, as the worker and the monitor both say.
    """
    for told in (scene.seen["control"], scene.of_worker["control"]):
        lags = {each: value for each, value in told.items() if each.startswith(LAG)}
        assert len(lags) == len(INPUTS) * PARTITIONS
        assert set(lags.values()) == {0}, lags
    ages = {v for each, v in scene.seen["control"].items() if each.startswith(OLDEST)}
    assert ages == {0}


def test_a_store_that_stops_acknowledging_shows_by_name(scene: Scene) -> None:
    """
    What the index hides but never erases is its own, grows, and is what the worker says too; with
    the worker gone it is still told.
    """
    before, after = scene.seen["stores"], scene.seen["stores later"]

    assert 0 == of_store(after, "features", "hidden") == of_store(after, "features", "erased")
    assert 0 == of_store(after, "index", "hidden")
    late_s = of_store(after, "index", "erased")
    assert late_s - of_store(before, "index", "erased") >= GROWS_S
    of_worker_s = of_store(scene.of_worker["stores later"], "index", "erased")
    assert of_worker_s == pytest.approx(late_s, abs=1)
    assert of_store(scene.seen["dead"], "index", "erased") > late_s


def test_a_fanout_under_way_is_told_as_the_worker_tells_it(scene: Scene) -> None:
    """
    Its objection is read, so there is no lag; it has waited for as long as the worker says.
    """
    place = scene.places["many"]
    of_worker = scene.of_worker["under way"]

    assert 0 == scene.of(LAG, "under way", "many")
    assert 0 == of_worker[series(LAG, *place)]
    told_s = scene.of(OLDEST, "under way", "many")
    assert of_worker[series(OLDEST, *place)] == pytest.approx(told_s, abs=2)


def test_a_partition_grows_older_when_its_worker_is_gone(scene: Scene) -> None:
    """
    Second by second, with no event: the fan-out that the worker left, and the record that nobody
    has read.
    """
    for place in ("many", "late"):
        grown_s = scene.of(OLDEST, "dead later", place) - scene.of(OLDEST, "dead", place)
        assert GROWS_S <= grown_s < 10 * GROWS_S, place
    assert 1 == scene.of(LAG, "dead", "late") == scene.of(LAG, "dead later", "late")
    assert 0 == scene.of(LAG, "dead later", "many")


def test_a_check_for_cron_fails_and_says_what_waits(scene: Scene) -> None:
    """
    `--once --max-age-s` has exit status 1 and names what waits; JSON has every place.
    """
    told = scene.told["dead"]
    found = json.loads(told.stdout)
    waits = {
        (each["topic"], each["partition"])
        for each in found["inputs"]
        if each["oldest_unpropagated_seconds"] > 1
    }
    late = {
        (each["store"], each["phase"]): each["at"]
        for each in found["stores"]
        if each["oldest_unacknowledged_seconds"] > 1
    }

    assert 1 == told.exit_code
    assert {scene.places["many"], scene.places["late"]} == waits
    assert late["index", "erased"].startswith(f"{scene.prefix}training-")
    assert len(found["inputs"]) == len(INPUTS) * PARTITIONS
    topic, partition = scene.places["many"]
    assert f"objections: {topic}/{partition} waits for " in told.stderr
    assert "objections: store index has for " in told.stderr


def test_nothing_waits_once_the_fanout_is_finished(scene: Scene) -> None:
    """
    Another worker finishes it: 0 everywhere, the check has exit status 0, and its table tells quiet
    partitions of a topic in one line.
    """
    found, told = scene.seen["finished"], scene.told["finished"]

    assert {0} == {value for each, value in found.items() if each.startswith((LAG, OLDEST))}
    assert 0 == told.exit_code, told.output
    lines = [line.split() for line in told.stdout.splitlines()]
    assert [f"{scene.prefix}objections", "0-1", "0", "0.0", "s"] in lines
    assert ["features", "erased"] in [line[:2] for line in lines]


def test_a_fanout_is_published_with_its_last_item(scene: Scene) -> None:
    """
    Decided by a worker that died, it counts once for the one that finished it, from the objection's
    time stamp on: a fan-out that took seconds is no objection published at once.
    """
    topic, _ = scene.places["many"]
    found = scene.of_worker["finished"]
    waited_s = scene.of(OLDEST, "dead later", "many")

    assert 1 == found[f'{PROPAGATION}_count{{stage="published",topic="{topic}"}}']
    assert waited_s <= found[f'{PROPAGATION}_sum{{stage="published",topic="{topic}"}}']
    assert 0 == found[f'{PROPAGATION}_count{{stage="decided",topic="{topic}"}}']
    assert 0 == sum(n for each, n in found.items() if each.startswith("objections_fanout_pending"))


def test_a_lost_state_is_told_as_it_is_restored(scene: Scene) -> None:
    """
    The rows of a worker whose folder was lost, and how long it took to read them back.
    """
    before, after = scene.of_worker["control"], scene.of_worker["finished"]

    assert 0 == before["objections_restored_rows_total"]
    assert ITEMS < after["objections_restored_rows_total"] < 10 * ITEMS
    assert 0 < after["objections_restore_seconds"] < 60


def test_what_is_counted_is_what_kafka_holds(scene: Scene) -> None:
    """
    Of the inputs all that was committed, of the outputs each record; what was given up counts not.
    """
    found = scene.of_worker["control"]

    def events(name: str) -> list[float]:
        labels = f'topic="{scene.prefix}{name}"'
        outcomes = ("applied", "unchanged", "dead_letter")
        return [found[f'objections_events_total{{outcome="{x}",{labels}}}'] for x in outcomes]

    assert [ITEMS, 0, 0] == events("content")
    assert [1, 0, 0] == events("account-ages") == events("notices")
    assert [0, 0, 0] == events("objections")
    for name, counts in scene.published.items():
        for kind, count in counts.items():
            labels = f'{{kind="{kind}",topic="{scene.prefix}{name}"}}'
            assert count == found[f"objections_published_total{labels}"], (name, kind)
    assert sum(scene.published[CONTENT].values()) >= ITEMS
    assert 0 < found['objections_transactions_total{outcome="committed"}']
    assert 0 == found['objections_transactions_total{outcome="aborted"}']


def test_what_was_known_ages_on_while_kafka_is_away(scene: Scene) -> None:
    """
    The monitor keeps running, says that it is told nothing, and its numbers go on growing.
    """
    away, later = scene.seen["away"], scene.seen["away later"]

    assert 503 == scene.answers["away"].status
    assert "Kafka does not tell" in scene.answers["away"].text
    assert 0 == away[UP] == later[UP]
    assert 1 == scene.seen["back"][UP]
    grown_s = scene.of(OLDEST, "away later", "many") - scene.of(OLDEST, "away", "many")
    assert grown_s >= GROWS_S
    name = "objections_monitor_look_age_seconds"
    assert later[name] - away[name] >= GROWS_S
    assert scene.seen["back"][name] < away[name]


def test_a_record_behind_an_open_transaction_waits(scene: Scene) -> None:
    """
    Nobody may read it before the transaction has ended, and it grows older all the same, as the
    worker says too.
    """
    assert scene.of(LAG, "stuck", "stuck") >= 2
    grown_s = scene.of(OLDEST, "stuck later", "stuck") - scene.of(OLDEST, "stuck", "stuck")
    assert grown_s >= GROWS_S
    of_worker_s = scene.of_worker["stuck later"][series(OLDEST, *scene.places["stuck"])]
    assert of_worker_s == pytest.approx(scene.of(OLDEST, "stuck later", "stuck"), abs=1)


def test_the_status_page_is_the_table(scene: Scene) -> None:
    """
    Who opens `/` sees what `--once` prints; /healthz says that the process runs.
    """
    page, health = scene.answers["/"], scene.answers["/healthz"]

    assert page.text.startswith(f"watching {PARTITIONS} partitions\n")
    assert f"{scene.prefix}objections" in page.text
    assert "index  " in page.text
    assert (200, "ok\n") == health[:2]


def test_a_taken_address_is_refused_with_what_to_set(scene: Scene) -> None:
    """
    Beside a worker on the same address the monitor ends with status 2 and names the setting.
    """
    told = scene.second
    assert told is not None

    assert 2 == told.returncode, told.stderr
    assert "a worker and a monitor do by default" in told.stderr
    assert "set OBJECTIONS_HTTP to another port" in told.stderr


def test_topics_that_are_not_there_are_named(kafka: LocalKafka) -> None:
    """
    A wrong prefix is a failed check, not a monitor in which nothing waits.
    """
    environ = {"OBJECTIONS_TOPIC_PREFIX": "nowhere."}
    arguments = ["monitor", "--bootstrap", kafka.bootstrap, "--once"]

    told = CliRunner().invoke(main, arguments, env=environ)

    assert 1 == told.exit_code
    assert "nowhere.objections" in told.stderr
    assert "OBJECTIONS_TOPIC_PREFIX" in told.stderr


def test_no_kafka_at_the_start_is_status_3() -> None:
    """
    Who starts it with a wrong address hears so.
    """
    told = CliRunner().invoke(main, ["monitor", "--bootstrap", "127.0.0.1:1"])

    assert 3 == told.exit_code
    assert "cannot be reached" in told.stderr


@pytest.mark.parametrize("arguments", [["--json"], ["--max-age-s", "5"]])
def test_what_belongs_to_once_is_refused_without_it(arguments: list[str]) -> None:
    """
    A check that would never end is bad usage.
    """
    told = CliRunner().invoke(main, ["monitor", *arguments])

    assert 2 == told.exit_code
    assert "go with --once" in told.stderr


def test_ctrl_c_ends_it_in_order(scene: Scene) -> None:
    """
    With status 0, and without a traceback.
    """
    assert 0 == scene.ended
    assert "Traceback" not in scene.monitor.log()

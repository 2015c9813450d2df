"""
A real Prometheus looks at a real worker, monitor, canary and form with the rules of deploy/.

One scene, played once: a worker that serves and a store that acknowledges, then the worker's death.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from confluent_kafka import Producer

from deploy.monitoring import limits
from deploy.monitoring.rules import rules
from streams import proof
from streams.kafka.local import HOST, LocalKafka
from tests.canary_process import Canary
from tests.intake_scene import Intake, Page
from tests.making import content, grown_up, notice, objection
from tests.monitor_scene import Monitor
from tests.prometheus import Prometheus, Sample, program, prometheus
from tests.promql import all_exprs, panel_exprs, rule_list, selectors
from tests.worker_process import (
    Inputs,
    Worker,
    apply_topics,
    settings_of,
    wait_for,
    wait_until_caught_up,
)
from tests.worker_settings import QUIET, new_prefix

PARTITIONS: Final = 2
STORES: Final = "index=training-users+training-content"
RECORDS: Final = {rule["record"] for rule in rule_list() if "record" in rule}
STORE_TOPICS: Final = ("training-users", "training-content")

# Whose series are there only while somebody waits, or an alert fires.
WAITS: Final = {
    "Waiting since",
    "Where: what has waited longest",
    "Alerts that fire",
    "Oldest record not published, by input and partition",
    "Records behind, by input and partition",
    "Fan-outs: items still to be answered",
    "Clock: the oldest timer that is overdue",
    "Policy: users still to be decided again",
    "Users whose grants are held",
    "Canary: from filed to hidden, by store",
}


@dataclass
class Scene:
    """
    What Prometheus has answered, by PromQL: while the worker served, and when it was gone.
    """

    prefix: str
    serving: dict[str, list[Sample]] = field(default_factory=dict)
    dead: dict[str, list[Sample]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def scene(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Return the scene, played to its end."""
    program("prometheus")  # before anything is started in vain
    prefix = new_prefix()
    apply_topics(kafka, prefix, partitions=PARTITIONS)
    folder = tmp_path_factory.mktemp("alerts")
    played = Scene(prefix)
    worker = Worker(kafka, prefix, folder / "worker", STORES=STORES)
    monitor = Monitor(kafka, prefix, folder / "monitor", STORES=STORES)
    canary = Canary(kafka, prefix, folder / "canary", STORES=STORES)
    form = Intake(kafka, prefix, folder / "form")
    processes = {
        limits.WORKER_JOB: worker,
        limits.MONITOR_JOB: monitor,
        limits.CANARY_JOB: canary,
        limits.INTAKE_JOB: form,
    }
    targets = {job: [f"{HOST}:{process.port}"] for job, process in processes.items()}
    with (
        # First: Prometheus takes five seconds before it begins to scrape.
        prometheus(folder / "prometheus", targets, _at_once()) as server,
        worker,
        monitor,
        canary,
        form,
        Inputs(kafka, prefix) as inputs,
    ):
        for process in processes.values():
            process.wait_ready()
        _serve(played, server, kafka, worker, inputs, form)
        _die(played, server, worker, inputs)
        played.problems = server.problems()
    return played


def _at_once() -> dict[str, Any]:
    """Return the rules without the time for which an alert must hold, and evaluated as they can."""
    given = rules()
    for group in given["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            rule.pop("for", None)
    return given


def _serve(
    scene: Scene,
    server: Prometheus,
    kafka: LocalKafka,
    worker: Worker,
    inputs: Inputs,
    form: Intake,
) -> None:
    """An item is allowed, and purged by an objection by the form; the store acknowledges both."""
    for job in (limits.WORKER_JOB, limits.MONITOR_JOB):
        # What counts from 0 has been seen at 0: a rate would miss its first step.
        _wait_until_seen(server, f'objections_oldest_unpropagated_seconds{{job="{job}"}}')
    for user_id in ("u1", "u2"):
        inputs.queue("account-ages", grown_up(user_id=user_id))
        inputs.queue("notices", notice(user_id=user_id))
        inputs.queue("content", content(user_id=user_id, content_id=f"{user_id}-c1"))
    inputs.flush()
    wait_until_caught_up(kafka, scene.prefix, workers=[worker])
    _wait_until_seen(
        server, f'0 == sum(objections_intake_submissions_total{{job="{limits.INTAKE_JOB}"}})'
    )
    Page.open(form.link("u1")).send("instagram")
    # The canary has objected, and has a long pause when the store has acknowledged that.
    _wait_until_seen(server, "objections_canary_published_seconds_count > 0")
    wait_until_caught_up(kafka, scene.prefix, workers=[worker])
    _acknowledge(kafka, scene.prefix)
    purges = 'objections_store_propagation_seconds_count{store="index",phase="hidden"}'
    for name in sorted(RECORDS):  # groups take turns, and a share of nothing is no number
        _wait_until_seen(server, f"{name} >= 0")
    _wait_until_seen(server, f"sum(rate({purges}[10s])) > 0")
    _wait_until_seen(server, "0 == max(objections_oldest_unacknowledged_seconds)")
    _wait_until_seen(server, "objections_canary_erased_seconds_count > 0")
    named = {each.text for expr in all_exprs() for each in selectors(expr)}
    scene.serving = _ask(server, [*named, *RECORDS, *(expr for _, expr in panel_exprs())])


def _die(scene: Scene, server: Prometheus, worker: Worker, inputs: Inputs) -> None:
    """The worker is killed, and an objection comes that nobody reads."""
    worker.kill9()
    inputs.send(("objections", objection(user_id="u2")))
    firing = 'ALERTS{alertstate="firing"}'
    for alert in ("PartitionUnowned", "WorkerAbsent", "TargetDown"):
        _wait_until_seen(server, f'ALERTS{{alertstate="firing",alertname="Objections{alert}"}}')
    oldest = "objections:oldest_unpropagated_seconds:max"
    _wait_until_seen(server, f'{oldest}{{topic=~".*objections"}} > {limits.PUBLISHED_S}')
    scene.dead = _ask(server, [firing, oldest, *(expr for _, expr in panel_exprs())])


def _wait_until_seen(server: Prometheus, expr: str) -> None:
    wait_for(lambda: bool(server.query(expr)), expr)


def _ask(server: Prometheus, exprs: Iterable[str]) -> dict[str, list[Sample]]:
    return {expr: server.query(expr) for expr in exprs}


def _acknowledge(kafka: LocalKafka, prefix: str) -> None:
    """Let the store say that it has erased all there is."""
    settings = settings_of(kafka, prefix)
    producer = Producer(settings.kafka(), logger=QUIET)
    for topic, records in proof.read(settings, [*STORE_TOPICS]).items():
        for number in range(PARTITIONS):
            offsets = [each.offset for each in records if each.partition == number]
            place = {
                "store": "index",
                "topic": f"{prefix}{topic}",
                "partition": number,
                "phase": "erased",
            }
            ack = {**place, "offset": max(offsets, default=-1) + 1, "at": "2026-07-01T00:00:00Z"}
            key = "/".join(map(str, place.values()))
            producer.produce(settings.topic("purge-acks"), json.dumps(ack), key)
    assert not producer.flush(10)


def panel(title: str, number: int = 0) -> str:
    """Return a panel's PromQL."""
    return [expr for name, expr in panel_exprs() if name == title][number]


def test_every_series_that_rules_and_panels_name_is_there(scene: Scene) -> None:
    """
    By the very matchers they are asked for with; only alerts wait until one fires.
    """
    named = {each for expr in all_exprs() for each in selectors(expr)}

    lost = {each.text for each in named if not scene.serving[each.text]}

    assert {each.text for each in named if each.name == "ALERTS"} >= lost
    assert len(named) > 40


def test_no_rule_fails(scene: Scene) -> None:
    """
    Prometheus evaluates all of them, with a worker and without.
    """
    assert [] == scene.problems


def test_every_panel_shows_something(scene: Scene) -> None:
    """
    But those of what waits, which is nothing.
    """
    empty = {title for title, expr in panel_exprs() if not scene.serving[expr]}

    assert empty <= WAITS, empty - WAITS
    assert {title for title, _ in panel_exprs()} >= WAITS


def test_the_first_row_says_that_all_is_well(scene: Scene) -> None:
    """
    No objection waits, no store is late, every partition has its worker, and what came was in time.
    """
    ((_, oldest_s),) = scene.serving[panel("Oldest objection waits")]
    assert oldest_s < limits.PUBLISHED_S
    (store,) = scene.serving[panel("Not hidden yet, by store")]
    assert ({"store": "index"}, 0) == store
    assert [({}, 0)] == scene.serving[panel("Without a worker")]
    ((labels, share),) = scene.serving[panel("Published within 1 s")]
    assert {"topic": f"{scene.prefix}objections"} == labels
    assert 0 <= share <= 1
    ((labels, share),) = scene.serving[panel("Hidden within 5 s")]
    assert {"store": "index"} == labels
    assert 0 <= share <= 1


def test_every_partition_is_told_of_with_its_worker(scene: Scene) -> None:
    """
    The table of owners names the process that Prometheus scrapes.
    """
    owners = scene.serving[panel("Who has which partition")]

    assert {"0", "1"} == {labels["partition"] for labels, _ in owners}
    assert 1 == len({labels["instance"] for labels, _ in owners})
    assert PARTITIONS == sum(
        number
        for labels, number in scene.serving[panel("Partitions by worker")]
        if labels["state"] == "serving"
    )


def test_a_dead_worker_shows_in_the_first_row(scene: Scene) -> None:
    """
    An objection waits, since when, where, and that nobody has its partition: the monitor tells.
    """
    ((_, oldest_s),) = scene.dead[panel("Oldest objection waits")]
    assert oldest_s > limits.PUBLISHED_S
    assert 1 == len(scene.dead[panel("Waiting since")])
    assert [({}, PARTITIONS)] == scene.dead[panel("Without a worker")]
    waiting = scene.dead[panel("Where: what has waited longest")]
    ((labels, _),) = [each for each in waiting if each[0]["topic"].endswith("objections")]
    assert {"topic", "partition"} == labels.keys()  # and no worker


def test_a_dead_worker_is_alerted_of(scene: Scene) -> None:
    """
    Its partitions have no owner, no worker tells of itself, the target is down; nobody misses the
    monitor or says that it is blind.
    """
    firing = [labels for labels, _ in scene.dead['ALERTS{alertstate="firing"}']]
    names = {labels["alertname"].removeprefix("Objections") for labels in firing}

    assert {"PartitionUnowned", "WorkerAbsent", "TargetDown"} <= names
    assert not {"MonitorAbsent", "MonitorBlind", "StoresNotMeasured", "StoreWentBack"} & names
    unowned = {
        (labels["topic"], labels["partition"])
        for labels in firing
        if labels["alertname"] == "ObjectionsPartitionUnowned"
    }
    assert {(f"{scene.prefix}objections", str(n)) for n in range(PARTITIONS)} == unowned


def test_every_recorded_series_is_a_number(scene: Scene) -> None:
    """
    Each rule records something of what a worker tells, and shares are between 0 and 1.
    """
    for name in RECORDS:
        numbers = [number for _, number in scene.serving[name]]
        assert numbers, name
        assert all(map(math.isfinite, numbers)), (name, numbers)
        if ":ratio" in name:
            assert all(0 <= number <= 1 for number in numbers), (name, numbers)

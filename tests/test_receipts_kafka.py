"""
Receipts on a real Kafka: a worker that is killed, stores that acknowledge, and people who ask.

One scene, played once; each test looks at what it needs of it.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer, TopicPartition

from streams import proof
from streams.commands import main
from streams.kafka.local import LocalKafka
from streams.settings import Settings
from tests.making import content, grown_up, notice, objection
from tests.worker_process import (
    Inputs,
    Watch,
    Worker,
    apply_topics,
    assert_proven,
    read_receipts,
    settings_of,
    wait_for,
    wait_until_caught_up,
)
from tests.worker_settings import QUIET, new_prefix

PARTITIONS: Final = 2
ITEMS: Final = 400
USERS, CONTENT = "training-users", "training-content"
REFUSED: Final = "objections_acknowledgements_refused_total"
REGRESSIONS: Final = "objections_store_regressions_total"
OLDEST: Final = "objections_oldest_unacknowledged_seconds"
COUNT: Final = "objections_store_propagation_seconds_count"

Receipts = dict[str, dict[str, Any]]


@dataclass
class Scene:
    """
    A prefix with a worker that is told of three stores.

    seen: the receipts by their keys, and metrics, at the moments that tests look at.
    """

    kafka: LocalKafka
    prefix: str
    worker: Worker
    seen: dict[str, Receipts] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    told: dict[str, Result] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return settings_of(self.kafka, self.prefix)

    def receipts(self) -> Receipts:
        """Return the last record of each receipt."""
        return read_receipts(self.kafka, self.prefix)

    def wait(self, name: str, **wanted: bool) -> None:
        """Wait until fields of all receipts are there (True) or null; keep them as *name*."""

        def there() -> bool:
            self.seen[name] = found = self.receipts()
            return bool(found) and all(
                (receipt[each] is not None) == is_there
                for receipt in found.values()
                for each, is_there in wanted.items()
            )

        wait_for(there, f"receipts for {name}: {wanted}")

    def ends(self, topic: str) -> dict[int, int]:
        """Return the offset behind the last record of each partition."""
        ends = dict.fromkeys(range(PARTITIONS), 0)
        for record in proof.read(self.settings, [topic])[topic]:
            ends[record.partition] = max(ends[record.partition], record.offset + 1)
        return ends

    def acknowledge(self, store: str, topic: str, phase: str, ends: dict[int, int]) -> None:
        """Let a store say how far it is."""
        producer = Producer(self.settings.kafka(), logger=QUIET)
        for partition, offset in ends.items():
            full = self.settings.topic(topic)
            ack = {
                "store": store,
                "topic": full,
                "partition": partition,
                "offset": offset,
                "phase": phase,
                "at": "2026-07-01T00:00:00Z",
            }
            key = f"{store}/{full}/{partition}/{phase}"
            producer.produce(self.settings.topic("purge-acks"), json.dumps(ack), key)
        assert not producer.flush(10)

    def commit(self, group: str, topic: str, ends: dict[int, int]) -> None:
        """Let a consumer group commit how far it is, as a connector does."""
        consumer = Consumer(self.settings.kafka(group_id=group), logger=QUIET)
        places = [TopicPartition(self.settings.topic(topic), *each) for each in ends.items()]
        consumer.commit(offsets=places, asynchronous=False)
        consumer.close()

    def measure(self, name: str) -> dict[str, float]:
        """Keep the metrics as *name*."""
        self.metrics[name] = self.worker.metrics()
        return self.metrics[name]

    def ask(self, name: str, *arguments: str) -> None:
        """Keep what `objections receipt` answers as *name*."""
        environ = {
            "OBJECTIONS_BOOTSTRAP": self.kafka.bootstrap,
            "OBJECTIONS_TOPIC_PREFIX": self.prefix,
            "OBJECTIONS_STORES": self.worker.environ["OBJECTIONS_STORES"],
        }
        self.told[name] = CliRunner().invoke(main, ["receipt", *arguments], env=environ)


def of(store: str, phase: str = "hidden") -> str:
    """Return the labels of a series of a store."""
    return f'{{phase="{phase}",store="{store}"}}'


@pytest.fixture(scope="module")
def scene(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Return the scene, played to its end."""
    prefix = new_prefix()
    group = f"{prefix}loader"
    apply_topics(kafka, prefix, partitions=PARTITIONS)
    worker = Worker(
        kafka,
        prefix,
        tmp_path_factory.mktemp("receipts") / "state",
        STORES=f"features={USERS};index={USERS}+{CONTENT};lake=group:{group}:{CONTENT}",
        FANOUT_INLINE_ITEMS=5,
        FANOUT_SLICE_ITEMS=5,
    )
    played = Scene(kafka, prefix, worker)
    with worker, Inputs(kafka, prefix) as inputs, Watch(kafka, prefix) as watch:
        _decide_and_publish(played, inputs, watch)
        _hide_and_erase(played, group)
        _refuse(played)
        _go_back(played)
        inputs.send(("objections", objection(user_id="one", action="withdrawn")))
        wait_for(lambda: "one/o1/withdrawn" in played.receipts(), "the withdrawal's receipt")
        played.seen["withdrawn"] = played.receipts()
        wait_until_caught_up(kafka, prefix, workers=[worker])
        assert_proven(kafka, prefix)
        yield played


def _decide_and_publish(scene: Scene, inputs: Inputs, watch: Watch) -> None:
    """Objections of an account of one item, and of one of many; the worker is killed meanwhile."""
    for user_id, items in (("one", 1), ("many", ITEMS)):
        inputs.queue("account-ages", grown_up(user_id=user_id))
        inputs.queue("notices", notice(user_id=user_id))
        for number in range(items):
            inputs.queue("content", content(user_id=user_id, content_id=f"{user_id}{number}"))
    inputs.flush()
    wait_until_caught_up(scene.kafka, scene.prefix, workers=[scene.worker])

    def purged() -> int:
        return sum(1 for each in watch.outputs()[CONTENT] if each.value is None)

    with scene.worker.slowed():
        inputs.send(*[("objections", objection(user_id=each)) for each in ("one", "many")])
        wait_for(lambda: purged() > 20, "a part of the fan-out")
        scene.worker.kill9()
    scene.seen["killed"] = scene.receipts()
    assert purged() < ITEMS, "the fan-out was over before the worker was killed"
    scene.worker.start()
    scene.wait("published", published_at=True)
    scene.ask("published", "o1", "--user", "many")


def _hide_and_erase(scene: Scene, group: str) -> None:
    """Two stores acknowledge, the second one while no worker runs."""
    users, items = scene.ends(USERS), scene.ends(CONTENT)
    wait_for(lambda: scene.worker.metric(OLDEST) > 0, "outputs that are not acknowledged")
    scene.acknowledge("features", USERS, "hidden", users)
    scene.acknowledge("features", USERS, "erased", users)

    def hidden() -> bool:
        scene.seen["features"] = found = scene.receipts()
        return all(each["stores"]["features"]["erased_at"] for each in found.values())

    wait_for(hidden, "the feature store to have erased")
    scene.measure("features")
    time.sleep(0.2)  # a gauge that grows: what is looked at is that it does, not by how much
    scene.measure("features later")
    scene.worker.kill9()
    for topic, ends in ((USERS, users), (CONTENT, items)):
        scene.acknowledge("index", topic, "hidden", ends)
        scene.acknowledge("index", topic, "erased", ends)
    scene.worker.start()

    def index() -> bool:
        scene.seen["index"] = found = scene.receipts()
        return all(each["stores"]["index"]["erased_at"] for each in found.values())

    wait_for(index, "the index to have erased")
    scene.ask("late", "o1", "--json")
    scene.ask("late for a person", "o1", "--user", "one")
    scene.commit(group, CONTENT, items)
    scene.ask("completed", "o1", "--json", "--wait", "30")
    scene.wait("completed", completed_at=True)


def _refuse(scene: Scene) -> None:
    """A store acknowledges what there is not."""
    beyond = {partition: end + 1_000 for partition, end in scene.ends(USERS).items()}
    scene.acknowledge("features", USERS, "hidden", beyond)
    wait_for(lambda: scene.worker.metric(REFUSED) == PARTITIONS, "acknowledgements to be refused")
    scene.seen["refused"] = scene.receipts()


def _go_back(scene: Scene) -> None:
    """A store goes back to a backup, and comes again."""
    scene.acknowledge("features", USERS, "hidden", dict.fromkeys(range(PARTITIONS), 1))
    scene.wait("reopened", reopened_at=True, completed_at=False)

    def is_owed() -> bool:
        return scene.measure("reopened")[OLDEST + of("features")] > 0

    wait_for(is_owed, "the gauge to tell what is owed again")
    scene.ask("reopened", "o1", "--user", "many", "--json")
    scene.acknowledge("features", USERS, "hidden", scene.ends(USERS))
    scene.acknowledge("features", USERS, "erased", scene.ends(USERS))
    scene.wait("complete again", completed_at=True)
    scene.measure("complete again")


def in_order(*times: str | None) -> bool:
    """Whether all *times* are there and none is before the last."""
    found = [each for each in times if each is not None]
    return len(found) == len(times) and found == sorted(found)


def test_an_objection_survives_a_kill_in_its_fanout(scene: Scene) -> None:
    """Neither receipt is lost, none said to be published before all of its items are answered."""
    assert all(each["published_at"] is None for each in scene.seen["killed"].values()) or (
        scene.seen["killed"]["many/o1/filed"]["published_at"] is None
    )
    found = scene.seen["published"]
    assert {"one/o1/filed", "many/o1/filed"} == found.keys()
    assert (1, ITEMS) == (found["one/o1/filed"]["items"], found["many/o1/filed"]["items"])
    for each in found.values():
        assert in_order(each["received_at"], each["decided_at"], each["published_at"])
        assert {"features", "index", "lake"} == each["stores"].keys()


def test_stores_are_told_apart(scene: Scene) -> None:
    """What one store has done completes nothing that others have still to do."""
    for each in scene.seen["features"].values():
        features = each["stores"]["features"]
        assert in_order(each["published_at"], features["hidden_at"], features["erased_at"])
        assert {"hidden_at": None, "erased_at": None} == each["stores"]["index"]
        assert each["completed_at"] is None


def test_a_group_counts_as_hidden_and_completes(scene: Scene) -> None:
    """Its committed offsets are all there is to know of a store that writes no acknowledgements."""
    for each in scene.seen["index"].values():
        assert {"hidden_at": None, "erased_at": None} == each["stores"]["lake"]
        assert each["completed_at"] is None
    for each in scene.seen["completed"].values():
        assert each["stores"]["lake"]["erased_at"] is None
        assert each["completed_at"] == each["stores"]["lake"]["hidden_at"]


def test_what_there_is_not_cannot_be_acknowledged(scene: Scene) -> None:
    """It is refused, counted and logged, and changes no receipt."""
    assert scene.seen["completed"] == scene.seen["refused"]
    assert "refused" in scene.worker.log()


def test_a_store_that_goes_back_is_counted_and_reopens(scene: Scene) -> None:
    """Its hidden and erased are taken back, others' stay; then it completes again."""
    for key, each in scene.seen["reopened"].items():
        assert {"hidden_at": None, "erased_at": None} == each["stores"]["features"]
        assert each["stores"]["index"] == scene.seen["completed"][key]["stores"]["index"]
    for each in scene.seen["complete again"].values():
        assert in_order(each["reopened_at"], each["completed_at"])
    metrics = scene.metrics["reopened"]
    assert 0 < metrics[REGRESSIONS + '{store="features"}'] <= PARTITIONS
    assert 0 == metrics[REGRESSIONS + '{store="index"}']


def test_store_metrics_tell_who_is_late(scene: Scene) -> None:
    """A latency for each purge; the oldest output that is owed grows older by itself."""
    before, later = scene.metrics["features"], scene.metrics["features later"]
    assert 8 == before[COUNT + of("features")]  # four products of two users
    assert 8 == before[COUNT + of("features", "erased")]
    assert 0 == before[COUNT + of("index")]
    assert 0 == before[OLDEST + of("features")]
    assert 0 < before[OLDEST + of("index")] < later[OLDEST + of("index")]
    assert OLDEST + of("lake", "erased") not in before
    again = scene.metrics["complete again"]
    assert 0 == again[OLDEST + of("features")]
    assert 0 == again[COUNT + of("features")]  # of this process: nothing is counted twice


def test_a_withdrawal_has_a_receipt_of_its_own(scene: Scene) -> None:
    """The objection's stays as it is."""
    found = scene.seen["withdrawn"]
    assert 1 == found["one/o1/withdrawn"]["items"]
    assert scene.seen["complete again"]["one/o1/filed"] == found["one/o1/filed"]


def test_a_person_is_told_who_is_late(scene: Scene) -> None:
    """With times since the objection, what was acknowledged, and exit status 1."""
    told = scene.told["late for a person"]
    assert 1 == told.exit_code
    assert "objection o1 of user one, filed" in told.output
    assert "published  after" in told.output
    assert "1 item\n" in told.output
    assert "features" in told.output
    assert "erased after" in told.output
    assert "LATE for" in told.output
    assert f"{scene.prefix}training-content/" in told.output
    assert "never acknowledged" in told.output
    assert "late: lake" in told.output
    assert "400 items" in scene.told["published"].output


def test_machines_get_a_line_for_each(scene: Scene) -> None:
    """The record as it is in the topic, and what it waits for; `--wait` waits until it is there."""
    late = [json.loads(line) for line in scene.told["late"].stdout.splitlines()]
    assert ["many", "one"] == [each["user_id"] for each in late]
    assert all(["lake"] == list(each["late"]) for each in late)
    completed = scene.told["completed"]
    assert 0 == completed.exit_code, completed.output
    lines = [json.loads(line) for line in completed.stdout.splitlines()]
    assert all(each["completed_at"] and not each["late"] for each in lines)
    fields = scene.seen["completed"]["one/o1/filed"]
    assert fields == {key: value for key, value in lines[1].items() if key != "late"}
    (reopened,) = map(json.loads, scene.told["reopened"].stdout.splitlines())
    reached = reopened["late"]["features"]["reached"]
    assert [1] == [each["acknowledged"] for each in reached.values()]
    assert 1 == scene.told["reopened"].exit_code


def test_an_unknown_id_is_said_to_be_unknown(scene: Scene) -> None:
    """Exit status 1, and what may be the matter."""
    scene.ask("unknown", "nobody's", "--user", "one")
    assert 1 == scene.told["unknown"].exit_code
    assert "no receipt of objection" in scene.told["unknown"].output


def test_kafka_out_of_reach_is_said(tmp_path: Path) -> None:
    """Exit status 3, and the remedy."""
    result = CliRunner().invoke(main, ["receipt", "o1", "--bootstrap", "127.0.0.1:1"])
    assert 3 == result.exit_code
    assert "Remedy" in result.output

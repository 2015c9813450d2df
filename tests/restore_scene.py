"""
A prefix with outputs and a stopped worker, whose stores and offsets tests take away.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from confluent_kafka.admin import AdminClient

from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.proof import OUTPUTS, Record, compacted
from streams.settings import Settings
from streams.state.store import Memory, Store
from tests.fault_load import Load, assert_faultless
from tests.worker_process import (
    PARTITIONS,
    Inputs,
    Worker,
    apply_topics,
    assert_proven,
    settings_of,
    wait_for,
    wait_until_caught_up,
)

RECORDS = 1_500
NEWCOMER = "newcomer"

Outputs = dict[str, list[Record]]


class Scene:
    """
    A prefix with some thousand outputs, and its one worker, which is stopped.

    before: the outputs when the test began.  spoilt: it is not fit for another test.
    """

    def __init__(self, kafka: LocalKafka, prefix: str, folder: Path) -> None:
        self.kafka = kafka
        self.prefix = prefix
        self.settings = settings_of(kafka, prefix)
        self.worker = Worker(kafka, prefix, folder / "state")
        self.before: Outputs = {}
        self.spoilt = False
        self._newcomers = itertools.count()
        self._said_before = 0

    def play(self) -> None:
        """Let the worker handle a load, and stop it."""
        apply_topics(self.kafka, self.prefix)
        with self.worker as worker:
            with Load(self.kafka, self.prefix, seed=41, rate_per_s=1_000, plain=True) as load:
                worker.wait_ready()
                wait_for(lambda: load.sent > RECORDS, "the load")
            wait_until_caught_up(self.kafka, self.prefix, workers=[worker])
            self.stop()
        assert_faultless(self.kafka, self.prefix)

    def begin(self) -> None:
        """Note how things stand before a test."""
        self.before = self.proven()
        self._said_before = len(self.worker.log())

    def said(self) -> str:
        """Return what the worker has said since the test began."""
        return self.worker.log()[self._said_before :]

    def store_path(self, number: int) -> Path:
        """Return the folder of a partition's local store."""
        return self.worker.state_dir / self.settings.group / str(number)

    @contextmanager
    def stores(self) -> Iterator[list[Store]]:
        """Open the local stores of all partitions while the worker is down."""
        memory = Memory(1024 * 1024)
        opened = [Store(self.store_path(number), memory) for number in range(PARTITIONS)]
        try:
            yield opened
        finally:
            for store in opened:
                store.close()

    def admin(self) -> AdminClient:
        """Return a client for the group's offsets."""
        return admin.connect(self.settings)

    def forget_offsets(self) -> None:
        """Let the group's offsets be as if they had expired."""
        group = self.settings.group
        client = self.admin()  # kept until it has answered: what it promised ends with it
        client.delete_consumer_groups([group])[group].result()

    def recreate(self, *names: str) -> None:
        """Let topics (by their names in the contract) be as if deleted and made again, empty."""
        recreate(self.settings, names)

    def restart(self) -> Outputs:
        """
        Run the worker until nothing is left to do; return the outputs there are then.

        A newcomer objects in each partition, so that whatever the worker does before that is done.
        """
        self.worker.start()
        self.worker.wait_ready()
        with Inputs(self.kafka, self.prefix) as inputs:
            for number in range(PARTITIONS):
                value = objection(f"{NEWCOMER}{next(self._newcomers)}", "o")
                inputs.queue("objections", value, partition=number)
            inputs.flush()
        return self.caught_up()

    def caught_up(self) -> Outputs:
        """Wait for the running worker; return the outputs there are then."""
        wait_until_caught_up(self.kafka, self.prefix, workers=[self.worker])
        return self.proven()

    def proven(self) -> Outputs:
        """Return the outputs, proven, but for those on newcomers."""
        outputs = assert_proven(self.kafka, self.prefix, once=False)
        return {
            name: [each for each in records if not each.key_text.startswith(NEWCOMER)]
            for name, records in outputs.items()
        }

    def stop(self) -> None:
        """Let the worker leave."""
        self.worker.leave()

    def object(self, user_ids: Iterable[str]) -> None:
        """File an objection of each user."""
        with Inputs(self.kafka, self.prefix) as inputs:
            objection_id = f"o-{next(self._newcomers)}"
            inputs.send(*[("objections", objection(each, objection_id)) for each in user_ids])


def objection(user_id: str, objection_id: str) -> dict[str, str]:
    """Return the record of an objection to everything."""
    return {"user_id": user_id, "objection_id": objection_id, "action": "filed"}


def counts(outputs: Outputs) -> dict[str, int]:
    """Return how many records each output has."""
    return {name: len(records) for name, records in outputs.items()}


def standing(outputs: Outputs) -> dict[tuple[str, str], object]:
    """
    Return what stands of each key, with its revision.

    The epoch is left out of items: one that is answered again gets its user's present epoch.
    """
    found: dict[tuple[str, str], object] = {}
    for name in OUTPUTS:
        for key, record in compacted(outputs[name]).items():
            value = msgspec.json.decode(record.value) if record.value is not None else None
            if name == "training-content" and value is not None:
                del value["epoch"]
            found[name, key] = value, record.header("objections_revision")
    return found


def eligible_user(outputs: Outputs) -> str:
    """Return a user whom an objection would make another decision."""
    return next(
        key
        for key, record in compacted(outputs["eligibility"]).items()
        if msgspec.json.decode(record.value or b"")["eligible"]
    )


def epoch_of(outputs: Outputs, user_id: str) -> int:
    """Return the epoch of a user's last decision."""
    return int(compacted(outputs["eligibility"])[user_id].header("objections_epoch") or b"0")


def recreate(settings: Settings, names: Iterable[str], partitions: int = PARTITIONS) -> None:
    """Let topics (by their names in the contract) be as if deleted and made again, empty."""
    client = admin.connect(settings)
    full_names = [settings.topic(name) for name in names]
    for future in client.delete_topics(full_names).values():
        future.result()

    def gone() -> bool:
        known = client.list_topics(timeout=5).topics
        return not any(name in known for name in full_names)

    wait_for(gone, f"{names} are gone")
    admin.apply(client, settings, partitions)

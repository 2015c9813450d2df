"""
Three local brokers: one may be lost, also the one that keeps the workers' group.
"""

import threading
import time
from pathlib import Path

from streams.bench.faults.coordinator import GROUPS, coordinator
from streams.bench.offline import Offline
from streams.kafka import admin
from streams.kafka.local_cluster import LocalCluster
from streams.kafka.reader import committed, reader
from streams.settings import Settings
from streams.worker.folded import Folded
from streams.worker.names import ACCOUNT_AGES, NOTICES, OBJECTIONS
from streams.worker.transaction import Aborted, Publisher
from tests.making import NOW_MS, grown_up, notice, objection
from tests.test_transaction import record

ANSWER_S = 30.0
LOOK_S = 0.05
PUBLISH_S = 90.0  # a lost broker counts as lost after 3 s; a busy machine takes its time


def test_a_transaction_goes_on_when_the_group_s_broker_is_lost(tmp_path: Path) -> None:
    """
    Topics have three copies, of which two must take a record, so one broker may be killed.

    The transaction that is begun then finds the coordinator that took over, though librdkafka
    would wait for the lost one for ever; so does the one after it.
    """
    with LocalCluster(tmp_path / "kafka", 3) as cluster:
        settings = Settings(bootstrap=cluster.bootstrap, topic_prefix="three.", group="three")
        made = admin.apply(admin.connect(settings), settings, 1).create
        assert {(3, "2")} == {
            (each.replication, each.config["min.insync.replicas"]) for each in made
        }
        offline = Offline(tmp_path, 1, NOW_MS)
        cycles = [
            offline.fold(offline.decode(next(offline.rounds([each], 1))))
            for each in (
                record(ACCOUNT_AGES, grown_up()),
                record(NOTICES, notice()),
                record(OBJECTIONS, objection()),
            )
        ]
        group = reader(settings)
        publisher = Publisher(settings, "three-worker")
        publisher.start()
        publisher.publish(cycles[0], group.consumer_group_metadata())
        number, leader = coordinator(settings, GROUPS, settings.group)

        cluster.broker(leader).kill()
        while coordinator(settings, GROUPS, settings.group)[1] == leader:
            time.sleep(LOOK_S)
        for cycle in cycles[1:]:
            _publish(publisher, cycle, group.consumer_group_metadata())
        publisher.close()

        moved = coordinator(settings, GROUPS, settings.group)
        places = [(settings.topic(name), 0) for name in (ACCOUNT_AGES, NOTICES, OBJECTIONS)]
        assert dict.fromkeys(places, 1) == committed(group, places, ANSWER_S)
        assert moved[0] == number
        assert moved[1] != leader
        group.close()
        offline.close()


def _publish(publisher: Publisher, cycle: list[Folded], metadata: object) -> None:
    """Publish *cycle*, again where it was rolled back, within a time."""
    failed: list[BaseException] = []

    def publish() -> None:
        while True:
            try:
                publisher.publish(cycle, metadata)
            except Aborted:
                continue
            except BaseException as error:  # noqa: BLE001  (told by the test)
                failed.append(error)
            return

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    thread.join(PUBLISH_S)
    assert not thread.is_alive(), f"{publisher.call} has not come back for {PUBLISH_S:.0f} s"
    assert not failed

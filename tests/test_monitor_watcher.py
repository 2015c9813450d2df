"""
What `objections monitor` does about clients that ask Kafka nothing any more.
"""

import pytest

from streams.kafka.local import HOST, LocalKafka
from streams.kafka.ports import free_port
from streams.monitor import watcher as watching
from streams.monitor.asking import Asking
from streams.monitor.watcher import Watcher, count_partitions
from streams.settings import Settings
from tests.worker_process import apply_topics, settings_of, wait_for
from tests.worker_settings import environ_of


def test_clients_that_are_not_answered_for_long_are_renewed(
    kafka: LocalKafka, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka is there; they do not find it any more."""
    apply_topics(kafka, prefix)
    settings = settings_of(kafka, prefix)
    monkeypatch.setattr(watching, "STANDSTILL_S", 0.5)
    failures: list[BaseException] = []
    with Watcher(settings, count_partitions(settings), failures.append) as watcher:
        wait_for(lambda: _looks(watcher), "all that there is to tell")
        _let_ask_nobody(watcher, prefix)

        watcher.look()

        assert "Kafka does not tell" in watcher.missing()
        wait_for(lambda: _looks(watcher), "new clients")
    assert not failures


def _looks(watcher: Watcher) -> bool:
    watcher.look()
    watcher.follow(0.05)
    return not watcher.missing()


def _let_ask_nobody(watcher: Watcher, prefix: str) -> None:
    """Give the monitor clients of an address where nobody listens; new ones are as they should."""
    nowhere = Settings.read(environ_of(f"{HOST}:{free_port()}", prefix, {}))
    for asking in (watcher._log, watcher._decided):
        deaf = Asking(nowhere, "read_committed")
        asking._consumer, deaf._consumer = deaf._consumer, asking._consumer
        deaf.close()

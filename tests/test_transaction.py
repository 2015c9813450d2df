"""A cycle's transaction on a real Kafka, and what is in the store after it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from streams.bench.offline import Offline
from streams.bench.workload import Record
from streams.kafka.local import LocalKafka
from streams.kafka.reader import committed, reader
from streams.state import rows
from streams.state.store import Memory, Reached, Row, Store
from streams.worker.names import ACCOUNT_AGES, NOTICES, OBJECTIONS, USERS_CHANGELOG
from streams.worker.transaction import Publisher
from tests.making import NOW_MS, grown_up, notice, objection
from tests.worker_process import apply_topics
from tests.worker_settings import ANSWER_S, settings_of


class Noting(Store):
    """A store that remembers how far the changelogs were said to be in it, write by write."""

    def __init__(self, path: Path, memory: Memory) -> None:
        super().__init__(path, memory)
        self.said: list[Mapping[str, Reached]] = []

    def write(self, batch: Iterable[Row], reached: Mapping[str, Reached]) -> None:
        """Write, and remember."""
        super().write(batch, reached)
        self.said.append(dict(reached))


def record(topic: str, fields: dict[str, Any]) -> Record:
    """Return a record of an input."""
    return Record(topic, fields["user_id"].encode(), msgspec.json.encode(fields), "")


def test_what_joins_a_cycle_is_in_the_store_with_it_or_not_at_all(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Two parts of a partition go in one transaction, and into the store in one write.

    Were the first written alone it would say that the changelog is in the store as far as the
    second: after a crash in between an objection would be lost.
    """
    apply_topics(kafka, prefix, partitions=1)
    settings = settings_of(kafka, prefix)
    offline = Offline(tmp_path, 1, NOW_MS, Noting)
    first = [record(ACCOUNT_AGES, grown_up()), record(NOTICES, notice())]
    joins = [record(OBJECTIONS, objection())]
    one, two = (
        offline.fold(offline.decode(next(offline.rounds(records, len(records)))))
        for records in (first, joins)
    )
    group = reader(settings)
    publisher = Publisher(settings, f"{prefix}worker")
    publisher.start()
    publisher.publish([*one, *two], group.consumer_group_metadata())
    publisher.close()
    places = [(settings.topic(name), 0) for name in (ACCOUNT_AGES, NOTICES, OBJECTIONS)]
    told = committed(group, places, ANSWER_S)
    group.close()

    store = offline.partitions[0].store
    assert isinstance(store, Noting)
    written = sum(len(part.users_rows) for part in (*one, *two))
    said = [each[USERS_CHANGELOG].offset for each in store.said if USERS_CHANGELOG in each]
    assert [written] == said
    assert dict.fromkeys(places, 1) == told
    row = rows.decode_user(store.get(rows.user_key("u1")) or b"")
    assert list(row.user.objections)
    assert row.user.notices_ms
    offline.close()

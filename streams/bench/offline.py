"""
A worker's partitions without Kafka: real records through intake, fold and RocksDB, cycle by cycle.

Records lie in partitions and have offsets as they would on Kafka; a cycle takes the next of them.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from confluent_kafka import Message

from streams.bench.workload import Record
from streams.core.breaker import Limit
from streams.core.policy import Policy
from streams.core.subjects import PLAIN, Subjects
from streams.settings import Settings
from streams.state.store import Memory, Reached, Store
from streams.worker.folded import Folded
from streams.worker.intake import Fetched, Intake, take_in
from streams.worker.names import CONTENT_CHANGELOG, INPUTS, USER_TOPICS, USERS_CHANGELOG
from streams.worker.partition import Partition
from streams.worker.trail import Trail

SETTINGS = Settings()
LIMIT: Final = Limit(SETTINGS.breaker_percent, 1_000_000, SETTINGS.breaker_window_s * 1000)
GRANTS = 1_000
LOG_APPEND_TIME = 2

Round = list[Fetched]


class Offline:
    """
    *partitions_n* partitions in *folder*; *open_store* opens each one's store.

    subjects: how users are named.
    """

    def __init__(
        self,
        folder: Path,
        partitions_n: int,
        now_ms: int,
        open_store: Callable[[Path, Memory], Store] = Store,
        subjects: Subjects = PLAIN,
    ) -> None:
        self._subjects = subjects
        self.now_ms = now_ms
        memory = Memory(SETTINGS.block_cache_bytes)
        self._stores = [open_store(folder / str(number), memory) for number in range(partitions_n)]
        self._ends = [dict.fromkeys(INPUTS, 0) for _ in self._stores]
        self.partitions = [
            Partition(
                number,
                store,
                {topic: Reached("", 0) for topic in (USERS_CHANGELOG, CONTENT_CHANGELOG)},
                dict.fromkeys(INPUTS, 0),
                Policy(),
                "/objection-streams/objections",
                SETTINGS.topic("content"),
                SETTINGS.fanout_inline_items,
                now_ms,
                limit=LIMIT,
                subjects=subjects,
                trail=Trail(store, number),
            )
            for number, store in enumerate(self._stores)
        ]

    def release(self) -> None:
        """Let grants go: until then they are held, as when partitions have been taken over."""
        for partition in self.partitions:
            partition.release_at({topic: partition.positions[topic] for topic in USER_TOPICS})

    def has_work(self) -> bool:
        """Whether there is something to do without any record: fan-outs, timers, receipts."""
        return any(partition.has_work(self.now_ms, GRANTS) for partition in self.partitions)

    def close(self) -> None:
        """Close the stores."""
        for store in self._stores:
            store.close()

    def rounds(self, records: Sequence[Record], cycle_records: int) -> Iterator[Round]:
        """Yield *records* as the fetch thread hands them over, *cycle_records* at a time."""
        for begin in range(0, len(records), cycle_records):
            yield self._round(records[begin : begin + cycle_records])

    def _round(self, records: Sequence[Record]) -> Round:
        found: dict[tuple[str, int], list[Message]] = {}
        for topic, key, value, _ in records:
            number = zlib.crc32(key) % len(self.partitions)
            ends = self._ends[number]
            messages = found.setdefault((topic, number), [])
            messages.append(
                Message(
                    topic=topic,
                    partition=number,
                    offset=ends[topic],
                    key=key,
                    value=value,
                    timestamp=(LOG_APPEND_TIME, self.now_ms),
                )
            )
            ends[topic] += 1
        return [
            Fetched(topic, number, messages, messages[0].offset() or 0)
            for (topic, number), messages in found.items()
        ]

    def decode(self, fetched: Round) -> list[Intake]:
        """Decode a round, as the agents do."""
        return [take_in(each, SETTINGS.topic(each.topic), self._subjects) for each in fetched]

    def fold(self, intakes: list[Intake]) -> list[Folded]:
        """Fold a cycle, as the event loop does; also where no record is left, but work is."""
        by_partition: dict[int, list[Intake]] = {}
        for intake in intakes:
            by_partition.setdefault(intake.partition, []).append(intake)
        return [
            partition.fold(
                by_partition.get(partition.number, []),
                self.now_ms,
                SETTINGS.fanout_slice_items,
                GRANTS,
            )
            for partition in self.partitions
            if partition.number in by_partition or partition.has_work(self.now_ms, GRANTS)
        ]

    def write(self, cycle: list[Folded]) -> None:
        """Bring a cycle's rows into the stores, as after its commit."""
        for part in cycle:
            rows = [*part.users_rows, *part.content_rows, *part.local_rows]
            part.partition.store.write(rows, {})

    def persisted(self, cycle: list[Folded]) -> None:
        """Note that a cycle's rows are in the stores."""
        for part in cycle:
            part.partition.persisted(part)

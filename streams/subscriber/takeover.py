"""
Taking places over: what the store has, what it said and what the log holds decide where to begin.

The order is what makes it safe to die anywhere: a resync is in the store before a lower
acknowledgement is written, and its offset is committed last; until then it is begun anew.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Final

from confluent_kafka import Consumer

from streams.core.receipts import Phase
from streams.settings import Settings
from streams.sinks.sink import Batch, Place, Position, Sink
from streams.subscriber import cluster
from streams.subscriber.acks import AckReader, AckWriter
from streams.subscriber.calling import Calls
from streams.subscriber.following import HEARTBEAT_MAX_MS, Followed, follow
from streams.subscriber.places import Ack, Beginning, Found, Reason, begin, next_resync

logger = logging.getLogger(__name__)

PHASES: Final[tuple[Phase, ...]] = ("hidden", "erased")


class Takeover:
    """Begins places for a store; see the module."""

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        calls: Calls,
        reader: AckReader,
        writer: AckWriter,
        topics: Mapping[str, cluster.Topic],
    ) -> None:
        self._settings = settings
        self._sink = sink
        self._calls = calls
        self._reader = reader
        self._writer = writer
        self._topics = topics
        retention_ms = min(topic.delete_retention_ms for topic in topics.values())
        self.away_max_ms = retention_ms // 2
        self.heartbeat_ms = min(HEARTBEAT_MAX_MS, self.away_max_ms // 4)

    def take(self, consumer: Consumer, places: Iterable[Place]) -> dict[Place, Followed]:
        """Return *places*, each at its beginning; the caller lets *consumer* begin there."""
        wanted = list(places)
        acks = self._reader.read()
        positions = self._calls.call(self._sink.positions)
        logs = cluster.logs_of(consumer, self._settings, wanted)
        now_ms = time.time_ns() // 1_000_000
        beginnings = {
            place: begin(
                Found(
                    positions.get(place),
                    self._topics[place.topic].topic_id,
                    logs[place].start,
                    logs[place].end,
                    acks.get((place, "hidden")),
                    logs[place].committed,
                ),
                now_ms,
                self.away_max_ms,
            )
            for place in wanted
        }
        acked = self._begin(consumer, beginnings, acks)
        return {
            place: follow(beginning, logs[place].end, acked[place], now_ms)
            for place, beginning in beginnings.items()
        }

    def resync(self, consumer: Consumer, place: Place, each: Followed) -> Followed:
        """Return *place*, which fell too far behind, at the beginning of a resync."""
        position = Position(each.position.topic_id, 0, next_resync(each.position.generation))
        beginning = Beginning(position, Reason.AWAY, None)
        self._begin(consumer, {place: beginning}, {})
        log = cluster.logs_of(consumer, self._settings, [place])[place]
        acked = {phase: offset for phase, (offset, _) in each.acked.items()}
        return follow(beginning, log.end, acked, time.time_ns() // 1_000_000)

    def _begin(
        self,
        consumer: Consumer,
        beginnings: Mapping[Place, Beginning],
        acks: Mapping[tuple[Place, Phase], Ack],
    ) -> dict[Place, dict[Phase, int]]:
        """Store and say what has changed; return what is acknowledged then, by place and phase."""
        anew = {place: each for place, each in beginnings.items() if each.reason is not None}
        for place, each in anew.items():
            self._tell(place, each)
        if anew:
            reached = {place: each.position for place, each in anew.items()}
            self._calls.call(lambda: self._sink.apply(Batch([], reached)))
        acked: dict[Place, dict[Phase, int]] = {}
        for place, each in beginnings.items():
            known: dict[Phase, int] = {
                phase: acks[place, phase].offset for phase in PHASES if (place, phase) in acks
            }
            if each.lower_to is not None:
                known = {phase: min(known.get(phase, 0), each.lower_to) for phase in PHASES}
                for phase, offset in known.items():
                    self._writer.write(place, phase, offset)
            acked[place] = known
        if anew:
            self._writer.flush()
            consumer.commit(
                offsets=[
                    cluster.offset_to_commit(self._settings, place, each.position)
                    for place, each in anew.items()
                ],
                asynchronous=False,
            )
        return acked

    def _tell(self, place: Place, beginning: Beginning) -> None:
        reason = beginning.reason
        assert reason is not None
        level = logging.INFO if reason is Reason.NEW else logging.WARNING
        logger.log(
            level,
            "%s/%d is read from its beginning: %s",
            self._settings.topic(place.topic),
            place.partition,
            reason.value,
        )

"""
Where the inputs of our partitions are read, what of them waits, and what a round is made of.

For the fetch thread alone.  A partition is read once it is started.  Its content waits while
objections, ages and notices lag: at take-over, and whenever they do later; `backlog` has the rule.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.settings import Settings
from streams.worker.backlog import Backlog, Hold, Next, has_reached
from streams.worker.intake import Fetched
from streams.worker.names import CONTENT, Followed
from streams.worker.rounds import Listener, Look, Place, Start
from streams.worker.unread import Unread

if TYPE_CHECKING:
    from confluent_kafka import Message

logger = logging.getLogger(__name__)

SAID_FROM_S: Final = 1.0
AGAIN_S: Final = 0.002  # between a fetch's word on an end and its records being there


class NotYet(Exception):
    """A command cannot be carried out yet: poll, and try again."""


class Reading:
    """
    The positions of the inputs, by place; rounds are made of what the consumers hand out.

    users, content: the consumers of the user topics, and of content.
    ask: asks Kafka for a look at the ends, which is to come by `looked`.
    """

    def __init__(
        self,
        settings: Settings,
        users: Consumer,
        content: Consumer,
        listener: Listener,
        ask: Callable[[], None],
        judge: Callable[[KafkaError, str | None], None],
        followed: Followed,
    ) -> None:
        self._settings = settings
        self._users = users
        self._content = content
        self._listener = listener
        self._ask = ask
        self._judge = judge
        self._user_topics = followed.users
        self._topics = followed.all
        self._names = {settings.topic(name): name for name in self._topics}
        self._starts: dict[int, Start] = {}
        self._holds: dict[int, Hold] = {}
        self._backlog = Backlog(followed)
        self._next: dict[Place, int] = {}  # read up to here, control records included
        self._handed: dict[Place, int] = {}  # records handed over up to here
        self._unread: dict[Place, Unread] = {}
        self._unheard: set[Place] = set()  # no fetch has brought anything of them yet
        self._serving: set[int] = set()  # partitions whose user topics have been heard of

    @property
    def holding(self) -> bool:
        """Whether the content of any partition waits."""
        return bool(self._holds)

    @property
    def reads_content(self) -> bool:
        """Whether the content of any partition is read."""
        return any(not self._content_waits(partition) for partition in self._starts)

    def partitions(self) -> frozenset[int]:
        """Return the partitions that are started."""
        return frozenset(self._starts)

    def clear(self) -> None:
        """Forget all partitions: they are given up."""
        self._starts.clear()
        self._holds.clear()
        self._next.clear()
        self._handed.clear()
        self._unread.clear()
        self._unheard.clear()
        self._serving.clear()
        self._backlog.clear()

    def places(self) -> list[Place]:
        """Return what is being read."""
        return [
            (topic, partition)
            for partition in self._starts
            for topic in (self._user_topics if self._content_waits(partition) else self._topics)
        ]

    def lag(self, now_s: float) -> dict[Place, int]:
        """
        Return the records from each input's position to its end, as far as that is known.

        now_s: by time.time(), for `unread_since_s`.
        """
        found: dict[Place, int] = {}
        for place, handed in self._handed.items():
            end = max(self._end(place) or 0, self._backlog.seen_end(place))
            at = self._next.get(place, handed)
            found[place] = max(end - at, 0)
            self._unread.setdefault(place, Unread()).look(now_s, end, at)
        return found

    def unread_since_s(self) -> dict[Place, float]:
        """Return since when what is not read of each input can have been there, as of `lag`."""
        return {
            place: unread.since_s
            for place, unread in self._unread.items()
            if unread.since_s is not None
        }

    def start(self, start: Start) -> None:
        """
        Read the user topics of a partition; its content follows.

        Raises `NotYet`, with nothing done.
        """
        number = start.partition
        self._read_from({(topic, number): start.positions[topic] for topic in self._user_topics})
        # The first fetch may take half a second, in which content would go past objections.
        self._unheard.update((topic, number) for topic in self._user_topics)
        self._handed[CONTENT, number] = start.positions[CONTENT]
        look = self._backlog.begin(number, start.ends)
        self._starts[number] = start
        self._holds[number] = Hold(look.asked_s, look, confirming=True)

    def restart(self, partition: int, positions: dict[str, int]) -> None:
        """Read a partition again from *positions*, at least as far as it has been read, if ours."""
        start = self._starts.get(partition)
        if start is None:
            return
        ends = {
            topic: max(start.ends[topic], self._handed[topic, partition]) for topic in self._topics
        }
        self._pause_content(partition)
        self._holds[partition] = Hold(time.monotonic())
        self._listener.on_lagging(partition)
        self.start(start._replace(positions=positions, ends=ends))

    def looked(self, looks: dict[int, Look]) -> None:
        """Take new looks at the ends; hold where fetches have not brought what there was."""
        for partition in self._starts:
            look = looks.get(partition)
            if look is not None:
                self._backlog.looked(partition, look)
            hold = self._holds.get(partition)
            if hold is None and self._backlog.is_late(partition, self._next):
                self._hold(partition)
            elif hold is not None and look is not None:
                hold.offer(look)

    def sort(
        self, messages: "list[Message]", more: "Callable[[float], list[Message]]"
    ) -> dict[str, list[Fetched]]:
        """
        Return the records by topic and partition; note the ends that were reached.

        more: returns what else there is, waiting for it so many seconds.
        """
        by_place: dict[Place, list[Message]] = {}
        begins = dict(self._handed)
        self._group(messages, by_place)
        flowing = self._flowing(by_place)
        if self._lagging(flowing):
            # The end that a fetch tells is known a little before its records are.
            self._group(more(AGAIN_S), by_place)
            # Whatever was given up while we waited is nobody's business here any more.
            by_place = {
                (topic, number): found
                for (topic, number), found in by_place.items()
                if number in self._starts
            }
            self._lagging(self._flowing(by_place) - flowing)
            for partition in self._flowing(by_place):
                if self._backlog.lags(partition, self._next):
                    self._hold(partition)
        for partition in [number for topic, number in by_place if topic == CONTENT]:
            self._limit_content(partition, by_place, begins[CONTENT, partition])
        batches: dict[str, list[Fetched]] = {}
        for topic in self._topics:
            for (name, partition), found in by_place.items():
                if name == topic and found:
                    fetched = Fetched(topic, partition, found, begins[name, partition])
                    batches.setdefault(topic, []).append(fetched)
        return batches

    def catch_up(self) -> None:
        """
        Let go on what has waited, as far as it may.

        Raises `NotYet`: to be tried again.
        """
        for partition, hold in list(self._holds.items()):
            look = hold.look
            if look is None or not self._has_reached(look, partition):
                continue
            self._note_ends(partition)
            then = hold.judge(lags=self._backlog.lags(partition, self._next))
            if then is Next.END:
                self._read_content(partition, None)
                del self._holds[partition]
                if (waited_s := time.time() - hold.began_s) > SAID_FROM_S:
                    logger.info(
                        "partition %d: content waited %.1f s for objections, ages and notices",
                        partition,
                        waited_s,
                    )
                self._listener.on_caught_up(partition, self._handed_of_users(partition), None)
                continue
            if then is Next.STEP:
                self._read_content(partition, look.limits.get(CONTENT, 0))
                free = {topic: look.limits.get(topic, 0) for topic in self._user_topics}
                self._listener.on_caught_up(partition, self._handed_of_users(partition), free)
            else:
                self._ask()
            hold.renew(time.monotonic(), then)
        for partition in self._starts.keys() - self._serving:
            if self._is_heard(partition):
                self._serving.add(partition)
                self._listener.on_serving(partition)

    def _has_reached(self, look: Look, partition: int) -> bool:
        """Whether all that *look* saw of the user topics is read, by fetches that get through."""
        return self._is_heard(partition) and has_reached(look, partition, self._next)

    def _is_heard(self, partition: int) -> bool:
        return all((topic, partition) not in self._unheard for topic in self._user_topics)

    def _hold(self, partition: int) -> None:
        self._pause_content(partition)
        self._holds[partition] = Hold(time.monotonic())
        self._listener.on_lagging(partition)
        self._ask()

    def _content_waits(self, partition: int) -> bool:
        hold = self._holds.get(partition)
        return hold is not None and hold.content_limit is None

    def _read_content(self, partition: int, limit: int | None) -> None:
        """Read content on, up to *limit* where there is one."""
        place, hold = (CONTENT, partition), self._holds[partition]
        at = self._handed[place]
        if limit is not None and limit <= at:
            return
        if hold.content_limit is None:
            self._read_from({place: at})
        hold.content_limit = limit

    def _pause_content(self, partition: int) -> None:
        self._content.pause([TopicPartition(self._settings.topic(CONTENT), partition)])
        self._next.pop((CONTENT, partition), None)

    def _limit_content(
        self, partition: int, by_place: "dict[Place, list[Message]]", begin: int
    ) -> None:
        """Leave out of a round the content that is to wait; it is read again later."""
        hold, place = self._holds.get(partition), (CONTENT, partition)
        if hold is None:
            return
        found, limit = by_place[place], hold.content_limit or 0
        kept = [message for message in found if (message.offset() or 0) < limit]
        if len(kept) < len(found):
            by_place[place] = kept
            self._handed[place] = (kept[-1].offset() or 0) + 1 if kept else begin
            self._pause_content(partition)
            hold.content_limit = None

    def _flowing(self, by_place: "dict[Place, list[Message]]") -> set[int]:
        """Return the partitions in a round that are not held."""
        return {partition for _, partition in by_place} - self._holds.keys()

    def _lagging(self, partitions: Iterable[int]) -> bool:
        """Learn where the user topics of *partitions* end, and return whether any lag."""
        for partition in partitions:
            self._note_ends(partition)
        return any(self._backlog.lags(partition, self._next) for partition in partitions)

    def _note_ends(self, partition: int) -> None:
        """Learn what the last fetches said of where the user topics end."""
        for topic in self._user_topics:
            if (end := self._end((topic, partition))) is not None:
                self._backlog.fetched((topic, partition), end)

    def _end(self, place: Place) -> int | None:
        topic, partition = place
        tp = TopicPartition(self._settings.topic(topic), partition)
        try:
            _, end = self._consumer(topic).get_watermark_offsets(tp, cached=True)
        except KafkaException:
            return None  # nothing was fetched of it yet
        return end if end >= 0 else None

    def _consumer(self, topic: str) -> Consumer:
        return self._content if topic == CONTENT else self._users

    def _handed_of_users(self, partition: int) -> dict[str, int]:
        return {topic: self._handed[topic, partition] for topic in self._user_topics}

    def _group(self, messages: "Iterable[Message]", by_place: "dict[Place, list[Message]]") -> None:
        """Add *messages* to *by_place*, and note how far that is."""
        for message in messages:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                self._judge(error, topic)
                continue
            place = self._names.get(topic or "", ""), -1 if partition is None else partition
            if place not in self._next or offset is None:
                continue  # of a partition that is held or was lost
            self._unheard.discard(place)
            if error is None:
                by_place.setdefault(place, []).append(message)
                self._handed[place] = self._next[place] = offset + 1
            else:
                self._next[place] = offset
                self._backlog.reached(place, offset)

    def _read_from(self, offsets: dict[Place, int]) -> None:
        """
        Read inputs from *offsets* on; what was fetched of them before is dropped.

        Raises `NotYet`, with none of them read.
        """
        for place in offsets:
            self._next.pop(place, None)
        for (topic, partition), offset in offsets.items():
            tp = TopicPartition(self._settings.topic(topic), partition, offset)
            consumer = self._consumer(topic)
            consumer.resume([tp])  # in this order: a pause may void a position before it
            try:
                consumer.seek(tp)
            except KafkaException as error:
                if error.args[0].code() != KafkaError._STATE:
                    raise
                raise NotYet from error  # librdkafka carries an assignment out in the background
        self._next.update(offsets)
        self._handed.update(offsets)

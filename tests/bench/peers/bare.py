"""
The floor: consume, decide, produce with confluent-kafka, and nothing else.

Written as its documentation shows it: records are consumed in batches and produced without waiting,
offsets are committed now and then by the client.  What it knows stands in dictionaries and nowhere
else: no store, no changelog, no transactions; records are lost or decided twice when it ends, and
after a restart it knows nothing.  Started by `objections bench`.
"""

import signal
from collections import defaultdict
from collections.abc import Iterable
from types import FrameType

from confluent_kafka import Consumer, KafkaException, Message, Producer

from streams.core.changes import UserRow
from streams.core.item import Item
from streams.core.outputs import Output
from tests.bench.peers import job

BATCH_RECORDS = 1_000
POLL_S = 0.1


class Dictionaries(job.Memory):
    """Users and items in this process."""

    def __init__(self) -> None:
        self._rows: dict[str, UserRow] = {}
        self._items: defaultdict[str, dict[str, Item]] = defaultdict(dict)

    def row(self, user_id: str) -> UserRow | None:
        return self._rows.get(user_id)

    def keep_row(self, user_id: str, row: UserRow) -> None:
        self._rows[user_id] = row

    def item(self, user_id: str, content_id: str) -> Item | None:
        return self._items[user_id].get(content_id)

    def keep_item(self, user_id: str, content_id: str, item: Item, *, new: bool) -> None:
        self._items[user_id][content_id] = item

    def items_of(self, user_id: str) -> Iterable[tuple[str, Item]]:
        return self._items[user_id].items()


def main() -> None:
    """Run until a signal."""
    consumer = Consumer(
        {
            "bootstrap.servers": job.BOOTSTRAP,
            "group.id": job.GROUP,
            "auto.offset.reset": "earliest",
            "auto.commit.interval.ms": 200,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": job.BOOTSTRAP,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    consumer.subscribe([f"{job.PREFIX}{name}" for name in job.INPUTS])
    memory, stopped = Dictionaries(), False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    while not stopped:
        first = consumer.poll(POLL_S)
        if first is not None:
            for message in (first, *consumer.consume(BATCH_RECORDS, 0)):
                for output in job.outputs(memory, event(message)):
                    produce(producer, output, message.partition() or 0)
        producer.poll(0)
    producer.flush()
    consumer.close()


def event(message: Message) -> job.Event:
    """Return the record that *message* holds."""
    error = message.error()
    if error is not None:
        raise KafkaException(error)
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    name = topic.removeprefix(job.PREFIX)
    return job.Event(
        name, partition, offset, message.timestamp()[1], message.key(), message.value()
    )


def produce(producer: Producer, output: Output, partition: int) -> None:
    """Hand *output* to *producer*, waiting while its queue is full."""
    topic, headers = f"{job.PREFIX}{output.topic}", list(output.headers)
    while True:
        try:
            producer.produce(topic, output.value, output.key, partition, headers=headers)
        except BufferError:
            producer.poll(POLL_S)
        else:
            return


if __name__ == "__main__":
    main()

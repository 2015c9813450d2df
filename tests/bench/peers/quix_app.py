"""
The service's job in Quix Streams, as its documentation on stateful processing shows it.

The four inputs are one StreamingDataFrame (`concat`), so that they share one RocksDB store with its
changelog; `apply` with state and `expand` makes of a record the outputs it causes.  Quix has no
look-up of keys by their beginning, so a user's items are numbered: an entry more per item and no
list that is written anew.  Checkpoints are short, as outputs that are exactly once are seen only
with them; the client waits briefly, as it looks for the end of a checkpoint only between waits.
Outputs are partitioned by their own keys: `to_topic` leaves no choice.  Started by
`objections bench`.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from quixstreams import Application, State, message_context
from quixstreams.models import Topic
from quixstreams.models.serializers import SerializationContext, Serializer

from streams.core.changes import UserRow
from streams.core.item import Item
from streams.core.outputs import Output
from tests.bench.peers import job

COMMIT_EXACTLY_ONCE_S = 0.05
COMMIT_AT_LEAST_ONCE_S = 0.2
POLL_S = 0.005

_encode = msgspec.msgpack.encode
_row = msgspec.msgpack.Decoder(UserRow).decode
_item = msgspec.msgpack.Decoder(Item).decode


class OneUser(job.Memory):
    """The state of the user a record is about: Quix puts the record's key before each of ours."""

    def __init__(self, state: State[Any, Any]) -> None:
        self._state = state

    def row(self, user_id: str) -> UserRow | None:
        found = self._state.get_bytes(b"user")
        return None if found is None else _row(found)

    def keep_row(self, user_id: str, row: UserRow) -> None:
        self._state.set_bytes(b"user", _encode(row))

    def item(self, user_id: str, content_id: str) -> Item | None:
        found = self._state.get_bytes(b"item/" + content_id.encode())
        return None if found is None else _item(found)

    def keep_item(self, user_id: str, content_id: str, item: Item, *, new: bool) -> None:
        name = content_id.encode()
        self._state.set_bytes(b"item/" + name, _encode(item))
        if new:
            number = self._count()
            self._state.set_bytes(b"index/%d" % number, name)
            self._state.set_bytes(b"count", b"%d" % (number + 1))

    def items_of(self, user_id: str) -> Iterable[tuple[str, Item]]:
        for number in range(self._count()):
            name = self._state.get_bytes(b"index/%d" % number)
            assert name is not None
            found = self._state.get_bytes(b"item/" + name)
            assert found is not None
            yield name.decode(), _item(found)

    def _count(self) -> int:
        return int(self._state.get_bytes(b"count", b"0"))


class OutputValue(Serializer):
    """Takes the value out of an output; a tombstone's stays null."""

    def __call__(self, value: Output, ctx: SerializationContext) -> bytes:
        return value.value  # type: ignore[return-value]


def decide(value: bytes, key: bytes, timestamp_ms: int, _headers: Any, state: Any) -> list[Output]:
    """Return the outputs a record causes."""
    place = message_context()
    name = place.topic.removeprefix(job.PREFIX)
    event = job.Event(name, place.partition, place.offset, timestamp_ms, key, value)
    return list(job.outputs(OneUser(state), event))


def main() -> None:
    """Run until a signal."""
    commit_s = COMMIT_EXACTLY_ONCE_S if job.EXACTLY_ONCE else COMMIT_AT_LEAST_ONCE_S
    app = Application(
        broker_address=job.BOOTSTRAP,
        consumer_group=job.GROUP,
        auto_offset_reset="earliest",
        commit_interval=commit_s,
        processing_guarantee="exactly-once" if job.EXACTLY_ONCE else "at-least-once",
        state_dir=f"{job.FOLDER}/quix",
        consumer_poll_timeout=POLL_S,
        producer_extra_config={"linger.ms": 5, "queue.buffering.max.messages": 1_000_000},
        auto_create_topics=True,  # of its changelog; ours exist
    )
    inputs = [app.topic(f"{job.PREFIX}{name}", value_deserializer="bytes") for name in job.INPUTS]
    to: dict[str, Topic] = {
        name: app.topic(f"{job.PREFIX}{name}", value_serializer=OutputValue())
        for name in job.OUTPUTS
    }
    first, *others = [app.dataframe(topic) for topic in inputs]
    for other in others:
        first = first.concat(other)
    decided = first.apply(decide, stateful=True, metadata=True, expand=True)
    decided = decided.set_headers(lambda output, *_: list(output.headers))
    decided.to_topic(lambda output, *_: to[output.topic], key=lambda output: output.key)
    app.run()


if __name__ == "__main__":
    main()

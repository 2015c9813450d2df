"""
A small world to prove: inputs of one partition, what the real core publishes, ways to break it.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from streams.proof import (
    INPUTS,
    OUTPUTS,
    Record,
    Truth,
    compacted,
    differences,
    expected,
    log_violations,
)
from tests.folding import Delivery, Shell
from tests.making import DEFAULTS, NOW_MS, age, content, grown_up, notice, objection
from tests.making import Record as Input

Outputs = dict[str, list[Record]]


@dataclass
class World:
    """Inputs of one partition, and what the core made of them."""

    inputs: dict[str, list[Record]]
    outputs: Outputs

    @property
    def truth(self) -> Truth:
        """Return what the outputs must come to."""
        return expected(self.inputs, DEFAULTS, NOW_MS)

    def wrong(self) -> list[str]:
        """Return all that the proof finds."""
        last = (compacted(self.outputs[name]) for name in OUTPUTS)
        return differences(self.truth, *last) + log_violations(chain(*self.outputs.values()))

    def find(self, topic: str, key: str) -> int:
        """Return the index of the last record of *key*."""
        return max(at for at, each in enumerate(self.outputs[topic]) if each.key_text == key)


def as_input(delivery: Delivery) -> Record:
    """Return a delivery as it stands in its topic."""
    topic, offset, record, received_ms, resolves = delivery
    headers = () if resolves is None else (("dlq_resolves", resolves.encode()),)
    value = json.dumps(record).encode()
    return Record(topic, 0, offset, received_ms, record["user_id"].encode(), value, headers)


def play(*deliveries: Delivery) -> World:
    """Return the world in which *deliveries* arrived one by one."""
    shell = Shell()
    world = World({name: [] for name in INPUTS}, {name: [] for name in OUTPUTS})
    for delivery in deliveries:
        world.inputs[delivery.topic].append(as_input(delivery))
        for output in shell.cycle(delivery, now_ms=NOW_MS):
            log = world.outputs[output.topic]
            log.append(
                Record(
                    output.topic,
                    0,
                    len(log),
                    NOW_MS,
                    output.key,
                    output.value,
                    as_bytes(output.headers),
                )
            )
    return world


def as_bytes(
    headers: Iterable[tuple[str, str | bytes | None]],
) -> tuple[tuple[str, bytes | None], ...]:
    """Return headers as a consumer gets them."""
    return tuple((name, text.encode() if isinstance(text, str) else text) for name, text in headers)


def deliver(*records: Input) -> list[Delivery]:
    """Return *records* at rising offsets; the topic is told by the fields."""
    return [Delivery(topic_of(each), at, each, NOW_MS) for at, each in enumerate(records)]


def topic_of(record: Input) -> str:
    """Return the input that takes *record*."""
    for field, topic in (
        ("observed_at", "account-ages"),
        ("notice_id", "notices"),
        ("linked_user_id", "account-links"),
    ):
        if field in record:
            return topic
    return "content" if "content_id" in record else "objections"


def of(user_id: str, record: Input) -> Input:
    """Return *record* about another user, with ids that are not the first user's."""
    return (
        record
        | {"user_id": user_id}
        | {name: f"{user_id}-{record[name]}" for name in ("content_id",) if name in record}
    )


def make_world() -> World:
    """Return users and items of every kind: allowed, objected, deleted, unreadable, private."""
    return play(
        *deliver(
            grown_up(),
            notice(),
            content(),
            content(content_id="c2", product="facebook", visibility="friends"),
            content(content_id="pm", kind="private_message", visibility="private"),
            content(content_id="bad", created_at="yesterday"),
            of("u2", grown_up()),
            of("u2", notice()),
            of("u2", content()),
            of("u2", objection(products=["instagram"])),
            of("u3", grown_up()),
            of("u3", content()),
            of("u3", age(account="deleted")),
            of("u4", objection(action="shout")),
        )
    )


# A change to the outputs.
Break = Callable[[World], None]


def change(topic: str, key: str, **fields: Any) -> Break:
    """Change fields of the value of the last record of *key*."""

    def apply(world: World) -> None:
        at = world.find(topic, key)
        record = world.outputs[topic][at]
        value = json.loads(record.value or b"{}") | fields
        world.outputs[topic][at] = record._replace(value=json.dumps(value).encode())

    return apply


def header(topic: str, key: str, name: str, text: bytes | None) -> Break:
    """Change a header of the last record of *key*; None takes it away."""

    def apply(world: World) -> None:
        at = world.find(topic, key)
        record = world.outputs[topic][at]
        headers = [each for each in record.headers if each[0] != name]
        if text is not None:
            headers.append((name, text))
        world.outputs[topic][at] = record._replace(headers=tuple(headers))

    return apply


def replace(topic: str, key: str, **parts: Any) -> Break:
    """Change parts of the last record of *key*."""

    def apply(world: World) -> None:
        at = world.find(topic, key)
        world.outputs[topic][at] = world.outputs[topic][at]._replace(**parts)

    return apply


def remove(topic: str, key: str) -> Break:
    """Leave out all records of *key*."""

    def apply(world: World) -> None:
        world.outputs[topic] = [each for each in world.outputs[topic] if each.key_text != key]

    return apply


def repeat(topic: str, key: str, source: str | None = None, **parts: Any) -> Break:
    """Publish the last record of *source*, or of *key* itself, once more as *key*."""

    def apply(world: World) -> None:
        record = world.outputs[topic][world.find(topic, source or key)]
        again = record._replace(key=key.encode(), offset=len(world.outputs[topic]), **parts)
        world.outputs[topic].append(again)

    return apply

"""
Records of the outputs -> changes.  Source: contract.md, "Output records".
"""

from typing import Any, Final

import msgspec
from confluent_kafka import Message

from streams.core.refusals import REFUSALS
from streams.errors import Halt
from streams.sinks.sink import TRAINING_CONTENT, Change, Place

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def change_of(message: Message, place: Place) -> Change:
    """
    Return what *message* asks of a store; *place* is where it lies.

    Raises Halt for a record that the service would not write: nothing is known of what it means.
    """
    offset, key, value = message.offset(), message.key(), message.value()
    assert offset is not None
    headers: dict[str, Any] = dict(message.headers() or ())
    try:
        assert key is not None, "no key"
        on_items = place.topic == TRAINING_CONTENT
        return Change(
            place.topic,
            place.partition,
            offset,
            key.decode(),
            headers["ce_subject"].decode(),
            int(headers["objections_epoch"]),
            int(headers["objections_revision"]) if on_items else 0,
            None if value is None else _decode(value),
            int(headers["objections_received_at"]),
        )
    except (AssertionError, KeyError, ValueError, TypeError, AttributeError, *REFUSALS) as error:
        message_ = (
            f"{message.topic()}/{place.partition}/{offset} is no record of the service: "
            f"{type(error).__name__} {error}; expected the key, value and headers that "
            "`objections worker` writes. Remedy: find out who else writes to this topic"
        )
        raise Halt(message_) from error

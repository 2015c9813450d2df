"""
A mended record, judged by the decoder that the workers use, and the record that dismisses one.

Pure.  Source: contract.md, "Bad records".
"""

from typing import Final, NamedTuple

import msgspec

from streams.core.decode import USER_DECODERS, decode_content
from streams.core.diagnose import parse_object
from streams.dead_letters.letter import CONTENT, Letter
from streams.errors import BadRecord

RESOLVES: Final = "dlq_resolves"  # the header, whose value is the dead letter's place


class Mended(NamedTuple):
    """A record that will be read."""

    key: bytes
    value: bytes


def mend(letter: Letter, value: bytes | None, now_ms: int) -> Mended:
    """
    Return the record with *value* that resolves *letter*, sent at *now_ms*.

    Its key is that of the bad record, so that it is the same user's and gets to the same
    partition; where that was no valid id, it is the value's user_id.  Raises `BadRecord` where it
    is bad still.
    """
    key = letter.user_id.encode() if letter.user_id is not None else _user_id(value)
    if letter.input != CONTENT:
        USER_DECODERS[letter.input](key, value, now_ms)
    else:
        item = decode_content(key, value, now_ms, 0)
        if letter.content_id not in (None, item.content_id):
            detail = (
                "content_id: expected that of the bad record, as the restriction of its item would "
                "end unmended"
            )
            raise BadRecord("content_id_differs", detail)
    assert value is not None, "a null is refused by every decoder"
    return Mended(key or b"", value)


def dismissal(letter: Letter, *, through: bool = False) -> Mended:
    """
    Return the record for `objections` that says that *letter*, of a user, counts for nothing.

    through: so do all of the user before it, in its topic and partition.
    """
    assert letter.user_id is not None, f"{letter.place} restricts nobody"
    record: dict[str, str | bool] = {
        "user_id": letter.user_id,
        "action": "dismissed",
        "dead_letter": str(letter.place),
    }
    if through:
        record["through"] = True
    return Mended(letter.user_id.encode(), msgspec.json.encode(record))


def _user_id(value: bytes | None) -> bytes | None:
    """Return the user_id in *value*, None where the decoder will refuse it anyway."""
    try:
        found = parse_object(value).get("user_id")
    except BadRecord:
        return None
    return found.encode() if isinstance(found, str) else None

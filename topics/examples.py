"""
The file format of an example record.

{"key": text or null, "timestamp": RFC 3339, the broker's append time,
 "value": any JSON, or null for a record without a value,
 "headers": {name: text}, "means": one short sentence}

`headers` and `means` are optional.  Instead of `value` there may be `value_text`, bytes that are
no JSON, and instead of either or of `key`, `value_base64` and `key_base64`, bytes that are no
UTF-8.  The file's name says what it shows; in `refused/` it begins with the code it must get:
`field_value.action_unknown.json`.
"""

from base64 import b64decode
from datetime import datetime
from typing import Any

import msgspec


class Example(msgspec.Struct, frozen=True):
    """
    One record as a broker would hand it over.

    name: the file's name without its ending.
    timestamp_ms: when the broker appended it, ms since 1970.
    means: what is to be learnt from it; may be empty.
    """

    name: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()
    means: str = ""

    @property
    def code(self) -> str:
        """The error code a refused example must get."""
        return self.name.partition(".")[0]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    timestamp: datetime
    key: str | msgspec.UnsetType | None = msgspec.UNSET
    key_base64: str | msgspec.UnsetType = msgspec.UNSET
    value: Any = msgspec.UNSET
    value_text: str | msgspec.UnsetType = msgspec.UNSET
    value_base64: str | msgspec.UnsetType = msgspec.UNSET
    headers: dict[str, str] = {}
    means: str = ""


def read_example(file_name: str, content: bytes) -> Example:
    """Return the example in *content*; raises ValueError, naming the file, when it is none."""
    try:
        file = msgspec.json.decode(content, type=_File)
        return Example(
            name=file_name.removesuffix(".json"),
            key=_key(file),
            value=_value(file),
            timestamp_ms=_milliseconds(file.timestamp),
            headers=tuple((name, text.encode()) for name, text in file.headers.items()),
            means=file.means,
        )
    except (msgspec.DecodeError, ValueError) as error:
        message = f"example {file_name}: {error}"
        raise ValueError(message) from error


def _key(file: _File) -> bytes | None:
    given = _only_one_of(key=file.key, key_base64=file.key_base64)
    if given == "key_base64":
        return b64decode(str(file.key_base64), validate=True)
    return None if file.key is None else str(file.key).encode()


def _value(file: _File) -> bytes | None:
    given = _only_one_of(
        value=file.value, value_text=file.value_text, value_base64=file.value_base64
    )
    if given == "value_base64":
        return b64decode(str(file.value_base64), validate=True)
    if given == "value_text":
        return str(file.value_text).encode()
    return None if file.value is None else msgspec.json.encode(file.value)


def _only_one_of(**candidates: object) -> str:
    given = [name for name, content in candidates.items() if content is not msgspec.UNSET]
    if len(given) != 1:
        message = f"expected exactly one of {', '.join(candidates)}, found {len(given)}"
        raise ValueError(message)
    return given[0]


def _milliseconds(time: datetime) -> int:
    if time.tzinfo is None:
        message = "timestamp has no offset from UTC"
        raise ValueError(message)
    return round(time.timestamp() * 1000)

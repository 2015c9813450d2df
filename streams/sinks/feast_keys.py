"""
How Feast lays features out in Redis: keys of entities, fields of features, values.

Feast's own functions need all of Feast, which is large; a test compares these with them.
Pure.  Source: Feast's `key_encoding_utils.serialize_entity_key` (version 3) and `_mmh3`.
"""

import struct
from collections.abc import Iterable
from typing import Final

STRING: Final = 2  # feast.types.Value: ValueType.STRING
# The time stamp of a purged entity.  Feast drops what it is to write at or before a stored time
# stamp, so it holds older batches off by itself; later than any event, and pandas can hold it.
FAR_S: Final = 7_258_118_400  # 2200-01-01T00:00:00Z
TRUE: Final = b"\x38\x01"  # feast.types.Value with bool_val
_MASK: Final = 0xFFFFFFFF


def key_head(join_key: str) -> bytes:
    """Return what the keys of an entity with the one join key of type string begin with."""
    name = join_key.encode()
    return struct.pack("<3I", 1, STRING, len(name)) + name + struct.pack("<I", STRING)


def entity_key(join_key: str, value: str, project: str) -> bytes:
    """Return the key of the hash with all features of the entity *value*."""
    text = value.encode()
    return key_head(join_key) + struct.pack("<I", len(text)) + text + project.encode()


def entity_of(key: bytes, join_key: str, project: str) -> str:
    """Return the value in a key that `entity_key` returned."""
    return key[len(key_head(join_key)) + 4 : len(key) - len(project.encode())].decode()


def feature_field(view: str, feature: str) -> bytes:
    """Return the field of a feature in the hash."""
    return struct.pack("<I", murmur3(f"{view}:{feature}".encode()))


def text_of(value: bytes) -> str | None:
    """Return the text in a feast.types.Value; None where it holds another type."""
    if value[:1] != b"\x12":
        return None
    at = 1
    while value[at : at + 1] >= b"\x80":
        at += 1
    return value[at + 1 :].decode("utf-8", "replace")


def time_stamp(seconds: int) -> bytes:
    """Return a google.protobuf.Timestamp of whole *seconds* since 1970."""
    return b"\x08" + _varint(seconds)


def lua_text(text: bytes) -> str:
    """Return *text* as a literal of Lua."""
    return '"' + "".join(f"\\{byte:03}" for byte in text) + '"'


def lua_table(texts: Iterable[bytes]) -> str:
    """Return *texts* as a list of Lua."""
    return "{" + ", ".join(map(lua_text, texts)) + "}"


def glob_text(text: bytes) -> bytes:
    """Return a pattern of Redis that matches *text* and nothing else."""
    return b"".join(b"\\" + bytes([c]) if c in b"*?[]^\\-" else bytes([c]) for c in text)


def murmur3(data: bytes) -> int:
    """Return the 32-bit MurmurHash3 of *data*, with the seed 0."""
    state = 0
    whole = len(data) // 4 * 4
    for (block,) in struct.iter_unpack("<I", data[:whole]):
        state ^= _mixed(block)
        state = (_rotated(state, 13) * 5 + 0xE6546B64) & _MASK
    if len(data) > whole:
        state ^= _mixed(int.from_bytes(data[whole:], "little"))
    state ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = ((state ^ (state >> shift)) * factor) & _MASK
    return state ^ (state >> 16)


def _mixed(block: int) -> int:
    return (_rotated((block * 0xCC9E2D51) & _MASK, 15) * 0x1B873593) & _MASK


def _rotated(number: int, bits: int) -> int:
    return ((number << bits) | (number >> (32 - bits))) & _MASK


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])

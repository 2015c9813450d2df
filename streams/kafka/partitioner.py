"""
Which partition a key belongs to: murmur2, as Kafka's own producers do it.

Source: contract.md, "Topics"; org.apache.kafka.common.utils.Utils.murmur2.
"""

from typing import Final

_SEED: Final = 0x9747B28C
_MIX: Final = 0x5BD1E995
_SHIFT: Final = 24
_32_BITS: Final = 0xFFFFFFFF


def partition_of(key: bytes, partitions_n: int) -> int:
    """Return the number of the partition, out of *partitions_n*, that takes records of *key*."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions_n


def murmur2(data: bytes) -> int:
    """Return the 32-bit hash of *data*, unsigned."""
    found = (_SEED ^ len(data)) & _32_BITS
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * _MIX & _32_BITS
        word = (word ^ word >> _SHIFT) * _MIX & _32_BITS
        found = (found * _MIX & _32_BITS) ^ word
    if rest := data[whole:]:
        found = (found ^ int.from_bytes(rest, "little")) * _MIX & _32_BITS
    found = (found ^ found >> 13) * _MIX & _32_BITS
    return found ^ found >> 15

"""
Records on their way into a transaction, as the batches that Kafka takes: each partition's in order.

aiokafka encodes them (in C).  It compresses by LZ4 at its slowest level, so that is done here:
2.3 KB of ours in 3 us, a fifth of it left, where zstd takes 28.
Format: Kafka's message format 2, "RecordBatch" (https://kafka.apache.org/documentation/#recordbatch).
"""

import struct
from collections import deque
from typing import Final

import cramjam
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streams.core.outputs import Header
from streams.kafka.reader import Place

BATCH_BYTES: Final = 512 * 1024  # half of what a topic takes by default; a larger record goes alone
COMPRESSED_FROM: Final = 1024  # bytes
FORMAT: Final = 2
SEQUENCES_N: Final = 2**31  # then they begin anew

# Where in a batch: its length behind that field, and its CRC, of all from the attributes on.
_LENGTH, _CRC, _ATTRIBUTES, _RECORDS = 8, 17, 21, 61
_LZ4: Final = 3


class Batch:
    """Some records of one partition."""

    def __init__(self) -> None:
        self.records_n = 0
        self._builder = DefaultRecordBatchBuilder(
            magic=FORMAT,
            compression_type=0,
            is_transactional=1,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            batch_size=BATCH_BYTES,
        )

    def add(
        self, now_ms: int, key: bytes | None, value: bytes | None, headers: list[Header]
    ) -> bool:
        """Add a record; return whether there was room."""
        if self._builder.append(self.records_n, now_ms, key, value, headers) is None:
            return False
        self.records_n += 1
        return True

    def sealed(self, producer: tuple[int, int], sequence: int) -> bytes:
        """Return the batch of a *producer* (id and epoch), whose first record has *sequence*."""
        self._builder.set_producer_state(*producer, sequence)
        data = self._builder.build()
        return bytes(data if len(data) < COMPRESSED_FROM else _compressed(data))


class Batches:
    """The records of one transaction by their places; `sealed` gives their batches, once."""

    def __init__(self) -> None:
        self._open: dict[Place, list[Batch]] = {}

    def put(
        self,
        place: Place,
        now_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: list[Header],
    ) -> None:
        """Add a record; *headers* hold bytes alone."""
        batches = self._open.get(place)
        if batches is None:
            batches = self._open[place] = [Batch()]
        if not batches[-1].add(now_ms, key, value, headers):
            batches.append(Batch())
            batches[-1].add(now_ms, key, value, headers)

    def clear(self) -> None:
        """Forget all of them."""
        self._open.clear()

    def places(self) -> dict[str, list[int]]:
        """Return which partitions of each topic there are records for."""
        found: dict[str, list[int]] = {}
        for topic, number in self._open:
            found.setdefault(topic, []).append(number)
        return found

    def sealed(
        self, producer: tuple[int, int], sequences: dict[Place, int]
    ) -> dict[Place, deque[tuple[bytes, int]]]:
        """Return each place's batches with their numbers of records; *sequences* go on by those."""
        found: dict[Place, deque[tuple[bytes, int]]] = {}
        for place, batches in self._open.items():
            sequence = sequences.get(place, 0)
            sealed = found[place] = deque()
            for batch in batches:
                sealed.append((batch.sealed(producer, sequence), batch.records_n))
                sequence = (sequence + batch.records_n) % SEQUENCES_N
            sequences[place] = sequence
        self._open.clear()
        return found


def _compressed(batch: bytearray) -> bytearray:
    """Return *batch* with its records compressed, if that makes it smaller."""
    compressor = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
    compressor.compress(bytes(memoryview(batch)[_RECORDS:]))
    smaller = batch[:_RECORDS] + bytes(compressor.finish())
    if len(smaller) >= len(batch):
        return batch
    (attributes,) = struct.unpack_from(">h", smaller, _ATTRIBUTES)
    struct.pack_into(">h", smaller, _ATTRIBUTES, attributes | _LZ4)
    struct.pack_into(">i", smaller, _LENGTH, len(smaller) - _LENGTH - 4)
    struct.pack_into(">I", smaller, _CRC, calc_crc32c(bytes(smaller[_ATTRIBUTES:])))
    return smaller

"""
The local store of one partition: RocksDB, a copy of the partition's changelogs.

Every write is one WriteBatch with the changelog offsets it reaches, so that whatever survives a
crash is a state that once was.  The log of writes is not synced: what a power cut takes is read
from the changelog again.  One block cache and one write buffer budget serve all partitions.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
)

from streams.errors import Halt
from streams.state import rows

BLOCK_BYTES: Final = 8 * 1024
BLOOM_BITS: Final = 10  # 1 % false positives: most content is new, and asks for what is not there
WRITE_BUFFER_BYTES: Final = 16 * 1024 * 1024  # of one partition
WRITE_BUFFERS_BYTES: Final = 96 * 1024 * 1024  # of all partitions together

_REACHED: Final = rows.META + b"reached/"
_IDENTITY: Final = rows.META + b"identity/"
_LAST_USED: Final = rows.META + b"last_used"

Row = tuple[bytes, bytes | None]  # key and value; None deletes


class Memory:
    """The memory that all stores of a process share."""

    def __init__(self, block_cache_bytes: int) -> None:
        self.cache = Cache(block_cache_bytes)
        self.write_buffers = WriteBufferManager(WRITE_BUFFERS_BYTES, allow_stall=False)


class Reached(NamedTuple):
    """How far a store has come in one changelog: the topic's id, and the next offset."""

    topic_id: str
    offset: int


class Store:
    """
    One partition's rows, ordered by key.

    Raises `Halt` where the folder cannot be opened: another process has it, or it is broken.
    """

    def __init__(self, path: Path, memory: Memory) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = Rdict(
                str(path), options=_options(memory), access_type=AccessType.read_write()
            )
        except Exception as error:  # rocksdict raises bare Exception
            raise Halt(f"{path}: the local store cannot be opened: {error}") from error

    def close(self) -> None:
        """Give the folder up; the store cannot be used afterwards."""
        self._db.close()

    def destroy(self) -> None:
        """Close the store and remove its folder."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of *key*."""
        value: bytes | None = self._db.get(key)
        return value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of *keys*, in their order."""
        values: list[bytes | None] = self._db.get(keys) or []  # type: ignore[arg-type]
        return values

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows whose key begins with *prefix*, behind the key *prefix* + *after*."""
        options = ReadOptions()
        options.set_iterate_upper_bound(_successor(prefix))
        start = prefix + after
        for key, value in self._db.items(from_key=start, read_opt=options):
            assert isinstance(key, bytes)
            if not after or key != start:
                yield key, value

    def write(self, batch: Iterable[Row], reached: Mapping[str, Reached]) -> None:
        """Apply *batch* and the changelog offsets it reaches (by topic), or nothing of it."""
        writes = WriteBatch(raw_mode=True)
        put, delete = writes.put, writes.delete
        for key, value in batch:
            if value is None:
                delete(key)
            else:
                put(key, value)
        for topic, at in reached.items():
            put(_REACHED + topic.encode(), rows.encode_number(at.offset))
            put(_IDENTITY + topic.encode(), at.topic_id.encode())
        self._db.write(writes)

    def reached(self, topic: str) -> Reached | None:
        """Return how far the store has come in changelog *topic*; None where it has not begun."""
        offset = self.get(_REACHED + topic.encode())
        identity = self.get(_IDENTITY + topic.encode())
        if offset is None or identity is None:
            return None
        return Reached(identity.decode(), rows.decode_number(offset))

    def last_used_ms(self) -> int:
        """Return when the store was last marked as in use; 0 for never."""
        found = self.get(_LAST_USED)
        return 0 if found is None else rows.decode_number(found)

    def mark_used(self, now_ms: int) -> None:
        """Note that the store is in use at *now_ms*."""
        self._db.put(_LAST_USED, rows.encode_number(now_ms))


def _successor(prefix: bytes) -> bytes:
    """Return the least key greater than all that begin with *prefix*."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1])


def _options(memory: Memory) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_manager(memory.write_buffers)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_max_background_jobs(2)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_keep_log_file_num(1)
    options.set_max_log_file_size(1024 * 1024)
    options.set_stats_dump_period_sec(0)
    options.set_max_total_wal_size(4 * WRITE_BUFFER_BYTES)
    options.set_max_open_files(256)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(memory.cache)
    blocks.set_block_size(BLOCK_BYTES)
    blocks.set_bloom_filter(BLOOM_BITS, False)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options.set_block_based_table_factory(blocks)
    return options

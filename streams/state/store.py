"""
The local store of one partition: RocksDB, a copy of the partition's changelogs.

Every write is one WriteBatch with the changelog offsets it reaches, so that whatever survives a
crash is a state that once was.  The log of writes is not synced: what a power cut takes is read
from the changelog again.  One block cache and one write buffer budget serve all partitions.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DbClosedError,
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

BROKEN_MARK: Final = "BROKEN"  # a file in the folder: a read has found that its data are damaged
# What RocksDB says where its files may be whole: no right, room or handle, or another has it.
_OF_THE_MACHINE: Final = (
    "/LOCK:",
    "No space left",
    "Disk quota exceeded",
    "File too large",
    "Permission denied",
    "Read-only file system",
    "Too many open files",
)

Row = rows.Row


class Memory:
    """The memory that all stores of a process share."""

    def __init__(self, block_cache_bytes: int) -> None:
        self.cache = Cache(block_cache_bytes)
        self.write_buffers = WriteBufferManager(WRITE_BUFFERS_BYTES, allow_stall=False)


class Broken(Halt):
    """The store's files are not what was written to them: nothing in them can be relied on."""


class Reached(NamedTuple):
    """How far a store has come in one changelog: the topic's id, and the next offset."""

    topic_id: str
    offset: int


class Store:
    """
    One partition's rows, ordered by key.

    Raises `Halt` where the folder cannot be opened, as another process has it, or used, as the disk
    is full, and `Broken` where its files are damaged.  Damage found later leaves a mark, and the
    next opening raises `Broken`.
    """

    def __init__(self, path: Path, memory: Memory) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if (path / BROKEN_MARK).exists():
            raise Broken(f"{path}: the local store was found damaged when it was last in use")
        try:
            self._db = Rdict(
                str(path), options=_options(memory), access_type=AccessType.read_write()
            )
        except Exception as error:  # rocksdict raises bare Exception
            kind = Broken if _is_damage(error) else Halt
            raise kind(f"{path}: the local store cannot be opened: {error}") from error

    def close(self) -> None:
        """Give the folder up; the store cannot be used afterwards.  Damage may show only here."""
        try:
            self._db.close()
        except Exception as error:  # rocksdict raises bare Exception
            raise self._failure(error) from error

    def destroy(self) -> None:
        """Close the store and remove its folder."""
        self.close()
        remove(self.path)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of *key*."""
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:  # rocksdict raises bare Exception
            raise self._failure(error) from error
        return value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of *keys*, in their order."""
        try:
            values: list[bytes | None] = self._db.get(keys) or []  # type: ignore[arg-type]
        except Exception as error:
            raise self._failure(error) from error
        return values

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows whose key begins with *prefix*, behind the key *prefix* + *after*."""
        options = ReadOptions()
        options.set_iterate_upper_bound(_successor(prefix))
        start = prefix + after
        key = start
        for key, value in self._db.items(from_key=start, read_opt=options):  # type: ignore[assignment]
            if not after or key != start:
                yield key, value
        self._check_end(key, options)

    def _check_end(self, key: bytes, options: ReadOptions) -> None:
        """Raise where a scan ended behind *key* as nothing more can be read: it does not say so."""
        again = self._db.iter(options)
        again.seek(key)
        if again.valid():
            again.next()
        try:
            again.status()
        except Exception as error:
            raise self._failure(error) from error

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
        try:
            self._db.write(writes)
        except Exception as error:
            raise self._failure(error) from error

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

    def _failure(self, error: Exception) -> Exception:
        """Return what to raise for *error*; damage is marked, so that the next opening knows."""
        if isinstance(error, DbClosedError):
            return error
        if not _is_damage(error):
            return Halt(
                f"{self.path}: the local store cannot be read or written: {error}. Nothing is "
                "lost, the changelogs have it: make room or mend the disk, and start the worker "
                "again"
            )
        with suppress(OSError):
            (self.path / BROKEN_MARK).write_text(str(error))
        return Broken(
            f"{self.path}: the local store is damaged: {error}. Start the worker again: it throws "
            "the store away and restores it from the changelogs; if it happens twice, see to the "
            "disk"
        )


def remove(path: Path) -> None:
    """Remove the folder of a store that is not open."""
    shutil.rmtree(path, ignore_errors=True)


def _is_damage(error: Exception) -> bool:
    text = str(error)
    return not any(words in text for words in _OF_THE_MACHINE)


def _successor(prefix: bytes) -> bytes:
    """Return the least key greater than all that begin with *prefix*."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1])


def _options(memory: Memory) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_paranoid_checks(True)  # RocksDB's default, on which we rely
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

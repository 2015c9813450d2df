"""
Which receipts a file's objections must have, and which of them are missing.

Hashes of the receipts' keys are in memory, 17 bytes a row; the keys themselves, to name what is
missing, are in a temporary file.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Final, NamedTuple, Self

import msgspec
import numpy as np

from streams.core.subjects import PLAIN, Subjects
from streams.importing.mapping import Records
from streams.training.hashing import TEXT_BYTES_MAX, Hasher, Hashes
from streams.training.table import ABSENT, Table

_LENGTH_BYTES: Final = 8

Key = tuple[bytes, bytes]  # the user's id, and what follows it in the key of a receipt


class Missing(NamedTuple):
    """A row whose objection has no receipt: its line; user_id, objection_id and action."""

    line: int
    key: str


class Expected:
    """The receipts, of users named by *subjects*; `with` lets go of its file."""

    def __init__(self, subjects: Subjects = PLAIN) -> None:
        self._subjects = subjects
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (it ends with us)
        self._hasher = Hasher()
        self._table = Table(np.bool_)
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, numbers: Sequence[int], records: Records) -> None:
        """Expect a receipt of each record that is good."""
        lines: list[int] = []
        keys: list[Key] = []
        rows = zip(numbers, records.keys, records.ids, records.actions, strict=True)
        for line, user, objection_id, action in rows:
            if user is not None:
                lines.append(line)
                keys.append((user, f"/{objection_id}/{action}".encode()))
        if not keys:
            return
        self.rows += len(keys)
        frame = msgspec.msgpack.encode((lines, keys))
        self._file.write(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame)
        self._table.put(self._hashes(map(self._key, keys)), np.zeros(len(keys), np.bool_))

    def settle(self) -> None:
        """Know that there will be no more."""
        self._table.settle()

    def seen(self, keys: Sequence[bytes]) -> None:
        """Know that there are receipts with *keys*."""
        at = self._table.find(self._hashes(keys))
        self._table.columns[0][at[at != ABSENT]] = True

    def missing(self) -> Iterator[Missing]:
        """Yield the rows without a receipt, in the file's order."""
        self._file.seek(0)
        while head := self._file.read(_LENGTH_BYTES):
            frame = self._file.read(int.from_bytes(head, "big"))
            lines, keys = msgspec.msgpack.decode(frame, type=tuple[list[int], list[Key]])
            hashes = self._hashes(map(self._key, keys))
            has = self._table.columns[0][self._table.find(hashes)]
            for at in np.flatnonzero(~has).tolist():
                yield Missing(lines[at], b"".join(keys[at]).decode())

    def _key(self, key: Key) -> bytes:
        """Return the key of the receipt."""
        user_id, rest = key
        if self._subjects.keyed:
            user_id = self._subjects.of(user_id.decode()).encode()
        return user_id + rest

    def _hashes(self, keys: Iterable[bytes]) -> Hashes:
        return self._hasher.of([_short(key) for key in keys])


def _short(key: bytes) -> bytes:
    """Return *key*, or a digest of one that is too long to be hashed at once."""
    return key if len(key) <= TEXT_BYTES_MAX else hashlib.sha256(key).digest()

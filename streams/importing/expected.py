"""
Which receipts a file's objections must have, and which of them are missing.

Hashes of the receipts' keys are in memory, 17 bytes a row; the keys themselves, to name what is
missing, are in a temporary file.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Final, NamedTuple, Self

import msgspec
import numpy as np

from streams.importing.mapping import Records
from streams.training.hashing import TEXT_BYTES_MAX, Hasher, Hashes
from streams.training.table import ABSENT, Table

_LENGTH_BYTES: Final = 8


class Missing(NamedTuple):
    """A row whose objection has no receipt: its line, and the receipt's key."""

    line: int
    key: str


class Expected:
    """The receipts that must be there; `with` lets go of its file."""

    def __init__(self) -> None:
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
        lines, keys = [], []
        rows = zip(numbers, records.keys, records.ids, records.actions, strict=True)
        for line, user, objection_id, action in rows:
            if user is not None:
                lines.append(line)
                keys.append(b"%b/%b/%b" % (user, objection_id.encode(), action.encode()))
        if not keys:
            return
        self.rows += len(keys)
        frame = msgspec.msgpack.encode((lines, keys))
        self._file.write(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame)
        self._table.put(self._hashes(keys), np.zeros(len(keys), np.bool_))

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
            lines, keys = msgspec.msgpack.decode(frame, type=tuple[list[int], list[bytes]])
            has = self._table.columns[0][self._table.find(self._hashes(keys))]
            for at in np.flatnonzero(~has).tolist():
                yield Missing(lines[at], keys[at].decode())

    def _hashes(self, keys: Sequence[bytes]) -> Hashes:
        return self._hasher.of([_short(key) for key in keys])


def _short(key: bytes) -> bytes:
    """Return *key*, or a digest of one that is too long to be hashed at once."""
    return key if len(key) <= TEXT_BYTES_MAX else hashlib.sha256(key).digest()

"""
An index on disk, so that the next job reads only what has come since.

One file for each cluster, prefix and pair of topics, written whole and renamed.  It is brought up
to date from its positions, and made anew when these say nothing any more: topics made anew, records
lost, positions so old that tombstones may be gone, a file that is damaged or of another version.
It holds hashes, their secret key and offsets; no ids.
"""

import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct

from streams.core.refusals import REFUSALS
from streams.errors import UsageProblem
from streams.files.durable import sync_folder
from streams.training.hashing import Hasher, Hashes
from streams.training.index import Index
from streams.training.positions import Positions

VERSION: Final = 1
_HEADER_BYTES: Final = 1024 * 1024  # twelve partitions take 1 KB


@dataclass(frozen=True, slots=True)
class Stored:
    """An index and the positions it stands for."""

    index: Index
    positions: Positions


class _Header(Struct, frozen=True):
    """The file's first line; the arrays follow as numpy writes them."""

    version: int
    key: bytes
    positions: Positions
    checksums: list[int]


def file_for(folder: Path, positions: Positions) -> Path:
    """Return the file for the topics of *positions*, whatever the offsets."""
    identity = msgspec.json.encode(positions.topic_ids())
    return folder / f"allowed-{hashlib.sha256(identity).hexdigest()[:32]}.index"


def load(folder: Path, end: Positions) -> tuple[Stored | None, str]:
    """
    Return the index stored for the topics of *end* if it can be brought up to date to there.

    Else None, and why; the reason is empty where nothing is stored.
    """
    path = file_for(folder, end)
    try:
        stored = _load(path)
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, TypeError, EOFError, *REFUSALS) as error:
        return None, f"{path} cannot be used ({error})"
    why = stored.positions.contradiction(end) or stored.positions.too_old(end)
    return (stored, "") if why is None else (None, f"{path} cannot be used: {why}")


def _load(path: Path) -> Stored:
    with path.open("rb") as file:
        header = msgspec.json.decode(file.readline(_HEADER_BYTES), type=_Header)
        if header.version != VERSION:
            message = f"it is of version {header.version}, expected {VERSION}"
            raise ValueError(message)
        arrays = [np.load(file, allow_pickle=False) for _ in header.checksums]
    if [_checksum(each) for each in arrays] != header.checksums:
        message = "it is damaged: a checksum differs"
        raise ValueError(message)
    index = Index(Hasher(header.key))
    high, low, account_high, account_low, user_high, user_low, stands = arrays
    index.items.restore(Hashes(high, low), account_high, account_low)
    index.accounts.restore(Hashes(user_high, user_low), stands)
    index.settle()
    return Stored(index, header.positions)


def save(folder: Path, stored: Stored) -> None:
    """Write *stored*, settled, instead of what is there; raises UsageProblem."""
    index = stored.index
    arrays = [
        *index.items.hashes,
        *index.items.columns,
        *index.accounts.hashes,
        *index.accounts.columns,
    ]
    checksums = [_checksum(each) for each in arrays]
    header = _Header(VERSION, index.hasher.key, stored.positions, checksums)
    path = file_for(folder, stored.positions)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The key is secret: who knows it could choose ids that meet.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(header) + b"\n")
            for each in arrays:
                np.save(file, each, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        message = (
            f"the index cannot be stored in {folder} ({error}). Expected a folder that can be "
            "written to. Remedy: name another with --cache, or leave it out."
        )
        raise UsageProblem(message) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder)


def _checksum(array: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data) if array.size else 0

"""
How far an import has got: `FILE.import.json`, beside the file, so that the next run goes on.

It moves on only when Kafka has acknowledged all rows before: a row is never passed over.  It names
the input by its size and the hash of its beginning and end, and the topic by Kafka's own id.
"""

import hashlib
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from streams.core.refusals import REFUSALS
from streams.errors import UsageProblem
from streams.files.durable import write_durably
from streams.importing.mapping import Rules

SUFFIX: Final = ".import.json"
HASHED_BYTES: Final = 1024 * 1024  # at the beginning, and at the end
REMEDY: Final = (
    "Remedy: --restart imports it from its beginning; rows that are there already change nothing."
)


class Identity(Struct, frozen=True):
    """Which file it is."""

    size_bytes: int
    sha256_of_edges: str


class Topic(Struct, frozen=True):
    """Which topic it goes to: the name in full, and Kafka's ids."""

    name: str
    topic_id: str
    cluster_id: str


class Place(Struct, kw_only=True):
    """
    rows: all before are acknowledged, or refused.
    ends: when it was finished, where each partition of the topic ended: its records lie before.
    """

    tool: str
    input: Identity
    format: str
    delimiter: str
    topic: Topic
    rules: Rules
    rows: int = 0
    at: str = ""
    finished: bool = False
    ends: list[int] = []


def beside(path: Path) -> Path:
    """Return where the place of the input at *path* is kept."""
    return path.with_name(path.name + SUFFIX)


def identity(path: Path) -> Identity:
    """Return which file is at *path*; raises OSError."""
    size = path.stat().st_size
    found = hashlib.sha256()
    with path.open("rb") as file:
        found.update(file.read(HASHED_BYTES))
        file.seek(max(size - HASHED_BYTES, 0))
        found.update(file.read(HASHED_BYTES))
    return Identity(size, found.hexdigest())


def read(path: Path) -> Place | None:
    """Return the place kept at *path*, None where there is none; raises UsageProblem."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Place)
    except FileNotFoundError:
        return None
    except (OSError, *REFUSALS) as error:
        message = f"{path} cannot be read as the place of an import: {error}. {REMEDY}"
        raise UsageProblem(message) from error


def write(path: Path, place: Place) -> None:
    """Keep *place*; raises UsageProblem where that is not possible."""
    try:
        write_durably(path, msgspec.json.format(msgspec.json.encode(place), indent=2) + b"\n")
    except OSError as error:
        message = (
            f"{path} cannot be written: {error}. How far an import has got is kept there. "
            "Remedy: put the file into a folder that can be written to."
        )
        raise UsageProblem(message) from error


def going_on(kept: Place, now: Place, path: Path) -> None:
    """Raise UsageProblem where *now* is not the import whose place was *kept* at *path*."""
    if kept.input != now.input:
        raise UsageProblem(f"{path} speaks of another file: this one has changed since. {REMEDY}")
    if kept.topic != now.topic:
        found = f"{now.topic.name} ({now.topic.topic_id}) of cluster {now.topic.cluster_id}"
        was = f"{kept.topic.name} ({kept.topic.topic_id}) of cluster {kept.topic.cluster_id}"
        raise UsageProblem(f"{path} speaks of topic {was}; this is {found}. {REMEDY}")
    was_read = kept.format, kept.delimiter, kept.rules
    if was_read != (now.format, now.delimiter, now.rules):
        said = msgspec.json.encode(kept.rules).decode()
        raise UsageProblem(
            f"{path}: the import began with other options ({kept.format}, {said}). Remedy: give "
            "the same ones to go on; --restart imports it from its beginning with these."
        )

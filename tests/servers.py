"""
Servers of tests' own, on free ports and in temporary folders, from the programs installed here.

A test that asks for one says so in its fixtures: without the program it is skipped, with the
reason, and fails where CI is set.
"""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from streams.kafka.local import free_port
from tests.worker_settings import wait_for


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
        pytest.skip("no redis-server here: apt-get install redis-server")
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
        wait_for(lambda: _answers(client), "Redis")
        client.close()
        yield RedisServer(f"redis://127.0.0.1:{port}/0", folder, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False

"""
Servers of tests' own: `streams.testing.servers`, where a program that is not there means a skip.

A test that asks for one says so in its fixtures: without the program it is skipped, with the
reason, and fails where CI is set.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streams.testing import servers
from streams.testing.servers import ABSENT, Absent, PostgresServer, RedisServer

__all__ = ["ABSENT", "PostgresServer", "RedisServer", "postgres_server", "redis_server"]


@contextmanager
def redis_server(folder: Path, *options: str, port: int | None = None) -> Iterator[RedisServer]:
    """Run a Redis with *options* (`--appendonly`, `yes`); its data is kept in *folder*."""
    with _or_skip(), servers.redis_server(folder, *options, port=port) as server:
        yield server


@contextmanager
def postgres_server(**settings: str) -> Iterator[PostgresServer]:
    """Run a PostgreSQL with pgvector and *settings* of its configuration file."""
    with _or_skip(), servers.postgres_server(**settings) as server:
        yield server


@contextmanager
def _or_skip() -> Iterator[None]:
    try:
        yield
    except Absent as absent:
        pytest.skip(str(absent))

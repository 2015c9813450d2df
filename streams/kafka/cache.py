"""
The user's cache: what is fetched or built once, and is there whole or not at all.

It is made in a folder of its own, which gets its final name only when it is complete, and under a
lock: neither an interruption nor a second process leaves half of anything behind.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

_STAGING: Final = "fetching-"

Say = Callable[[str], None]


def say_on_stderr(message: str) -> None:
    """Tell people what takes long, without mixing it into a command's output."""
    click.echo(message, err=True)


def cache_folder() -> Path:
    """Return this project's folder in the user's cache, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "objection-streams"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_once(
    name: str, is_whole: Callable[[Path], object], make: Callable[[Path], Path], say: Say
) -> Path:
    """
    Return folder *name* of the cache, made by *make* unless it *is_whole*.

    make: gets an empty folder to work in, and returns what becomes the cache's.
    """
    folder = cache_folder() / name
    if is_whole(folder):
        return folder
    with _lock(folder.parent / "fetch.lock", say):
        if is_whole(folder):  # Another process may have made it while this one waited.
            return folder
        for left_over in folder.parent.glob(f"{_STAGING}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_STAGING, dir=folder.parent) as staging:
            made = make(Path(staging))
            shutil.rmtree(folder, ignore_errors=True)
            made.replace(folder)
    assert is_whole(folder), f"{folder} is incomplete right after it was made"
    return folder


@contextmanager
def _lock(path: Path, say: Say) -> Iterator[None]:
    """Hold the lock *path* among processes; it ends with the process at the latest."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another process that fetches something ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

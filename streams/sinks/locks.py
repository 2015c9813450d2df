"""
Locks between processes that write a store in a local folder: one for each partition number.

Taken by `flock`, so a process that dies lets go of them.
"""

import fcntl
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from streams.errors import Busy

WAIT_S_MAX: Final = 60.0
_POLL_S: Final = 0.01


class PartitionLocks:
    """
    The locks of one writer below *folder*.

    Each partition number has one owner at a time; `everything` is for work on all of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def hold(self, partitions: Iterable[int]) -> None:
        """Wait until the partition numbers are ours; `Busy` when that takes over a minute."""
        self._take("everything", fcntl.LOCK_SH)
        for partition in sorted(partitions):  # In one order, or two writers wait for each other.
            self._take(f"partition-{partition}", fcntl.LOCK_EX)

    def everything(self) -> None:
        """Wait until nobody else holds anything."""
        self.release()
        self._take("everything", fcntl.LOCK_EX)

    def release(self) -> None:
        while self._held:
            _, descriptor = self._held.popitem()
            _close(descriptor)

    def _take(self, name: str, how: int) -> None:
        if name in self._held:
            return
        descriptor = _open(self._folder / name)
        deadline = time.monotonic() + WAIT_S_MAX
        while True:
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    _close(descriptor)
                    raise Busy(f"{self._folder / name} is held by another writer", 1.0) from None
                time.sleep(_POLL_S)
            else:
                self._held[name] = descriptor
                return


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _close(descriptor: int) -> None:
    os.close(descriptor)

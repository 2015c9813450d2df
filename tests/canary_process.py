"""`objections canary` as a process."""

from typing import ClassVar

from tests.worker_process import Worker


class Canary(Worker):
    """Takes a turn, and the next one after a pause that is longer than a test."""

    command: ClassVar[str] = "canary"
    arguments: ClassVar[tuple[str, ...]] = ("--every-s", "300")


class HastyCanary(Canary):
    """Takes turn after turn."""

    arguments: ClassVar[tuple[str, ...]] = ("--every-s", "1")

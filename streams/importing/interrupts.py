"""
Ctrl-C and SIGTERM while rows are counted: they wait until a slice of rows is sent and counted.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """The first signal waits for the end of a shield, a second one does not."""

    def __init__(self) -> None:
        self._shielded = False
        self._asked = False

    def install(self) -> None:
        """Take over SIGINT and SIGTERM of this process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Let what is in the block be done whole."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if self._asked:
            self._asked = False
            raise KeyboardInterrupt

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if self._shielded and not self._asked:
            self._asked = True
            return
        signal.signal(number, signal.default_int_handler)
        raise KeyboardInterrupt

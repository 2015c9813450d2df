"""
What commands that serve until they are told to end have in common.
"""

import asyncio
import logging
import signal
import sys
from concurrent.futures import Future
from typing import Any


def log_to_stderr() -> None:
    """Let what is logged be seen: what a supervisor keeps."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )


class Ending:
    """The end of a server: Ctrl-C, SIGTERM, or the failure of what it runs; of the running loop."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._failure: asyncio.Future[None] | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._asked.set)

    async def wait(self, failure: "Future[None] | asyncio.Future[None]") -> None:
        """Return when somebody asks for the end, or *failure* is done."""
        self._failure = asyncio.wrap_future(failure)
        asked = asyncio.ensure_future(self._asked.wait())
        ends: set[asyncio.Future[Any]] = {asked, self._failure}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()

    def check(self) -> None:
        """Raise the failure, if there was one; after everything was let go of."""
        if self._failure is not None and self._failure.done():
            self._failure.result()

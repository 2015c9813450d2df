"""
`objections monitor` as a server: looks every second and at each scrape, and answers HTTP.

One thread looks; the event loop answers with what was seen last, and ages it.
"""

import asyncio
import logging
import threading
import time
from concurrent.futures import Future
from typing import Final

from aiohttp import web

from streams.kafka.admin import Counted
from streams.monitor import table
from streams.monitor.series import Series
from streams.monitor.watcher import Watcher, count_partitions
from streams.serving import Ending, log_to_stderr
from streams.settings import Settings
from streams.worker.http import Server, check_token

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
READ_S: Final = 0.1  # of the changelog at a time: how late a scrape's wish is noticed
FRESH_WITHIN_S: Final = 1.5  # a scrape waits no longer for a look of its own
OUTDATED_S: Final = 10.0  # a look older than that is no sign of being ready


class Monitor(threading.Thread):
    """
    Looks until stopped.

    failure: done, with what ended it, when it ends by itself.
    """

    def __init__(self, settings: Settings, counted: Counted) -> None:
        super().__init__(name="monitor", daemon=True)
        self.failure: Future[None] = Future()
        self.watcher = Watcher(settings, counted, self._fail)
        self._partitions_n = counted.partitions_n
        self._stopping = threading.Event()
        self._asked = threading.Event()
        self._turn = threading.Condition()
        self._begun_n = self._ended_n = 0  # looks

    def stop(self) -> None:
        """End the thread, and return once it has let go of Kafka."""
        self._stopping.set()
        self.join()

    def fresh(self) -> None:
        """Return once a look has ended that began after this call, unless Kafka is slow or away."""
        if self.watcher.sight.problem:
            return
        with self._turn:
            wanted = self._begun_n + 1
            self._asked.set()
            self._turn.wait_for(lambda: self._ended_n >= wanted, FRESH_WITHIN_S)

    def ready(self) -> tuple[bool, str]:
        """Return whether all there is to tell is known, as of now; or what is missing."""
        if missing := self.watcher.missing():
            return False, missing
        age_s = time.time() - self.watcher.sight.looked_ms / 1000
        if age_s > OUTDATED_S:
            return False, f"Kafka has told nothing for {age_s:.0f} s"
        return True, f"watching {self._partitions_n} partitions"

    def run(self) -> None:
        """Look, and read on between looks."""
        try:
            with self.watcher as watcher:
                while not self._stopping.is_set():
                    self._look()
                    next_s = time.monotonic() + LOOK_EVERY_S
                    while not (self._stopping.is_set() or self._asked.is_set()):
                        left_s = next_s - time.monotonic()
                        if left_s <= 0:
                            break
                        watcher.follow(min(READ_S, left_s))
        except BaseException as error:  # noqa: BLE001  (handed to the event loop)
            self._fail(error)

    def _look(self) -> None:
        with self._turn:
            self._asked.clear()
            self._begun_n += 1
        self.watcher.look()
        with self._turn:
            self._ended_n = self._begun_n
            self._turn.notify_all()

    def _fail(self, error: BaseException) -> None:
        if not (self._stopping.is_set() or self.failure.done()):
            self.failure.set_exception(error)


class _Http(Server):
    """Answers with what a look of now tells."""

    def __init__(self, settings: Settings, monitor: Monitor) -> None:
        super().__init__(settings, monitor, Series(monitor.watcher))
        self._monitor = monitor

    async def _exposition(self, request: web.Request) -> web.Response:
        await asyncio.to_thread(self._monitor.fresh)
        return await super()._exposition(request)

    async def _page(self, _request: web.Request) -> web.Response:
        await asyncio.to_thread(self._monitor.fresh)
        now_ms = int(time.time() * 1000)
        _, detail = self._monitor.ready()
        shown = table.lines(self._monitor.watcher.sight, now_ms)
        return web.Response(text="\n".join([detail, "", *shown, ""]))


def run_monitor(settings: Settings) -> None:
    """
    Serve until Ctrl-C or SIGTERM.

    Raises CommandError: Unreachable where there is no Kafka at the start, UsageProblem where the
    address of OBJECTIONS_HTTP is taken.
    """
    check_token(settings)
    log_to_stderr()
    counted = count_partitions(settings)
    asyncio.run(_serve(settings, counted))


async def _serve(settings: Settings, counted: Counted) -> None:
    ending = Ending()
    monitor = Monitor(settings, counted)
    server = _Http(settings, monitor)
    monitor.start()
    try:
        await server.start()
        logger.info(
            "monitor of group %s, %d partitions: http://%s/metrics",
            settings.group,
            counted.partitions_n,
            server.address,
        )
        await ending.wait(monitor.failure)
    finally:
        await server.stop()
        await asyncio.to_thread(monitor.stop)
    ending.check()

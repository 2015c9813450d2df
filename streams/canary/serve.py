"""
`objections canary` as a server: a thread takes turn after turn, the event loop answers HTTP.
"""

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from itertools import count, cycle
from typing import Final

from aiohttp import web
from confluent_kafka import KafkaException

from streams.canary.account import Account, account
from streams.canary.erasures import Erasures
from streams.canary.numbers import Numbers
from streams.canary.turn import Stopped, Turns
from streams.core.policy import Policy
from streams.errors import UsageProblem
from streams.kafka import admin
from streams.monitor.levels import StoreLevels
from streams.policy_file import policy_of
from streams.serving import Ending, log_to_stderr
from streams.settings import Settings
from streams.worker.acknowledgements import Acknowledgements
from streams.worker.http import Server, check_token
from streams.worker.names import DECISIONS, INPUTS
from streams.worker.receipt_notes import Following

logger = logging.getLogger(__name__)

FIRST_ANSWER_S: Final = 5.0
LOOK_S: Final = 0.2  # how late an erasure may be noticed between turns
AGAIN_S: Final = 1.0  # after Kafka has not told where to begin
GOODBYE_S: Final = 2.0  # at the end, for the accounts to be deleted


class Canary(threading.Thread):
    """
    Takes turns until stopped, a partition at a time, with a pause of *every_s* between two.

    Accounts are new every day, as objections of one account add up.
    failure: done, with what ended it, when it ends by itself.
    """

    def __init__(
        self, settings: Settings, policy: Policy, partitions_n: int, every_s: float
    ) -> None:
        super().__init__(name="canary", daemon=True)
        self.failure: Future[None] = Future()
        self.numbers = Numbers(
            [each.name for each in settings.stores],
            [each.name for each in settings.stores if Following.of(each).erases],
        )
        self.at = ""  # what is done at the moment, for people
        self._settings = settings
        self._policy = policy
        self._partitions_n = partitions_n
        self._every_s = every_s
        self._stopping = threading.Event()
        self._levels = StoreLevels(partitions_n, self._fail)
        self._erasures = Erasures(self._levels, self.numbers)
        self._run = uuid.uuid4().hex[:8]
        self._objections = count()
        self._accounts: dict[int, tuple[Account, str]] = {}  # and the objection that stands
        self._day = ""

    def stop(self) -> None:
        """End the thread, and return once it has let go of Kafka."""
        self._stopping.set()
        self.join()

    def ready(self) -> tuple[bool, str]:
        """Return whether acknowledgements are read, and what it does."""
        if not self._levels.known:
            return False, "the stores' acknowledgements are read"
        return True, self.at or "about to begin"

    def run(self) -> None:
        """Take turns."""
        acknowledgements = Acknowledgements(self._settings, self._levels, self._partitions_n)
        acknowledgements.start()
        turns = self._turns(self._stopping.is_set)
        try:
            for number in cycle(range(self._partitions_n)):
                self._turn(turns, number)
                self._pause()
        except Stopped:
            self._say_goodbye()
        except BaseException as error:  # noqa: BLE001  (handed to the event loop)
            self._fail(error)
        finally:
            turns.close()
            acknowledgements.stop()
            acknowledgements.join()

    def _turns(self, stopping: Callable[[], bool]) -> Turns:
        return Turns(self._settings, self._levels, self.numbers, self._erasures, stopping)

    def _pause(self) -> None:
        """Wait for the next turn, and note what is erased meanwhile."""
        until_s = time.monotonic() + self._every_s
        while (left_s := until_s - time.monotonic()) > 0:
            if self._stopping.wait(min(left_s, LOOK_S)):
                raise Stopped
            self._erasures.look()

    def _turn(self, turns: Turns, number: int) -> None:
        self._begin_day(turns)
        now_ms = int(time.time() * 1000)
        objection_id = f"{self._run}-{next(self._objections)}"
        if number in self._accounts:
            who, standing = self._accounts[number]
            before = [who.objection(standing, "withdrawn")]
        else:
            who = self._new(number)
            before = who.introduced(now_ms)
        self._accounts[number] = who, objection_id
        self.at = f"partition {number}: {who.user_id}"
        try:
            hidden = turns.take(who, number, before, objection_id)
        except KafkaException as error:
            logger.warning("%s: Kafka does not tell: %s", self.at, error.args[0].str())
            self.numbers.given_up()
            self._accounts.pop(number, None)  # who knows what was said of it
            if self._stopping.wait(AGAIN_S):
                raise Stopped from None
            return
        if hidden:
            self.numbers.turned("hidden")
            return
        logger.warning("%s was not allowed: nothing to measure there", self.at)
        self._accounts.pop(number, None)
        turns.send([who.deleted(now_ms)])
        self.numbers.turned("not_allowed")

    def _begin_day(self, turns: Turns) -> None:
        day = datetime.now(UTC).strftime("%Y%m%d")
        if day == self._day:
            return
        self._day = day
        now_ms = int(time.time() * 1000)
        turns.send([who.deleted(now_ms) for who, _ in self._accounts.values()])
        self._accounts.clear()

    def _new(self, number: int) -> Account:
        name = f"{self._day}-{self._run}-{next(self._objections)}"
        subjects = self._settings.subjects()
        return account(name, number, self._partitions_n, self._policy, subjects)

    def _say_goodbye(self) -> None:
        """Delete the accounts, so that nothing is left of them; a Kafka that is away is left."""
        until_s = time.monotonic() + GOODBYE_S
        late = lambda: time.monotonic() > until_s  # noqa: E731
        turns = self._turns(late)
        try:
            now_ms = int(time.time() * 1000)
            turns.send([who.deleted(now_ms) for who, _ in self._accounts.values()])
        except Stopped:
            logger.warning("the canary's accounts could not be deleted: Kafka does not answer")
        finally:
            turns.close()

    def _fail(self, error: BaseException) -> None:
        if not (self._stopping.is_set() or self.failure.done()):
            self.failure.set_exception(error)


class _Http(Server):
    def __init__(self, settings: Settings, canary: Canary) -> None:
        super().__init__(settings, canary, canary.numbers)
        self._canary = canary

    async def _page(self, _request: web.Request) -> web.Response:
        waiting = self._canary.numbers.waiting_s().items()
        lines = [self._canary.ready()[1], *(f"{name}: {age_s:.1f} s" for name, age_s in waiting)]
        return web.Response(text="\n".join([*lines, ""]))


def run_canary(settings: Settings, every_s: float) -> None:
    """
    Serve until Ctrl-C or SIGTERM.

    Raises UsageProblem where there is no store or no address, CommandError as `monitor` does.
    """
    if not settings.stores:
        raise UsageProblem(
            "OBJECTIONS_STORES is not set, expected the data stores that are to be measured, as "
            "the workers have it: NAME=TOPIC+TOPIC;NAME=group:GROUP:TOPIC."
        )
    check_token(settings)
    policy = policy_of(settings.policy)
    log_to_stderr()
    names = (*INPUTS, *DECISIONS)
    partitions_n = admin.count_partitions(settings, names, timeout_s=FIRST_ANSWER_S)
    canary = Canary(settings, policy, partitions_n, every_s)
    asyncio.run(_serve(settings, canary))


async def _serve(settings: Settings, canary: Canary) -> None:
    ending = Ending()
    server = _Http(settings, canary)
    canary.start()
    try:
        await server.start()
        logger.info("canary of group %s: http://%s/metrics", settings.group, server.address)
        await ending.wait(canary.failure)
    finally:
        await server.stop()
        await asyncio.to_thread(canary.stop)
    ending.check()

"""
`objections intake` from start to end: two addresses, one for people and one for operators.
"""

import asyncio
import gc
import logging
from typing import Final

import uvloop
from aiohttp import web

from streams.errors import UsageProblem
from streams.intake.api import Api, bad_request, problem
from streams.intake.counter import Counter
from streams.intake.desk import Desk
from streams.intake.guard import BODY_BYTES_MAX, Guard, add_headers, whole_s
from streams.intake.metrics import IntakeMetrics
from streams.intake.sender import Sender
from streams.intake.texts import drafts
from streams.intake.tokens import Signer
from streams.intake.web import Web
from streams.kafka import admin
from streams.serving import Ending, log_to_stderr
from streams.settings import Settings
from streams.worker.http import Server, check_token, is_loopback, listen
from streams.worker.names import OBJECTIONS, RECEIPTS

logger = logging.getLogger(__name__)

ANSWER_S: Final = 5.0
COLLECT_EVERY_OBJECTS: Final = 20_000  # some dozen MB at the most
LAST_ANSWER_S: Final = 2.0  # librdkafka looks once a second what it has not delivered in time
BACKLOG_CONNECTIONS: Final = 4_096  # Linux's own limit: what comes in some seconds of standstill
HTTP_VARIABLE: Final = "OBJECTIONS_INTAKE_HTTP"

# The server's own words may quote a request's first line, and with it a token.
_SILENT: Final = logging.getLogger(f"{__name__}.http")
_SILENT.disabled = True


class _Operators(Server):
    """Answers on OBJECTIONS_HTTP, by the rules of worker and monitor."""

    async def _page(self, _request: web.Request) -> web.Response:
        _, detail = self._readiness.ready()
        return web.Response(text=f"{detail}\n")


def make_app(
    settings: Settings, signer: Signer, counter: Counter, metrics: IntakeMetrics
) -> web.Application:
    """Return what answers people and programs."""
    guard = Guard(metrics, settings.intake_rate, settings.intake_proxies)
    pages = Web(signer, counter, guard, settings.intake_contact)

    def page(request: web.Request, key: str, status: int, wait_s: float) -> web.Response:
        return pages.message(request, key, status, seconds=whole_s(wait_s))

    app = web.Application(
        middlewares=[guard.middleware(page, problem, bad_request)], client_max_size=BODY_BYTES_MAX
    )
    app.add_routes([*pages.routes(), *Api(signer, counter, guard).routes()])
    app.on_response_prepare.append(add_headers)
    return app


def run_intake(settings: Settings) -> None:
    """
    Serve until Ctrl-C or SIGTERM.

    Raises CommandError: Unreachable where there is no Kafka at the start, CheckFailed where topics
    are missing, UsageProblem where a setting is missing or an address is taken.
    """
    check_token(settings)
    if not settings.intake_key:
        raise UsageProblem(
            "OBJECTIONS_INTAKE_KEY is not set, so nobody can tell whose a link is. Remedy: set it, "
            "here and where the links of notices are made (`openssl rand -hex 32` makes one)."
        )
    log_to_stderr()
    partitions_n = admin.count_partitions(settings, (OBJECTIONS, RECEIPTS), timeout_s=ANSWER_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, partitions_n))


async def _serve(settings: Settings, partitions_n: int) -> None:
    ending = Ending()
    metrics, sender = IntakeMetrics(), Sender(settings)
    desk = Desk(settings, partitions_n, settings.state_dir / "intake")
    counter = Counter(sender, desk, metrics)
    operators = _Operators(settings, desk, metrics)
    app = make_app(settings, Signer(settings.intake_key), counter, metrics)
    last_answer_s = settings.intake_confirm_ms / 1000 + LAST_ANSWER_S
    runner = web.AppRunner(app, access_log=None, logger=_SILENT, shutdown_timeout=last_answer_s)
    sender.start()
    desk.start()
    try:
        address = await listen(
            runner, *settings.intake_http, HTTP_VARIABLE, backlog=BACKLOG_CONNECTIONS
        )
        await operators.start()
        _announce(settings, address, operators.address)
        _rest_collector()
        await ending.wait(desk.failure)
    finally:
        await runner.cleanup()  # what is under way is answered first
        await operators.stop()
        await sender.stop()
        desk.stop()
    ending.check()


def _rest_collector() -> None:
    """
    Let Python look for cycles seldom, and not among what stays: it took an eighth of the time.

    Nearly all that a request makes goes with its last reference.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY_OBJECTS, 20, 20)


def _announce(settings: Settings, address: str, operators: str) -> None:
    logger.info(
        "form: http://%s/, API: /api/v1/openapi.json; metrics: http://%s/metrics",
        address,
        operators,
    )
    if not is_loopback(settings.intake_http[0]):
        logger.warning(
            "the form listens on %s without encryption: let a proxy add it, and say how many "
            "proxies there are in OBJECTIONS_INTAKE_PROXIES (now %d)",
            address,
            settings.intake_proxies,
        )
    if unread := drafts():
        logger.warning(
            "texts in %s are machine drafts that nobody whose language it is has looked at: see "
            "streams/intake/texts",
            ", ".join(unread),
        )

"""
A worker's HTTP: a status page, its metrics, and whether it lives and serves.

Runs in the worker's event loop, so that what it reads is never half-changed.
Reads only, and shows no record of any user; still, it listens on 127.0.0.1 unless told otherwise,
and on any other address it demands a token.  /healthz and /readyz go without: probes carry no
secrets easily, and learn no more from them than that the process runs, and serves.
"""

import errno
import hmac
import ipaddress
import logging
from abc import ABC, abstractmethod
from typing import Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from streams.errors import UsageProblem
from streams.metrics import CONTENT_TYPE
from streams.settings import Settings
from streams.worker.page import Page
from streams.worker.page_html import SCRIPT_HASH, render

logger = logging.getLogger(__name__)

SHUTDOWN_S: Final = 1.0  # A scrape in flight may end; nobody may hold up the worker's own end.

_HEADERS: Final = {
    "Cache-Control": "no-store",  # Every answer is about this moment.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    f"script-src '{SCRIPT_HASH}'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

_OPEN: Final = frozenset({"/healthz", "/readyz"})
_SCHEME: Final = "Bearer "

# What to do about an address that cannot be taken.
_REMEDIES: Final = {
    errno.EADDRINUSE: "another process listens there (a worker and a monitor do by default): "
    "stop it, set {variable} to another port, or let port 0 take a free one",
    errno.EACCES: "this user may not listen there: choose a port from 1024",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose one of its own, or 127.0.0.1",
}
_REMEDY: Final = "expected HOST:PORT of this machine, such as 127.0.0.1:6066"


class Readiness(Protocol):
    """Who knows whether it serves."""

    def ready(self) -> tuple[bool, str]:
        """Return whether it serves, and a line of text: what it serves, or what is missing."""


class Status(Readiness, Protocol):
    """Who knows how the worker is."""

    def page(self) -> Page:
        """Return what the status page shows."""


class Exposition(Protocol):
    """Who knows the numbers."""

    def text(self) -> bytes:
        """Return all metrics as CONTENT_TYPE says."""


class Server(ABC):
    """
    Answers `/`, `/metrics`, `/healthz` and `/readyz`.

    address: HOST:PORT it listens on, known after `start`; with port 0 the one it was given.
    """

    def __init__(self, settings: Settings, readiness: Readiness, metrics: Exposition) -> None:
        check_token(settings)
        self.address = ""
        self._token = settings.http_token
        self._host, self._port = settings.http_host, settings.http_port
        self._readiness = readiness
        self._metrics = metrics
        app = web.Application(middlewares=[self._let_in])
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/metrics", self._exposition),
                web.get("/healthz", self._healthy),
                web.get("/readyz", self._ready),
            ]
        )
        app.on_response_prepare.append(_add_headers)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)

    async def start(self) -> None:
        """
        Listen, and return when requests are taken.

        Raises UsageProblem when the address of OBJECTIONS_HTTP cannot be taken.
        """
        self.address = await listen(self._runner, self._host, self._port, "OBJECTIONS_HTTP")
        if self._token is not None:
            logger.info(
                "status page and metrics demand the token of OBJECTIONS_HTTP_TOKEN; /healthz and "
                "/readyz do not"
            )
        if not is_loopback(self._host):
            logger.warning(
                "HTTP listens on %s, for other machines, too, without encryption: let a proxy add "
                "it where the network is not yours alone",
                self.address,
            )

    async def stop(self) -> None:
        """Stop listening; may be called at any time, and again."""
        await self._runner.cleanup()

    @web.middleware
    async def _let_in(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer who needs no token or has it."""
        if self._token is None or request.path in _OPEN:
            return await handler(request)
        given = request.headers.get("Authorization", "")
        # In a time that tells nothing of how much of it was right.
        if hmac.compare_digest(
            given.encode(errors="surrogateescape"), f"{_SCHEME}{self._token}".encode()
        ):
            return await handler(request)
        text = f"expected the header `Authorization: {_SCHEME}` with OBJECTIONS_HTTP_TOKEN\n"
        return web.Response(text=text, status=401, headers={"WWW-Authenticate": "Bearer"})

    @abstractmethod
    async def _page(self, request: web.Request) -> web.Response:
        """Answer `/`."""

    async def _exposition(self, _request: web.Request) -> web.Response:
        response = web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})
        response.enable_compression()  # Only as far as the request accepts it.
        return response

    async def _healthy(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _request: web.Request) -> web.Response:
        ready, detail = self._readiness.ready()
        return web.Response(text=f"{detail}\n", status=200 if ready else 503)


class HttpServer(Server):
    """The worker's."""

    def __init__(self, settings: Settings, status: Status, metrics: Exposition) -> None:
        super().__init__(settings, status, metrics)
        self._status = status

    async def _page(self, request: web.Request) -> web.Response:
        ready, detail = self._status.ready()
        text = render(self._status.page(), ready, detail, refresh="refresh" in request.query)
        return web.Response(text=text, content_type="text/html")


async def listen(
    runner: web.AppRunner, host: str, port: int, variable: str, backlog: int = 128
) -> str:
    """
    Let *runner* take requests, and return the HOST:PORT it was given.

    backlog: connections that may wait to be taken; those beyond are broken off.
    Raises UsageProblem when the address, which *variable* holds, cannot be taken.
    """
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=backlog).start()
    except (OSError, UnicodeError) as error:  # The latter: no name of any machine.
        await runner.cleanup()
        remedy = _REMEDIES.get(getattr(error, "errno", None) or 0, _REMEDY)
        message = (
            f"{variable} is '{_shown(host, port)}', which cannot be listened on: {error}; "
            f"{remedy.format(variable=variable)}."
        )
        raise UsageProblem(message) from error
    return _shown(*runner.addresses[0][:2])


def check_token(settings: Settings) -> None:
    """Raise UsageProblem where HTTP would be open to other machines without a token."""
    if settings.http_token is None and not is_loopback(settings.http_host):
        address = _shown(settings.http_host, settings.http_port)
        message = (
            f"OBJECTIONS_HTTP is '{address}', which other machines can reach, and there is no "
            "OBJECTIONS_HTTP_TOKEN. Remedy: set it (`openssl rand -hex 32` makes one), or listen "
            "on 127.0.0.1."
        )
        raise UsageProblem(message)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach *host*; of other names than localhost: no."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

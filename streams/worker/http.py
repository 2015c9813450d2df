"""
A worker's HTTP: a status page, its metrics, and whether it lives and serves.

Runs in the worker's event loop, so that what it reads is never half-changed.
Reads only, and shows no record of any user; still, it listens on 127.0.0.1 unless told otherwise.
"""

import errno
from abc import ABC, abstractmethod
from typing import Final, Protocol

from aiohttp import web

from streams.errors import UsageProblem
from streams.metrics import CONTENT_TYPE
from streams.settings import Settings
from streams.worker.page import Page
from streams.worker.page_html import SCRIPT_HASH, render

SHUTDOWN_S: Final = 1.0  # A scrape in flight may end; nobody may hold up the worker's own end.

_HEADERS: Final = {
    "Cache-Control": "no-store",  # Every answer is about this moment.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    f"script-src '{SCRIPT_HASH}'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

# What to do about an address that cannot be taken.
_REMEDIES: Final = {
    errno.EADDRINUSE: "another process listens there (a worker and a monitor do by default): "
    "stop it, set OBJECTIONS_HTTP to another port, or let port 0 take a free one",
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
        self.address = ""
        self._host, self._port = settings.http_host, settings.http_port
        self._readiness = readiness
        self._metrics = metrics
        app = web.Application()
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
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except (OSError, UnicodeError) as error:  # The latter: no name of any machine.
            await self._runner.cleanup()
            remedy = _REMEDIES.get(getattr(error, "errno", None) or 0, _REMEDY)
            message = (
                f"OBJECTIONS_HTTP is '{_shown(self._host, self._port)}', "
                f"which cannot be listened on: {error}; {remedy}."
            )
            raise UsageProblem(message) from error
        host, port = self._runner.addresses[0][:2]
        self.address = _shown(host, port)

    async def stop(self) -> None:
        """Stop listening; may be called at any time, and again."""
        await self._runner.cleanup()

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


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""
Stands before every request: how often who may ask, what headers answers carry, what logs say.

Nothing of a request goes into a log: addresses, paths and tokens are personal.
"""

import logging
import time
import traceback
from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from streams.intake.html import STYLE_HASH
from streams.intake.limits import BURST_S, Limit, asker
from streams.intake.metrics import IntakeMetrics

logger = logging.getLogger(__name__)

PERSON_PER_S: Final = 0.2  # what one person sends; nobody objects more often
PERSON_BURST: Final = 10
BODY_BYTES_MAX: Final = 16 * 1024
API: Final = "/api/"

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src '{STYLE_HASH}'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # the address holds who objects; `no-referrer` hides Origin
    "Server": "objections",  # not which, and of what version
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


class BadRequest(Exception):
    """What a program sent is not what `openapi.yaml` says; the text quotes nothing of it."""


class Refused(Exception):
    """A request that gets nowhere: *reason* is one of the metrics' and a text's key."""

    def __init__(self, reason: str, status: int, wait_s: float = 0.0) -> None:
        super().__init__(reason, status, wait_s)
        self.reason = reason
        self.status = status
        self.wait_s = wait_s


Refusal = Callable[[web.Request, str, int, float], web.Response]  # key, status, seconds to wait


class Guard:
    """Lets requests pass; *per_s* of one address, behind *proxies* of ours."""

    def __init__(self, metrics: IntakeMetrics, per_s: int, proxies: int) -> None:
        self._metrics = metrics
        self._addresses = Limit(per_s, BURST_S * per_s)
        self._people = Limit(PERSON_PER_S, PERSON_BURST)
        self._proxies = proxies

    def person(self, user_id: str) -> None:
        """Let somebody send something.  Raises `Refused`."""
        wait_s = self._people.wait_s(user_id, time.monotonic())
        if wait_s:
            raise Refused("too_many", 429, wait_s)

    def refused(self, reason: str) -> None:
        """Count what is refused without being raised."""
        self._metrics.refused(reason)

    def middleware(
        self,
        page: Refusal,
        problem: Refusal,
        bad_request: Callable[[web.Request, str], web.Response],
    ) -> Middleware:
        """Return what wraps every handler; *page* and *problem* make answers for both kinds."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            refuse = problem if request.path.startswith(API) else page
            try:
                self._address(request)
                return await handler(request)
            except Refused as refused:
                self._metrics.refused(refused.reason)
                response = refuse(request, refused.reason, refused.status, refused.wait_s)
                if refused.wait_s:
                    response.headers["Retry-After"] = str(whole_s(refused.wait_s))
                return response
            except BadRequest as error:
                return bad_request(request, str(error))
            except web.HTTPException as error:
                if error.status < 400:
                    raise
                key = "missing" if error.status == 404 else "problem"
                response = refuse(request, key, error.status, 0.0)
                if "Allow" in error.headers:
                    response.headers["Allow"] = error.headers["Allow"]
                return response
            except Exception as error:  # noqa: BLE001  (a page for whoever asked, a line for us)
                logger.error("a request failed: %s", _where(error))
                return refuse(request, "problem", 500, 0.0)

        return guarded

    def _address(self, request: web.Request) -> None:
        forwarded = request.headers.getall("X-Forwarded-For", [])
        chain = [each for line in forwarded for each in line.split(",")]
        name = asker(request.remote or "", chain, self._proxies)
        wait_s = self._addresses.wait_s(name, time.monotonic())
        if wait_s:
            raise Refused("too_many", 429, wait_s)


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add what keeps pages and their readers safe."""
    response.headers.update(HEADERS)


def whole_s(wait_s: float) -> int:
    """Return full seconds, one at least."""
    return max(1, int(wait_s) + 1)


def _where(error: BaseException) -> str:
    """Return kind and place of an error; its words may quote what was sent."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    place = "" if last is None else f" at {last.filename.rpartition('/')[2]}:{last.lineno}"
    return f"{type(error).__name__}{place}"

"""
The same for programs: JSON, described in `openapi.yaml`, errors as RFC 9457 has them.
"""

import re
import time
from collections.abc import Sequence
from importlib.resources import files
from typing import Annotated, Any, Final, Literal

import msgspec
import yaml
from aiohttp import web
from msgspec import Meta, Struct

from streams.core.reasons import PRODUCTS
from streams.core.receipts import StoreProgress
from streams.core.refusals import REFUSALS
from streams.intake.counter import Counter
from streams.intake.desk import Receipts
from streams.intake.guard import BadRequest, Guard, Refused, whole_s
from streams.intake.html import NAMES
from streams.intake.sender import NotSaved
from streams.intake.tokens import Expired, Forged, Person, ReceiptOf, Signer, new_objection_id

PROBLEM_TYPE: Final = "application/problem+json"
State = Literal["waiting", "under_way", "complete", "reopened", "withdrawn"]

_SCHEME: Final = "Bearer "
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TITLES: Final = {
    "forged": "The token is not valid",
    "expired": "The token has expired",
    "elsewhere": "The request came from another website",
    "too_many": "Too many requests",
    "missing": "There is no such thing here",
    "problem": "The request cannot be answered",
}


class Objection(Struct, forbid_unknown_fields=True):
    """What a program sends to object."""

    products: (
        Annotated[
            list[Literal["facebook", "instagram", "whatsapp", "messenger"]],
            Meta(min_length=1, max_length=4),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    channel: Literal["in_app", "email", "web", "mail"] = "in_app"
    locale: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,35}$(?!\n)")] | msgspec.UnsetType = (
        msgspec.UNSET
    )


assert set(NAMES) == set(PRODUCTS)

_decode: Final = msgspec.json.Decoder(Objection).decode
_encode: Final = msgspec.json.Encoder().encode


class Told(Struct, kw_only=True):
    """How far an objection has got; *receipt* is the token of its page."""

    objection_id: str
    state: State
    receipt: str
    received_at: str | None = None
    decided_at: str | None = None
    published_at: str | None = None
    completed_at: str | None = None
    reopened_at: str | None = None
    stores: dict[str, StoreProgress] = {}


class Api:
    """Answers programs."""

    def __init__(self, signer: Signer, counter: Counter, guard: Guard) -> None:
        self._signer = signer
        self._counter = counter
        self._guard = guard
        self._description = _encode(description())

    def routes(self) -> Sequence[web.RouteDef]:
        """Return what is answered."""
        options: dict[str, Any] = {"allow_head": False}
        return [
            web.post("/api/v1/objections", self._object),
            web.get("/api/v1/objections", self._list, **options),
            web.get("/api/v1/receipts/{receipt}", self._receipt, **options),
            web.post("/api/v1/receipts/{receipt}/withdrawal", self._withdraw),
            web.get("/api/v1/openapi.json", self._describe, **options),
        ]

    async def _object(self, request: web.Request) -> web.Response:
        person, now_s = self._person(request), time.time()
        self._guard.person(person.user_id)
        objection_id = self._chosen_id(request, person)
        wanted = await _objection(request)
        products = PRODUCTS if wanted.products is msgspec.UNSET else wanted.products
        locale = person.locale if wanted.locale is msgspec.UNSET else wanted.locale
        try:
            await self._counter.file(
                person.user_id,
                objection_id,
                products,
                now_s,
                locale=locale,
                channel=wanted.channel,
            )
        except NotSaved:
            return _not_saved()
        return _json(self._told(person.user_id, objection_id), 201)

    async def _list(self, request: web.Request) -> web.Response:
        person = self._person(request)
        found = self._counter.desk.of_user(person.user_id)
        told = [self._told(person.user_id, each, known) for each, known in found.items()]
        return _json({"objections": told})

    async def _receipt(self, request: web.Request) -> web.Response:
        return _json(self._told(*self._receipt_of(request)))

    async def _withdraw(self, request: web.Request) -> web.Response:
        of = self._receipt_of(request)
        self._guard.person(of.user_id)
        try:
            await self._counter.withdraw(
                of.user_id, of.objection_id, time.time(), locale="", channel="in_app"
            )
        except NotSaved:
            return _not_saved()
        return _json(self._told(*of), 201)

    async def _describe(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._description, content_type="application/json")

    def _told(self, user_id: str, objection_id: str, known: Receipts | None = None) -> Told:
        if known is None:
            known = self._counter.desk.receipts(user_id, objection_id)
        receipt = known.get("filed")
        told = Told(
            objection_id=objection_id,
            state=_state(known),
            receipt=self._signer.receipt_token(user_id, objection_id, time.time()),
        )
        if "withdrawn" not in known and self._counter.knows(user_id, objection_id, "withdrawn"):
            told.state = "withdrawn"
        if receipt is not None:
            told.received_at, told.decided_at = receipt.received_at, receipt.decided_at
            told.published_at, told.completed_at = receipt.published_at, receipt.completed_at
            told.reopened_at, told.stores = receipt.reopened_at, receipt.stores
        return told

    def _person(self, request: web.Request) -> Person:
        given = request.headers.getall("Authorization", [])
        if len(given) != 1 or not given[0].startswith(_SCHEME):
            raise Refused("forged", 401)
        try:
            return self._signer.person(given[0].removeprefix(_SCHEME))
        except Expired:
            raise Refused("expired", 401) from None
        except Forged:
            raise Refused("forged", 401) from None

    def _receipt_of(self, request: web.Request) -> ReceiptOf:
        try:
            return self._signer.receipt(request.match_info["receipt"])
        except Expired:
            raise Refused("expired", 410) from None
        except Forged:
            raise Refused("forged", 404) from None

    def _chosen_id(self, request: web.Request, person: Person) -> str:
        keys = request.headers.getall("Idempotency-Key", [])
        if not keys:
            return new_objection_id()
        if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
            raise BadRequest("Idempotency-Key: expected 1 to 64 letters, digits, - or _")
        return self._signer.objection_id_of(person.user_id, keys[0])


def description() -> dict[str, Any]:
    """Return the OpenAPI document."""
    found: dict[str, Any] = yaml.safe_load(
        files(__package__).joinpath("openapi.yaml").read_text("utf-8")
    )
    return found


def problem(
    _request: web.Request, key: str, status: int, wait_s: float = 0.0, detail: str = ""
) -> web.Response:
    """Return an error as programs understand it."""
    told: dict[str, object] = {"type": "about:blank", "title": _TITLES[key], "status": status}
    if wait_s:
        detail = f"Try again in {whole_s(wait_s)} seconds"
    if detail:
        told["detail"] = detail
    response = web.Response(body=_encode(told), status=status, content_type=PROBLEM_TYPE)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def bad_request(request: web.Request, detail: str) -> web.Response:
    """Return what a program is told whose request is not as described."""
    return problem(request, "problem", 400, detail=detail)


async def _objection(request: web.Request) -> Objection:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType
    body = await request.read()
    try:
        body.decode()  # the decoder skips bytes that are no UTF-8 in places
        return _decode(body)
    except REFUSALS:
        text = "body: expected JSON as /api/v1/openapi.json describes it"
        raise BadRequest(text) from None


def _not_saved() -> web.Response:
    told = {
        "type": "about:blank",
        "title": "Nothing has been saved",
        "status": 503,
        "detail": "Send it again with the same Idempotency-Key",
    }
    headers = {"Retry-After": "10"}
    return web.Response(body=_encode(told), status=503, content_type=PROBLEM_TYPE, headers=headers)


def _state(known: Receipts) -> State:
    if "withdrawn" in known:
        return "withdrawn"
    receipt = known.get("filed")
    if receipt is None:
        return "waiting"
    if receipt.completed_at is not None and receipt.stores:
        return "complete"
    return "under_way" if receipt.reopened_at is None else "reopened"


def _json(content: object, status: int = 200) -> web.Response:
    return web.Response(body=_encode(content), status=status, content_type="application/json")

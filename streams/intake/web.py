"""
The pages' way over HTTP: a link opens the form, the form saves, a receipt tells and withdraws.

No cookie, no script, no login.  What is sent carries a signed word of the page it comes from.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from streams.core.reasons import PRODUCTS
from streams.intake.counter import Counter
from streams.intake.desk import Receipts
from streams.intake.guard import Guard, Refused
from streams.intake.html import (
    Earlier,
    FormView,
    Frame,
    ReceiptView,
    form_page,
    message_page,
    receipt_page,
)
from streams.intake.sender import NotSaved
from streams.intake.texts import choose
from streams.intake.tokens import Expired, Forged, Person, ReceiptOf, Signer

_FORM_TYPE: Final = "application/x-www-form-urlencoded"


class Web:
    """Answers people."""

    def __init__(self, signer: Signer, counter: Counter, guard: Guard, contact: str) -> None:
        self._signer = signer
        self._counter = counter
        self._guard = guard
        self._contact = contact

    def routes(self) -> Sequence[web.RouteDef]:
        """Return what is answered."""
        return [
            web.get("/", self._start),
            web.get("/robots.txt", _robots),
            web.get("/o/{token}", self._form),
            web.post("/o/{token}", self._object),
            web.get("/r/{token}", self._receipt),
            web.post("/r/{token}", self._withdraw),
        ]

    def message(
        self, request: web.Request, key: str, status: int, **values: object
    ) -> web.Response:
        """Return a page that says one thing."""
        return _answer(message_page(self._frame(request), key, **values), status)

    async def _start(self, request: web.Request) -> web.Response:
        return self.message(request, "start", 200)

    async def _form(self, request: web.Request) -> web.Response:
        person = self._person(request)
        word = self._signer.form_word(_form_of(person), time.time())
        view = FormView(word=word, earlier=self._earlier(person))
        return _answer(form_page(self._frame(request, person.locale), view))

    async def _object(self, request: web.Request) -> web.Response:
        person, now_s = self._person(request), time.time()
        frame = self._frame(request, person.locale)
        self._guard.person(person.user_id)
        sent = await self._sent(request)
        chosen = [each for each in PRODUCTS if each in sent.get("products", ())]
        word = _one(sent, "word")

        def shown_again(problem: str, word: str, status: int) -> web.Response:
            return _answer(
                form_page(frame, FormView(word=word, chosen=chosen, problem=problem)), status
            )

        try:
            objection_id = self._signer.objection_id(_form_of(person), word, now_s)
        except Expired:
            self._guard.refused("expired")
            fresh = self._signer.form_word(_form_of(person), now_s)
            return shown_again("stale", fresh, 409)
        except Forged:
            raise Refused("elsewhere", 403) from None
        if not chosen:
            return shown_again("products_missing", word, 422)
        again = self._counter.knows(person.user_id, objection_id, "filed")
        try:
            await self._counter.file(
                person.user_id, objection_id, chosen, now_s, locale=frame.texts.language
            )
        except NotSaved:
            return shown_again("not_saved", word, 503)
        token = self._signer.receipt_token(person.user_id, objection_id, now_s)
        how = "again" if again else "saved"
        raise web.HTTPSeeOther(f"../r/{token}?lang={frame.texts.language}&{how}=1")

    async def _receipt(self, request: web.Request) -> web.Response:
        return self._shown(request, self._receipt_of(request))

    async def _withdraw(self, request: web.Request) -> web.Response:
        of, now_s = self._receipt_of(request), time.time()
        frame = self._frame(request)
        self._guard.person(of.user_id)
        word = _one(await self._sent(request), "word")
        try:
            self._signer.objection_id(_withdrawal_of(of), word, now_s)
        except Expired:
            self._guard.refused("expired")
            return self._shown(request, of, "stale", 409)
        except Forged:
            raise Refused("elsewhere", 403) from None
        try:
            await self._counter.withdraw(
                of.user_id, of.objection_id, now_s, locale=frame.texts.language
            )
        except NotSaved:
            return self._shown(request, of, "not_saved", 503)
        raise web.HTTPSeeOther(f"{request.path.rpartition('/')[2]}?lang={frame.texts.language}")

    def _shown(
        self, request: web.Request, of: ReceiptOf, problem: str = "", status: int = 200
    ) -> web.Response:
        receipts = self._counter.desk.receipts(of.user_id, of.objection_id)
        view = ReceiptView(
            objection_id=of.objection_id,
            word=self._signer.form_word(_withdrawal_of(of), time.time()),
            receipt=receipts.get("filed"),
            withdrawn=self._counter.knows(of.user_id, of.objection_id, "withdrawn"),
            known=self._counter.desk.is_complete,
            saved="saved" in request.query,
            again="again" in request.query,
            problem=problem,
        )
        return _answer(receipt_page(self._frame(request), view), status)

    def _earlier(self, person: Person) -> list[Earlier]:
        now_s = time.time()
        found = self._counter.desk.of_user(person.user_id)
        return [
            Earlier(
                date=_date(receipts),
                href=f"../r/{self._signer.receipt_token(person.user_id, objection_id, now_s)}",
                withdrawn="withdrawn" in receipts,
            )
            for objection_id, receipts in found.items()
        ]

    def _person(self, request: web.Request) -> Person:
        try:
            return self._signer.person(request.match_info["token"])
        except Expired:
            raise Refused("expired", 410) from None
        except Forged:
            raise Refused("forged", 403) from None

    def _receipt_of(self, request: web.Request) -> ReceiptOf:
        try:
            return self._signer.receipt(request.match_info["token"])
        except Expired:
            raise Refused("expired", 410) from None
        except Forged:
            raise Refused("forged", 403) from None

    async def _sent(self, request: web.Request) -> Mapping[str, list[str]]:
        """Return what a form has sent, by field."""
        if _is_elsewhere(request):
            raise Refused("elsewhere", 403)
        if request.content_type != _FORM_TYPE:
            raise web.HTTPUnsupportedMediaType
        sent: dict[str, list[str]] = {}
        for name, value in (await request.post()).items():
            if isinstance(value, str):
                sent.setdefault(name, []).append(value)
        return sent

    def _frame(self, request: web.Request, locale: str = "") -> Frame:
        accepted = request.headers.get("Accept-Language", "")
        said = choose(request.query.get("lang", ""), locale, accepted=accepted)
        return Frame(texts=said, contact=self._contact)


async def _robots(_request: web.Request) -> web.Response:
    return web.Response(text="User-agent: *\nDisallow: /o/\nDisallow: /r/\nDisallow: /api/\n")


def _form_of(person: Person) -> str:
    return f"objection {person.user_id}"


def _withdrawal_of(of: ReceiptOf) -> str:
    return f"withdrawal {of.objection_id} {of.user_id}"


def _one(sent: Mapping[str, list[str]], name: str) -> str:
    values = sent.get(name, [""])
    return values[0] if len(values) == 1 else ""


def _date(receipts: Receipts) -> str:
    receipt = receipts.get("filed") or receipts["withdrawn"]
    return receipt.received_at[:10]


def _is_elsewhere(request: web.Request) -> bool:
    """Whether another website made the browser send this; browsers say so."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.host


def _answer(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html")

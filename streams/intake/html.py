"""
The pages as HTML: without scripts, for phones, keyboards and screen readers.

Pure: takes values, returns text.  Every text is escaped.  Objecting and withdrawing are one button
each, of the same make; nothing is ticked in anybody's favour but the reader's.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Final

from streams.core.reasons import PRODUCTS
from streams.core.receipts import Receipt
from streams.intake.texts import LANGUAGES, Texts, texts

NAMES: Final = {
    "facebook": "Facebook",
    "instagram": "Instagram",
    "whatsapp": "WhatsApp",
    "messenger": "Messenger",
}
_ALL: Final = set(PRODUCTS)
assert set(NAMES) == _ALL

_STYLE: Final = files(__package__).joinpath("page.css").read_text("utf-8")
# For the Content-Security-Policy: this style and no other.
STYLE_HASH: Final = "sha256-" + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What all pages share; *contact*: where to ask, "" for nowhere."""

    texts: Texts
    contact: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An objection that was made before; *href*: its receipt's page."""

    date: str
    href: str
    withdrawn: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FormView:
    """
    The form: what is chosen, the signed *word* it carries, and why it is shown again.

    problem: the texts' key of what went wrong, "" for nothing; `<problem>_title` is its heading.
    """

    word: str
    chosen: Sequence[str] = PRODUCTS
    problem: str = ""
    earlier: Sequence[Earlier] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptView:
    """
    How far an objection has got.

    receipt: None where none is known yet; known: whether receipts can be told at all.
    saved: it was saved just now; again: its form had been sent before.
    word: for the button that withdraws.  problem: as of a form.
    """

    objection_id: str
    word: str
    receipt: Receipt | None = None
    withdrawn: bool = False
    known: bool = True
    saved: bool = False
    again: bool = False
    problem: str = ""


def form_page(frame: Frame, view: FormView) -> str:
    """Return the page to object with."""
    say = frame.texts
    missing = view.problem == "products_missing"
    hint = f'<p id="hint">{_of(say, "products_hint")}</p>' if set(view.chosen) >= _ALL else ""
    told = " ".join((*(("hint",) if hint else ()), *(("problem",) if missing else ())))
    described = f' aria-describedby="{told}"' if told else ""
    invalid = ' aria-invalid="true"' if missing else ""
    choices = "".join(
        f'<div class="choice"><input type="checkbox" id="{each}" name="products" value="{each}"'
        f"{' checked' if each in view.chosen else ''}{invalid}>"
        f'<label for="{each}">{NAMES[each]}</label></div>'
        for each in PRODUCTS
    )
    body = [
        _problem(say, view.problem),
        f"<h1>{_of(say, 'title')}</h1>",
        *_earlier(say, view.earlier),
        f"<p>{_of(say, 'intro')}</p>",
        f'<form method="post" action="?lang={say.language}">',
        f'<input type="hidden" name="word" value="{escape(view.word)}">',
        f"<fieldset{described}><legend>{_of(say, 'products')}</legend>",
        f"{hint}{choices}</fieldset>",
        f"<p>{_of(say, 'what_next')}</p>",
        f'<button type="submit">{_of(say, "object_again" if view.earlier else "object")}</button>',
        "</form>",
    ]
    return _document(frame, _title(say, view.problem, "title"), body)


def receipt_page(frame: Frame, view: ReceiptView) -> str:
    """Return the page that tells how far an objection has got, and withdraws it."""
    say = frame.texts
    if view.withdrawn:
        key = "withdrawn_title"
        news = f'<div class="notice"><p>{_of(say, "withdrawn")}</p></div>'
    else:
        key = "saved_title" if view.saved or view.again else "status_title"
        state, tones = _state(view)
        tone = " ".join(("notice", *tones))
        news = f'<div class="{tone}" role="status"><p>{_of(say, state)}</p></div>'
    body = [
        _problem(say, view.problem),
        f"<h1>{_of(say, key)}</h1>",
        news,
        f"<p>{_of(say, 'again')}</p>" if view.again else "",
        f'<p>{_of(say, "number")}: <span class="number">{escape(view.objection_id)}</span></p>',
        f"<p>{_of(say, 'keep')}</p>",
        *(() if view.withdrawn else _progress(say, view.receipt)),
        *(() if view.withdrawn else _withdrawal(say, view.word)),
    ]
    return _document(frame, _title(say, view.problem, key), body)


def message_page(frame: Frame, key: str, **values: object) -> str:
    """Return a page that says one thing: `<key>_title`, and `<key>` where there is more to it."""
    say = frame.texts
    body = [f"<h1>{_of(say, f'{key}_title')}</h1>"]
    if key in say.entries:
        body.append(f"<p>{escape(say.fill(key, **values))}</p>")
    return _document(frame, say[f"{key}_title"], body)


def _state(view: ReceiptView) -> tuple[str, Sequence[str]]:
    """Return what a receipt comes to, and the classes of its tone."""
    receipt = view.receipt
    if not view.known and receipt is None:
        return "no_view", ()
    if receipt is None:
        return "waiting", ()
    if receipt.completed_at is not None and receipt.stores:
        return "complete", ("good",)
    return ("reopened" if receipt.reopened_at is not None else "under_way"), ()


def _earlier(say: Texts, earlier: Sequence[Earlier]) -> Iterable[str]:
    if not earlier:
        return
    yield f'<div class="notice"><h2>{_of(say, "earlier")}</h2><ul>'
    for each in earlier:
        text = say.fill("withdrawn_on" if each.withdrawn else "objected_on", date=each.date)
        yield f'<li><a href="{escape(each.href)}">{escape(text)}</a></li>'
    yield "</ul></div>"


def _progress(say: Texts, receipt: Receipt | None) -> Iterable[str]:
    if receipt is None:
        yield f'<p><a href="?lang={say.language}">{_of(say, "look_again")}</a></p>'
        return
    steps: list[tuple[str, str | None]] = [
        (say["received"], receipt.received_at),
        (say["decided"], receipt.decided_at),
        (say["published"], receipt.published_at),
    ]
    for name, store in receipt.stores.items():
        steps.append((say.fill("store_hidden", store=name), store.hidden_at))
        steps.append((say.fill("store_erased", store=name), store.erased_at))
    yield (
        f'<div class="scroll"><table><caption>{_of(say, "progress")}</caption><thead><tr>'
        f'<th scope="col">{_of(say, "step")}</th><th scope="col">{_of(say, "time")}</th></tr>'
        "</thead><tbody>"
    )
    for step, at in steps:
        when = _of(say, "not_yet") if at is None else _when(at)
        yield f'<tr><th scope="row">{escape(step)}</th><td>{when}</td></tr>'
    yield "</tbody></table></div>"
    yield f'<p><a href="?lang={say.language}">{_of(say, "look_again")}</a></p>'


def _withdrawal(say: Texts, word: str) -> Iterable[str]:
    yield f"<h2>{_of(say, 'withdraw_title')}</h2><p>{_of(say, 'withdraw_hint')}</p>"
    yield f'<form method="post" action="?lang={say.language}">'
    yield f'<input type="hidden" name="word" value="{escape(word)}">'
    yield f'<button type="submit">{_of(say, "withdraw")}</button></form>'


def _problem(say: Texts, key: str) -> str:
    if not key:
        return ""
    title = say[_problem_title(say, key)]
    return (
        f'<div class="notice bad" role="alert" id="problem"><h2>{escape(title)}</h2>'
        f"<p>{_of(say, key)}</p></div>"
    )


def _problem_title(say: Texts, key: str) -> str:
    return f"{key}_title" if f"{key}_title" in say.entries else "error_title"


def _title(say: Texts, problem: str, key: str) -> str:
    """Return the document's title: what went wrong comes first, as it is read out first."""
    return f"{say[_problem_title(say, problem)]} – {say[key]}" if problem else say[key]


def _document(frame: Frame, title: str, body: Iterable[str]) -> str:
    say = frame.texts
    current = ' aria-current="true"'
    languages = "".join(
        f'<li><a href="?lang={each}" lang="{each}" hreflang="{each}"'
        f"{current if each == say.language else ''}>{escape(texts(each)['name'])}</a></li>"
        for each in LANGUAGES
    )
    contact = (
        f'<p><a href="{escape(frame.contact)}">{_of(say, "contact")}</a></p>'
        if frame.contact
        else ""
    )
    return (
        f'<!DOCTYPE html>\n<html lang="{say.language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(each for each in body if each)
        + f"\n</main>\n<footer>{contact}<details><summary>{_of(say, 'languages')}</summary>"
        f'<ul class="languages">{languages}</ul></details></footer>\n</body>\n</html>\n'
    )


def _of(say: Texts, key: str) -> str:
    return escape(say[key])


def _when(at: str) -> str:
    """Return an RFC 3339 time in UTC for people: to the second, and the same in all languages."""
    shown = f"{at[:10]} {at[11:19]} UTC"
    return f'<time datetime="{escape(at)}">{escape(shown)}</time>'

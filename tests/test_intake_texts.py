"""The form's texts: all languages, all keys, the same placeholders."""

import string
import tomllib
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.receipts import Receipt, StoreProgress
from streams.intake.html import (
    Earlier,
    FormView,
    Frame,
    ReceiptView,
    form_page,
    message_page,
    receipt_page,
)
from streams.intake.texts import DEFAULT, LANGUAGES, choose, drafts, texts

MESSAGES = ("forged", "expired", "start", "elsewhere", "too_many", "missing", "problem")
TIME = "2026-04-15T09:00:00.123Z"
RECEIPT = Receipt("WEB-1", "u1", "filed", TIME, TIME, TIME, 3, {"index": StoreProgress(TIME, None)})


def placeholders(text: str) -> list[str]:
    """Return the names of what the program puts in."""
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


def test_all_official_languages_are_there() -> None:
    """
    The 24 languages of the European Union each have a file, and no other has.
    """
    found = {each.name for each in files("streams.intake").joinpath("texts").iterdir()}

    assert 24 == len(set(LANGUAGES))
    assert {f"{language}.toml" for language in LANGUAGES} == found
    assert 24 == len({texts(language)["name"] for language in LANGUAGES})


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_keys_are_there(language: str) -> None:
    """
    A language has the keys of English, none empty, none left in English, with its placeholders.
    """
    ours, english = texts(language).entries, texts(DEFAULT).entries

    assert list(english) == list(ours)
    for key, text in ours.items():
        assert text.strip() == text != ""
        assert placeholders(english[key]) == placeholders(text), key
    if language != DEFAULT:
        same = {key for key, text in ours.items() if text == english[key]}
        assert same <= {"progress"}  # Maltese has the word, too


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_can_be_made(language: str) -> None:
    """
    Every page, with every problem, is made in every language, and says which it is.
    """
    frame = Frame(texts=texts(language), contact="mailto:privacy@example.org")
    earlier = [Earlier(date="2026-04-15", href="../r/x", withdrawn=flag) for flag in (True, False)]
    pages = [
        form_page(frame, FormView(word="w", earlier=earlier)),
        *(
            form_page(frame, FormView(word="w", problem=each))
            for each in ("stale", "not_saved", "products_missing")
        ),
        *(
            receipt_page(frame, ReceiptView(objection_id="WEB-1", word="w", receipt=receipt))
            for receipt in (None, RECEIPT)
        ),
        receipt_page(frame, ReceiptView(objection_id="WEB-1", word="w", withdrawn=True)),
        *(message_page(frame, key, seconds=3) for key in MESSAGES),
    ]

    for page in pages:
        assert f'<html lang="{language}">' in page
        assert "{" not in page.partition("</style>")[2]
        assert "<script" not in page


def test_what_nobody_has_looked_at_is_said() -> None:
    """
    A language counts as reviewed only where its file says so.
    """
    said = {
        language: tomllib.loads(
            files("streams.intake").joinpath("texts", f"{language}.toml").read_text("utf-8")
        )["reviewed"]
        for language in LANGUAGES
    }

    assert [language for language in LANGUAGES if said[language] is not True] == drafts()
    assert DEFAULT not in drafts()


@pytest.mark.parametrize(
    "wishes,accepted,expected",
    [
        (["de"], "fr", "de"),
        (["", "pt-BR"], "", "pt"),
        (["xx", "sv_SE"], "", "sv"),
        ([], "fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", "fr"),
        ([], "ja;q=1, et;q=0.2, lv;q=0.4", "lv"),
        ([], "de;q=0", "en"),
        ([], "de;q=..", "en"),
        ([], "", "en"),
    ],
)
def test_language_is_chosen(wishes: list[str], accepted: str, expected: str) -> None:
    """
    What was asked for wins, then what the browser prefers, then English.
    """
    assert expected == choose(*wishes, accepted=accepted).language


@given(st.text(), st.text(), st.text())
def test_nothing_asked_for_breaks_it(wish: str, locale: str, accepted: str) -> None:
    """
    Whatever a request says, it is answered in one of the languages.
    """
    assert choose(wish, locale, accepted=accepted).language in LANGUAGES


@given(st.text(), st.text())
def test_everything_is_escaped(name: str, word: str) -> None:
    """
    Nothing put into a page ends the text it stands in.
    """
    assert _signs("x", "x") == _signs(name, word)


def _signs(name: str, word: str) -> tuple[int, int]:
    """Return how many tags there are on a page that shows *name* and carries *word*."""
    receipt = Receipt(name, "u", "filed", TIME, TIME, None, 0, {name: StoreProgress()})
    view = ReceiptView(objection_id=name, word=word, receipt=receipt)
    page = receipt_page(Frame(texts=texts("en")), view)
    return page.count("<"), page.count('"')

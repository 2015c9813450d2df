"""
What the pages say, in the 24 official languages of the European Union.

One file for each language in `texts/`, with the same keys and the same {placeholders}: a test sees
to that.  `reviewed` says whether somebody whose language it is has looked at it.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Final

# The order of the EU's own list: by the languages' names for themselves.
LANGUAGES: Final = (
    *("bg", "es", "cs", "da", "de", "et", "el", "en", "fr", "ga", "hr", "it"),
    *("lv", "lt", "hu", "mt", "nl", "pl", "pt", "ro", "sk", "sl", "fi", "sv"),
)
DEFAULT: Final = "en"
ACCEPTED_LENGTH_MAX: Final = 1_000  # of an Accept-Language header

_RANGE: Final = re.compile(r"([A-Za-z]{1,8})(?:-[A-Za-z0-9-]+)?(?:\s*;\s*q=([0-9.]{1,6}))?")


class Texts:
    """The texts of one language; those with placeholders are filled in by `fill`."""

    def __init__(self, language: str, entries: Mapping[str, str | bool]) -> None:
        self.language = language
        self.reviewed = entries["reviewed"] is True
        self.entries: dict[str, str] = {
            key: value for key, value in entries.items() if isinstance(value, str)
        }

    def __getitem__(self, key: str) -> str:
        return self.entries[key]

    def fill(self, key: str, **values: object) -> str:
        """Return a text with its placeholders filled in."""
        return self.entries[key].format(**values)


@cache
def texts(language: str) -> Texts:
    """Return the texts of one of `LANGUAGES`."""
    assert language in LANGUAGES, language
    data = files(__package__).joinpath("texts", f"{language}.toml").read_text("utf-8")
    return Texts(language, tomllib.loads(data))


def choose(*wishes: str, accepted: str = "") -> Texts:
    """Return the texts of the first of *wishes* there are, or of an Accept-Language header."""
    for wish in (*wishes, *_by_preference(accepted[:ACCEPTED_LENGTH_MAX])):
        language = wish[:8].lower().partition("-")[0].partition("_")[0]
        if language in LANGUAGES:
            return texts(language)
    return texts(DEFAULT)


def drafts() -> list[str]:
    """Return the languages that nobody whose language it is has looked at."""
    return [language for language in LANGUAGES if not texts(language).reviewed]


def _by_preference(accepted: str) -> Iterator[str]:
    found: list[tuple[float, int, str]] = []
    for part in accepted.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is not None:
            try:
                quality = float(match[2] or 1)
            except ValueError:
                continue
            if quality > 0:
                found.append((-quality, len(found), match[1]))
    return (language for _, _, language in sorted(found))

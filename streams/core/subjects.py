"""
How state and outputs name users: by their ids, or by pseudonyms made of them with a key.

A pseudonym is the HMAC-SHA-256 of the id's UTF-8 bytes, 64 hexadecimal digits: the same for ever,
of the same length for all, and of no use to whoever has not the key.  A record's user is renamed
as soon as it is decoded, so nothing behind that has to know which of the two it holds.  The
partition is that of the input record, as ever.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final

from streams.errors import UsageProblem

Headers = dict[str, str | bytes | None] | Sequence[tuple[str, str | bytes | None]] | None

HEADER: Final = "objections_subject_key"  # of outputs with pseudonyms: the key's fingerprint
VARIABLE: Final = "OBJECTIONS_SUBJECT_KEY"

CACHED_USERS_MAX: Final = 16_384  # some 5 MB
_BLOCK_BYTES: Final = 64  # of SHA-256
_FINGERPRINT_DIGITS: Final = 16
_FINGERPRINT: Final = re.compile("[0-9a-f]{16}")
_FINGERPRINT_OF: Final = b"\xffobjections subject key"  # no UTF-8, so nobody's id


class Subjects:
    """
    The names of users by *key*; without one they keep their ids.

    fingerprint: tells keys apart without telling anything else of them; "" without a key.
    of: returns the name of the user with an id.
    """

    def __init__(self, key: str | None = None) -> None:
        self.keyed = key is not None
        self.fingerprint = ""
        self.of: Callable[[str], str] = str
        if key is not None:
            digest = _hmac(key.encode())
            self.fingerprint = digest(_FINGERPRINT_OF)[:_FINGERPRINT_DIGITS]
            self.of = lru_cache(CACHED_USERS_MAX)(lambda user_id: digest(user_id.encode()))

    @property
    def headers(self) -> list[tuple[str, str | bytes | None]]:
        """What outputs carry besides, so that keys are never mixed unseen."""
        return [(HEADER, self.fingerprint)] if self.keyed else []

    def check(self, found: str, place: str) -> None:
        """
        Raise UsageProblem (exit status 2) where users at *place* are named by another key.

        found: the fingerprint that was found there, "" for ids as they are.
        """
        if found == self.fingerprint:
            return
        there = f"pseudonyms, by the key with fingerprint {found}" if found else "ids as they are"
        here = f"has the fingerprint {self.fingerprint}" if self.keyed else "is not set"
        remedy = "set the key it was begun with" if found else "unset it"
        raise UsageProblem(
            f"{place} names users by {there}, and {VARIABLE} {here}: expected the same for the "
            f"life of a prefix, or nobody could tell who is who. Remedy: {remedy}, or begin anew "
            "under another OBJECTIONS_TOPIC_PREFIX."
        )

    def check_record(self, headers: Headers, place: str) -> None:
        """Raise UsageProblem where the output record at *place* names its user by another key."""
        found = dict(headers or ()).get(HEADER) or ""
        text = found.decode(errors="replace") if isinstance(found, bytes) else found
        self.check(text if not text or _FINGERPRINT.fullmatch(text) else "(unreadable)", place)


PLAIN: Final = Subjects()


def _hmac(key: bytes) -> Callable[[bytes], str]:
    """
    Return HMAC-SHA-256 (RFC 2104) with *key*, in hexadecimal.

    By copies of hashes begun once: in Python 3.11 that takes less than half of what `hmac` does.
    """
    if len(key) > _BLOCK_BYTES:
        key = sha256(key).digest()
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    inner = sha256(bytes(byte ^ 0x36 for byte in padded))
    outer = sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(text: bytes) -> str:
        first, second = inner.copy(), outer.copy()
        first.update(text)
        second.update(first.digest())
        return second.hexdigest()

    return digest

"""
JSON Web Tokens (RFC 7519) signed with HMAC-SHA-256 (RFC 7515), and no others.

The signature is looked at first, as text, so that a token has one spelling; what it covers is
decoded only then.  A library for all algorithms asks of every key whether it is some certificate,
and took a third of what the form does for a submission (PyJWT; it is the peer in the tests).
Pure: the time is handed in.
"""

import base64
import binascii
import hmac
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from streams.core.refusals import REFUSALS


class NotSigned(Exception):
    """No token of these keys."""


class _Header(Struct):
    alg: str
    crit: Raw | UnsetType = UNSET  # of what has to be understood nothing is


class Times(Struct, kw_only=True):
    """What a token says of when it holds, in seconds since 1970; subclasses add the rest."""

    exp: float
    nbf: float | None = None

    def not_yet(self, now_s: float) -> bool:
        """Whether it does not hold yet."""
        return self.nbf is not None and self.nbf > now_s

    def no_longer(self, now_s: float) -> bool:
        """Whether it does not hold any longer."""
        return self.exp <= now_s


def sign(key: bytes, claims: object) -> str:
    """Return a token that says *claims*."""
    signed = f"{_OURS}.{_text(msgspec.json.encode(claims))}"
    return f"{signed}.{_mac(key, signed)}"


def verified(key: bytes, token: str) -> bytes:
    """Return what *token* says, as JSON.  Raises `NotSigned` where *key* has not signed it."""
    signed, _, mac = token.rpartition(".")
    if not (token.isascii() and hmac.compare_digest(mac, _mac(key, signed))):
        raise NotSigned
    header, dot, claims = signed.partition(".")
    if not dot or not _is_ours(header):
        raise NotSigned
    try:
        return _bytes(claims)
    except (binascii.Error, ValueError):
        raise NotSigned from None


@lru_cache(maxsize=64)  # every mailer has one, and spells it in its own way
def _is_ours(header: str) -> bool:
    try:
        said = msgspec.json.decode(_bytes(header), type=_Header)
    except REFUSALS:
        return False
    return said.alg == "HS256" and said.crit is UNSET


def _mac(key: bytes, signed: str) -> str:
    return _text(hmac.digest(key, signed.encode(), "sha256"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Return what base64url without padding stands for.  Raises ValueError."""
    if "=" in text or "+" in text or "/" in text:
        raise ValueError(text)
    padded = text + "=" * (-len(text) % 4)
    return base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)


_OURS: Final = _text(msgspec.json.encode({"alg": "HS256", "typ": "JWT"}))

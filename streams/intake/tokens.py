"""
Signed words: who objects (in a notice's link), which receipt, and which form was sent.

Links are JSON Web Tokens signed with HMAC-SHA-256, so that any mailer can make them; no other
algorithm is believed.  A form carries a word of ours that is good for some hours and for its
reader alone: another website cannot send it, and sent twice it is the same objection.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from streams.core.decode import ID_BYTES_MAX
from streams.errors import UsageProblem

try:
    import jwt
except ModuleNotFoundError as missing:
    text = f"links are signed with PyJWT ({missing}): pip install 'objection-streams[intake]'"
    raise UsageProblem(text) from missing

TOKEN_LENGTH_MAX: Final = 4_096
FORM_OPEN_S: Final = 12 * 3_600  # so long may a page stay open before its form is sent
RECEIPT_VALID_S: Final = 3 * 366 * 86_400
AHEAD_S: Final = 300.0  # clocks of other replicas may be ahead of ours

_ALGORITHM: Final = "HS256"
# Base64url without padding (RFC 7515): PyJWT passes over signs that do not belong there.
_COMPACT: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_FORM: Final = "objection-form"
_RECEIPT: Final = "objection-receipt"
_MAC_BYTES: Final = 16
_ID_BYTES: Final = 10


class Forged(Exception):
    """Not a word of ours, cut off, or for something else."""


class Expired(Exception):
    """A word of ours that no longer holds."""


class Person(NamedTuple):
    """Who a notice was sent to; *locale*: the language it was sent in, "" where it does not say."""

    user_id: str
    locale: str = ""


class ReceiptOf(NamedTuple):
    """Whose objection a receipt is of."""

    user_id: str
    objection_id: str


class Signer:
    """Signs with the first of *keys*, and believes all of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        assert keys, "no key to sign with"
        # Looked at once: PyJWT would look at every signature whether a text is some other key.
        self._keys = tuple(_prepared(key) for key in keys)
        self._derived = tuple(_derived(key) for key in keys)

    def link_token(self, user_id: str, expires_s: int, locale: str = "") -> str:
        """Return what a notice's link carries; *expires_s* is in seconds since 1970."""
        claims: dict[str, Any] = {"sub": user_id, "aud": _FORM, "exp": expires_s}
        return self._sign(claims | ({"locale": locale} if locale else {}))

    def person(self, token: str) -> Person:
        """Return whom a link's *token* names.  Raises `Forged`, `Expired`."""
        claims = self._claims(token, _FORM)
        locale = claims.get("locale")
        return Person(str(claims["sub"]), locale if isinstance(locale, str) else "")

    def receipt_token(self, user_id: str, objection_id: str, now_s: float) -> str:
        """Return what the address of a receipt's page carries."""
        expires_s = int(now_s) + RECEIPT_VALID_S
        claims = {"sub": user_id, "oid": objection_id, "aud": _RECEIPT, "exp": expires_s}
        return self._sign(claims)

    def receipt(self, token: str) -> ReceiptOf:
        """Return whose receipt *token* names.  Raises `Forged`, `Expired`."""
        claims = self._claims(token, _RECEIPT)
        objection_id = claims.get("oid")
        if not isinstance(objection_id, str) or not _is_id(objection_id):
            raise Forged
        return ReceiptOf(str(claims["sub"]), objection_id)

    def form_word(self, reader: str, now_s: float) -> str:
        """Return the word of a form that *reader* is shown at *now_s*."""
        word = f"{int(now_s)}.{secrets.token_urlsafe(12)}"
        return f"{word}.{_mac(self._derived[0], 'form', reader, word)}"

    def objection_id(self, reader: str, form_word: str, now_s: float) -> str:
        """
        Return the id of the objection that a form of *reader* files: the same for the same form.

        Raises `Forged`, `Expired`.
        """
        word, _, mac = form_word.rpartition(".")
        given = mac.encode("utf-8", "surrogatepass")
        for key in self._derived:
            if hmac.compare_digest(given, _mac(key, "form", reader, word).encode()):
                break
        else:
            raise Forged
        shown_s = int(word.partition(".")[0])  # ours, as it is signed
        if not shown_s - AHEAD_S <= now_s <= shown_s + FORM_OPEN_S:
            raise Expired
        return _number(key, reader, word)

    def objection_id_of(self, reader: str, chosen: str) -> str:
        """Return the id of the objection for which a program has chosen a key of its own."""
        return _number(self._derived[-1], reader, f"key.{chosen}")

    def _sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self._keys[0], algorithm=_ALGORITHM)

    def _claims(self, token: str, audience: str) -> dict[str, Any]:
        if len(token) > TOKEN_LENGTH_MAX or not _COMPACT.fullmatch(token):
            raise Forged
        for key in self._keys:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key,
                    algorithms=[_ALGORITHM],
                    audience=audience,
                    options={"require": ["exp", "sub", "aud"], "verify_iat": False},
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError:
                raise Expired from None
            except (jwt.PyJWTError, ValueError, RecursionError, OverflowError):
                raise Forged from None
            if not _is_id(claims["sub"]):
                raise Forged
            return claims
        raise Forged


def new_objection_id() -> str:
    """Return an id that nobody can guess."""
    return _shown(secrets.token_bytes(_ID_BYTES))


def _number(key: bytes, reader: str, word: str) -> str:
    digest = hmac.new(key, f"id\0{reader}\0{word}".encode(), hashlib.sha256).digest()
    return _shown(digest[:_ID_BYTES])


def _shown(data: bytes) -> str:
    """Return 80 bits as people can read them out: WEB-ABCD-EFGH-IJKL-MNOP."""
    text = base64.b32encode(data).decode()
    return "-".join(["WEB", *(text[at : at + 4] for at in range(0, len(text), 4))])


def _is_id(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return 0 < len(value.encode()) <= ID_BYTES_MAX
    except UnicodeEncodeError:
        return False


def _prepared(key: str) -> "jwt.PyJWK":
    octets = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    return jwt.PyJWK.from_dict({"kty": "oct", "k": octets}, algorithm=_ALGORITHM)


def _derived(key: str) -> bytes:
    """Return a key for words of our own, so that none of them is ever a link's signature."""
    return hmac.new(key.encode(), b"objections intake", hashlib.sha256).digest()


def _mac(key: bytes, *words: str) -> str:
    digest = hmac.new(key, "\0".join(words).encode("utf-8", "surrogatepass"), hashlib.sha256)
    return base64.urlsafe_b64encode(digest.digest()[:_MAC_BYTES]).decode().rstrip("=")

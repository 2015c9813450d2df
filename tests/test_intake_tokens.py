"""What is signed: links, receipts and forms; and how often who may ask."""

import base64
import hashlib
import hmac
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import SettingsError
from streams.intake.limits import Limit, asker
from streams.intake.tokens import FORM_OPEN_S, Expired, Forged, Signer, new_objection_id
from streams.settings import Settings

KEY, OTHER = "k" * 32, "o" * 32
FAR_S = 4_000_000_000
NOW_S = 1_800_000_000.0
SIGNER = Signer([KEY])
ids = st.text(min_size=1, max_size=60).filter(lambda text: text.isprintable())


def part(content: object) -> str:
    """Return a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@given(ids, st.sampled_from(["", "de", "fr-FR"]))
def test_a_link_names_its_person(user_id: str, locale: str) -> None:
    """What was signed is read again, by any of the keys."""
    token = SIGNER.link_token(user_id, FAR_S, locale)

    assert (user_id, locale) == SIGNER.person(token)
    assert (user_id, locale) == Signer([OTHER, KEY]).person(token)


@given(st.data())
def test_no_changed_link_is_believed(data: st.DataObject) -> None:
    """A link with any character changed, cut or added is forged."""
    token = SIGNER.link_token("u1", FAR_S)
    at = data.draw(st.integers(0, len(token) - 2))  # of the last sign a part only is read
    sign = data.draw(st.characters(codec="ascii").filter(lambda sign: sign != token[at]))

    for changed in (token[:at] + sign + token[at + 1 :], token[:at], token + sign):
        with pytest.raises(Forged):
            SIGNER.person(changed)


@given(st.text(max_size=200))
def test_nothing_else_is_believed(text: str) -> None:
    """No other text is a link, a receipt or a form."""
    with pytest.raises(Forged):
        SIGNER.person(text)
    with pytest.raises(Forged):
        SIGNER.receipt(text)
    with pytest.raises(Forged):
        SIGNER.objection_id("r", text, NOW_S)


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "u1", "aud": "objection-form"},
        {"exp": FAR_S, "aud": "objection-form"},
        {"sub": "u1", "exp": FAR_S},
        {"sub": "u1", "exp": FAR_S, "aud": "elsewhere"},
        {"sub": "u1", "exp": FAR_S, "aud": "objection-receipt", "oid": "o"},
        {"sub": 5, "exp": FAR_S, "aud": "objection-form"},
        {"sub": "", "exp": FAR_S, "aud": "objection-form"},
        {"sub": "ü" * 129, "exp": FAR_S, "aud": "objection-form"},
        {"sub": "u1", "exp": "never", "aud": "objection-form"},
        {"sub": "u1", "exp": 1e400, "aud": "objection-form"},
        {"sub": "u1", "exp": FAR_S, "nbf": FAR_S, "aud": "objection-form"},
    ],
    ids=str,
)
def test_what_lacks_is_not_believed(claims: dict[str, object]) -> None:
    """A signature is not enough: person, purpose and end have to be there, and fit."""
    with pytest.raises(Forged):
        SIGNER.person(_signed(claims))


def _signed(claims: object, header: object = {"alg": "HS256", "typ": "JWT"}) -> str:
    head = f"{part(header)}.{part(claims)}"
    mac = hmac.new(KEY.encode(), head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


@pytest.mark.parametrize("algorithm", ["none", "HS512", "RS256"])
def test_no_other_algorithm_is_believed(algorithm: str) -> None:
    """What a token says of its own algorithm does not matter."""
    claims = {"sub": "u1", "exp": FAR_S, "aud": "objection-form"}
    token = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}."

    with pytest.raises(Forged):
        SIGNER.person(token)
    if algorithm == "HS512":
        with pytest.raises(Forged):
            SIGNER.person(jwt.encode(claims, KEY * 2, algorithm="HS512"))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS512"},
        {"typ": "JWT"},
        {"alg": "HS256", "crit": ["exp"]},
        ["HS256"],
        {"alg": ["HS256"]},
    ],
    ids=str,
)
def test_a_header_that_says_something_else_is_not_believed(header: object) -> None:
    """Even with a signature that fits; the order of what it says does not matter."""
    claims = {"sub": "u1", "exp": FAR_S, "aud": "objection-form"}

    with pytest.raises(Forged):
        SIGNER.person(_signed(claims, header))
    assert ("u1", "") == SIGNER.person(_signed(claims, {"typ": "JWT", "alg": "HS256"}))


def test_ends() -> None:
    """An expired link says so; one that is expired and forged does not."""
    with pytest.raises(Expired):
        SIGNER.person(SIGNER.link_token("u1", 5))
    with pytest.raises(Forged):
        SIGNER.person(Signer([OTHER]).link_token("u1", 5))
    with pytest.raises(Expired):
        SIGNER.receipt(SIGNER.receipt_token("u1", "o1", 5))


def test_receipts_are_no_links() -> None:
    """A receipt's address opens no form, and a link no receipt."""
    receipt = SIGNER.receipt_token("u1", "o1", NOW_S)

    assert ("u1", "o1") == SIGNER.receipt(receipt)
    with pytest.raises(Forged):
        SIGNER.person(receipt)
    with pytest.raises(Forged):
        SIGNER.receipt(SIGNER.link_token("u1", FAR_S))


@given(ids)
def test_one_form_is_one_objection(reader: str) -> None:
    """A form sent twice is the same objection; another form, or reader, another one."""
    word, later = SIGNER.form_word(reader, NOW_S), SIGNER.form_word(reader, NOW_S)
    first = SIGNER.objection_id(reader, word, NOW_S)

    assert first == SIGNER.objection_id(reader, word, NOW_S + 60)
    assert first == Signer([OTHER, KEY]).objection_id(reader, word, NOW_S)
    assert first != SIGNER.objection_id(reader, later, NOW_S)
    with pytest.raises(Forged):
        SIGNER.objection_id(reader + "x", word, NOW_S)
    with pytest.raises(Forged):
        Signer([OTHER]).objection_id(reader, word, NOW_S)
    with pytest.raises(Expired):
        SIGNER.objection_id(reader, word, NOW_S + FORM_OPEN_S + 2)
    with pytest.raises(Expired):
        SIGNER.objection_id(reader, word, NOW_S - 3_600)


def test_numbers_can_be_read_out() -> None:
    """A receipt number is short, in groups, without 0 and 1."""
    for number in (new_objection_id(), SIGNER.objection_id_of("u1", "key")):
        assert 5 == len(number.split("-"))
        assert not set("01") & set(number)
    assert SIGNER.objection_id_of("u1", "key") == SIGNER.objection_id_of("u1", "key")
    assert SIGNER.objection_id_of("u1", "key") != SIGNER.objection_id_of("u2", "key")


def test_a_key_has_to_be_long() -> None:
    """No signature rests on a key that can be guessed."""
    for held in ("short", f"{KEY},short", f"{KEY},"):
        with pytest.raises(SettingsError, match="OBJECTIONS_INTAKE_KEY is hidden, expected secret"):
            Settings.read({"OBJECTIONS_INTAKE_KEY": held})
    assert (KEY, OTHER) == Settings.read({"OBJECTIONS_INTAKE_KEY": f"{KEY}, {OTHER}"}).intake_key


def test_limit_lets_bursts_pass_and_no_more() -> None:
    """A burst passes at once, then as much as comes back with time; others are not held up."""
    limit = Limit(2.0, 3)

    assert [0.0] * 3 == [limit.wait_s("a", 100.0) for _ in range(3)]
    assert 0.5 == limit.wait_s("a", 100.0)
    assert 0.0 == limit.wait_s("b", 100.0)
    assert 0.0 == limit.wait_s("a", 100.5)
    assert 0.5 == limit.wait_s("a", 100.5)
    assert [0.0] * 3 == [limit.wait_s("a", 200.0) for _ in range(3)]
    assert 0.0 < limit.wait_s("a", 200.0)


@pytest.mark.parametrize(
    "peer,forwarded,proxies,expected",
    [
        ("192.0.2.1", ["198.51.100.1"], 0, "192.0.2.1"),
        ("127.0.0.1", ["198.51.100.1"], 1, "198.51.100.1"),
        ("127.0.0.1", ["10.0.0.1", "198.51.100.1"], 1, "198.51.100.1"),
        ("127.0.0.1", ["10.0.0.1", "198.51.100.1", "10.0.0.2"], 2, "198.51.100.1"),
        ("127.0.0.1", [], 1, "127.0.0.1"),
        ("127.0.0.1", ["nonsense"], 1, "127.0.0.1"),
        ("2001:db8:1:2:3::4", [], 0, "2001:db8:1:2::/64"),
    ],
)
def test_who_asks(peer: str, forwarded: list[str], proxies: int, expected: str) -> None:
    """Only what our own proxies say is believed; an IPv6 network counts as one."""
    assert expected == asker(peer, forwarded, proxies)

"""Error codes, leniency, ids, times: contract.md, "Input records" and "Bad records"."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.decode import (
    CHECKS,
    ItemFacts,
    Restriction,
    UserFacts,
    decode_account_age,
    decode_content,
    decode_notice,
    decode_objection,
    language,
    resolved_by,
    restriction,
    valid_user_id,
)
from streams.errors import BadRecord
from tests.making import (
    NOW_MS,
    Record,
    age,
    code_of,
    content,
    item_facts,
    ms,
    notice,
    objection,
    to_bytes,
    user_facts,
    user_of,
)
from tests.strategies import ages, contents, notices, objections

# Stable: dashboards, runbooks and the examples in topics/ know them by name.
CODES = {
    "value_null", "value_not_json", "value_not_object", "key_missing", "key_not_utf8",
    "key_differs", "id_empty", "id_too_long", "field_missing", "field_type", "field_value",
    "time_format", "time_without_offset", "date_format", "birth_date_range",
}  # fmt: skip

Decoder = Callable[[bytes | None, bytes | None], UserFacts | ItemFacts]
DECODERS: list[Decoder] = [
    lambda key, value: decode_objection(key, value, NOW_MS),
    lambda key, value: decode_account_age(key, value, NOW_MS),
    lambda key, value: decode_notice(key, value, NOW_MS),
    lambda key, value: decode_content(key, value, NOW_MS, 0),
]
TOPICS = ["objections", "account-ages", "notices", "content"]
CHECK_OF = {each: CHECKS[topic] for each, topic in zip(DECODERS, TOPICS, strict=True)}
GOOD = [objection(), age(), notice(), content()]


def refusal(decoder: Decoder, key: bytes | None, value: bytes | None) -> BadRecord | None:
    """Return what *decoder* says against a record, if anything; what only checks says the same."""
    bad = refusal_of(partial(decoder, key, value))
    checked = refusal_of(partial(CHECK_OF[decoder], key, value, NOW_MS))
    assert (bad and (bad.code, bad.detail)) == (checked and (checked.code, checked.detail))
    return bad


def refusal_of(do: Callable[[], object]) -> BadRecord | None:
    """Return what *do* raises, if anything."""
    try:
        do()
    except BadRecord as bad:
        return bad
    return None


def code(decoder: Decoder, key: bytes | None, value: bytes | None) -> str:
    """Return the error code that *decoder* gives."""
    bad = refusal(decoder, key, value)
    assert bad is not None, f"{value!r} is taken for a good record"
    return bad.code


@pytest.mark.parametrize(
    "decoder,good", list(zip(DECODERS, GOOD, strict=True)), ids=[f"in {each}" for each in TOPICS]
)
class TestEveryTopic:
    @pytest.mark.parametrize(
        "value,expected",
        [
            (None, "value_null"),
            (b"", "value_not_json"),
            (b"{", "value_not_json"),
            (b"\xff{}", "value_not_json"),
            (b"\xef\xbb\xbf{}", "value_not_json"),
            (b"{} {}", "value_not_json"),
            (b"[" * 100_000, "value_not_json"),
            (b"null", "value_not_object"),
            (b"[]", "value_not_object"),
            (b'"text"', "value_not_object"),
            (b"{}", "field_missing"),
        ],
    )
    def test_values(
        self, decoder: Decoder, good: Record, value: bytes | None, expected: str
    ) -> None:
        """A record is bad when its value is null or its bytes are no such JSON object."""
        assert decoder(b"u1", to_bytes(good)) is not None
        assert expected == code(decoder, b"u1", value)

    @pytest.mark.parametrize(
        "key,expected",
        [
            (None, "key_missing"),
            (b"u2", "key_differs"),
            (b"U1", "key_differs"),
            (b"\xff", "key_not_utf8"),
            (b"", "id_empty"),
            (b"x" * 257, "id_too_long"),
        ],
    )
    def test_keys(self, decoder: Decoder, good: Record, key: bytes | None, expected: str) -> None:
        """A record is bad when its key is missing or differs from `user_id`."""
        assert expected == code(decoder, key, to_bytes(good))

    def test_required_fields(self, decoder: Decoder, good: Record) -> None:
        """Each required field has to be there; "a JSON null is missing"."""
        for name in good:
            without = {each: value for each, value in good.items() if each != name}
            assert "field_missing" == code(decoder, b"u1", to_bytes(without))
            assert "field_missing" == code(decoder, b"u1", to_bytes({**good, name: None}))

    def test_required_types(self, decoder: Decoder, good: Record) -> None:
        """A required field of the wrong type makes a record bad."""
        for name in good:
            wrongs: list[Any] = [True, [], {}, 1.5]
            for wrong in wrongs:
                assert "field_type" == code(decoder, b"u1", to_bytes({**good, name: wrong}))

    def test_unknown_fields(self, decoder: Decoder, good: Record) -> None:
        """Unknown fields are ignored."""
        assert decoder(b"u1", to_bytes({**good, "new": {"a": [1]}})) is not None

    def test_user_ids(self, decoder: Decoder, good: Record) -> None:
        """An id has 1 to 256 bytes, which are not characters."""
        for fitting in ("x", "x" * 256, "ä" * 128, "😀" * 64):
            assert decoder(fitting.encode(), to_bytes({**good, "user_id": fitting})) is not None
        for long in ("x" * 257, "ä" * 129, "😀" * 64 + "x"):
            found = code(decoder, long.encode(), to_bytes({**good, "user_id": long}))
            assert "id_too_long" == found
        assert "id_empty" == code(decoder, b"", to_bytes({**good, "user_id": ""}))

    def test_text_that_no_key_can_hold(self, decoder: Decoder, good: Record) -> None:
        """Half a surrogate pair is no UTF-8 text: such an id is bad and stops nothing."""
        for name in (name for name in good if name.endswith("_id")):
            value = to_bytes({**good, name: "\ud800"})
            assert code(decoder, b"u1", value) in CODES

    def test_bytes_that_are_no_utf8(self, decoder: Decoder, good: Record) -> None:
        """JSON is UTF-8 all through: a broken byte makes a record bad in an unknown field too."""
        value = to_bytes(good)[:-1] + b', "new": "\xff"}'

        assert "value_not_json" == code(decoder, b"u1", value)


@pytest.mark.parametrize(
    "record,name",
    [(objection(), "objection_id"), (notice(), "notice_id"), (content(), "content_id")],
)
def test_other_ids(record: Record, name: str) -> None:
    """An id is not empty and not longer than 256 bytes, also in multi-byte characters."""
    found = {
        text: code_of({**record, name: text})
        for text in ("", "x", "x" * 256, "x" * 257, "ä" * 128, "ä" * 129, "😀" * 64, "😀" * 65)
    }

    expected = ["id_empty", "good", "good", "id_too_long", "good", "id_too_long", "good"]
    assert [*expected, "id_too_long"] == list(found.values())


@pytest.mark.parametrize(
    "record,expected",
    [
        (objection(action="paused"), "field_value"),
        (age(age_band="teen"), "field_value"),
        (age(age_band=18), "field_type"),
        (age(assurance="guessed"), "field_value"),
        (age(account="closed"), "field_value"),
        (age(country="de"), "field_value"),
        (age(country="DEU"), "field_value"),
        (age(country="DE\n"), "field_value"),
        (age(country=""), "field_value"),
        (age(country=49), "field_type"),
        (age(birth_date="2008-5-1"), "date_format"),
        (age(birth_date="2026-02-29"), "date_format"),
        (age(birth_date="2008-05-01T00:00:00Z"), "date_format"),
        (age(birth_date=20080501), "field_type"),
        (age(adult_since="May"), "date_format"),
        (content(product="threads"), "field_value"),
        (content(modality="smell"), "field_value"),
        (content(revision=-1), "field_value"),
        (content(revision=2**63), "field_value"),
        (content(revision=10**30), "field_value"),
        (content(revision=1.0), "field_type"),
        (content(revision="1"), "field_type"),
        (content(revision=True), "field_type"),
        (content(revision=0), "good"),
        (content(revision=2**63 - 1), "good"),
        (objection(action="dismissed", objection_id=None), "field_missing"),
        (objection(action="dismissed", dead_letter="content/0"), "field_value"),
        (objection(action="dismissed", dead_letter="content/0/1\n"), "field_value"),
        (objection(action="dismissed", dead_letter="content/0/1"), "good"),
        (objection(action="dismissed", dead_letter="content/0/1", through="yes"), "field_type"),
        (objection(action="dismissed", dead_letter="content/0/1", through=1), "field_type"),
        (objection(action="dismissed", dead_letter="content/0/1", through=True), "good"),
        (objection(through="yes"), "good"),
    ],
)
def test_fields(record: Record, expected: str) -> None:
    """Required and optional fields alike are of their type, format and listed values."""
    assert expected == code_of(record)


@pytest.mark.parametrize(
    "birth_date,expected",
    [
        ("1899-12-31", "birth_date_range"),
        ("1900-01-01", "good"),
        ("2026-07-01", "good"),
        ("2026-07-02", "birth_date_range"),
    ],
)
def test_birth_date_range(birth_date: str, expected: str) -> None:
    """Bad: "a birth date lies before 1900 or after the record's time stamp" (2026-07-01)."""
    assert expected == code_of(age(birth_date=birth_date))


@pytest.mark.parametrize(
    "text,expected",
    [
        ("2026-04-15T09:00:00Z", "good"),
        ("2026-04-15t09:00:00z", "good"),
        ("2026-04-15T09:00:00.123456789+02:00", "good"),
        ("2026-04-15T09:00:00", "time_without_offset"),
        ("2026-04-15T09:00:00.5", "time_without_offset"),
        ("2026-04-15", "time_format"),
        ("2026-04-15T09:00Z", "time_format"),
        ("2026-04-15T09:00:00+24:00", "time_format"),
        ("2026-02-30T09:00:00Z", "time_format"),
        ("9999-12-31T23:59:59.9999999Z", "time_format"),
        ("soon", "time_format"),
        ("", "time_format"),
    ],
)
def test_times(text: str, expected: str) -> None:
    """Times in values are RFC 3339 with an offset, in every required field that is a time."""
    assert expected == code_of(age(observed_at=text))
    assert expected == code_of(notice(delivered_at=text))
    assert expected == code_of(content(created_at=text))


def test_times_at_the_ends_of_the_calendar() -> None:
    """The calendar's first and last times, moved by an offset, stop nothing."""
    first = user_of(notice(delivered_at="0001-01-01T00:00:00+23:59"))
    last = user_of(notice(delivered_at="9999-12-31T23:59:59-23:59"))

    assert first.notices_ms[0] < ms("0001-01-01T00:00:00+00:00")
    assert (NOW_MS,) == last.notices_ms


@pytest.mark.parametrize("wrong", [5, "", "nonsense", [], {"a": 1}, True])
def test_lenient_fields(wrong: Any) -> None:
    """`products`, `occurred_at`, `channel`, `locale`, `language` given wrong are as if missing."""
    lenient = dict.fromkeys(("products", "occurred_at", "channel", "locale"), wrong)

    assert user_facts(objection()) == user_facts(objection(**lenient))
    assert user_facts(notice()) == user_facts(notice(channel=wrong))
    record = item_facts(content(language=wrong)).record
    assert (wrong if wrong == "nonsense" else None) == language(record)


@pytest.mark.parametrize("tag", ["de", "gsw-CH", "zh-Hant-TW", "de-CH-1996", "x-private", "i-ami"])
def test_languages(tag: str) -> None:
    """A well-formed BCP 47 tag is kept as it is."""
    assert tag == language(item_facts(content(language=tag)).record)


@pytest.mark.parametrize("tag", ["", "d", "de_CH", "de-", "-de", "de--CH", "de-123456789", "de\n"])
def test_no_languages(tag: str) -> None:
    """What is no BCP 47 tag is as if missing."""
    assert language(item_facts(content(language=tag)).record) is None


@given(st.one_of(objections, ages, notices, contents), st.data())
def test_a_detail_never_tells_the_value(record: Record, data: st.DataObject) -> None:
    """Any damage gives a listed code, and a detail that names a field but never the value."""
    name = data.draw(st.sampled_from(sorted(record)))
    secret = data.draw(st.sampled_from(["s3cret", ["s3cret"], {"s3cret": 1}, "s3cret" * 50]))
    value = to_bytes({**record, name: secret})
    for decoder in DECODERS:
        bad = refusal(decoder, b"u1", value)
        assert bad is None or bad.code in CODES
        assert bad is None or "s3cret" not in bad.detail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    st.one_of(st.none(), st.just(b"u1"), st.binary(max_size=5)),
    st.one_of(st.none(), st.binary(max_size=40), json_values.map(lambda v: json.dumps(v).encode())),
)
def test_nothing_but_bad_records(key: bytes | None, value: bytes | None) -> None:
    """No bytes at all raise anything but `BadRecord`, here or when asked whom they restrict."""
    for topic, decoder in zip(TOPICS, DECODERS, strict=True):
        assert code(decoder, key, value) in CODES
        assert restriction(topic, key, value).user_id == valid_user_id(key)


def test_restriction() -> None:
    """A bad record restricts the user of a valid key, in `content` the item if it can be read."""
    item = b'{"content_id": "c1"}'

    assert Restriction("u1", None) == restriction("objections", b"u1", b"{")
    assert Restriction("u1", None) == restriction("account-ages", b"u1", None)
    assert Restriction("u1", "c1") == restriction("content", b"u1", item)
    assert Restriction("u1", None) == restriction("content", b"u1", b"{")
    for unreadable in ("", "x" * 257, 5, "\ud800"):
        value = to_bytes({"content_id": unreadable})
        assert Restriction("u1", None) == restriction("content", b"u1", value)
    for key in (None, b"", b"x" * 257, b"\xff"):
        assert Restriction(None, None) == restriction("content", key, item)


def test_resolved_by() -> None:
    """The header `dlq_resolves` names a dead letter as topic/partition/offset, or nothing."""
    assert "t.x/3/120" == resolved_by([("a", b"b"), ("dlq_resolves", b"t.x/3/120")])
    for wrong in (b"t/3", b"t/3/x", b"\xff", b"t/3/1\n", None):
        assert resolved_by([("dlq_resolves", wrong)]) is None
    assert resolved_by(None) is None

"""
Whatever bytes others write, a decoder takes them or says what is wrong, in the one way it promises.
"""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.decoders import DECODERS, Decoder

DEEP = 20_000
# What has ended programs before: put into good bytes, or in their place.
NASTY = (
    b"",
    b"\x00",
    b"\xff",
    b"\xc3\x28",  # no UTF-8
    b"\xed\xa0\x80",  # half a surrogate pair in UTF-8
    b'"\\ud800"',  # and in JSON
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"5555555555555554",  # ms since 1970, in the year 178,014
    b"9" * 5_000,  # more digits than `int` takes
    b"\xef\xbb\xbf",
    b"null",
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    b"a: &a [*a]",
    b'{"user_id":"u1","user_id":"u2"}',
    b'{"' + b"k" * 100_000 + b'":1}',
    "٣".encode(),  # a digit, to some
    b"\r\n",
    b'"',
)

nasty = st.sampled_from(NASTY) | st.binary(max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Good bytes of which a few parts are replaced, doubled or cut."""
    data = good
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(begin + 40, len(data))))
        part = draw(nasty | st.just(data[begin:end] * 2))
        data = data[:begin] + part + data[end:]
    return data


def mutated(good: bytes) -> st.SearchStrategy[bytes]:
    """Damage; and of a JSON object, a field of another value, one twice, or one more."""
    try:
        fields = json.loads(good)
    except ValueError:
        return damaged(good)
    if not isinstance(fields, dict) or not fields:
        return damaged(good)
    names = st.sampled_from(sorted(fields)) | st.text(max_size=3)
    changed = st.builds(
        lambda name, value: json.dumps({**fields, name: value}).encode(), names, json_values
    )
    twice = st.builds(
        lambda name, value: good.rstrip()[:-1] + b"," + json.dumps({name: value}).encode()[1:],
        names,
        json_values,
    )
    raw = st.builds(
        lambda name, value: (
            good.rstrip()[:-1] + b"," + json.dumps(name).encode() + b":" + value + b"}"
        ),
        names,
        st.sampled_from(NASTY),
    )
    return damaged(good) | changed | twice | raw


def feed(decoder: Decoder, data: bytes) -> None:
    """Hand *data* to a decoder, which may say so if it is none of its kind."""
    with suppress(*decoder.errors):
        decoder.feed(data)


@pytest.mark.parametrize("name", DECODERS)
def test_good_bytes_are_taken(name: str) -> None:
    """What the others damage was whole: a decoder that refused all of it would look safe."""
    for good in DECODERS[name].good:
        if name.startswith(("output", "dead letter")):  # fed into other fields as well
            feed(DECODERS[name], good)
        else:
            DECODERS[name].feed(good)


@pytest.mark.parametrize("name", DECODERS)
def test_nasty_bytes(name: str) -> None:
    """Each of what has ended programs before, as it is and at the end of good bytes."""
    decoder = DECODERS[name]
    for bytes_ in NASTY:
        feed(decoder, bytes_)
        for good in decoder.good:
            feed(decoder, good[: len(good) // 2] + bytes_ + good[len(good) // 2 :])


@pytest.mark.parametrize(
    "name,before,after",
    [
        ("lost user", b'"epoch":4', b'"epoch":44444444444444444444'),
        ("lost user", b'00.123Z"', b'00.123"'),
        ("lost item", b'"image"', b'"imAge"'),
        ("lost item", b'"revision":3', b'"revision":33333333333333333333'),
    ],
)
def test_what_was_found(name: str, before: bytes, after: bytes) -> None:
    """Of records of outputs a state is only made that can be written, and read again."""
    decoder = DECODERS[name]
    good = [each for each in decoder.good if before in each]

    assert good
    for each in good:
        with pytest.raises(decoder.errors, match="not a record of this service"):
            decoder.feed(each.replace(before, after))


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_any_bytes(name: str, data: Any) -> None:
    """Nothing but what is promised leaves a decoder, for damaged good bytes and for any at all."""
    decoder = DECODERS[name]
    feed(decoder, data.draw(st.binary(max_size=200), "any"))
    feed(decoder, data.draw(st.sampled_from(decoder.good).flatmap(mutated), "damaged"))

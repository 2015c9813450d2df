"""
Batches are what Kafka's format says: read back here by aiokafka, in the transactions' tests by all.
"""

import os
from typing import Final

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from streams.core.outputs import Event, Header
from streams.kafka.batches import BATCH_BYTES, COMPRESSED_FROM, SEQUENCES_N, Batches

NOW_MS: Final = 1_776_000_000_000
PRODUCER: Final = (7, 3)
HEADERS: Final[list[Header]] = [("ce_id", b"1"), ("traceparent", None)]
PLACE: Final = ("topic", 2)
TEXT: Final = st.text(max_size=100)  # UTF-8 of up to 400 bytes
NUMBERS: Final = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize(
    "values, compressed",
    [
        ([b"a", None], False),
        ([b"a" * COMPRESSED_FROM, b"b" * COMPRESSED_FROM, None], True),
        ([os.urandom(2 * COMPRESSED_FROM)], False),
    ],
    ids=["small", "large", "random"],
)
def test_a_sealed_batch_holds_its_records(values: list[bytes | None], *, compressed: bool) -> None:
    """Compressed where that makes it smaller, under a checksum of what is sent."""
    batches = Batches(NOW_MS)
    for number, value in enumerate(values):
        batches.put(PLACE, b"k%d" % number, value, HEADERS)

    ((data, _),) = batches.sealed(PRODUCER, {PLACE: 11})[PLACE]

    found = DefaultRecordBatch(data)

    assert found.validate_crc()
    assert found.is_transactional
    assert (*PRODUCER, 11) == (found.producer_id, found.producer_epoch, found.base_sequence)
    assert compressed == (found.compression_type == DefaultRecordBatch.CODEC_LZ4)
    assert [
        (number, NOW_MS, b"k%d" % number, value, HEADERS) for number, value in enumerate(values)
    ] == [(each.offset, each.timestamp, each.key, each.value, each.headers) for each in found]


def test_more_than_a_batch_goes_in_several_whose_sequences_go_on() -> None:
    """In order; a record that is larger than a batch has one of its own."""
    batches = Batches(NOW_MS)
    values = [os.urandom(size) for size in (BATCH_BYTES // 2,) * 3 + (BATCH_BYTES * 2, 1)]
    for value in values:
        batches.put(PLACE, None, value, [])
    sequences = {PLACE: SEQUENCES_N - 1}

    sealed = batches.sealed(PRODUCER, sequences)[PLACE]

    found = [DefaultRecordBatch(data) for data, _ in sealed]
    assert [each.base_sequence for each in found] == [SEQUENCES_N - 1, 0, 1, 2, 3][: len(found)]
    assert [1] * len(found) == [records_n for _, records_n in sealed]
    assert values == [record.value for each in found for record in each]
    assert {PLACE: 4} == sequences
    assert {} == batches.sealed(PRODUCER, sequences)


def test_places_are_told_by_topic() -> None:
    """As the coordinator is told them, before anything is written."""
    batches = Batches(NOW_MS)
    for place in (("a", 1), ("b", 0), ("a", 0)):
        batches.put(place, b"k", b"v", [])

    assert {"a": [1, 0], "b": [0]} == batches.places()
    batches.sealed(PRODUCER, {})
    assert {} == batches.places()


@given(
    common=st.lists(st.tuples(TEXT, TEXT), max_size=3),
    words=st.tuples(TEXT, TEXT),
    numbers=st.tuples(NUMBERS, NUMBERS, st.none() | NUMBERS),
    traceparent=st.none() | st.binary(max_size=60),
)
def test_what_an_event_says_is_what_its_headers_are(
    common: list[tuple[str, str]],
    words: tuple[str, str],
    numbers: tuple[int, int, int | None],
    traceparent: bytes | None,
) -> None:
    """Written in one go or header by header, in any script and of any length."""
    (event_id, user_id), (epoch, received_ms, revision) = words, numbers
    event = Event(
        tuple(common), event_id, "user.purged", user_id, epoch, received_ms, traceparent, revision
    )
    batches = Batches(NOW_MS)
    for headers in (event, list(event), []):
        batches.put(PLACE, b"k", None, headers)

    ((data, _),) = batches.sealed(PRODUCER, {})[PLACE]

    said = [
        (name, value if name == "traceparent" else str(value).encode()) for name, value in event
    ]
    assert [said, said, []] == [record.headers for record in DefaultRecordBatch(data)]


@given(
    st.lists(
        st.builds(
            Event,
            common=st.sampled_from([(("a", "1"),), (("a", "2"), ("b", "3"))]),
            id=st.sampled_from(["c1", "c22"]),
            kind=st.sampled_from(["content.purged", "content.allowed"]),
            user_id=st.sampled_from(["u1", "u22"]),
            epoch=st.integers(1, 2),
            received_ms=st.integers(1, 2),
            traceparent=st.sampled_from([None, b"t1", b"t2"]),
            revision=st.sampled_from([None, 1, 2]),
        ),
        max_size=20,
    )
)
def test_events_that_have_much_in_common_keep_their_differences(events: list[Event]) -> None:
    """What one shares with the one before is written once; all else is its own."""
    alike, apart = Batches(NOW_MS), Batches(NOW_MS)
    for event in events:
        alike.put(PLACE, b"k", None, event)
        apart.put(PLACE, b"k", None, list(event))

    assert apart.sealed(PRODUCER, {}) == alike.sealed(PRODUCER, {})

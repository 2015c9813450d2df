"""
Bad records, huge ones, compressed ones and aborted ones: none stops, slows or loses another.
"""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import topics
from streams.kafka.local import LocalKafka
from streams.proof import Record
from tests.making import content, grown_up, notice, objection
from tests.stories import TRACE
from tests.worker_process import (
    Inputs,
    Sent,
    Watch,
    Worker,
    apply_topics,
    assert_proven,
    wait_for,
    wait_until_caught_up,
)
from topics import Example

MIB = 1024 * 1024
HEADERS = ("dlq_topic", "dlq_partition", "dlq_offset", "dlq_timestamp", "dlq_error", "dlq_detail")
INPUTS = topics.names("input")
RESTRICTING = ("objections", "account-ages", "account-links")
OTHER = "another account"  # with which links link


def good_record(topic: str, user: str) -> dict[str, Any]:
    """Return a good record of *topic* about *user*."""
    if topic == "content":
        return content(user_id=user, content_id=f"{user}.c")
    if topic == "account-links":
        return link(user)
    return {"objections": objection, "account-ages": grown_up, "notices": notice}[topic](
        user_id=user
    )


def link(user: str, action: str = "linked") -> dict[str, Any]:
    """Return a record of `account-links` about *user*."""
    occurred_at = "2026-01-01T00:00:00Z"
    return {
        "user_id": user, "linked_user_id": OTHER, "action": action, "occurred_at": occurred_at,
    }  # fmt: skip


def poison(topic: str) -> Iterator[tuple[Example, bytes | None]]:
    """Yield the refused examples that *topic* can hold, with values made to fit to today."""
    compacts = topics.definition(topic).config["cleanup.policy"].value == "compact"
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    for example in topics.refused(topic):
        if compacts and example.key is None:
            continue  # the broker itself refuses it
        value = example.value
        if example.name == "birth_date_range.after_the_record" and value is not None:
            born = json.loads(value)["birth_date"]
            value = value.replace(born.encode(), tomorrow.encode())
        if value is not None:  # a content_id keeps its user, whatever is wrong with the record
            value = value.replace(b'"c-77"', f'"{example.name}"'.encode())
        yield example, value


def grant(inputs: Inputs, *users: str) -> None:
    """Let *users* be eligible, each with an item."""
    for user in users:
        inputs.queue("account-ages", grown_up(user_id=user))
        inputs.queue("notices", notice(user_id=user))
        inputs.queue("content", content(user_id=user, content_id=f"{user}.c"))
    inputs.flush()


def last(records: list[Record], key: str) -> Record:
    """Return the last record of *key*."""
    return [each for each in records if each.key_text == key][-1]


def reasons(records: list[Record], user: str) -> list[str]:
    """Return the reasons that stand against *user*."""
    found: list[str] = json.loads(last(records, user).value or b"")["reasons"]
    return found


def test_every_kind_of_poison_between_good_records(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Each refused example becomes a dead letter with its own code and untouched bytes, restricts
    whom it must, and its neighbours on either side are decided on as if it were not there.
    """
    apply_topics(kafka, prefix, partitions=1)
    sent: list[tuple[str, Example, bytes | None, Sent]] = []
    neighbours: dict[str, list[str]] = {}
    with Worker(kafka, prefix, tmp_path / "state") as worker, Inputs(kafka, prefix) as inputs:
        worker.wait_ready()
        grant(inputs, "u1", "u2")
        wait_until_caught_up(kafka, prefix, workers=[worker])
        for topic in INPUTS:
            told = neighbours[topic] = [f"{topic}-first"]
            inputs.queue(topic, good_record(topic, told[0]))
            for example, value in poison(topic):
                inputs.queue(topic, value, example.key, example.headers)
                told.append(f"{topic}-after-{example.name}")
                inputs.queue(topic, good_record(topic, told[-1]))
            places = inputs.flush()[1::2]
            poisoned = zip(poison(topic), places, strict=True)
            sent += [(topic, example, value, place) for (example, value), place in poisoned]
        wait_until_caught_up(kafka, prefix, workers=[worker])
        outputs = assert_proven(kafka, prefix)
        dead = worker.metrics()[
            f'objections_events_total{{outcome="dead_letter",topic="{prefix}content"}}'
        ]
        page = worker.get("/").text
    letters = {
        (each.header("dlq_topic"), each.header("dlq_offset")): each
        for each in outputs["dead-letters"]
    }
    seen = {each.key_text for each in outputs["eligibility"]}

    assert len(sent) == len(letters) > 100
    assert dead == len(topics.refused("content"))
    assert {user for told in neighbours.values() for user in told} <= seen
    for (topic, code), count in Counter((topic, each.code) for topic, each, *_ in sent).items():
        assert f"{code} ({count})" in page.split(f">{prefix}{topic}</th>")[-1].split("</tr>")[0]
    for topic, example, value, place in sent:
        letter = letters[place.topic.encode(), b"%d" % place.offset]
        assert HEADERS == tuple(name for name, _ in letter.headers), example.name
        assert (example.key, value) == (letter.key, letter.value), example.name
        assert example.code.encode() == letter.header("dlq_error"), (topic, example.name)
        assert b"%d" % place.timestamp_ms == letter.header("dlq_timestamp"), example.name
        assert b"%d" % place.partition == letter.header("dlq_partition"), example.name
        assert letter.header("dlq_detail"), example.name
    assert "UNREADABLE_INPUT" in reasons(outputs["eligibility"], "u1")
    assert last(outputs["training-users"], "instagram/u1").value is None
    assert last(outputs["training-content"], "u1.c").value is None


def test_the_detail_of_a_dead_letter_never_tells_the_value(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    `dlq_detail` names the field and what was expected; nothing of the record's content is in it.
    """
    secret = "Zyxwv"
    fields = {
        "objections": objection(user_id="u", action=secret),
        "account-ages": grown_up(user_id="u", birth_date=secret),
        "notices": notice(user_id="u", delivered_at=secret),
        "account-links": link("u", secret),
        "content": content(user_id="u", product=secret),
    }
    named = {
        "objections": "action", "account-ages": "birth_date", "notices": "delivered_at",
        "account-links": "action", "content": "product",
    }  # fmt: skip
    apply_topics(kafka, prefix, partitions=1)
    with Worker(kafka, prefix, tmp_path / "state"), Inputs(kafka, prefix) as inputs:
        inputs.send(*fields.items())
        wait_until_caught_up(kafka, prefix)
        letters = assert_proven(kafka, prefix)["dead-letters"]
    details = {
        (each.header("dlq_topic") or b"").decode().removeprefix(prefix): (
            each.header("dlq_detail") or b""
        ).decode()
        for each in letters
    }

    assert set(details) == set(INPUTS)
    for topic, detail in details.items():
        assert named[topic] in detail
        assert secret not in detail


@pytest.fixture
def squeezing(kafka: LocalKafka, prefix: str) -> Iterator[Inputs]:
    """Return a producer whose records are far larger than the broker's limit once unpacked."""
    options = {"compression_type": "zstd", "message_max_bytes": 64 * MIB}
    apply_topics(kafka, prefix)
    with Inputs(kafka, prefix, **options) as inputs:
        yield inputs


def test_an_oversized_bad_record_is_cut_to_fit(
    kafka: LocalKafka, prefix: str, tmp_path: Path, squeezing: Inputs
) -> None:
    """
    A bad record that came in compressed and does not fit unpacked becomes a dead letter with the
    beginning of its bytes and `dlq_truncated`; it restricts, and its neighbours are processed.
    """
    with Worker(kafka, prefix, tmp_path / "state") as worker:
        grant(squeezing, "u1", "before", "after")
        squeezing.send(("objections", objection(user_id="before")))
        value, key = b"[" + b"1," * (6 * MIB), b"k" * (9 * MIB)
        for topic in INPUTS:
            squeezing.queue(topic, value, "u1")
            squeezing.queue(topic, b"{}", key)
        squeezing.flush()
        squeezing.send(("objections", objection(user_id="after")))
        wait_until_caught_up(kafka, prefix, workers=[worker])
        outputs = assert_proven(kafka, prefix)
    letters = outputs["dead-letters"]

    assert len(letters) == 2 * len(INPUTS)
    for letter in letters:
        assert letter.header("dlq_truncated") is not None
        whole = key if letter.key != b"u1" else value
        cut = letter.key if letter.key != b"u1" else letter.value
        assert cut is not None
        assert whole.startswith(cut)
        assert MIB < len(cut) < len(whole)
    assert {b"u1"} == {each.key for each in letters if each.key and len(each.key) < MIB}
    for user, reason in (
        ("u1", "UNREADABLE_INPUT"),
        ("before", "OBJECTION"),
        ("after", "OBJECTION"),
    ):
        assert reason in reasons(outputs["eligibility"], user)
        assert last(outputs["training-content"], f"{user}.c").value is None


def test_an_oversized_good_record_stops_nobody(
    kafka: LocalKafka, prefix: str, tmp_path: Path, squeezing: Inputs
) -> None:
    """
    A record that is good but for its size is a dead letter and restricts: it never widens what is
    allowed, and the records behind it are processed.
    """
    with Worker(kafka, prefix, tmp_path / "state") as worker:
        grant(squeezing, *INPUTS, "after")
        wait_until_caught_up(kafka, prefix, workers=[worker])
        for topic in INPUTS:
            value = {**good_record(topic, topic), "padding": "x" * (9 * MIB)}
            squeezing.queue(topic, value)
        squeezing.flush()
        squeezing.send(("objections", objection(user_id="after")))
        wait_until_caught_up(kafka, prefix, workers=[worker], timeout_s=30)
        outputs = assert_proven(kafka, prefix)

    assert {(each.key_text, each.header("dlq_error")) for each in outputs["dead-letters"]} == {
        (topic, b"value_too_large") for topic in INPUTS
    }
    for topic in RESTRICTING:
        assert reasons(outputs["eligibility"], topic) == ["UNREADABLE_INPUT"]
    assert last(outputs["training-content"], "content.c").value is None
    assert reasons(outputs["eligibility"], "after") == ["OBJECTION"]


def test_an_oversized_header_stops_nobody(
    kafka: LocalKafka, prefix: str, tmp_path: Path, squeezing: Inputs
) -> None:
    """
    A `traceparent` that is none, as large as a producer likes, is not copied onto every output;
    the record it came with counts all the same.
    """
    with Worker(kafka, prefix, tmp_path / "state") as worker:
        grant(squeezing, "u1")
        headers = [("traceparent", b"0" * (9 * MIB)), ("dlq_resolves", b"9" * MIB)]
        squeezing.queue("objections", objection(user_id="u1"), "u1", headers)
        squeezing.queue("objections", objection(user_id="u2"), "u2", [("traceparent", TRACE)])
        squeezing.flush()
        wait_until_caught_up(kafka, prefix, workers=[worker], timeout_s=30)
        outputs = assert_proven(kafka, prefix)
    sizes = [
        len(value or b"")
        for topic in outputs.values()
        for record in topic
        for _, value in record.headers
    ]

    assert "OBJECTION" in reasons(outputs["eligibility"], "u1")
    assert last(outputs["eligibility"], "u2").header("traceparent") == TRACE
    assert max(sizes) < 1_000


def test_records_of_every_codec_are_read(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    Inputs may be compressed with any of Kafka's codecs, or not at all.
    """
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    apply_topics(kafka, prefix, partitions=1)
    with Worker(kafka, prefix, tmp_path / "state") as worker:
        for codec in codecs:
            with Inputs(kafka, prefix, compression_type=codec, linger_ms=50) as inputs:
                for number in range(5):
                    for topic in INPUTS:
                        value = {**good_record(topic, f"{codec}{number}"), "padding": "x" * 2_000}
                        inputs.queue(topic, value)
                inputs.flush()
        wait_until_caught_up(kafka, prefix, workers=[worker])
        outputs = assert_proven(kafka, prefix)
    users = {f"{codec}{number}" for codec in codecs for number in range(5)}

    assert outputs["dead-letters"] == []
    assert users | {OTHER} == {each.key_text for each in outputs["eligibility"]}
    assert {f"{user}.c" for user in users} == {e.key_text for e in outputs["training-content"]}


def test_aborted_records_are_never_seen(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    Records of an upstream transaction count when it commits and never when it aborts; a worker
    gets to the end, and grants, although an aborted transaction's end is the last in every log.
    """
    apply_topics(kafka, prefix, partitions=1)
    with (
        Inputs(kafka, prefix) as inputs,
        Inputs(kafka, prefix, transactional_id=f"{prefix}upstream") as upstream,
    ):
        grant(inputs, "kept", "objector")
        upstream.producer.init_transactions(30)
        _transaction(upstream, "objector", commit=True)
        _transaction(upstream, "kept", commit=False)
        with Worker(kafka, prefix, tmp_path / "state") as worker, Watch(kafka, prefix) as watch:
            worker.wait_ready()
            watch.wait_until_caught_up(workers=[worker])

            assert last(watch.outputs()["training-content"], "kept.c").value is not None
            assert last(watch.outputs()["training-content"], "objector.c").value is None

            _transaction(upstream, "kept", commit=False)
            _transaction(upstream, "late objector", commit=True)
            _transaction(upstream, "kept", commit=False)
            watch.wait_until_caught_up(workers=[worker])
            outputs = assert_proven(kafka, prefix)
            # Looked at a few times a second: the ends of aborted transactions count as read.
            wait_for(lambda: _lag(worker) == (0, 0), "nothing to lag")
    of_kept = [each for each in outputs["eligibility"] if each.key == b"kept"]

    assert all(b"OBJECTION" not in (each.value or b"") for each in of_kept)
    assert last(outputs["training-content"], "kept.c").value is not None
    assert reasons(outputs["eligibility"], "objector") == ["OBJECTION"]
    assert "OBJECTION" in reasons(outputs["eligibility"], "late objector")
    assert outputs["dead-letters"] == []


def _lag(worker: Worker) -> tuple[float, float]:
    return (
        worker.metric("objections_consumer_lag_records"),
        worker.metric("objections_oldest_unpropagated_seconds"),
    )


def _transaction(upstream: Inputs, user: str, *, commit: bool) -> None:
    """Write an objection, an age, a notice, content and a bad record in one transaction."""
    upstream.producer.begin_transaction()
    upstream.queue("objections", objection(user_id=user))
    if not commit:
        upstream.queue("account-ages", grown_up(user_id=user, birth_date="2015-01-01"))
        upstream.queue("notices", b"", key=user)
        upstream.queue("content", content(user_id=user, content_id=f"{user}.c", revision=2))
    upstream.flush()
    if commit:
        upstream.producer.commit_transaction(30)
    else:
        upstream.producer.abort_transaction(30)


def test_an_open_transaction_is_waited_for(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    Records behind an upstream transaction that is still open wait for its end, and then count.
    """
    apply_topics(kafka, prefix, partitions=1)
    with (
        Inputs(kafka, prefix) as inputs,
        Inputs(kafka, prefix, transactional_id=f"{prefix}upstream") as upstream,
        Watch(kafka, prefix) as watch,
    ):
        upstream.producer.init_transactions(30)
        upstream.producer.begin_transaction()
        upstream.send(("objections", objection(user_id="first")))
        grant(inputs, "first", "second")
        inputs.send(("objections", objection(user_id="second")))
        with Worker(kafka, prefix, tmp_path / "state") as worker:
            worker.wait_ready()
            watch.wait_until_caught_up(workers=[worker])
            before = [each.value or b"" for each in watch.outputs()["eligibility"]]
            upstream.producer.commit_transaction(30)
            watch.wait_until_caught_up(workers=[worker])
            outputs = assert_proven(kafka, prefix)

    assert not any(b"OBJECTION" in value for value in before)
    for user in ("first", "second"):
        assert reasons(outputs["eligibility"], user) == ["OBJECTION"]

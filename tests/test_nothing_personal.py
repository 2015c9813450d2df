"""
No birth date, id, token, password or key in what worker and monitor say: logs, metrics, pages.

They are told good records, bad ones of every kind and refused acknowledgements, are killed and
restored; then all they have said is searched for what the records held, and their settings.
"""

import json
from typing import Any, Final, NamedTuple

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, Message, TopicPartition

from streams.core.subjects import Subjects
from streams.kafka.local import LocalKafka
from streams.kafka.reader import fetch, reader
from tests.making import age, content, grown_up, notice, objection
from tests.monitor_scene import Monitor
from tests.worker_process import Inputs, Watch, Worker, apply_topics, settings_of

PREFIX: Final = "personal."
PARTITIONS: Final = 2
TOKEN: Final = "tok-3kQx9-of-the-http"
PASSWORD: Final = "pw-3kQx9-of-kafka"
SUBJECT_KEY: Final = "key-3kQx9-of-pseudonyms-0123456789abcdef"
UID, CID, OID = "uid3kQx9", "cid3kQx9", "oid3kQx9"  # every id begins with its kind's mark
BORN: Final = ("1987-03-21", "1812-11-09", "2191-02-03", "1987-13-45")
SECRETS: Final = (TOKEN, PASSWORD, SUBJECT_KEY)
PSEUDONYMS: Final = tuple(
    Subjects(SUBJECT_KEY).of(f"{UID}-{name}") for name in ("ann", "bob", "cat", "gone")
)
IDS: Final = (UID, CID, OID, *PSEUDONYMS)
NAMES: Final = ("eligibility", "training-users", "training-content", "receipts", "dead-letters")


WITH_IDS: Final = ("ce_subject", "ce_id")  # of the contract's headers


class Said(NamedTuple):
    """What was said: by place, all texts; and the output records, by topic."""

    texts: dict[str, str]
    records: dict[str, list[Message]]


def good() -> list[tuple[str, dict[str, Any]]]:
    """Return records that are decided on."""
    ann, bob = f"{UID}-ann", f"{UID}-bob"
    return [
        ("account-ages", grown_up(user_id=ann, birth_date=BORN[0])),
        ("notices", notice(user_id=ann, notice_id=f"{OID}-n")),
        ("content", content(user_id=ann, content_id=f"{CID}-a")),
        ("account-ages", grown_up(user_id=bob, birth_date=BORN[0])),
        ("objections", objection(user_id=bob, objection_id=f"{OID}-b")),
        ("content", content(user_id=bob, content_id=f"{CID}-b")),
        ("account-ages", age(user_id=f"{UID}-gone", account="deleted")),
    ]


def bad() -> list[tuple[str, object, str | None]]:
    """Return records, with their keys, of which each fails in its own way."""
    cat = f"{UID}-cat"
    long = f"{UID}-{'x' * 300}"
    return [
        *(("account-ages", age(user_id=cat, birth_date=born), cat) for born in BORN[1:]),
        ("account-ages", age(user_id=cat, birth_date=[BORN[0]]), cat),
        ("account-ages", age(user_id=cat, observed_at=f"{BORN[0]}T00:00:00"), cat),
        ("account-ages", age(user_id=cat, assurance=cat), cat),
        ("account-ages", grown_up(user_id=cat), f"{UID}-other"),
        ("objections", objection(user_id=cat, action=f"{OID}-act"), cat),
        ("objections", objection(user_id=long, objection_id=f"{OID}-l"), long),
        ("objections", objection(user_id=cat, objection_id=long), cat),
        ("objections", f'{{"user_id": "{cat}", "objection_id": "{OID}'.encode(), cat),
        ("objections", f'"{cat}"'.encode(), cat),
        ("objections", None, cat),
        ("objections", objection(user_id=cat), None),
        ("objections", {"user_id": cat, "action": "dismissed", "dead_letter": f"{OID}/x/y"}, cat),
        ("notices", notice(user_id=cat, notice_id=[f"{OID}-n"]), cat),
        ("content", content(user_id=cat, content_id=f"{CID}-c", product=f"{CID}-p"), cat),
        ("content", content(user_id=cat, content_id=f"{CID}-c", revision=f"{CID}-r"), cat),
        ("content", content(user_id=cat, content_id={f"{CID}": 1}), cat),
    ]


def acknowledgements() -> list[dict[str, object]]:
    """Return words of stores that cannot be."""
    topic = f"{PREFIX}training-users"
    fit = {"store": "index", "topic": topic, "partition": 0, "offset": 0, "phase": "hidden"}
    fit["at"] = "2026-04-15T09:00:00Z"
    return [
        fit | {"offset": 10**6},
        fit | {"phase": f"{UID}-phase"},
        fit | {"offset": f"{UID}-offset"},
        fit | {"at": BORN[0]},
        fit | {f"{UID}": 1, "partition": f"{UID}"},
    ]


@pytest.fixture(scope="module")
def said(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Said:
    """Return all that a worker and a monitor have said."""
    folder = tmp_path_factory.mktemp("personal")
    apply_topics(kafka, PREFIX, PARTITIONS)
    variables: dict[str, Any] = {
        "HTTP_TOKEN": TOKEN,
        "KAFKA_SASL_PASSWORD": PASSWORD,
        "KAFKA_SASL_USERNAME": "worker",
        "SUBJECT_KEY": SUBJECT_KEY,
        "STORES": "index=training-users+training-content",
    }
    texts: dict[str, str] = {}
    with (
        Worker(kafka, PREFIX, folder / "worker", **variables) as worker,
        Monitor(kafka, PREFIX, folder / "monitor", **variables) as monitor,
        Inputs(kafka, PREFIX) as inputs,
        Watch(kafka, PREFIX) as watch,
    ):
        worker.wait_ready()
        inputs.send(*good())
        for topic, value, key in bad():
            inputs.queue(topic, value, key, partition=-1 if key else 0)
        for ack in acknowledgements():
            inputs.queue("purge-acks", ack, "index/x", partition=0)
        inputs.flush()
        watch.wait_until_caught_up(workers=[])
        monitor.wait_ready()
        worker.kill9()  # and what is said when its state is found again
        worker.start()
        worker.wait_ready()
        watch.wait_until_caught_up(workers=[])
        for name, process in (("worker", worker), ("monitor", monitor)):
            for path in ("/", "/metrics", "/healthz", "/readyz", f"/{UID}"):
                for headers in ({}, {"Authorization": f"Bearer {TOKEN}"}):
                    answer = process.get(path, headers)
                    texts[f"{name} {path} {answer.status}"] = str((answer.text, answer.headers))
        records = read(kafka)
    texts |= {"worker's log": worker.log(), "monitor's log": monitor.log()}
    return Said(texts, records)


def test_what_was_searched_is_there(said: Said) -> None:
    """
    All kinds of answers were had, and bad records became dead letters.
    """
    statuses = {place.rpartition(" ")[2] for place in said.texts}

    assert {"200", "401", "404"} <= statuses
    assert len(bad()) <= len(said.records["dead-letters"])
    assert "objections_published_total" in said.texts["worker /metrics 200"]
    assert "is no acknowledgement" in said.texts["worker's log"]
    assert "refused" in said.texts["worker's log"]


def test_no_log_metric_or_page_tells_of_anybody(said: Said) -> None:
    """
    No id, birth date, token, password or key is in any log line, metric or page.
    """
    found = [
        f"{place}: {mark} in {line}"
        for place, text in said.texts.items()
        for line in text.splitlines()
        for mark in (*IDS, *BORN, *SECRETS)
        if mark in line and not (mark == UID and place.partition(" ")[2] == f"/{UID}")
    ]

    assert [] == found


def test_headers_and_decisions_tell_what_the_contract_says_and_no_more(said: Said) -> None:
    """
    Ids are in `ce_subject` and `ce_id` alone, birth dates in the bytes of a dead letter alone.
    """
    named = {(each.key() or b"").decode() for each in said.records["eligibility"]}
    assert set(PSEUDONYMS) <= named
    for name, records in said.records.items():
        for each in records:
            headers = {str(pair[0]): str(pair[1]) for pair in each.headers() or []}
            text = json.dumps(headers)
            assert [] == [m for m in (*BORN, *SECRETS) if m in text], (name, text)
            rest = json.dumps({h: held for h, held in headers.items() if h not in WITH_IDS})
            assert [] == [m for m in IDS if m in rest], (name, rest)
            if name != "dead-letters":
                value = str(each.value())
                assert [] == [m for m in (*BORN, *SECRETS) if m in value], (name, value)


def read(kafka: LocalKafka) -> dict[str, list[Message]]:
    """Return all records of the outputs, by topic."""
    settings = settings_of(kafka, PREFIX)
    consumer = reader(settings)
    places = {
        (settings.topic(name), number): name for name in NAMES for number in range(PARTITIONS)
    }
    consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in places])
    found: dict[str, list[Message]] = {name: [] for name in NAMES}
    left = set(places)
    while left:
        for message in fetch(consumer, 1.0):
            place = message.topic() or "", message.partition() or 0
            error = message.error()
            if error is None:
                found[places[place]].append(message)
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                left.discard(place)
    consumer.close()
    return found

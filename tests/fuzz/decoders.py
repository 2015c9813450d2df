"""
Every decoder of bytes that others wrote: what may leave it, and bytes that it takes, to begin with.

Hypothesis (tests/test_fuzz.py) and atheris (tests/fuzz/search.py) feed the same ones.
"""

import gzip
import io
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from jwt import PyJWS

import topics
from streams.audit.chain import Chain
from streams.audit.decisions import Decisions
from streams.audit.topics import Topics as AuditedTopics
from streams.core import seeds
from streams.core.changes import Cause, UserRow
from streams.core.decode import (
    decode_value,
    language,
    resolved_by,
    restriction,
    valid_user_id,
)
from streams.core.fanout import Era, Job
from streams.core.item import Item
from streams.core.links import Inherited, Link, Tell
from streams.core.policy import Policy
from streams.core.receipts import ReceiptRow, StoreRow
from streams.core.refusals import REFUSALS
from streams.core.times import NEVER_MS
from streams.core.trail import HASH, NO_RECORD
from streams.core.user import User
from streams.core.verdict import Decision
from streams.dead_letters.letter import INPUTS, in_order, read_letter
from streams.dead_letters.shown import table
from streams.errors import CheckFailed, Halt, UsageProblem
from streams.explain.evidence import state
from streams.files.lines import CsvRows
from streams.importing.tables import CsvTable, JsonRows
from streams.intake.tokens import Expired, Forged, Signer
from streams.policy_file import parse_policy
from streams.proof.records import Record
from streams.settings import Settings
from streams.sinks.sink import Place
from streams.state import rows
from streams.subscriber.records import change_of
from streams.training import manifests, positions
from streams.training.index import Index
from streams.training.lines import Csv, JsonLines
from streams.worker.acknowledgements import Acknowledgements
from streams.worker.intake import Fetched, take_in
from streams.worker.rebuild import _Readable
from streams.worker.trail import decode_head, head_row
from tests.making import NOW_MS, grown_up, user_of
from topics.public import facts

Headers = list[tuple[str, bytes]]


class Message:
    """What decoders ask of a Kafka message; the broker has seen to its place and time."""

    def __init__(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None = None
    ) -> None:
        self._topic, self._key, self._value, self._headers = topic, key, value, headers

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def timestamp(self) -> tuple[int, int]:
        return 2, NOW_MS

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Headers | None:
        return self._headers

    def error(self) -> None:
        return None


class Decoder(NamedTuple):
    """
    A decoder.

    feed: hands it bytes, and does with the result what its user does.
    errors: all that may leave it.  good: bytes that it takes.
    """

    feed: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    good: tuple[bytes, ...]


ERROR_CODES: Final = frozenset(facts()["error_codes"])
KEY: Final = b"u1"


def _any_message(topic: str) -> Any:
    def make(key: bytes | None, value: bytes | None, headers: Headers | None = None) -> Any:
        return Message(topic, key, value, headers)

    return make


def _take_in(topic: str, key: bytes | None, value: bytes | None, headers: Headers | None) -> None:
    """Take a record in, whose neighbour is good: one of them is a dead letter at most."""
    good = topics.accepted(topic)[0]
    messages: list[Any] = [
        Message(topic, key, value, headers),
        Message(topic, good.key, good.value),
    ]
    found = take_in(Fetched(topic, 0, messages, 7), topic)
    assert len(found.entries) == 2
    assert len(found.dead_letters) <= 1, "a good record was lost"
    for letter in found.dead_letters:
        code = dict(letter.headers)["dlq_error"]
        assert code is not None
        assert (code if isinstance(code, str) else code.decode()) in ERROR_CODES, code
    if found.dead_letters and topic != "content":
        assert found.entries[0].event.user_id == valid_user_id(key)
    restriction(topic, key, value)


def _value_of(topic: str) -> Callable[[bytes], object]:
    return lambda data: _take_in(topic, KEY, data, None)


def _key_of(topic: str) -> Callable[[bytes], object]:
    value = topics.accepted(topic)[0].value
    return lambda data: _take_in(topic, data, value, None)


def _headers_of(data: bytes) -> None:
    value = topics.accepted("objections")[0].value
    headers = [("dlq_resolves", data), ("traceparent", data), ("ä", data)]
    _take_in("objections", KEY, value, headers)
    resolved_by(headers)


def _said(topic: str) -> Callable[[bytes], object]:
    """Return what `explain` and `audit` make of a record."""
    return lambda data: state(topic, Record(topic, 0, 7, NOW_MS, KEY, data))


def _kept_value(data: bytes) -> None:
    """Decode what an item's row has kept: it was a good record once."""
    language(decode_value(data))


def _letter(data: bytes) -> None:
    """Take *data* for each part of a dead letter."""
    inputs = {name: name for name in INPUTS}
    good: dict[str, bytes] = {
        "dlq_topic": b"content",
        "dlq_partition": b"0",
        "dlq_offset": b"7",
        "dlq_timestamp": b"1",
        "dlq_error": b"field_type",
        "dlq_detail": b"x",
    }
    found = [
        read_letter([*{**good, name: data}.items()], KEY, b"{}", (0, 1), inputs) for name in good
    ]
    found += [
        read_letter([*good.items()], KEY, data, (0, 1), inputs),
        read_letter([*good.items()], data, b"{}", (0, 1), inputs),
    ]
    letters = in_order(each for each in found if each is not None)
    assert all(line.isprintable() for line in table(letters))


def _change(topic: str) -> Callable[[bytes], object]:
    """Take *data* for each part of an output's record."""

    def feed(data: bytes) -> None:
        good = next(each for each in topics.accepted(topic) if each.value is not None)
        headers = dict(good.headers)
        make, place = _any_message(topic), Place(topic, 0)
        problem: Halt | None = None
        trials = [make(good.key, data, list(headers.items())), make(data, None, [*headers.items()])]
        trials += [make(good.key, None, [*{**headers, name: data}.items()]) for name in headers]
        for message in trials:
            try:
                change_of(message, place)
            except Halt as error:
                problem = error
        if problem is not None:
            raise problem

    return feed


@cache
def _acknowledgements() -> Acknowledgements:
    listener: Any = None
    return Acknowledgements(Settings.read({}), listener, 4)


def _ack(data: bytes) -> None:
    _acknowledgements()._decode(_any_message("purge-acks")(None, data))


def _indexed(data: bytes) -> None:
    index = Index()
    index.put("training-content", [b"c1", data], [data, b"{}"])
    index.put("training-users", [data], [data])
    index.settle()


def _audited(data: bytes) -> None:
    topics_: Any = AuditedTopics.__new__(AuditedTopics)
    topics_._fields = lambda _: (0,)
    topics_._facts("training-content", _any_message("training-content")(KEY, data), data)


def _stream(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))


def _json_manifest(data: bytes) -> None:
    for chunk in JsonLines(_stream(data), "m.jsonl", "content_id"):
        assert len(chunk) + len(chunk.malformed) <= len(data) + 1


def _csv_manifest(data: bytes) -> None:
    for chunk in Csv(_stream(data), "m.csv", "content_id", ","):
        assert len(chunk) + len(chunk.malformed) <= len(data) + 1


def _import_json(data: bytes) -> None:
    for chunk in JsonRows(_stream(data)).chunks(("user_id", "products")):
        assert {bad.code for bad in chunk.bad.values()} <= ERROR_CODES


def _import_csv(data: bytes) -> None:
    for chunk in CsvTable(CsvRows(_stream(data), "i.csv", ",")).chunks(("user_id", "products")):
        assert {bad.code for bad in chunk.bad.values()} <= {"row_width"}


def _file(name: str) -> Callable[[bytes], object]:
    """Read *data* as a manifest's file, to its end."""

    def feed(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            (source,) = manifests.sources([path], None, None)
            with manifests.opened(source, "content_id") as manifest:
                for _ in manifest.chunks:
                    pass

    return feed


def _positions(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        positions.read(Path(file.name))


def _policy(data: bytes) -> None:
    # Its parser is slow, and a policy is written by hand.
    parse_policy(data[:4_096].decode(errors="replace"), "policy.yaml")


def _user_seed(data: bytes) -> None:
    with _Readable(_any_message("eligibility")(KEY, data)):
        seeds.published_epoch(data)
        row = rows.encode_user(seeds.user_seed(data, None, Policy(), NOW_MS, 0, 1))
    rows.decode_user(row)


def _item_seed(data: bytes) -> None:
    with _Readable(_any_message("training-content")(KEY, data)):
        row = rows.encode_item(seeds.item_seed(data))
    decode_value(rows.decode_item(row).value)


def _positions_file() -> bytes:
    topic = positions.TopicPosition("training-content", "id", [7, 8], 1)
    return positions.encode(
        positions.DataSet(
            tool="objections",
            filtered_at="2026-01-01T00:00:00Z",
            column="content_id",
            delimiter=None,
            format=None,
            positions=positions.Positions("cluster", NOW_MS, {"training-content": topic}),
            rows=positions.Rows(),
            files=[],
        )
    )


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"content_id": ["c1", "c2"], "n": [1, 2]}), sink)
    return sink.getvalue()


def _values(topic: str) -> tuple[bytes, ...]:
    return tuple(each.value for each in topics.accepted(topic) if each.value is not None)


_DECISION: Final = Decision((0, 1, 2, 3), NEVER_MS, 7)
_CAUSE: Final = Cause("objections", 0, 7, "o1")
_USER: Final = user_of(grown_up())
_ROW: Final = UserRow(
    User(
        {"o1": 3},
        _USER.levels,
        (1, 2),
        ("objections/0/1",),
        ("content/0/1",),
        dismissed={"content/0": 7},
    ),
    3,
    _DECISION,
    NEVER_MS,
    1,
    NOW_MS,
    _CAUSE,
)
_TELL: Final = Tell("u2", Link(3, NOW_MS), ((("u2", "o1"), Inherited(15, NOW_MS)),), NOW_MS)
_JSONL: Final = b'{"content_id": "c1"}\n{"content_id": 2, "user_id": "u1"}\nno row\n'
_CSV: Final = b'content_id,user_id\r\nc1,u1\r\n"c\n2",u2\r\nc3\r\n'
_POLICY: Final = (
    b"version: 2\nadult_age: 16\ncountries: [NO, DE]\nnotices_from: 2026-01-01T00:00:00Z\n"
)


def _chained(data: bytes) -> None:
    chain = Chain(0, 0, {})
    chain.add(0, KEY, data, {HASH: b"0"})
    chain.end(1)


def _proven(data: bytes) -> None:
    decisions = Decisions(0)
    decisions.stands(KEY, data)
    decisions.stands_since(KEY, data)
    decisions.end(NOW_MS)


_KEY_OF_LINKS: Final = "k" * 32
_SIGNER: Final = Signer([_KEY_OF_LINKS])
_FAR_S: Final = 4_000_000_000
_CLAIMS: Final = b'{"sub":"u1","aud":["objection-form"],"exp":4000000000,"nbf":5,"locale":"de"}'


def _link(data: bytes) -> object:
    return _SIGNER.person(data.decode("utf-8", "surrogateescape"))


def _claims(data: bytes) -> object:
    """What somebody signs who has the key, such as a mailer that makes links."""
    return _SIGNER.person(PyJWS().encode(data, _KEY_OF_LINKS, algorithm="HS256"))


def _word(data: bytes) -> object:
    return _SIGNER.objection_id("r", data.decode("utf-8", "surrogateescape"), 2.0)


def _decoders() -> Iterator[tuple[str, Decoder]]:
    for name in INPUTS:
        yield f"value in {name}", Decoder(_value_of(name), (), _values(name))
        yield f"key in {name}", Decoder(_key_of(name), (), (KEY,))
        yield f"{name}, as explained", Decoder(_said(name), (), _values(name))
    yield "headers", Decoder(_headers_of, (), (b"content/0/1", b"00-ab-cd-01"))
    yield "dead letter", Decoder(_letter, (), (b"content", b"7", b"\x1b[2J", b'{"content_id":"c"}'))
    for name in ("training-users", "training-content"):
        yield f"output in {name}", Decoder(_change(name), (Halt,), (*_values(name), b"7"))
    yield "acknowledgement", Decoder(_ack, (), _values("purge-acks"))
    yield "indexed item", Decoder(_indexed, (), _values("training-content"))
    yield "policy", Decoder(_policy, (UsageProblem,), (_POLICY,))
    yield "manifest, JSONL", Decoder(_json_manifest, (UsageProblem,), (_JSONL,))
    yield "manifest, CSV", Decoder(_csv_manifest, (UsageProblem,), (_CSV,))
    yield "import, JSONL", Decoder(_import_json, (UsageProblem,), (_JSONL,))
    yield "import, CSV", Decoder(_import_csv, (UsageProblem,), (_CSV,))
    packed = Decoder(_file("m.jsonl.gz"), (UsageProblem,), (gzip.compress(_JSONL, mtime=0),))
    yield "manifest, gzip", packed
    yield "manifest, Parquet", Decoder(_file("m.parquet"), (UsageProblem,), (_parquet(),))
    yield "positions of a data set", Decoder(_positions, (UsageProblem,), (_positions_file(),))
    yield "lost user", Decoder(_user_seed, (Halt,), _values("eligibility"))
    yield "lost item", Decoder(_item_seed, (Halt,), _values("training-content"))
    yield "audited item", Decoder(_audited, (CheckFailed,), _values("training-content"))
    yield "audit trail", Decoder(_chained, (), _values("audit-trail"))
    yield "proven decision", Decoder(_proven, (), _values("eligibility"))
    yield "link", Decoder(_link, (Forged, Expired), (_SIGNER.link_token("u1", _FAR_S).encode(),))
    yield "claims of a link", Decoder(_claims, (Forged, Expired), (_CLAIMS,))
    yield "word of a form", Decoder(_word, (Forged, Expired), (_SIGNER.form_word("r", 1).encode(),))
    yield "kept value", Decoder(_kept_value, REFUSALS, _values("content"))


def _states() -> Iterator[tuple[str, Decoder]]:
    item = Item(3, 0, _values("content")[0], 1, 0, NOW_MS, readable_offset=4, dead_letters=(5, 9))
    job = Job((Era(7, _DECISION),), (), (0,), "objections", NOW_MS, None)
    receipt = ReceiptRow(NOW_MS, NOW_MS, (StoreRow("index", erases=True),), caused=True)
    readers: list[tuple[str, Callable[[bytes], object], bytes]] = [
        ("user's row", rows.decode_user, rows.encode_user(_ROW)),
        ("next change", rows.next_change_ms, rows.encode_user(_ROW)),
        ("item's row", rows.decode_item, rows.encode_item(item)),
        ("job's row", rows.decode_job, rows.encode_job(job)),
        ("receipt's row", rows.decode_receipt, rows.encode_receipt(receipt)),
        ("number's row", rows.decode_number, rows.encode_number(7)),
        ("a tell", lambda data: rows.decode_tell(KEY, data), rows.encode_tell(_TELL)),
        ("trail's row", decode_head, head_row(NO_RECORD)[1] or b""),
        ("text's row", rows.decode_text, rows.encode_text("text")),
        ("user's key", rows.user_of, rows.user_key("u1")),
        ("dead letter's key", rows.dead_letter_of, rows.dead_letter_key("u1", 7)),
        ("timer's key", rows.timer_of, rows.timer_key(7, "u1")),
        ("receipt's key", rows.receipt_of, rows.receipt_key("u1", "o1", "filed")),
        ("receipt number's key", rows.receipt_number_of, rows.receipt_number_key(7)),
    ]
    for name, feed, good in readers:
        yield name, Decoder(feed, (Halt,), (good,))


DECODERS: Final = dict([*_decoders(), *_states()])

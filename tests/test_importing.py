"""Rows of every format become the records they stand for, or are refused as a worker would."""

import base64
import gzip
import json
import signal
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import topics
from streams.commands import main
from streams.commands.import_progress import Rate, line
from streams.core.decode import decode_objection
from streams.errors import Unreachable, UsageProblem
from streams.importing import place as places
from streams.importing import send
from streams.importing.fields import TOPICS, guess_topic, kinds, required
from streams.importing.interrupts import Interrupts
from streams.importing.judging import judge
from streams.importing.mapping import Mapper, Rules
from streams.importing.pace import (
    FLOOR_ROWS_PER_S,
    LEARN_S,
    PAUSE_S,
    TARGET_MAX_S,
    TARGET_MIN_S,
    Pace,
    Waiting,
)
from streams.importing.run import Progress
from streams.importing.tables import input_of, opened
from streams.settings import Settings

NOW_MS = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000)
OBJECTION = {"user_id": "u1", "objection_id": "o1", "action": "filed"}

Good = tuple[int, dict[str, Any]]  # line, value
Bad = tuple[int, str]  # line, code


def read(path: Path, rules: Rules, now_ms: int = NOW_MS) -> tuple[list[Good], list[Bad]]:
    """Return what the rows of *path* become."""
    good: list[Good] = []
    bad: list[Bad] = []
    with opened(input_of(path, None, None)) as table:
        mapper = Mapper(rules, cells=table.cells)
        for chunk in table.chunks(rules.wanted()):
            records = mapper.records(chunk.columns, len(chunk.numbers), chunk.bad)
            refused = judge(rules.topic, records, now_ms).bad
            for at, number in enumerate(chunk.numbers):
                if at in refused:
                    bad.append((number, refused[at].code))
                else:
                    key, value = records.keys[at], json.loads(records.values[at] or b"")
                    assert key == value["user_id"].encode()
                    good.append((number, value))
    return good, bad


def write(path: Path, data: str | bytes) -> Path:
    """Write *data* to *path*."""
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def run(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    """Run `objections import` in this process."""
    return CliRunner().invoke(main, ["import", *map(str, arguments)], input=stdin)


def test_csv_cells_become_fields(tmp_path: Path) -> None:
    """
    Columns are mapped, empty cells are missing, lists are split, other columns are not sent.
    """
    path = write(
        tmp_path / "objections.csv",
        "UserID,objection_id,action,products,email,occurred_at\r\n"
        "u1,o1,filed,facebook; instagram,a@b.c,\r\n"
        "u2,o2,withdrawn,,d@e.f,2026-04-15T09:00:00Z\r\n",
    )

    good, bad = read(path, Rules(topic="objections", columns={"user_id": "UserID"}))

    first = {**OBJECTION, "products": ["facebook", "instagram"], "channel": "import"}
    second = {"user_id": "u2", "objection_id": "o2", "action": "withdrawn", "channel": "import"}
    assert [] == bad
    assert [(2, first), (3, second | {"occurred_at": "2026-04-15T09:00:00Z"})] == good


def test_csv_lines_are_named_where_rows_begin(tmp_path: Path) -> None:
    """
    Rows over several lines, blank lines, rows of another width and bytes that are no UTF-8 hurt
    only themselves.
    """
    path = write(
        tmp_path / "objections.csv",
        b"user_id,objection_id,action,note\n"
        b'u1,o1,filed,"two\nlines"\n'
        b"\n"
        b"u2,o2,filed\n"
        b"u\xff3,o3,filed,x\n"
        b"u4,o4,maybe,x\n"
        b",o5,filed,x\n"
        b"u6,o6,filed,\xff\n",
    )

    good, bad = read(path, Rules(topic="objections"))

    assert [2, 9] == [number for number, _ in good]
    assert [
        (5, "row_width"),
        (6, "value_not_json"),
        (7, "field_value"),
        (8, "field_missing"),
    ] == bad


def test_whole_numbers_in_cells(tmp_path: Path) -> None:
    """
    A revision in a cell is a whole number, or the row is refused.
    """
    row = "u1,{0},{1},facebook,post,public,text,2026-04-15T09:00:00Z\n"
    path = write(
        tmp_path / "content.csv",
        "user_id,content_id,revision,product,kind,visibility,modality,created_at\n"
        + row.format("c1", "3")
        + row.format("c2", "9223372036854775807")
        + row.format("c3", "9223372036854775808")
        + row.format("c4", "1.5")
        + row.format("c5", "-1")
        + row.format("c6", "٣"),
    )

    good, bad = read(path, Rules(topic="content"))

    assert [("c1", 3), ("c2", 2**63 - 1)] == [(v["content_id"], v["revision"]) for _, v in good]
    assert [4, 5, 6, 7] == [number for number, _ in bad]


def test_parquet_types_become_fields(tmp_path: Path) -> None:
    """
    Numbers as ids, lists, dates, dictionaries, bytes and times with a zone are understood.
    """
    times = [datetime(2026, 4, 15, 9, tzinfo=UTC)] * 3
    pq.write_table(
        pa.table(
            {
                "user_id": pa.array([7, 8, None], pa.int64()),
                "observed_at": pa.array(times, pa.timestamp("ns", "Europe/Berlin")),
                "birth_date": pa.array([date(1990, 1, 2), None, None], pa.date32()),
                "assurance": pa.array(["verified", "inferred", None]).dictionary_encode(),
                "country": pa.array([b"DE", b"\xff\xff", b"FR"], pa.binary()),
            }
        ),
        path := tmp_path / "ages.parquet",
    )

    good, bad = read(path, Rules(topic="account-ages"))

    assert [(2, "field_type"), (3, "field_missing")] == bad
    assert [
        (
            1,
            {
                "user_id": "7",
                "observed_at": "2026-04-15T11:00:00+02:00",
                "birth_date": "1990-01-02",
                "assurance": "verified",
                "country": "DE",
            },
        )
    ] == good


def test_times_without_an_offset_are_refused_or_given_one(tmp_path: Path) -> None:
    """
    In every format; `--utc-offset` leaves times that have an offset as they are.
    """
    naive, aware = "2026-04-15 09:00:00", "2026-04-15T09:00:00Z"
    rows = [{"user_id": "u", "notice_id": each, "delivered_at": each} for each in (naive, aware)]
    csv = write(
        tmp_path / "notices.csv",
        "user_id,notice_id,delivered_at\n"
        + "".join(f"u,{each},{each}\n" for each in (naive, aware)),
    )
    jsonl = write(tmp_path / "notices.jsonl", "".join(json.dumps(each) + "\n" for each in rows))
    table = pa.table(
        {"user_id": ["u"], "notice_id": ["n"], "delivered_at": [datetime(2026, 4, 15, 9)]}  # noqa: DTZ001
    )
    pq.write_table(table, parquet := tmp_path / "notices.parquet")

    for path in (csv, jsonl, parquet):
        refused = read(path, Rules(topic="notices"))[1]
        assert ["time_without_offset"] == [code for _, code in refused]
        good, bad = read(path, Rules(topic="notices", utc_offset="+02:00"))
        assert [] == bad
        assert good[0][1]["delivered_at"].replace("T", " ") == naive + "+02:00"
        assert all(value["delivered_at"] == aware for _, value in good[1:])


@pytest.mark.parametrize("topic", TOPICS)
def test_rows_are_judged_as_a_worker_judges_records(topic: str, tmp_path: Path) -> None:
    """
    The published examples of good and bad records, as JSONL, are taken and refused alike.
    """
    path = tmp_path / "rows.jsonl"
    for example in topics.accepted(topic):
        if example.value is None or b'"dismissed"' in example.value:
            continue
        good, bad = read(write(path, example.value), Rules(topic=topic), example.timestamp_ms)
        assert [] == bad, example.name
        said = json.loads(example.value)
        sent = {name: said[name] for name in kinds(topic) if said.get(name) is not None}
        assert sent == {name: good[0][1][name] for name in sent}, example.name
    for example in topics.refused(topic):
        if not example.value or example.code.startswith("key_") or b"\n" in example.value:
            continue
        good, bad = read(write(path, example.value), Rules(topic=topic), example.timestamp_ms)
        if example.name.endswith("id_number"):  # a table holds such ids as numbers
            assert [] == bad, example.name
            continue
        is_dismissal = b'"dismissed"' in example.value
        assert [(1, "field_value" if is_dismissal else example.code)] == bad, example.name
        assert [] == good


def test_json_lines_that_are_none_hurt_only_themselves(tmp_path: Path) -> None:
    """
    Also where the bytes that are no UTF-8 are in a field that is not sent; blank lines are no rows.
    """
    good_line = json.dumps(OBJECTION).encode()
    path = write(
        tmp_path / "objections.jsonl",
        b"\n".join([good_line, b"", good_line[:-1] + b', "x": "\xff"}', b"[]", b"{", good_line]),
    )

    good, bad = read(path, Rules(topic="objections"))

    assert [1, 6] == [number for number, _ in good]
    assert [(3, "value_not_json"), (4, "value_not_object"), (5, "value_not_json")] == bad


def test_bytes_that_are_no_utf8_are_found_in_fields_nobody_reads(tmp_path: Path) -> None:
    """
    The decoder skips such a field without a look at it.
    """
    line_ = json.dumps(OBJECTION).encode()[:-1] + b', "x": "\xff"}\n'
    path = write(tmp_path / "objections.jsonl", line_)

    assert ([], [(1, "value_not_json")]) == read(path, Rules(topic="objections"))


def test_ids_are_made_the_same_each_time(tmp_path: Path) -> None:
    """
    A row without an id gets one of its user and the columns named, so a withdrawal finds its
    objection; a row that says its id keeps it.
    """
    path = write(
        tmp_path / "objections.csv",
        "user_id,objection_id,action,form\n"
        "u1,,filed,17\nu1,,withdrawn,17\nu2,,filed,17\nu1,own,filed,17\nu1,,filed,\n",
    )
    rules = Rules(topic="objections", id_from=["form"])

    good, bad = read(path, rules)
    again, _ = read(path, rules)

    filed, withdrawn, other, own = [value["objection_id"] for _, value in good]
    assert filed == withdrawn != other
    assert "import-" == filed[:7]
    assert "own" == own
    assert [(6, "field_missing")] == bad
    assert good == again


@pytest.mark.parametrize(
    "name,columns,topic",
    [
        ("objections-2026.csv", [], "objections"),
        ("/objections/ages.csv", [], "account-ages"),
        ("account_ages.parquet", [], "account-ages"),
        ("old.notices.jsonl", ["notice_id"], "notices"),
        ("export.csv", ["user_id", "content_id"], "content"),
        ("export.csv", ["user_id", "objection_id"], "objections"),
    ],
)
def test_the_topic_is_guessed_where_it_is_clear(name: str, columns: list[str], topic: str) -> None:
    """
    A file's name tells its topic, or else the columns do.
    """
    assert topic == guess_topic(name, columns)


@pytest.mark.parametrize(
    "name,columns",
    [("export.csv", ["user_id"]), ("objections-and-notices.csv", []), ("discontent.csv", [])],
)
def test_a_doubtful_topic_is_asked_for(name: str, columns: list[str]) -> None:
    """
    What is not clear is not guessed.
    """
    with pytest.raises(UsageProblem, match=r"Remedy: name it with --topic \(objections,"):
        guess_topic(name, columns)


@pytest.mark.parametrize(
    "header,options,said",
    [
        ("UserID,objection_id,action", [], "no column 'user_id', which objections needs"),
        ("user_id;objection_id;action", [], "--delimiter, if this is a CSV with another"),
        ("user_id,action", [], "--id-from COLUMN,COLUMN, which makes stable ids"),
        ("user_id,objection_id", [], "--set action=VALUE for all rows"),
        ("user_id,objection_id,action", ["--map", "user_id=UserID"], "no column 'UserID', which"),
        ("user_id,objection_id,action", ["--map", "user=user_id"], "has no field 'user'"),
        ("user_id,objection_id,action", ["--map", "user_id"], "expected FIELD=MAP"),
        ("user_id,user_id,action", [], "has 'user_id' more than once"),
        ("user_id,objection_id,action", ["--utc-offset", "CET"], "expected +HH:MM"),
        ("user_id,objection_id,action", ["--topic", "content", "--id-from", "x"], "not of content"),
        ("user_id,objection_id,action", ["--rate", "5", "--full-speed"], "does not go with"),
        ("user_id,objection_id,action", ["--delimiter", "ab"], "expected one character"),
        ("user_id,objection_id,action", ["--format", "parquet"], "cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_sent(
    header: str, options: Sequence[str], said: str, tmp_path: Path
) -> None:
    """
    A file that gives no record, or options that are wrong: exit status 2, with the remedy.
    """
    path = write(tmp_path / "objections.csv", header + "\nu1,o1,filed\n")

    result = run(path, *options, "--bootstrap", "127.0.0.1:1")

    assert 2 == result.exit_code, result.output
    assert said in result.stderr.replace("\n", " ")
    assert [path] == list(tmp_path.iterdir())


def test_a_dry_run_tells_all_errors_by_kind(tmp_path: Path) -> None:
    """
    It counts them, names the lines, exits with 1, writes nothing and asks no Kafka.
    """
    rows = [OBJECTION] * 3 + [{**OBJECTION, "action": "no"}] * 7 + [{"user_id": "u"}]
    path = write(tmp_path / "objections.jsonl", "".join(json.dumps(each) + "\n" for each in rows))

    result = run(path, "--dry-run", "--bootstrap", "127.0.0.1:1")

    assert 1 == result.exit_code, result.output
    assert "   7  field_value    action: expected one of filed, withdrawn" in result.stdout
    assert "4, 5, 6, 7, 8, …" in result.stdout
    assert "   1  field_missing  action: expected a value" in result.stdout
    assert "3 of 11 rows are good objections" in result.stdout
    assert "8 of 11 rows were refused" in result.stderr
    assert [path] == list(tmp_path.iterdir())


def test_refused_rows_are_kept_with_their_reason(tmp_path: Path) -> None:
    """
    `--rejects` has each row as it stood, its line and why; bytes that are no text in base64.
    """
    path = write(
        tmp_path / "objections.csv",
        b'user_id,objection_id,action\n"u,1",o1,no\nu\xff,o2,filed\nu3,o3,filed\n',
    )

    result = run(path, "--dry-run", "--rejects", tmp_path / "r.jsonl")

    first, second = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    assert 1 == result.exit_code
    assert {"line": 2, "code": "field_value", "row": '"u,1",o1,no'} == {
        name: text for name, text in first.items() if name != "detail"
    }
    assert ("value_not_json", 3) == (second["code"], second["line"])
    assert b"u\xff,o2,filed\n" == base64.b64decode(second["row_base64"])
    assert 0o600 == (tmp_path / "r.jsonl").stat().st_mode & 0o777


def test_unknown_products_are_told_as_they_widen_an_objection(tmp_path: Path) -> None:
    """
    A list split at the wrong place would object to everything: that is safe, and said.
    """
    path = write(
        tmp_path / "objections.csv",
        "user_id,objection_id,action,products\nu1,o1,filed,facebook|instagram\nu1,o2,filed,facebook\n",
    )

    wrong = run(path, "--dry-run")
    right = run(path, "--dry-run", "--list-separator", "|")

    assert (0, 0) == (wrong.exit_code, right.exit_code)
    assert "1 rows name products that are not known" in wrong.stdout
    assert "(lines 2)" in wrong.stdout
    assert "not known" not in right.stdout


def test_packed_files_and_standard_input(tmp_path: Path) -> None:
    """
    .gz and .zst are unpacked, standard input is too, without being told.
    """
    data = b"".join(
        json.dumps({**OBJECTION, "user_id": f"u{n}"}).encode() + b"\n" for n in range(9)
    )
    packed = {
        "gz": gzip.compress(data),
        "zst": bytes(pa.compress(data, "zstd", asbytes=True)),
    }
    for ending, stored in packed.items():
        path = write(tmp_path / f"objections.jsonl.{ending}", stored)
        piped = run("-", "--topic", "objections", "--format", "jsonl", "--dry-run", stdin=stored)
        for result in (run(path, "--dry-run"), piped):
            assert 0 == result.exit_code, result.output
            assert "9 of 9 rows are good" in result.stdout
    cut = write(tmp_path / "objections.jsonl.gz", packed["gz"][:-9])
    assert "cannot be read to its end" in run(cut, "--dry-run").stderr
    assert 2 == run("-", "--dry-run").exit_code


def test_required_fields_are_those_of_the_decoder() -> None:
    """
    A record with the required fields alone is good, and without any of them it is not.
    """
    assert ["user_id", "action", "objection_id"] == required("objections")
    good = json.dumps(OBJECTION).encode()
    assert "u1" == decode_objection(b"u1", good, NOW_MS).user_id


def test_the_pace_follows_the_workers() -> None:
    """
    It rises while records do not wait, falls when they do, stops when they wait long.
    """
    pace = Pace(-LEARN_S)
    first = pace.rate
    now_s = 0.0
    for _ in range(200):
        now_s += 0.1
        assert pace.allow(now_s, 10_000) > 0
        pace.looked(now_s, 0.0)
    high = pace.rate
    for _ in range(200):
        now_s += 0.1
        pace.allow(now_s, 10_000)
        pace.looked(now_s, TARGET_MAX_S * 1.1)
    low = pace.rate
    pace.looked(now_s, PAUSE_S * 1.1)
    stopped = pace.allow(now_s + 9, 10_000)
    pace.looked(now_s + 9, 0.0)

    assert high > 10 * first
    assert FLOOR_ROWS_PER_S == low
    assert 0 == stopped
    assert pace.allow(now_s + 10, 10_000) > 0


@pytest.mark.parametrize("calm_s,target_s", [(0.0, TARGET_MIN_S), (0.1, 0.1), (5.0, TARGET_MAX_S)])
def test_the_pace_learns_first_how_long_records_wait_anyway(calm_s: float, target_s: float) -> None:
    """
    It goes slowly meanwhile, and bears a little more waiting than that afterwards.
    """
    pace = Pace(0.0)
    pace.looked(LEARN_S / 2, calm_s)
    pace.looked(LEARN_S * 0.9, calm_s / 2)

    assert pytest.approx(target_s) == pace.target_s
    assert Pace(0.0).rate == pace.rate
    pace.allow(LEARN_S, 10_000)
    pace.looked(LEARN_S, 0.0)
    assert Pace(0.0).rate < pace.rate


def test_the_pace_knows_nothing_of_rates_that_were_not_tried() -> None:
    """
    Rows that come slower than they may go say nothing about how fast they may.
    """
    pace = Pace(-LEARN_S)
    for look in range(1, 1_000):
        pace.allow(look / 10, 1)
        pace.looked(look / 10, 0.0)

    assert Pace(0.0).rate == pace.rate


def test_a_rate_is_kept() -> None:
    """
    A fixed rate is neither exceeded nor changed, whatever the workers do.
    """
    pace = Pace(0.0, 1_000.0)
    sent = 0
    for step in range(1, 1_001):
        pace.looked(step / 100, 9.0)
        sent += pace.allow(step / 100, 5_000)

    assert 9_990 <= sent <= 10_000


def test_waiting_is_known_from_ends_and_commits() -> None:
    """
    It is the age of the oldest look whose end is not committed; a marker at an end does not count.
    """
    waiting = Waiting()
    place = ("objections", 0)
    waiting.looked(1.0, {place: 10})
    waiting.looked(2.0, {place: 20})

    assert 2.0 == waiting.waits_s(3.0, {})
    assert 1.5 == waiting.waits_s(3.5, {place: 10})
    assert 0.0 == waiting.waits_s(4.0, {place: 19})


def test_a_place_speaks_of_one_file_and_topic(tmp_path: Path) -> None:
    """
    Another file, topic or mapping does not go on where this one stopped.
    """
    path = write(tmp_path / "objections.csv", "x" * 3_000_000)
    topic = places.Topic("objections", "id", "cluster")
    now = places.Place(
        tool="t",
        input=places.identity(path),
        format="csv",
        delimiter=",",
        topic=topic,
        rules=Rules(topic="objections"),
        rows=5,
    )
    places.write(kept_at := places.beside(path), now)
    kept = places.read(kept_at)
    assert kept == now
    places.going_on(kept, now, kept_at)
    write(path, "x" * 2_999_999 + "y")
    others = [
        (places.identity(path), topic, Rules(topic="objections"), "speaks of another file"),
        (now.input, places.Topic("objections", "new", "cluster"), now.rules, "speaks of topic"),
        (now.input, topic, Rules(topic="objections", utc_offset="Z"), "began with other options"),
    ]
    for found, other_topic, rules, said in others:
        other = places.Place(
            tool="t", input=found, format="csv", delimiter=",", topic=other_topic, rules=rules
        )
        with pytest.raises(UsageProblem, match=said):
            places.going_on(kept, other, kept_at)
    kept_at.write_text("{")
    with pytest.raises(UsageProblem, match="--restart imports it from its beginning"):
        places.read(kept_at)


def test_progress_tells_rate_and_time_left() -> None:
    """
    People see how far it is, how fast and for how long; of standard input nobody knows its end.
    """
    rate = Rate()
    rate.looked(0.0, Progress("f.csv", 0, 0, 0.0, ""))
    looked = rate.looked(2.0, Progress("f.csv", 2_000, 0, 0.25, ""))

    assert (1_000, 6) == looked
    assert "f.csv [#####...............]  25% 2,000 rows, 1,000 rows/s, 0:06 left" == line(
        Progress("f.csv", 2_000, 0, 0.25, ""), *looked
    )
    assert "standard input 5 rows, slow" == line(
        Progress("standard input", 5, 0, None, "slow"), None, None
    )


def test_rows_are_acknowledged_only_when_kafka_has_said_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Without an answer no row counts, and it is said that Kafka does not take them.
    """
    monkeypatch.setattr(send, "DELIVERY_TIMEOUT_MS", 1_000)
    sender = send.Sender(Settings(bootstrap="127.0.0.1:1"), "objections", quick=True, rows=7)

    assert {} == sender.send([b"u1", None], [b"{}", None])
    assert not sender.passed(8)
    assert sender.passed(7 + send.SEGMENT_ROWS)
    assert 7 == sender.acknowledged
    with pytest.raises(Unreachable, match="All rows up to 7 are acknowledged"):
        sender.passed(7 + 2 * send.SEGMENT_ROWS)
    assert 7 == sender.acknowledged
    sender.abandon()


def test_an_interrupt_waits_until_a_slice_is_counted() -> None:
    """
    Within a shield Ctrl-C is heard at its end; a second one at once, as one outside of it.
    """
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        interrupts = Interrupts()
        interrupts.install()
        done: list[str] = []

        def shielded(*signals: signal.Signals) -> None:
            with interrupts.shield():
                for number in signals:
                    signal.raise_signal(number)
                    done.append(number.name)

        with pytest.raises(KeyboardInterrupt):
            shielded(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            shielded(signal.SIGINT, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

    assert ["SIGTERM", "SIGINT"] == done


def test_the_help_says_how_many_rows_may_be_sent_twice() -> None:
    """
    The bound that the code keeps is the one that is promised.
    """
    assert f"at most {send.ROWS_TWICE_MAX:,}" in " ".join(run("--help").stdout.split())

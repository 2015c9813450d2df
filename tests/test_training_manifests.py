"""Rows that stay are as they were, in every format; what cannot be read is dropped or refused."""

import csv
import gzip
import io
import json
import os
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streams.errors import UsageProblem
from streams.files import lines
from streams.settings import Settings
from streams.training import AllowedItems, allowed, filtering, parquet
from streams.training.filtering import Filtered, Plan
from streams.training.index import Index
from streams.training.manifests import sources
from streams.training.positions import Positions, TopicPosition, beside
from tests.training_scene import item, user

SAME_FOLDER = hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


def allowing(*ids: str, purged: Sequence[str] = (), locked: Sequence[str] = ()) -> AllowedItems:
    """Return what allows *ids* alone, as if it had been read."""
    index = Index()
    records = [
        user("u1"),
        user("u2", stands=False),
        *(item(each, "u1") for each in ids),
        *(item(each, "u1", stands=False) for each in purged),
        *(item(each, "u2") for each in locked),
    ]
    for topic, _, key, value in records:
        index.put(topic, [key.encode()], [None if value is None else json.dumps(value).encode()])
    topics = {
        name: TopicPosition(name, "id", [1], 1) for name in ("training-users", "training-content")
    }
    return AllowedItems(Settings(), index, Positions("cluster", 0, topics))


def run(
    manifest: Path, out: Path, items: AllowedItems, column: str = "content_id", **said: Any
) -> Filtered:
    """Filter *manifest* into *out*."""
    form, delimiter = said.get("form"), said.get("delimiter")
    found = sources([manifest], form, delimiter)
    plan = Plan(found, out, beside(out), column, True, form, delimiter)
    filtering.check(plan, [manifest])
    return filtering.run(plan, items)


GOOD = ("good", "grün", 'a"b', "12")
json_ids = st.sampled_from([*GOOD, "bad", "", None, 12, 3.5, True])
json_lines = st.one_of(
    st.builds(lambda each: json.dumps({"x": [1], "content_id": each}), json_ids),
    st.builds(lambda each: json.dumps({"content_id": each}, ensure_ascii=False) + " ", json_ids),
    st.sampled_from(
        [
            "",
            "  ",
            "[]",
            "{",
            '{"content_id":',
            '"good"}',
            '{"content_id": "good"}{"content_id": "good"}',
            '{"content_id": "good"} {"content_id": "bad"}',
            '{"other": "good"}',
            '{"content_id": "\\ud800"}',
        ]
    ),
).map(str.encode)


@given(rows=st.lists(json_lines | st.just(b'{"content_id": "\xff"}'), max_size=30))
@SAME_FOLDER
def test_jsonl_lines_stay_byte_for_byte(rows: list[bytes], tmp_path: Path) -> None:
    """
    Exactly the lines stay that are one object with an allowed id; others are counted.
    """

    def content_id(line: bytes) -> str:
        try:
            row = json.loads(line)
            found = row.get("content_id")
        except (ValueError, AttributeError):
            return ""
        if isinstance(found, bool) or not isinstance(found, str | int) or found == "\ud800":
            return ""
        return str(found)

    manifest, out = tmp_path / "m.jsonl", tmp_path / "o.jsonl"
    manifest.write_bytes(b'{"content_id": "good"}\n' + b"\n".join(rows))
    ids = ["good", *map(content_id, rows)]
    real = [b'{"content_id": "good"}', *rows]
    if rows and not rows[-1]:
        ids, real = ids[:-1], real[:-1]

    done = run(manifest, out, allowing(*GOOD))

    kept = [line for line, each in zip(real, ids, strict=True) if each in GOOD]
    assert kept == out.read_bytes().splitlines()
    assert len(kept) == done.rows.kept
    blank = sum(not line.strip() for line in real)
    assert len(real) - blank == done.rows.read
    assert sum(not each for each in ids) - blank == done.rows.malformed


cells = st.text(alphabet='ab,;"\n \té\u2028', max_size=6) | st.just("x\r\n\ry")


@given(
    rows=st.lists(st.tuples(cells, st.sampled_from([*GOOD, "bad", ""]), cells), max_size=20),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from([",", ";"]),
    bom=st.booleans(),
    chunk=st.integers(1, 40),
)
@SAME_FOLDER
def test_csv_rows_stay_byte_for_byte(
    rows: list[tuple[str, str, str]],
    quoting: Any,
    end: str,
    delimiter: str,
    bom: bool,
    chunk: int,
    tmp_path: Path,
) -> None:
    """
    Header and rows stay as they are, quotes, line ends within fields and all.
    """

    def written(row: tuple[str, str, str]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, quoting=quoting, lineterminator=end, delimiter=delimiter).writerow(row)
        return text.getvalue().encode()

    header = (b"\xef\xbb\xbf" if bom else b"") + written(("a", "content_id", "b"))
    manifest, out = tmp_path / "m.csv", tmp_path / "o.csv"
    manifest.write_bytes(header + b"".join(map(written, rows)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK_BYTES", chunk)
        done = run(manifest, out, allowing(*GOOD), delimiter=delimiter)

    kept = [each for each in rows if each[1] in GOOD]
    assert header + b"".join(map(written, kept)) == out.read_bytes()
    assert (len(rows), len(kept)) == (done.rows.read, done.rows.kept)
    assert sum(not each[1] for each in rows) == done.rows.malformed


def test_csv_with_a_quote_out_of_place_is_refused(tmp_path: Path) -> None:
    """
    Where rows begin is not known behind it, so no OUT comes of it; the line is named.
    """
    manifest, out = tmp_path / "m.csv", tmp_path / "o.csv"
    for text in ('x,"a"b\ngood,1\n', 'x,"a\ngood,1\n'):
        manifest.write_text("content_id,text\ngood,2\n" + text, encoding="utf-8")

        with pytest.raises(UsageProblem, match=r"m\.csv, line [34]: "):
            run(manifest, out, allowing("good"))

        assert [manifest] == list(tmp_path.iterdir())


def test_csv_rows_of_another_width_are_dropped_and_named(tmp_path: Path) -> None:
    """
    A row with too few or too many fields is no row.
    """
    manifest, out = tmp_path / "m.csv", tmp_path / "o.csv"
    manifest.write_text('content_id,b\ngood,"1\n1"\ngood\n\ngood,2,3\ngood,4\n', encoding="utf-8")

    done = run(manifest, out, allowing("good"))

    assert 'content_id,b\ngood,"1\n1"\ngood,4\n' == out.read_text("utf-8")
    assert ["m.csv:4", "m.csv:6"] == [each.rsplit("/", 1)[-1] for each in done.malformed]


def wide_table(ids: Sequence[str | None]) -> pa.Table:
    """Return a table with a column of every kind that a training set may have."""
    count = len(ids)
    numbers = list(range(count))
    return pa.table(
        {
            "n": pa.array(numbers, pa.int32()),
            "content_id": pa.array(ids, pa.string()),
            "text": pa.array([f"text {each}" for each in numbers], pa.large_string()),
            "label": pa.array([f"l{each % 3}" for each in numbers]).dictionary_encode(),
            "embedding": pa.array([[each / 2] * 3 for each in numbers], pa.list_(pa.float32(), 3)),
            "tags": pa.array([[str(each)] * (each % 3) for each in numbers]),
            "meta": pa.array([{"a": each, "b": None} for each in numbers]),
            "map": pa.array([[("k", each)] for each in numbers], pa.map_(pa.string(), pa.int64())),
            "price": pa.array([Decimal(each) for each in numbers], pa.decimal128(9, 2)),
            "day": pa.array([date(2026, 1, 1)] * count),
            "at": pa.array([datetime(2026, 1, 1)] * count, pa.timestamp("us", "UTC")),  # noqa: DTZ001
            "view": pa.array([f"view {each}" for each in numbers], pa.string_view()),
            "bytes": pa.array([bytes([each % 256]) for each in numbers], pa.binary()),
            "empty": pa.nulls(count),
        }
    ).replace_schema_metadata({"made_by": "a test", "pandas": "{}"})


def test_parquet_keeps_types_order_codecs_and_row_groups(tmp_path: Path) -> None:
    """
    Rows that stay have the values, types, metadata, codecs and row groups they had.
    """
    ids = ["good" if each % 3 else ("bad" if each % 2 else None) for each in range(100)]
    ids[40:60] = ["bad"] * 20
    table = wide_table(ids)
    codecs = dict.fromkeys(table.column_names, "zstd") | {"n": "none", "text": "snappy"}
    manifest, out = tmp_path / "m.parquet", tmp_path / "o.parquet"
    pq.write_table(
        table, manifest, row_group_size=20, compression=codecs, use_dictionary=["text"],
        sorting_columns=[pq.SortingColumn(0)], version="2.4",
    )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "BATCH_ROWS", 7)
        done = run(manifest, out, allowing("good"))

    before, after = pq.ParquetFile(manifest), pq.ParquetFile(out)
    expected = [row for row in before.read().to_pylist() if row["content_id"] == "good"]
    assert expected == after.read().to_pylist()
    assert before.schema_arrow.equals(after.schema_arrow, check_metadata=True)
    assert before.schema.equals(after.schema)
    assert 4 == after.num_row_groups  # of five, one had nothing left
    assert before.metadata.format_version == after.metadata.format_version
    for number in range(before.metadata.num_columns):
        was, now = (each.metadata.row_group(0).column(number) for each in (before, after))
        assert was.compression == now.compression
        assert ("RLE_DICTIONARY" in was.encodings) == ("RLE_DICTIONARY" in now.encodings)
    assert (
        before.metadata.row_group(0).sorting_columns == after.metadata.row_group(0).sorting_columns
    )
    nulls = sum(each is None for each in ids)
    assert (100, len(expected), nulls) == (done.rows.read, done.rows.kept, done.rows.malformed)


def test_parquet_of_other_writers_is_kept_as_they_wrote_it(tmp_path: Path) -> None:
    """
    INT96 times stay INT96, and no Arrow schema is added where there was none.
    """
    table = pa.table({"content_id": ["good", "bad"], "at": pa.array([1, 2], pa.timestamp("ns"))})
    manifest, out = tmp_path / "m.parquet", tmp_path / "o.parquet"
    pq.write_table(
        table, manifest, use_deprecated_int96_timestamps=True, store_schema=False, version="1.0"
    )

    run(manifest, out, allowing("good"))

    before, after = pq.ParquetFile(manifest), pq.ParquetFile(out)
    assert "INT96" == after.schema.column(1).physical_type
    assert before.metadata.metadata == after.metadata.metadata
    assert before.metadata.format_version == after.metadata.format_version


def test_parquet_without_row_groups_stays_empty(tmp_path: Path) -> None:
    """
    An empty file, and one with nothing left, become files with the schema and no rows.
    """
    for ids in ([], ["bad"]):
        table = wide_table(ids)
        pq.write_table(table, tmp_path / "m.parquet")

        run(tmp_path / "m.parquet", tmp_path / "o.parquet", allowing("good"))

        before, after = (pq.read_schema(tmp_path / name) for name in ("m.parquet", "o.parquet"))
        assert before.equals(after, check_metadata=True)
        assert 0 == pq.read_metadata(tmp_path / "o.parquet").num_rows


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(),
        pa.binary_view(), pa.int64(), pa.uint8(), pa.dictionary(pa.int8(), pa.string()),
    ],
    ids=str,
)  # fmt: skip
def test_batches_with_ids_of_every_kind(kind: Any) -> None:
    """
    Text, bytes, integers, dictionaries and slices of them are read alike.
    """
    is_text = not pa.types.is_integer(kind)
    values: list[Any] = ["12", "77", None, "13", "12"] if is_text else [12, 77, None, 13, 12]
    if "binary" in str(kind):
        values = [each and each.encode() for each in values]
    array = pa.array(["x", *values][0 if is_text else 1 :], pa.string() if is_text else kind)
    array = pa.array(values) if is_text and "binary" in str(kind) else array
    array = array.cast(kind)
    batch = pa.record_batch({"content_id": array, "row": pa.array(range(len(array)))})
    part = batch.slice(len(array) - 5)

    found = [
        row for each in allowed([part], allowing("12", "13")) for row in each["row"].to_pylist()
    ]

    assert [0, 3, 4] == [each - (len(array) - 5) for each in found]
    table = pa.Table.from_batches([batch, part])
    assert 6 == sum(each.num_rows for each in allowed([table], allowing("12", "13")))


def test_rows_pass_in_their_order_and_lazily() -> None:
    """
    Mappings pass whole, and an endless stream of them is no trouble.
    """

    def rows() -> Any:
        number = 0
        while True:
            yield {"id": ("good", "bad", None)[number % 3], "row": number}
            number += 1

    passing = allowed(rows(), allowing("good"), column="id")

    assert [0, 3, 6] == [next(passing)["row"] for _ in range(3)]


def test_rows_of_another_kind_are_refused() -> None:
    """
    What is neither a mapping nor a batch is named; so is a column that a batch does not have.
    """
    with pytest.raises(TypeError, match="a row is a str, expected a mapping"):
        list(allowed(["good"], allowing("good")))
    with pytest.raises(UsageProblem, match="no column 'content_id'; there are 'a'"):
        list(allowed([pa.table({"a": ["good"]})], allowing("good")))


@pytest.mark.parametrize("name", ["m.jsonl.gz", "m.jsonl.zst", "m.csv.gz", "m.csv.zst", "m.tsv"])
def test_packed_manifests(name: str, tmp_path: Path) -> None:
    """
    Gzip and zstd are unpacked, and OUT is packed as its name says.
    """
    manifest, out = tmp_path / name, tmp_path / f"o{name[1:]}"
    row = (
        '{{"content_id": "{0}"}}\n'
        if "jsonl" in name
        else "{0}\t1\n"
        if "tsv" in name
        else "{0},1\n"
    )
    head = "" if "jsonl" in name else "content_id\tb\n" if "tsv" in name else "content_id,b\n"
    text = head + "".join(row.format(each) for each in ("good", "bad", "good"))
    manifest.write_bytes(packed(name, text.encode()))

    run(manifest, out, allowing("good"))

    assert head + row.format("good") * 2 == unpacked(name, out.read_bytes()).decode()


def packed(name: str, data: bytes) -> bytes:
    """Return *data* compressed as *name* says."""
    if name.endswith(".gz"):
        return gzip.compress(data)
    return pa.compress(data, "zstd", asbytes=True) if name.endswith(".zst") else data


def unpacked(name: str, data: bytes) -> bytes:
    """Return what `packed` was given."""
    if name.endswith(".gz"):
        return gzip.decompress(data)
    return pa.input_stream(io.BytesIO(data), "zstd").read() if name.endswith(".zst") else data


def test_damaged_files_are_named_and_leave_nothing(tmp_path: Path) -> None:
    """
    A cut gzip, a cut zstd, a cut Parquet end with a sentence, and without an OUT.
    """
    row = b'{"content_id": "good", "n": %d}\n'
    text = b"".join(row % each for each in range(20_000))
    pq.write_table(pa.table({"content_id": ["good"] * 9}), tmp_path / "whole")
    for name, data in {
        "m.jsonl.gz": gzip.compress(text)[:-2000],
        "m.jsonl.zst": pa.compress(text, "zstd", asbytes=True)[:-1000],
        "m.parquet": (tmp_path / "whole").read_bytes()[:-7],
    }.items():
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        manifest, out = folder / name, folder / f"o{name[1:]}"
        manifest.write_bytes(data)

        with pytest.raises(UsageProblem, match=r"m\..* cannot be read"):
            run(manifest, out, allowing("good"))

        assert [manifest] == list(folder.iterdir())


@pytest.mark.parametrize(
    "name,data,said",
    [
        (
            "m.jsonl",
            b'{"id": "a", "text": "b"}\n',
            "no row has an id in 'content_id'; .*'id', 'text'",
        ),
        ("m.jsonl", b"id,text\n1,2\n", "expected JSON objects, one a line"),
        ("m.csv", b"id,text\n1,2\n", "no column 'content_id'; its header has 'id', 'text'"),
        ("m.csv", b"content_id,content_id\n", "more than one column 'content_id'"),
        ("m.csv", b"", "no column 'content_id'; its header has none"),
        ("m.parquet", b"PAR", "cannot be read as Parquet"),
        ("m.txt", b"", "its name tells no format"),
        ("m.parquet.gz", b"", "Parquet is compressed inside"),
    ],
)
def test_a_manifest_that_is_none_is_refused(
    name: str, data: bytes, said: str, tmp_path: Path
) -> None:
    """
    The file is named, with what was found and what is expected, and there is no OUT.
    """
    manifest = tmp_path / name
    manifest.write_bytes(data)

    with pytest.raises(UsageProblem, match=said):
        run(manifest, tmp_path / f"o{name[1:]}", allowing("good"))

    assert [manifest] == list(tmp_path.iterdir())


def test_a_parquet_column_that_holds_no_ids_is_refused(tmp_path: Path) -> None:
    """
    Missing columns are told with those that are there, others with their type.
    """
    pq.write_table(pa.table({"a": ["x"], "b": [1.5]}), tmp_path / "m.parquet")

    with pytest.raises(UsageProblem, match="no column 'content_id'; there are 'a', 'b'"):
        run(tmp_path / "m.parquet", tmp_path / "o.parquet", allowing("good"))
    with pytest.raises(UsageProblem, match="'b' is of type double, expected text"):
        run(tmp_path / "m.parquet", tmp_path / "o.parquet", allowing("good"), column="b")


def test_counts_say_why_rows_were_dropped(tmp_path: Path) -> None:
    """
    Purged, of a locked account, unknown and malformed rows are counted apart.
    """
    manifest, out = tmp_path / "m.jsonl", tmp_path / "o.jsonl"
    ids = ["good", "gone", "gone", "shut", "shut", "shut", "new", "x" * 300, 1.5]
    manifest.write_text("".join(json.dumps({"content_id": each}) + "\n" for each in ids), "utf-8")

    rows = run(manifest, out, allowing("good", purged=["gone"], locked=["shut"])).rows

    assert (9, 1, 2, 3, 1, 2) == (
        rows.read, rows.kept, rows.purged, rows.account_locked, rows.unknown, rows.malformed,
    )  # fmt: skip


def test_a_folder_becomes_a_folder(tmp_path: Path) -> None:
    """
    Every part keeps its place and name; what tools put beside data is left out.
    """
    manifest, out = tmp_path / "in", tmp_path / "out"
    (manifest / "day=1").mkdir(parents=True)
    table = pa.table({"content_id": ["good", "bad"]})
    pq.write_table(table, manifest / "part-0.parquet")
    pq.write_table(table, manifest / "day=1" / "part-1.parquet")
    (manifest / "_SUCCESS").touch()
    (manifest / ".part-0.parquet.crc").touch()

    run(manifest, out, allowing("good"))

    found = sorted(each.relative_to(out).as_posix() for each in out.rglob("*.*"))
    assert ["day=1/part-1.parquet", "part-0.parquet"] == found
    assert ["good"] == pq.read_table(out / "part-0.parquet")["content_id"].to_pylist()
    assert not list(tmp_path.glob(".*"))

    (manifest / "README.md").touch()
    with pytest.raises(UsageProblem, match=r"README\.md: its name tells no format"):
        run(manifest, tmp_path / "other", allowing("good"))


def test_a_disk_error_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What could not be written to its end is not there, nor its positions; what was there before is.
    """
    manifest, out = tmp_path / "m.jsonl", tmp_path / "o.jsonl"
    manifest.write_text('{"content_id": "good"}\n', encoding="utf-8")
    out.write_text("earlier", encoding="utf-8")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageProblem, match=r"cannot be written: .*No space left"):
        run(manifest, out, allowing("good"))

    assert {manifest, out} == set(tmp_path.iterdir())
    assert "earlier" == out.read_text("utf-8")

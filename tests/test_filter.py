"""
`objections filter` on a real Kafka: what it keeps, what it writes, what `--verify` finds later.

The tests tell one story over one pair of topics where they can; those that damage topics have their
own.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import KafkaException
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined] # it is public

from streams.commands import main
from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.training import AllowedItems, State, cache, log, positions
from tests.training_scene import PARTITIONS, Outputs, ids_in, item, jsonl, user

COMMAND = [sys.executable, "-m", "streams.commands", "filter"]
IDS = ["c-1", "c-2", "c-3", "c-4", "c-5", "c-new"]


@pytest.fixture
def outputs(kafka: LocalKafka, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Outputs:
    """Return topics with an allowed item, one of another product, a locked and a purged one."""
    monkeypatch.setenv("OBJECTIONS_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("OBJECTIONS_TOPIC_PREFIX", prefix)
    made = Outputs(kafka.bootstrap, prefix)
    made.commit([user("u1"), user("u2"), user("u2", stands=False)])
    made.commit(
        [
            item("c-1", "u1"),
            item("c-2", "u1", "instagram"),
            item("c-3", "u2"),
            item("c-4", "u1"),
            item("c-5", "u1"),
            item("c-4", "u1", stands=False),
        ]
    )
    return made


def run(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    """Run `objections filter` in this process."""
    return CliRunner().invoke(main, ["filter", *map(str, arguments)], input=stdin)


def filtered(tmp_path: Path, *options: str | Path) -> Path:
    """Return the data set of a manifest of IDS."""
    out = tmp_path / "out.jsonl"
    result = run(jsonl(tmp_path / "in.jsonl", IDS), "-o", out, *options)
    assert result.exit_code == 0, result.output
    return out


def test_only_what_both_locks_allow_is_kept(outputs: Outputs, tmp_path: Path) -> None:
    """
    An item stays while its record and that of its product and user stand; the file beside OUT says
    which positions it stands for, what was dropped and why, and its SHA-256.
    """
    before_ms = time.time_ns() // 1_000_000

    out = filtered(tmp_path)

    assert ["c-1", "c-5"] == ids_in(out)
    found = json.loads((tmp_path / "out.jsonl.positions.json").read_text("utf-8"))
    assert hashlib.sha256(out.read_bytes()).hexdigest() == found["sha256"]
    dropped = {"purged": 1, "account_locked": 2, "unknown": 1, "malformed": 0}
    assert {"read": 6, "kept": 2, "dropped": dropped} == found["rows"]
    assert found["tool"].startswith("objection-streams ")
    end = log.ends(outputs.settings)
    assert end.cluster_id == found["cluster_id"]
    assert before_ms <= positions.read(positions.beside(out)).positions.noted_ms
    for name, topic in end.topics.items():
        assert PARTITIONS == len(topic.offsets)
        assert topic.offsets == found["topics"][name]["end_offsets"]
        assert topic.topic_id == found["topics"][name]["topic_id"]
        assert outputs.settings.topic(name) == found["topics"][name]["name"]


def test_verify_finds_what_was_purged_since(outputs: Outputs, tmp_path: Path) -> None:
    """
    Nothing new: exit status 0.  A tombstone since: its item is listed, once, and exit status 1,
    read from the positions on; a re-granted item is none; OUT is still as it was.
    """
    out = filtered(tmp_path)

    nothing = run("--verify", out)
    outputs.commit([item("c-9", "u1"), item("c-5", "u1", stands=False), item("c-5", "u1")])
    still_nothing = run("--verify", out)
    outputs.commit([item("c-5", "u1", stands=False), item("c-4", "u1", stands=False)])
    purged = run("--verify", out, "--list", tmp_path / "purged.txt")
    listed = run("--verify", out)

    assert (0, "nothing, as the topics have got nothing since read") == (
        nothing.exit_code,
        nothing.stdout.strip().split("(")[1].rstrip(")."),
    )
    assert 0 == still_nothing.exit_code, still_nothing.output
    assert "(what the topics have got since read)" in still_nothing.stdout
    assert (1, "") == (purged.exit_code, purged.stdout)
    assert "1 items in 1 rows" in purged.stderr
    assert "what the topics have got since read" in purged.stderr
    assert "c-5\n" == (tmp_path / "purged.txt").read_text("utf-8")
    assert (1, "c-5\n") == (listed.exit_code, listed.stdout)
    assert ["c-1", "c-5"] == ids_in(out)


def test_verify_finds_all_items_of_an_account_locked_since(
    outputs: Outputs, tmp_path: Path
) -> None:
    """
    An account's tombstone purges its items at once, before their own tombstones have followed.
    """
    out = filtered(tmp_path, "--cache", tmp_path / "cache")
    outputs.commit([user("u1", stands=False)])

    for options in ([], ["--cache", str(tmp_path / "cache")]):
        found = run("--verify", out, *options)

        assert (1, "c-1\nc-5\n") == (found.exit_code, found.stdout), found.stderr
        assert "all of the topics read" in found.stderr


def test_verify_fails_closed_when_the_data_set_has_changed(
    outputs: Outputs, tmp_path: Path
) -> None:
    """
    A row more, a missing positions file, a file that is none: nothing is said to be in order.
    """
    out = filtered(tmp_path)
    with out.open("a", encoding="utf-8") as file:
        file.write('{"content_id": "c-4"}\n')

    changed = run("--verify", out)
    positions.beside(out).write_text("[]", encoding="utf-8")
    broken = run("--verify", out)
    positions.beside(out).unlink()
    missing = run("--verify", out)

    assert 1 == changed.exit_code
    assert "is not what was filtered" in changed.stderr
    for found in (broken, missing):
        assert 2 == found.exit_code
        assert "cannot be read as the positions of a data set" in found.stderr


def test_verify_fails_closed_when_a_topic_was_made_anew(
    outputs: Outputs, tmp_path: Path, kafka: LocalKafka
) -> None:
    """
    Positions of a topic that is gone say nothing, and neither a stored index nor OUT is trusted.
    """
    store = tmp_path / "cache"
    out = filtered(tmp_path, "--cache", store)
    name = outputs.settings.topic("training-content")
    remake(outputs, name)
    outputs.commit([item("c-1", "u1")])

    for options in ([], ["--cache", str(store)]):
        found = run("--verify", out, *options)
        assert 1 == found.exit_code
        assert f"topic {name} was made anew since" in found.stderr

    items = AllowedItems.read(outputs.settings, cache_folder=store)
    assert not items.built.from_cache
    assert [True, False] == items.mask(["c-1", "c-5"]).tolist()


def remake(outputs: Outputs, name: str) -> None:
    """Delete topic *name* and make it again."""
    client = admin.connect(outputs.settings)
    client.delete_topics([name], operation_timeout=30)[name].result()
    deadline_s = time.monotonic() + 60
    while True:
        made = client.create_topics([NewTopic(name, PARTITIONS, 1)], operation_timeout=30)
        try:
            made[name].result()
            break
        except KafkaException:  # It is still being deleted.
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
    while not admin.look(client, outputs.settings).topics.get("training-content"):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_positions_that_are_old_ask_for_all(outputs: Outputs, tmp_path: Path) -> None:
    """
    After half of `delete.retention.ms` tombstones may be gone: everything is read, with the same
    answer, and a stored index is thrown away.
    """
    store = tmp_path / "cache"
    out = filtered(tmp_path, "--cache", store)
    outputs.commit([item("c-5", "u1", stands=False)])
    path = positions.beside(out)
    content = json.loads(path.read_text("utf-8"))
    week_ms = 7 * 86_400_000
    content["noted_ms"] -= week_ms // 2 + 60_000
    path.write_text(json.dumps(content), encoding="utf-8")
    stored, _ = cache.load(store, log.ends(outputs.settings))
    assert stored is not None
    old = positions.Positions(
        stored.positions.cluster_id, content["noted_ms"], stored.positions.topics
    )
    cache.save(store, cache.Stored(stored.index, old))

    found = run("--verify", out)
    items = AllowedItems.read(outputs.settings, cache_folder=store)

    assert (1, "c-5\n") == (found.exit_code, found.stdout)
    assert "all of the topics read" in found.stderr
    assert not items.built.from_cache


def test_a_stored_index_is_brought_up_to_date(outputs: Outputs, tmp_path: Path) -> None:
    """
    The second run reads only what has come since, and says what the first would say now.
    """
    store = tmp_path / "cache"
    first = AllowedItems.read(outputs.settings, cache_folder=store)
    outputs.commit([item("c-5", "u1", stands=False), item("c-6", "u1"), user("u2")])

    second = AllowedItems.read(outputs.settings, cache_folder=store)
    anew = AllowedItems.read(outputs.settings)

    assert (False, True) == (first.built.from_cache, second.built.from_cache)
    assert 3 == second.built.records
    ids = [*IDS, "c-6"]
    assert anew.states(anew.hashes(ids)).tolist() == second.states(second.hashes(ids)).tolist()
    assert ["c-1", "c-3", "c-6"] == [each for each in ids if each in second]
    assert 3 == first.refresh()
    assert ["c-1", "c-3", "c-6"] == [each for each in ids if each in first]
    assert 3 == len(first)


def test_a_damaged_index_is_made_anew(outputs: Outputs, tmp_path: Path) -> None:
    """
    A bit that fell over, a file cut short, another version: never an item that is not allowed.
    """
    store = tmp_path / "cache"
    AllowedItems.read(outputs.settings, cache_folder=store)
    (path,) = store.iterdir()
    whole = path.read_bytes()
    assert 0o600 == path.stat().st_mode & 0o777
    said: list[str] = []
    for damaged in (
        whole[:-2] + bytes([whole[-2] ^ 1, whole[-1] ^ 1]),  # locks of both accounts
        whole[: len(whole) // 2],
        whole.replace(b'"version":1', b'"version":9'),
        b"",
    ):
        path.write_bytes(damaged)

        items = AllowedItems.read(outputs.settings, cache_folder=store, say=said.append)

        assert not items.built.from_cache
        assert [State.ALLOWED, State.LOCKED] == items.states(items.hashes(["c-1", "c-3"])).tolist()
    assert 4 == len(said)
    assert all("cannot be used" in each for each in said)


def test_an_open_transaction_is_waited_for(outputs: Outputs, tmp_path: Path) -> None:
    """
    A purge that was in the log when the run began counts, though its transaction ends only later;
    what is aborted does not.
    """
    manifest = jsonl(tmp_path / "in.jsonl", IDS)
    endings = {
        "aborted": (outputs.producer.abort_transaction, ["c-1", "c-5"]),
        "committed": (outputs.producer.commit_transaction, []),
    }
    for name, (end, kept) in endings.items():
        outputs.begin()
        outputs.produce([item("c-1", "u1", stands=False), item("c-5", "u1", stands=False)])
        out = tmp_path / f"{name}.jsonl"
        running = subprocess.Popen([*COMMAND, manifest, "-o", out], stderr=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(3)
        end(30)

        assert running.wait(60) == 0, running.communicate()
        assert kept == ids_in(out)


def test_no_group_is_joined_and_nothing_is_written(outputs: Outputs, tmp_path: Path) -> None:
    """
    Filtering leaves no trace in Kafka.
    """
    before = log.ends(outputs.settings)

    filtered(tmp_path)

    client = admin.connect(outputs.settings)
    groups = client.list_consumer_groups().result().valid
    assert not [each for each in groups if each.group_id.startswith(outputs.settings.topic_prefix)]
    assert before.offsets() == log.ends(outputs.settings).offsets()


def test_streams_go_through(outputs: Outputs, tmp_path: Path) -> None:
    """
    JSONL from standard input to standard output; the positions go where they are wanted.
    """
    data = jsonl(tmp_path / "in.jsonl", IDS).read_bytes()
    kept = b"".join(data.splitlines(keepends=True)[each] for each in (0, 4))

    done = run("-", "-o", "-", "--format", "jsonl", "--positions", tmp_path / "p", stdin=data)

    assert (0, kept) == (done.exit_code, done.stdout_bytes), done.stderr
    assert hashlib.sha256(kept).hexdigest() == positions.read(tmp_path / "p").files[0].sha256
    (tmp_path / "copy.jsonl").write_bytes(kept)
    verified = run("--verify", tmp_path / "copy.jsonl", "--positions", tmp_path / "p")
    assert 0 == verified.exit_code, verified.output


def test_a_folder_is_verified_file_by_file(outputs: Outputs, tmp_path: Path) -> None:
    """
    Several manifests become a folder; a file that is missing from it or added fails the check.
    """
    parts = [jsonl(tmp_path / f"part-{each}.jsonl", IDS) for each in range(2)]
    out = tmp_path / "out"
    assert 0 == run(*parts, "-o", out).exit_code
    assert ["c-1", "c-5"] == ids_in(out / "part-1.jsonl")
    assert 0 == run("--verify", out).exit_code

    jsonl(out / "part-2.jsonl", ["c-4"])
    added = run("--verify", out)
    (out / "part-2.jsonl").unlink()
    outputs.commit([item("c-5", "u1", stands=False)])
    purged = run("--verify", out)

    assert 1 == added.exit_code
    assert "part-2.jsonl changed since" in added.stderr
    assert (1, "c-5\n") == (purged.exit_code, purged.stdout)
    assert "1 items in 2 rows" in purged.stderr


def test_out_is_not_written_over(outputs: Outputs, tmp_path: Path) -> None:
    """
    An OUT that exists is replaced with --force alone, and the manifest itself never.
    """
    out = filtered(tmp_path)
    outputs.commit([item("c-1", "u1", stands=False)])
    manifest = tmp_path / "in.jsonl"

    again = run(manifest, "-o", out)
    itself = run(manifest, "-o", tmp_path / "." / "in.jsonl", "--force")
    forced = run(manifest, "-o", out, "--force")

    assert (2, 2, 0) == (again.exit_code, itself.exit_code, forced.exit_code)
    assert "exists. Remedy: name another OUT, or replace it with --force" in again.stderr
    assert "are the same" in itself.stderr
    assert ["c-5"] == ids_in(out)
    assert 0 == run("--verify", out).exit_code


def test_an_interrupted_run_leaves_nothing(outputs: Outputs, tmp_path: Path) -> None:
    """
    After Ctrl-C in the midst of it, and after SIGTERM, neither OUT nor a temporary file is there.
    """
    row = json.dumps({"content_id": "c-1", "text": "x" * 100}).encode() + b"\n"
    for number in (signal.SIGINT, signal.SIGTERM):
        out = tmp_path / "out.jsonl"
        running = subprocess.Popen(
            [*COMMAND, "-", "-o", out, "--format", "jsonl"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert running.stdin is not None
        running.stdin.write(row * 100_000)
        running.stdin.flush()
        deadline_s = time.monotonic() + 60
        while not list(tmp_path.glob(".*partial")):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)

        running.send_signal(number)

        assert 130 == running.wait(60)
        running.stdin.close()
        assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments,said",
    [
        (["{in}"], "expected -o OUT"),
        (["{in}", "-o", "o.csv"], "is csv by its name, and the manifest is jsonl"),
        (["{in}", "-o", "o.jsonl", "--list", "x"], "--list goes with --verify only"),
        (["--verify", "{in}", "-o", "o"], "-o does not go with --verify"),
        (["{in}", "-o", "no/such/folder/o.jsonl"], "is no folder"),
        (["gone.jsonl", "-o", "o.jsonl"], "gone.jsonl does not exist"),
        (["-", "-o", "o.jsonl"], "standard input is read by itself"),
        (["{in}", "-o", "o.jsonl", "--delimiter", "ab"], "expected one character"),
    ],
)
def test_wrong_usage_is_refused_before_kafka_is_asked(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    """
    What cannot be is said at once, with exit status 2, whether or not a Kafka is there.
    """
    manifest = jsonl(tmp_path / "in.jsonl", IDS)
    given = [each.format(**{"in": manifest}) for each in arguments]

    result = run(*given, "--bootstrap", "127.0.0.1:1")

    assert 2 == result.exit_code, result.output
    assert said in result.stderr


def test_without_kafka_or_topics(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    No Kafka: exit status 3.  No topic: exit status 2, naming it.  Nothing is left behind.
    """
    manifest = jsonl(tmp_path / "in.jsonl", IDS)

    away = run(manifest, "-o", tmp_path / "o.jsonl", "--bootstrap", "127.0.0.1:1")
    empty = CliRunner(env={"OBJECTIONS_TOPIC_PREFIX": prefix}).invoke(
        main,
        ["filter", str(manifest), "-o", str(tmp_path / "o.jsonl"), "--bootstrap", kafka.bootstrap],
    )

    assert 3 == away.exit_code, away.output
    assert "Kafka at 127.0.0.1:1" in away.stderr
    assert 2 == empty.exit_code, empty.output
    assert (
        f"has no topic {prefix}training-users and no topic {prefix}training-content" in empty.stderr
    )
    assert [manifest] == list(tmp_path.iterdir())

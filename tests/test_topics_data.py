"""The data in topics/: every file is read, every example does what its name and folder say."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import topics
from streams.core import decode
from streams.core.reasons import ALL_PRODUCTS
from streams.errors import BadRecord
from topics import Example
from topics.examples import read_example

FOLDER = Path(topics.__file__).parent

# Source: contract.md, "Topics": name and cleanup.policy
CONTRACT = {
    "objections": "delete",
    "account-ages": "compact",
    "notices": "delete",
    "content": "delete",
    "eligibility": "compact",
    "training-users": "compact",
    "training-content": "compact",
    "purge-acks": "compact",
    "receipts": "compact",
    "dead-letters": "delete",
    "objections-users-changelog": "compact",
    "objections-content-changelog": "compact",
    # Beyond the contract's table, and optional.
    "audit-trail": "delete",
    "account-links": "delete",
    "objections-links": "delete",
}
OPTIONAL = ["audit-trail", "account-links", "objections-links"]

ANY_INPUT = {
    *("value_null", "value_not_json", "value_not_object"),
    *("key_missing", "key_not_utf8", "key_differs"),
    *("id_empty", "id_too_long", "field_missing", "field_type"),
}
TIMES = {"time_format", "time_without_offset"}
# The codes a record of each input can get.
CODES = {
    "objections": ANY_INPUT | TIMES | {"field_value"},
    "account-ages": ANY_INPUT | TIMES | {"field_value", "date_format", "birth_date_range"},
    "account-links": ANY_INPUT | TIMES | {"field_value"},
    "notices": ANY_INPUT | TIMES,
    "content": ANY_INPUT | TIMES | {"field_value"},
}

DECODERS: dict[str, Callable[[Example], Any]] = {
    "objections": lambda it: decode.decode_objection(it.key, it.value, it.timestamp_ms),
    "account-ages": lambda it: decode.decode_account_age(it.key, it.value, it.timestamp_ms),
    "account-links": lambda it: decode.decode_account_link(it.key, it.value, it.timestamp_ms),
    "notices": lambda it: decode.decode_notice(it.key, it.value, it.timestamp_ms),
    "content": lambda it: decode.decode_content(it.key, it.value, it.timestamp_ms, 0),
}

DAY_MS = 86_400_000


def examples(read: Callable[[str], tuple[Example, ...]]) -> list[Any]:
    """Return all examples of the inputs, each a test of its own with a name to search for."""
    return [
        pytest.param(name, example, id=f"{name}/{example.name}")
        for name in topics.names("input")
        for example in read(name)
    ]


def config(name: str, key: str) -> str:
    """Return the value topic *name* gives the setting *key*."""
    return topics.definition(name).config[key].value


def test_the_topics_are_the_contracts() -> None:
    """Each topic of the contract has a folder, and no other has but those it may do without."""
    assert set(topics.names()) == set(CONTRACT)
    assert set(topics.names("input")) == set(DECODERS)


def test_the_contracts_topics_are_not_optional() -> None:
    """A worker does without the audit trail and links of accounts alone."""
    assert [name for name in CONTRACT if topics.definition(name).optional] == OPTIONAL


def test_inputs_come_first() -> None:
    """Lists of topics read in the order data flows."""
    roles = [topics.definition(name).role for name in topics.names()]
    assert roles == sorted(roles, key=topics.ROLES.index)


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_a_definition_keeps_the_contract(name: str) -> None:
    """Policy, clock and bounds are the contract's, and each setting says why."""
    definition = topics.definition(name)
    assert config(name, "cleanup.policy") == CONTRACT[name]
    assert config(name, "message.timestamp.type") == "LogAppendTime"
    assert config(name, "unclean.leader.election.enable") == "false"
    if CONTRACT[name] == "compact":
        assert int(config(name, "delete.retention.ms")) == 7 * DAY_MS
    if CONTRACT[name] == "compact" and definition.role != "input":
        assert int(config(name, "max.compaction.lag.ms")) == DAY_MS
    assert all(setting.because for setting in definition.config.values())
    assert definition.writers
    assert definition.readers


def test_retention_is_the_contracts() -> None:
    """Objections are kept for ever, notices and content 30 days, dead letters 90."""
    assert config("objections", "retention.ms") == "-1"
    assert int(config("notices", "retention.ms")) == 30 * DAY_MS
    assert int(config("content", "retention.ms")) == 30 * DAY_MS
    assert int(config("dead-letters", "retention.ms")) == 90 * DAY_MS


def test_a_statement_on_age_stays_until_it_can_be_read() -> None:
    """Levels share a key: compaction must leave a superseded statement for a worker to read."""
    assert int(config("account-ages", "min.compaction.lag.ms")) == 7 * DAY_MS
    longest_ms = int(config("account-ages", "max.compaction.lag.ms"))
    assert longest_ms >= int(config("account-ages", "min.compaction.lag.ms"))


def test_only_purge_acks_has_a_count_of_its_own() -> None:
    """All other topics share one partition count; purge-acks has 1, and says why."""
    fixed = {
        name: topics.definition(name).partitions
        for name in topics.names()
        if topics.definition(name).partitions != "shared"
    }
    assert fixed == {"purge-acks": 1}
    assert topics.definition("purge-acks").partitions_because


@pytest.mark.parametrize(
    "name", ["dead-letters", "objections-users-changelog", "objections-content-changelog"]
)
def test_what_holds_input_records_takes_larger_ones(name: str) -> None:
    """A record an input took must fit, with its headers, where it goes next."""
    largest = max(int(config(source, "max.message.bytes")) for source in topics.names("input"))
    assert int(config(name, "max.message.bytes")) > largest + 64 * 1024


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_no_file_is_left_unread(name: str) -> None:
    """A topic's folder holds what the loader reads, and nothing else."""
    found = {entry.name for entry in (FOLDER / name).iterdir()}
    assert found <= {"topic.yaml", "schema.v1.json", "accepted", "refused"}
    for read, folder in ((topics.accepted, "accepted"), (topics.refused, "refused")):
        files = list((FOLDER / name / folder).glob("*"))
        assert len(read(name)) == len(files)
        assert all(file.suffix == ".json" for file in files)


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_every_topic_that_people_can_read_has_examples(name: str) -> None:
    """Inputs have accepted and refused examples, outputs accepted ones, internal ones none."""
    role = topics.definition(name).role
    assert bool(topics.accepted(name)) == (role != "internal")
    assert bool(topics.refused(name)) == (role == "input")


@pytest.mark.parametrize("name, example", examples(topics.accepted))
def test_an_accepted_example_is_taken(name: str, example: Example) -> None:
    """The decoder finds facts in it."""
    assert example.key is not None
    assert DECODERS[name](example).user_id == example.key.decode()


@pytest.mark.parametrize("name, example", examples(topics.refused))
def test_a_refused_example_gets_the_code_in_its_name(name: str, example: Example) -> None:
    """The decoder says that code, and its detail names the place but never the value."""
    with pytest.raises(BadRecord) as refusal:
        DECODERS[name](example)
    assert refusal.value.code == example.code
    assert ": expected " in refusal.value.detail
    assert "o-123" not in refusal.value.detail


@pytest.mark.parametrize("name", sorted(CODES))
def test_every_code_has_an_example(name: str) -> None:
    """Each code a record of the topic can get is shown by at least one example, and no other."""
    assert {example.code for example in topics.refused(name)} == CODES[name]


def test_doubtful_products_are_all_products() -> None:
    """Missing, null, empty, of a wrong type or holding an unknown name: all of them."""
    doubtful = [
        example
        for example in topics.accepted("objections")
        if example.name.startswith("lenient.products")
        or example.name in {"filed_for_all_products", "nulls"}
    ]
    assert len(doubtful) == 8
    for example in doubtful:
        assert DECODERS["objections"](example).facts.objections == {"o-123": ALL_PRODUCTS}


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_headers_of_examples_are_described(name: str) -> None:
    """Whatever header an example carries, topic.yaml says what it means."""
    described = set(topics.definition(name).headers)
    for example in topics.accepted(name) + topics.refused(name):
        assert {header for header, _ in example.headers} <= described


def test_tombstones_are_shown() -> None:
    """The two outputs that purge have an example whose value is null."""
    for name in ("training-users", "training-content"):
        assert any(example.value is None for example in topics.accepted(name))
    assert all(example.value is not None for example in topics.accepted("eligibility"))


def test_an_unknown_key_in_a_definition_is_refused() -> None:
    """A misspelt setting must not pass unseen, at any depth."""
    text = (FOLDER / "notices" / "topic.yaml").read_text("utf-8")
    assert topics.read_definition("notices", text) == topics.definition("notices")
    with pytest.raises(ValueError, match=r"topics/notices/topic\.yaml: .*cleanup"):
        topics.read_definition("notices", f"{text}\ncleanup: compact\n")
    with pytest.raises(ValueError, match="becuase"):
        topics.read_definition("notices", text.replace("because:", "becuase:"))
    with pytest.raises(ValueError, match=r"topic\.yaml"):
        topics.read_definition("notices", "just words")


def test_an_unknown_topic_is_refused() -> None:
    """The message names it."""
    with pytest.raises(LookupError, match="'notes'"):
        topics.definition("notes")


@pytest.mark.parametrize(
    "content, complaint",
    [
        (b'{"key": "u1", "timestamp": "2026-04-15T09:00:05Z"}', "one of value"),
        (b'{"key": "u1", "timestamp": "2026-04-15T09:00:05", "value": 1}', "offset"),
        (b'{"timestamp": "2026-04-15T09:00:05Z", "value": 1}', "one of key"),
        (b'{"key": "u1", "timestamp": "2026-04-15T09:00:05Z", "vlaue": 1}', "vlaue"),
        (
            b'{"key": "u1", "timestamp": "2026-04-15T09:00:05Z", "value": 1, "value_text": ""}',
            "found 2",
        ),
    ],
)
def test_a_wrong_example_file_is_refused(content: bytes, complaint: str) -> None:
    """The message names the file and what is wrong with it."""
    with pytest.raises(ValueError, match=complaint) as refusal:
        read_example("field_type.json", content)
    assert "field_type.json" in str(refusal.value)


def test_the_data_can_be_read_from_a_package_that_is_no_folder(tmp_path: Path) -> None:
    """The loader asks the import system and not the file system, so any installation will do."""
    archive = tmp_path / "installed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(FOLDER.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                packed.write(file, file.relative_to(FOLDER.parent))
    program = (
        f"import sys; sys.path.insert(0, {str(archive)!r}); import topics; "
        "assert '.zip' in topics.__file__; "
        "print(len(topics.names()), len(topics.refused('content')), bool(topics.schema('notices')))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [str(len(CONTRACT)), str(len(topics.refused("content"))), "True"]

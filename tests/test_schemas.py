"""The JSON Schemas: generated from the code's types, and telling producers no less than it."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator, FormatChecker

import topics
from topics import Example
from topics.generate import RECORD_TYPES, SHOULD_BE, as_text, generate

FOLDER = Path(topics.__file__).parent

# Of these a schema of the value cannot know: bytes, keys, the record's time stamp.
BEYOND_A_SCHEMA = {
    *("value_null", "value_not_json", "birth_date_range"),
    *("key_missing", "key_not_utf8", "key_differs"),
}
# 129 letters that are 257 bytes: JSON Schema counts letters.  Nor does it compare two fields.
NOT_SAID_BY_A_SCHEMA = {
    *("id_too_long.user_id", "id_too_long.linked_user_id"),
    "field_value.linked_with_itself",
}

formats = FormatChecker(())


@formats.checks("date-time", raises=ValueError)
def is_rfc_3339(value: object) -> bool:
    """Return whether *value* is a time with an offset, as `format` demands of texts."""
    if not isinstance(value, str):
        return True
    return datetime.fromisoformat(value).tzinfo is not None and value.count(":") >= 2


@formats.checks("date", raises=ValueError)
def is_date(value: object) -> bool:
    """Return whether *value* is a date, YYYY-MM-DD."""
    return not isinstance(value, str) or date.fromisoformat(value).isoformat() == value


def validator(name: str) -> Draft202012Validator:
    """Return the validator of topic *name*'s schema."""
    schema = topics.schema(name)
    assert schema is not None
    return Draft202012Validator(schema, format_checker=formats)


def wrong_fields(name: str, example: Example) -> set[str]:
    """Return the fields of *example* that are not what a producer should send."""
    assert example.value is not None
    errors = validator(name).iter_errors(msgspec.json.decode(example.value))
    return {str(error.absolute_path[0]) if error.absolute_path else "" for error in errors}


def examples(folder: str, *, inputs: bool) -> list[Any]:
    """Return all examples with a value, of topics that have a schema."""
    read = topics.accepted if folder == "accepted" else topics.refused
    return [
        pytest.param(name, example, id=f"{name}/{example.name}")
        for name in RECORD_TYPES
        for example in read(name)
        if example.value is not None and (topics.definition(name).role == "input") == inputs
    ]


@pytest.mark.parametrize("name", sorted(RECORD_TYPES))
def test_the_file_is_what_the_types_give(name: str) -> None:
    """Whoever changes a type runs `python -m topics.generate` and sees what changes for others."""
    written = (FOLDER / name / "schema.v1.json").read_text("utf-8")
    assert written == as_text(generate(name)), "run `python -m topics.generate`"


@pytest.mark.parametrize("name", topics.names())
def test_a_topic_has_a_schema_or_says_why_not(name: str) -> None:
    """Bytes have none: dead letters and the worker's own rows."""
    assert (topics.schema(name) is not None) == (name in RECORD_TYPES)
    assert bool(topics.definition(name).no_schema) == (name not in RECORD_TYPES)


@pytest.mark.parametrize("name", sorted(RECORD_TYPES))
def test_a_schema_is_valid_and_describes_every_field(name: str) -> None:
    """No field without its meaning, and no meaning without a field."""
    schema = topics.schema(name)
    assert schema is not None
    Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == set(topics.definition(name).fields)
    assert all(field["description"] for field in schema["properties"].values())
    assert schema.get("additionalProperties", True) is True, "unknown fields are ignored"


@pytest.mark.parametrize("name, example", examples("accepted", inputs=True))
def test_an_accepted_input_is_valid_but_where_the_decoder_is_lenient(
    name: str, example: Example
) -> None:
    """An example called lenient is wrong in lenient fields alone; all others are as they should."""
    wrong = wrong_fields(name, example)
    if example.name.startswith("lenient."):
        assert wrong
        assert wrong <= set(SHOULD_BE[name])
        for field in wrong:
            assert "Lenient: " in topics.definition(name).fields[field]
    else:
        assert not wrong


@pytest.mark.parametrize("name", sorted(SHOULD_BE))
def test_every_lenient_field_has_an_example(name: str) -> None:
    """What is lenient is told in the description and shown in an example."""
    told = {field for field, text in topics.definition(name).fields.items() if "Lenient: " in text}
    if topics.definition(name).role != "input":
        assert not told
        return
    assert told == set(SHOULD_BE[name])
    lenient = [each for each in topics.accepted(name) if each.name.startswith("lenient.")]
    assert told == {field for example in lenient for field in wrong_fields(name, example)}


@pytest.mark.parametrize("name, example", examples("refused", inputs=True))
def test_a_refused_input_is_invalid_as_far_as_a_schema_can_tell(
    name: str, example: Example
) -> None:
    """Who validates before producing meets dead letters only for keys, bytes and time stamps."""
    if example.code == "value_not_json":
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            msgspec.json.decode(example.value or b"")
    elif example.code in BEYOND_A_SCHEMA or example.name in NOT_SAID_BY_A_SCHEMA:
        assert not wrong_fields(name, example)
    else:
        assert wrong_fields(name, example)


@pytest.mark.parametrize("name, example", examples("accepted", inputs=False))
def test_an_output_is_valid_and_of_the_codes_type(name: str, example: Example) -> None:
    """The examples readers build on are what the worker writes."""
    assert example.value is not None
    assert not wrong_fields(name, example)
    record = msgspec.json.decode(example.value, type=RECORD_TYPES[name])
    assert msgspec.json.encode(record) == example.value


@pytest.mark.parametrize("name", ["purge-acks", "receipts"])
def test_a_key_is_made_of_the_values_fields(name: str) -> None:
    """So that the latest record of a key is the latest word on its subject."""
    for example in topics.accepted(name):
        assert example.value is not None
        record: Any = msgspec.json.decode(example.value, type=RECORD_TYPES[name])
        assert record.key.encode() == example.key

"""deploy/asyncapi.yaml: made of topics/, as AsyncAPI 3.0 wants it, and complete."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

import topics
from tests.deploying import DEPLOY, read_yaml, schema_of_others

DOCUMENT: Final = read_yaml(DEPLOY / "asyncapi.yaml")
PUBLIC: Final = [name for name in topics.names() if topics.definition(name).role != "internal"]


def references(part: Any) -> Iterator[str]:
    """Return all that *part* refers to."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for each in part.values():
            yield from references(each)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


def resolve(reference: str) -> Any:
    """Return what *reference* stands for; LookupError where it is nothing."""
    found: Any = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


def resolved(part: Any) -> Any:
    """Return *part* with everything in place of what refers to it."""
    if isinstance(part, list):
        return [resolved(each) for each in part]
    if not isinstance(part, dict):
        return part
    if isinstance(part.get("$ref"), str):
        return resolved(resolve(part["$ref"]))
    return {name: resolved(each) for name, each in part.items()}


def test_it_is_an_asyncapi_document() -> None:
    """
    The schema of AsyncAPI 3.0 finds nothing.
    """
    schema = schema_of_others("asyncapi-3.0.0")

    assert [] == [
        (list(each.absolute_path), each.message)
        for each in Draft7Validator(schema).iter_errors(DOCUMENT)
    ]


def test_every_reference_leads_somewhere() -> None:
    """
    Whatever is referred to is in the document.
    """
    found = set(references(DOCUMENT))

    assert len(found) > len(PUBLIC)
    for reference in found:
        assert resolve(reference) is not None


def test_all_public_topics_are_there_and_no_internal_one() -> None:
    """
    Each topic that others write or read has a channel, and an operation as its role says.
    """
    assert PUBLIC == list(DOCUMENT["channels"])
    operations = {
        each["channel"]["$ref"].rpartition("/")[2]: each["action"]
        for each in DOCUMENT["operations"].values()
    }
    assert {
        name: "send" if topics.definition(name).role == "output" else "receive" for name in PUBLIC
    } == operations


@pytest.mark.parametrize("name", PUBLIC)
def test_messages_say_what_the_topic_says(name: str) -> None:
    """
    Headers, schema, configuration and tombstone are the topic's; its examples fit the schema.
    """
    channel = resolved(DOCUMENT["channels"][name])
    definition = topics.definition(name)
    record = channel["messages"][name]

    assert list(definition.headers) == list(record.get("headers", {}).get("properties", {}))
    assert definition.config.keys() == channel["bindings"]["kafka"]["topicConfiguration"].keys()
    tombstones = {"training-users", "training-content"}
    assert (name in tombstones) == (f"{name}-tombstone" in channel["messages"])
    schema = topics.schema(name)
    if schema is None:
        assert "payload" not in record
        return
    assert schema["properties"].keys() == record["payload"]["properties"].keys()
    assert record["examples"]
    for message in channel["messages"].values():
        for example in message["examples"]:
            Draft202012Validator(message["payload"]).validate(example["payload"])
            assert example.get("headers", {}).keys() <= definition.headers.keys()

"""
The AsyncAPI 3.0 document: the topics that others write and read, as the service sees them.  Pure.

It receives inputs and acknowledgements and sends outputs.  Internal topics are no interface and
are left out.
"""

import json
from typing import Any, Final

import topics

Json = dict[str, Any]

_BINDING: Final = "0.5.0"
_EXAMPLES: Final = 2
_LONG: Final = 100  # characters: examples of the longest ids teach nothing here
_ACTIONS: Final = {"input": "receive", "acknowledgement": "receive", "output": "send"}
_TOMBSTONE: Final = "tombstone"


def document(version: str) -> Json:
    """Return the document; *version* is the project's."""
    names = [name for role in ("input", "output", "acknowledgement") for name in topics.names(role)]
    messages = {key: each for name in names for key, each in _messages(name).items()}
    schemas = {key: each for name in names for key, each in _schemas(name).items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "objection-streams",
            "version": version,
            "description": (
                "Objections to the use of one's data for AI training go in; permissions and "
                "tombstones for data stores come out.  Operations are the service's: it receives "
                "what others write, and sends what others read.\n\n"
                "An input record's partition is murmur2 of its key (librdkafka: "
                "`partitioner=murmur2_random`).  Outputs are written in transactions: read them "
                "with `isolation.level=read_committed`."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "variables": {
                    "bootstrap": {
                        "default": "127.0.0.1:9092",
                        "description": "OBJECTIONS_BOOTSTRAP",
                    }
                },
            }
        },
        "channels": {name: _channel(name) for name in names},
        "operations": {_operation_name(name): _operation(name) for name in names},
        "components": {"messages": messages, "schemas": schemas},
    }


def _channel(name: str) -> Json:
    found = topics.definition(name)
    binding: Json = {"topicConfiguration": _configuration(found), "bindingVersion": _BINDING}
    if isinstance(found.partitions, int):
        binding = {"partitions": found.partitions, **binding}
    return {
        "address": f"{{prefix}}{name}",
        "parameters": {
            "prefix": {"default": "", "description": "OBJECTIONS_TOPIC_PREFIX, none by default"}
        },
        "title": name,
        "description": f"{found.description}\n\n{found.partitions_because}",
        "messages": {key: _ref("components", "messages", key) for key in _messages(name)},
        "bindings": {"kafka": binding},
    }


def _configuration(found: topics.Definition) -> Json:
    """Return the topic's settings in the types that AsyncAPI's binding asks for."""
    return {key: _typed(key, each.value) for key, each in found.config.items()}


def _typed(key: str, value: str) -> object:
    if key == "cleanup.policy":
        return value.split(",")
    return int(value) if value.lstrip("-").isdigit() else value


def _operation_name(name: str) -> str:
    action = _ACTIONS[topics.definition(name).role]
    return action + "".join(part.capitalize() for part in name.split("-"))


def _operation(name: str) -> Json:
    found = topics.definition(name)
    return {
        "action": _ACTIONS[found.role],
        "channel": _ref("channels", name),
        "title": f"{found.role}: {name}",
        "description": (f"Written by {_list(found.writers)}.\n\nRead by {_list(found.readers)}."),
        "tags": [{"name": found.role}],
        "messages": [_ref("channels", name, "messages", key) for key in _messages(name)],
    }


def _list(people: tuple[str, ...]) -> str:
    return "; ".join(people)


def _messages(name: str) -> dict[str, Json]:
    """Return the messages of a topic: a record, and a tombstone where null has a meaning."""
    found = topics.definition(name)
    examples = topics.accepted(name)
    if topics.schema(name) is None:
        return {name: {**_message(name, found.value), "contentType": "application/octet-stream"}}
    record = _message(name, found.value)
    record["payload"] = _ref("components", "schemas", name)
    record["examples"] = [
        _example(each)
        for each in examples
        if each.value is not None and "lenient" not in each.name and len(each.value) < 8 * _LONG
        if all(len(str(part)) < _LONG for part in (each.key or b"", *_texts(each.value)))
    ][:_EXAMPLES]
    if all(each.value is not None for each in examples):
        return {name: record}
    tombstone = _message(name, "Null: purge what this key names.")
    tombstone |= {"name": f"{name}-{_TOMBSTONE}", "payload": {"type": "null"}}
    tombstone["examples"] = [_example(each) for each in examples if each.value is None][:_EXAMPLES]
    return {name: record, f"{name}-{_TOMBSTONE}": tombstone}


def _texts(value: bytes) -> list[object]:
    decoded = json.loads(value)
    found = list(decoded.values()) if isinstance(decoded, dict) else [decoded]
    return [each for each in found if isinstance(each, str)]


def _message(name: str, value: str) -> Json:
    found = topics.definition(name)
    message: Json = {"name": name, "title": name, "summary": value}
    if found.headers:
        message["headers"] = {
            "type": "object",
            "properties": {
                header: {"type": "string", "description": meaning}
                for header, meaning in found.headers.items()
            },
        }
    message["bindings"] = {
        "kafka": {
            "key": {"type": "string", "description": found.key},
            "bindingVersion": _BINDING,
        }
    }
    return message


def _example(example: topics.Example) -> Json:
    shown: Json = {"name": example.name}
    if example.means:
        shown["summary"] = example.means
    if example.headers:
        shown["headers"] = {name: value.decode() for name, value in example.headers}
    shown["payload"] = None if example.value is None else json.loads(example.value)
    return shown


def _schemas(name: str) -> dict[str, Json]:
    """Return the topic's schema and those it refers to, as parts of this document."""
    schema = topics.schema(name)
    if schema is None:
        return {}
    parts = {
        name: schema,
        **{f"{name}-{key}": each for key, each in schema.get("$defs", {}).items()},
    }
    return {key: _moved(part, name) for key, part in parts.items()}


def _moved(part: Any, name: str) -> Any:
    """Return a *part* of the schema of topic *name*, its references pointing to the new places."""
    if isinstance(part, list):
        return [_moved(each, name) for each in part]
    if not isinstance(part, dict):
        return part
    kept = {key: each for key, each in part.items() if key not in {"$schema", "$defs"}}
    if isinstance(reference := kept.get("$ref"), str):
        return _ref("components", "schemas", f"{name}-{reference.removeprefix('#/$defs/')}")
    return {key: _moved(each, name) for key, each in kept.items()}


def _ref(*path: str) -> Json:
    return {"$ref": "#/" + "/".join(path)}

"""
Write the schemas into deploy/connect/ from the topics' own: `python -m topics.connect`.

A JDBC sink needs a schema, and our values carry none.  Kafka Connect's JsonConverter takes it
from the connector's settings (`value.converter.schema.content`, KIP-1054), in Connect's own words.
"""

import json
from pathlib import Path
from typing import Any, Final

import topics

FOLDER: Final = Path(__file__).parents[1] / "deploy" / "connect"
SETTING: Final = "value.converter.schema.content"

# The connector's file: the topic it reads.
WITH_SCHEMA: Final = {
    "postgres-users.json": "training-users",
    "postgres-content.json": "training-content",
}

_TYPES: Final = {"string": "string", "integer": "int64", "boolean": "boolean"}
_TIME: Final = "io.debezium.time.ZonedTimestamp"  # RFC 3339 text that becomes a `timestamptz`


def value_schema(topic: str) -> dict[str, Any]:
    """
    Return the schema of the values of *topic* in the words of Connect's JsonConverter.

    Raises ValueError for a field of which no column can be made.
    """
    schema = topics.schema(topic) or {}
    fields = [_field(topic, name, kind) for name, kind in schema["properties"].items()]
    # Optional as a whole: a tombstone is a value too.
    return {"type": "struct", "optional": True, "fields": fields}


def _field(topic: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    kinds = schema.get("anyOf", [schema])
    given = [kind for kind in kinds if kind["type"] != "null"]
    if len(given) != 1 or given[0]["type"] not in _TYPES:
        message = f"{topic}: no column can be made of {name}, {schema}"
        raise ValueError(message)
    field = {"field": name, "type": _TYPES[given[0]["type"]], "optional": len(kinds) > 1}
    if given[0].get("format") == "date-time":
        field |= {"name": _TIME, "version": 1}
    return field


def written(text: str, topic: str) -> str:
    """Return the connector's file *text* with the schema of *topic*."""
    connector = json.loads(text)
    connector["config"][SETTING] = json.dumps(value_schema(topic), separators=(",", ":"))
    return json.dumps(connector, indent=2) + "\n"


def main() -> None:
    """Write the files anew."""
    for name, topic in WITH_SCHEMA.items():
        file = FOLDER / name
        file.write_text(written(file.read_text("utf-8"), topic), encoding="utf-8")


if __name__ == "__main__":
    main()

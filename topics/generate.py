"""
Write each topic's schema.v1.json from the code's types: `python -m topics.generate`.
With `--release` also write down what others rely on from this version on (topics/public.py).

A schema says what a producer should send.  The decoder takes more: where the contract is lenient
the code's type is `Any` (or any text), and `SHOULD_BE` says what is meant instead.  What leniency
makes of the rest is told in the field's description, from `fields` in topic.yaml.  On outputs,
where the code writes plain text, `SHOULD_BE` lists the words a reader has to expect.
Values only; a null value (a tombstone) has no schema.
"""

import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

import topics
from streams.core import outputs, reasons, receipts, records, trail

DIALECT = "https://json-schema.org/draft/2020-12/schema"

RECORD_TYPES: dict[str, type[Struct]] = {
    "objections": records.ObjectionRecord,
    "account-ages": records.AccountAgeRecord,
    "account-links": records.AccountLinkRecord,
    "notices": records.NoticeRecord,
    "content": records.ContentRecord,
    "eligibility": outputs.Eligibility,
    "training-users": outputs.TrainingUser,
    "training-content": outputs.TrainingContent,
    "purge-acks": receipts.PurgeAck,
    "receipts": receipts.Receipt,
    "audit-trail": trail.TrailRecord,
}

REASON_NAMES = tuple(sorted(reason.name or "" for reason in reasons.Reason))
ITEM_KINDS = tuple(kind for kind in reasons.KINDS if kind != "private_message")

Language = Annotated[str, Meta(pattern="^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")]
Epoch = Annotated[int, Meta(ge=1)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


def one_of(words: Sequence[str]) -> Any:
    """Return the type of a text that is one of *words*, listed in their order."""
    return Annotated[str, Meta(extra_json_schema={"enum": list(words)})]


def list_of(words: Sequence[str], length_min: int = 0) -> Any:
    """Return the type of a list of at least so many of *words*."""
    return Annotated[GenericAlias(list, (one_of(words),)), Meta(min_length=length_min or None)]


ProductReasons: Any = msgspec.defstruct(
    "ProductReasons", [(product, list_of(REASON_NAMES)) for product in reasons.PRODUCTS]
)

# topic: {field: its type for producers}, where the code's own type says less
SHOULD_BE: dict[str, dict[str, Any]] = {
    "objections": {
        "occurred_at": records.Time | None,
        "products": list_of(reasons.PRODUCTS, length_min=1) | None,
        "channel": one_of(("in_app", "email", "web", "mail", "import")) | None,
        "locale": Language | None,
        "dead_letter": records.DeadLetterRef | None,
        "through": bool | None,
        "partition": records.Partition | None,
        "tripped_at": records.Time | None,
    },
    "notices": {"channel": one_of(("in_app", "email")) | None},
    "content": {
        "kind": one_of(reasons.KINDS),
        "visibility": one_of(reasons.VISIBILITIES),
        "language": Language | None,
    },
    "eligibility": {
        "user_id": records.Id,
        "epoch": Epoch,
        "reasons": list_of(REASON_NAMES),
        "products": ProductReasons,
        "decided_at": receipts.Rfc3339,
    },
    "audit-trail": {"sequence": Epoch, "previous": Sha256, "at": receipts.Rfc3339},
    "training-users": {
        "user_id": records.Id,
        "product": one_of(reasons.PRODUCTS),
        "epoch": Epoch,
    },
    "training-content": {
        "content_id": records.Id,
        "user_id": records.Id,
        "revision": records.Revision,
        "product": one_of(reasons.PRODUCTS),
        "kind": one_of(ITEM_KINDS),
        "modality": one_of(reasons.MODALITIES),
        "created_at": records.Time,
        "epoch": Epoch,
    },
}


def _demands(*names: str) -> dict[str, Any]:
    return {
        "required": list(names),
        "properties": {name: {"not": {"type": "null"}} for name in names},
    }


# topic: what one field demands of another, which a type cannot say
CONDITIONS: dict[str, dict[str, Any]] = {
    "objections": {
        "if": {"properties": {"action": {"const": "dismissed"}}},
        "then": _demands("dead_letter"),
        "else": {
            "if": {"properties": {"action": {"const": "grants_released"}}},
            "then": _demands("partition", "tripped_at"),
            "else": _demands("objection_id"),
        },
    },
}


def generate(name: str) -> dict[str, Any]:
    """Return the JSON Schema of topic *name*, one of `RECORD_TYPES`."""
    definition = topics.definition(name)
    record_type = _for_producers(RECORD_TYPES[name], SHOULD_BE.get(name, {}))
    (_,), components = msgspec.json.schema_components([record_type])
    body: dict[str, Any] = components.pop(RECORD_TYPES[name].__name__)
    for field, about in body["properties"].items():
        about["description"] = definition.fields[field]
    schema = {
        "$schema": DIALECT,
        **body,
        "title": name,
        "description": definition.description,
        **CONDITIONS.get(name, {}),
    }
    if components:
        schema["$defs"] = components
    return _with_local_references(schema)


def as_text(schema: dict[str, Any]) -> str:
    """Return *schema* as it stands in its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _for_producers(record_type: type[Struct], should_be: dict[str, Any]) -> type[Struct]:
    """Return *record_type* with the types of some fields replaced."""
    fields = msgspec.structs.fields(record_type)
    unknown = set(should_be) - {field.name for field in fields}
    assert not unknown, f"{record_type.__name__} has no {unknown}"
    return msgspec.defstruct(
        record_type.__name__,
        [(field.name, should_be.get(field.name, field.type), *_default(field)) for field in fields],
        kw_only=True,
    )


def _default(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    if field.required:
        return ()
    if field.default_factory is not msgspec.NODEFAULT:
        return (msgspec.field(default_factory=field.default_factory),)
    return (field.default,)


def _with_local_references(schema: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(schema).replace("#/components/schemas/", "#/$defs/")
    changed: dict[str, Any] = json.loads(text)
    return changed


def main() -> None:
    """Write all schemas into the source tree this module is in; with --release, the facts too."""
    for name in RECORD_TYPES:
        target = Path(__file__).parent / name / "schema.v1.json"
        target.write_text(as_text(generate(name)), encoding="utf-8")
    if sys.argv[1:] == ["--release"]:
        _write_release()
    elif sys.argv[1:]:
        sys.exit(f"topics.generate: {sys.argv[1:]}, expected nothing or --release")


def _write_release() -> None:
    """Write the facts of the version in pyproject.toml; one that is written down stays."""
    from topics import public

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    target = Path(__file__).parent / "released" / f"{project['project']['version']}.json"
    if target.exists():
        sys.exit(
            f"{target}: this version is written down already; raise `version` in pyproject.toml, "
            "or remove the file if that version was never published"
        )
    target.parent.mkdir(exist_ok=True)
    target.write_text(as_text(public.facts()), encoding="utf-8")


if __name__ == "__main__":
    main()

"""
Why a record that the strict decoder refused is bad: a stable code, and the field.

Only ever asked after a refusal, so it may be slow.  A detail names the field and what was
expected, never the value: dead letters are read by people who may not know who objected.
"""

import re
from datetime import date, datetime
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from streams.core import records
from streams.core.refusals import REFUSALS
from streams.errors import BadRecord

_WITHOUT_OFFSET = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?$")


def parse_object(value: bytes | None) -> dict[str, Any]:
    """Return the JSON object in *value*.  Raises `BadRecord` where there is none."""
    if value is None:
        raise BadRecord("value_null", "value: expected a JSON object")
    try:
        value.decode()
        found = msgspec.json.decode(value)
    except REFUSALS:
        raise BadRecord("value_not_json", "value: expected a JSON object in UTF-8") from None
    if not isinstance(found, dict):
        raise BadRecord("value_not_object", "value: expected a JSON object")
    return found


def diagnose(value: bytes | None, record_type: type[Struct]) -> BadRecord:
    """Return what is wrong with *value*, which could not be decoded as *record_type*."""
    try:
        found = parse_object(value)
        for name, hint, required in _fields(record_type):
            check_field(found.get(name), name, hint, required=required)
    except BadRecord as bad:
        return bad
    return BadRecord("field_value", f"value: expected a {record_type.__name__}")


@cache
def _fields(record_type: type[Struct]) -> tuple[tuple[str, Any, bool], ...]:
    """Return name, type and whether it is required, of each field: 60 us, so asked for once."""
    hints = get_type_hints(record_type, include_extras=True)
    return tuple(
        (field.name, hints[field.name], field.required)
        for field in msgspec.structs.fields(record_type)
    )


def check_field(found: object, name: str, hint: Any, *, required: bool) -> None:
    """Raise `BadRecord` if *found*, of the field *name*, is missing or no *hint*."""
    if found is None:
        if required:
            raise BadRecord("field_missing", f"{name}: expected a value")
        return
    if hint is Any:
        return
    expected = _without_none(hint)
    try:
        msgspec.convert(found, expected)
    except msgspec.ValidationError:
        raise _refusal(found, name, expected) from None


def _refusal(found: object, name: str, expected: Any) -> BadRecord:
    """Return the code and detail for a *found* that is no *expected*."""
    base = get_args(expected)[0] if _is_annotated(expected) else expected
    if get_origin(base) is Literal:
        listed = f"{name}: expected one of {', '.join(get_args(base))}"
        return BadRecord("field_value" if isinstance(found, str) else "field_type", listed)
    if base is int:
        whole = f"{name}: expected a whole number from 0 to 2^63-1"
        return BadRecord("field_value" if type(found) is int else "field_type", whole)
    if not isinstance(found, str):
        return BadRecord("field_type", f"{name}: expected text")
    if base is datetime:
        if _WITHOUT_OFFSET.match(found):
            return BadRecord("time_without_offset", f"{name}: expected an offset from UTC")
        return BadRecord("time_format", f"{name}: expected an RFC 3339 time")
    if base is date:
        return BadRecord("date_format", f"{name}: expected a date, YYYY-MM-DD")
    if expected == records.Id:
        return id_refusal(found, name)
    return BadRecord("field_value", f"{name}: expected text matching {_pattern(expected)}")


def id_refusal(found: str, name: str) -> BadRecord:
    """Return the code for an id that is empty or too long."""
    code = "id_empty" if not found else "id_too_long"
    return BadRecord(code, f"{name}: expected 1 to 256 bytes")


def _without_none(hint: Any) -> Any:
    arguments = get_args(hint)
    if type(None) not in arguments:
        return hint
    return next(each for each in arguments if each is not type(None))


def _is_annotated(hint: Any) -> bool:
    return hasattr(hint, "__metadata__")


def _pattern(expected: Any) -> str:
    metas = [meta for meta in expected.__metadata__ if isinstance(meta, Meta)]
    return next((meta.pattern for meta in metas if meta.pattern), "the contract")

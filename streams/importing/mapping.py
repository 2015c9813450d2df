"""
Columns of a file -> keys and values of input records.  Pure.

Everything is done column by column.  What a row says is handed on and never mended: the decoder
that the worker uses judges it afterwards.  Columns that are not asked for are not sent.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from streams.errors import BadRecord, UsageProblem
from streams.files.lines import listed
from streams.importing.fields import MADE_IDS, Kind, kinds, required

Columns = Mapping[str, Sequence[Any]]  # by their names in the file; None is missing

DEFAULTS: Final = {"objections": {"channel": "import"}}
MADE_ID_PREFIX: Final = "import-"
MADE_ID_HEX: Final = 32  # 128 bits
_WITHOUT_OFFSET: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?\Z")
_OFFSET: Final = re.compile(r"[+-]\d\d:\d\d\Z|Z\Z")
NOT_UTF8: Final = BadRecord("value_not_json", "row: expected text in UTF-8")

_encode: Final = msgspec.json.Encoder().encode


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """
    How rows become records.

    columns: field -> column of the file, where their names differ.
    constants: field -> text, for rows that have nothing there.
    id_from: columns that make an id where a row has none.
    utc_offset: `+01:00` or `Z`, put behind times that have none; "" leaves them refused.
    """

    topic: str
    columns: dict[str, str] = {}
    constants: dict[str, str] = {}
    id_from: list[str] = []
    list_separator: str = ";"
    utc_offset: str = ""

    def check(self) -> None:
        """Raise UsageProblem where the rules name what is not there."""
        known = kinds(self.topic)
        for option, names in (("--map", self.columns), ("--set", self.constants)):
            for name in names:
                if name not in known:
                    message = (
                        f"{option} {name}=…: {self.topic} has no field {name!r}; "
                        f"it has {listed(known)}."
                    )
                    raise UsageProblem(message)
        if self.id_from and self.topic not in MADE_IDS:
            message = (
                f"--id-from makes ids of {' and '.join(MADE_IDS)}, not of {self.topic}, whose "
                "ids say what later records are about. Remedy: map the column that holds them."
            )
            raise UsageProblem(message)
        if self.utc_offset and not _OFFSET.match(self.utc_offset):
            message = f"--utc-offset is {self.utc_offset!r}, expected +HH:MM, -HH:MM or Z."
            raise UsageProblem(message)

    def column_of(self, field: str) -> str:
        """Return the column of the file that holds *field*."""
        return self.columns.get(field, field)

    def wanted(self) -> list[str]:
        """Return the columns of the file that matter."""
        fields = [self.column_of(field) for field in kinds(self.topic)]
        return list(dict.fromkeys([*fields, *self.id_from]))

    def missing(self, present: Iterable[str], name: str) -> str | None:
        """Return why a file *name* with columns *present* gives no good record, or None."""
        there = set(present)
        gone = [each for each in (*self.columns.values(), *self.id_from) if each not in there]
        if gone:
            return (
                f"{name}: no column {listed(gone)}, which --map or --id-from names; there are "
                f"{listed(sorted(there))}."
            )
        made = MADE_IDS.get(self.topic) if self.id_from else None
        for field in required(self.topic):
            if self.column_of(field) in there or field in self.constants or field == made:
                continue
            remedy = f"--map {field}=COLUMN, or --set {field}=VALUE for all rows"
            if field == MADE_IDS.get(self.topic):
                remedy = f"--map {field}=COLUMN, or --id-from COLUMN,COLUMN, which makes stable ids"
            elif field.endswith("_id"):
                remedy = f"--map {field}=COLUMN"
            if len(there) == 1:
                remedy = "--delimiter, if this is a CSV with another separator"
            return (
                f"{name}: no column {field!r}, which {self.topic} needs; there are "
                f"{listed(sorted(there))}. Remedy: {remedy}."
            )
        return None


class Records(NamedTuple):
    """
    Records in the order of their rows.

    bad: rows, from 0, that became none; their key and value are None.
    """

    keys: list[bytes | None]
    values: list[bytes | None]
    bad: dict[int, BadRecord]
    ids: Sequence[Any]
    actions: Sequence[Any]
    products: Sequence[Any]


class Mapper:
    """
    Makes records by *rules*.

    cells: whether columns are text that stands for something else: numbers, lists.
    """

    def __init__(self, rules: Rules, *, cells: bool) -> None:
        self._rules = rules
        self._cells = cells
        self._kinds = kinds(rules.topic)
        self._record: Callable[..., Any] = msgspec.defstruct(
            "Record",
            [(field, Any, None) for field in self._kinds],
            omit_defaults=True,
            gc=False,
        )
        given = {**DEFAULTS.get(rules.topic, {}), **rules.constants}
        self._constants = {
            field: self._from_cell(text, self._kinds[field]) for field, text in given.items()
        }

    def records(self, columns: Columns, count: int, bad: Mapping[int, BadRecord]) -> Records:
        """Return the records of *count* rows; *bad* ones are known not to be any."""
        fields = {
            field: self._column(columns, field, kind, count) for field, kind in self._kinds.items()
        }
        self._make_ids(fields, columns, count)
        nothing = [None] * count
        shown = [fields.get(each) or nothing for each in self._shown_fields()]
        found = Records([], [], dict(bad), *shown)
        rows = list(map(self._record, *(column or nothing for column in fields.values())))
        users = fields["user_id"] or nothing
        try:
            found.keys.extend(map(str.encode, users))
            found.values.extend(map(_encode, rows))
        except (TypeError, UnicodeEncodeError, msgspec.MsgspecError, RecursionError):
            found.keys.clear()
            found.values.clear()
            for at, (user, row) in enumerate(zip(users, rows, strict=True)):
                self._add(found, at, user, row)
        for at in found.bad:
            found.keys[at] = found.values[at] = None
        return found

    def _shown_fields(self) -> tuple[str, str, str]:
        made = MADE_IDS.get(self._rules.topic, "content_id")
        return made, "action", "products"

    @staticmethod
    def _add(found: Records, at: int, user: Any, row: Any) -> None:
        key = value = None
        try:
            key = user.encode() if isinstance(user, str) else None
            value = _encode(row)
        except (UnicodeEncodeError, msgspec.MsgspecError, RecursionError):
            found.bad.setdefault(at, NOT_UTF8)
        found.keys.append(key)
        found.values.append(value)

    def _column(self, columns: Columns, field: str, kind: Kind, count: int) -> list[Any] | None:
        found = columns.get(self._rules.column_of(field))
        constant = self._constants.get(field)
        if found is None:
            return None if constant is None else [constant] * count
        column = self._understood(found, kind)
        if constant is not None:
            return [constant if each is None else each for each in column]
        return column

    def _understood(self, found: Sequence[Any], kind: Kind) -> list[Any]:
        if kind == "id":
            return [str(each) if type(each) is int else each for each in found]
        if kind == "time" and self._rules.utc_offset:
            return [self._with_offset(each) for each in found]
        if self._cells and kind in {"list", "whole"}:
            understood = {each: self._from_cell(each, kind) for each in _texts(found)}
            return [understood[each] if isinstance(each, str) else each for each in found]
        return list(found)

    def _from_cell(self, text: str, kind: Kind) -> Any:
        if kind == "list":
            parts = [each.strip() for each in text.split(self._rules.list_separator)]
            return [each for each in parts if each]
        if kind == "whole" and text.isascii() and text.strip().isdigit():
            return int(text)
        return text

    def _with_offset(self, found: Any) -> Any:
        if isinstance(found, datetime) and found.tzinfo is None:
            return found.isoformat() + self._rules.utc_offset
        if isinstance(found, str) and _WITHOUT_OFFSET.match(found):
            return found + self._rules.utc_offset
        return found

    def _make_ids(self, fields: dict[str, list[Any] | None], columns: Columns, count: int) -> None:
        """Fill in ids from other columns where rows have none."""
        name = MADE_IDS.get(self._rules.topic)
        if not self._rules.id_from or name is None:
            return
        users = fields["user_id"] or [None] * count
        ids = fields[name] or [None] * count
        sources = [columns[each] for each in self._rules.id_from]
        for at, given in enumerate(ids):
            if given is None:
                parts = [column[at] for column in sources]
                if any(part is not None for part in parts):
                    ids[at] = made_id(users[at], parts)
        fields[name] = ids


def _texts(found: Sequence[Any]) -> set[str]:
    """Return the texts among *found*, once each: they are few where they stand for lists."""
    return {each for each in found if isinstance(each, str)}


def made_id(user_id: Any, parts: Sequence[Any]) -> str | None:
    """Return the id that *parts* of a row make, the same each time; None where they cannot."""
    try:
        text = msgspec.json.encode([user_id, *parts])
    except (UnicodeEncodeError, msgspec.MsgspecError, RecursionError):
        return None
    return MADE_ID_PREFIX + hashlib.sha256(text).hexdigest()[:MADE_ID_HEX]

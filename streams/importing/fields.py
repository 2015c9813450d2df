"""
The fields of each topic's records, as far as a file can fill them, and which topic a file is for.

Read from the records themselves (`streams.core.records`), so that there is one list.  Pure.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Final, Literal

import msgspec
from msgspec import Struct

from streams.core.records import (
    AccountAgeRecord,
    AccountLinkRecord,
    ContentRecord,
    NoticeRecord,
    ObjectionRecord,
)
from streams.errors import UsageProblem

Kind = Literal["id", "text", "list", "whole", "time"]

RECORDS: Final[Mapping[str, type[Struct]]] = {
    "objections": ObjectionRecord,
    "account-ages": AccountAgeRecord,
    "notices": NoticeRecord,
    "account-links": AccountLinkRecord,
    "content": ContentRecord,
}
TOPICS: Final = tuple(RECORDS)
# What no file brings: a dead letter is dismissed by `objections dead-letters dismiss`.
_LEFT_OUT: Final = frozenset({"dead_letter"})
_REQUIRED_ANYWAY: Final = frozenset({"objection_id"})  # a dismissal alone has none
_KINDS: Final[Mapping[str, Kind]] = {
    "products": "list",
    "revision": "whole",
    "occurred_at": "time",
    "observed_at": "time",
    "delivered_at": "time",
    "created_at": "time",
}
# A column that records of this topic alone have, and always.
_TELLING: Final = {
    "objection_id": "objections",
    "observed_at": "account-ages",
    "notice_id": "notices",
    "linked_user_id": "account-links",
    "content_id": "content",
}
# The id that can be made up from other columns: the same each time, so that nothing doubles.
MADE_IDS: Final = {"objections": "objection_id", "notices": "notice_id"}
_IN_NAMES: Final = {
    "objections": r"objections?",
    "account-ages": r"(account[-_ ]?)?ages?",
    "notices": r"notices?",
    "account-links": r"(account[-_ ]?)?links?",
    "content": r"contents?",
}


def kinds(topic: str) -> dict[str, Kind]:
    """Return the fields of *topic* and how a cell of each is understood."""
    names = [field.name for field in msgspec.structs.fields(RECORDS[topic])]
    return {name: _kind(name) for name in names if name not in _LEFT_OUT}


def required(topic: str) -> list[str]:
    """Return the fields without which no record of *topic* is good."""
    fields = msgspec.structs.fields(RECORDS[topic])
    return [each.name for each in fields if each.required or each.name in _REQUIRED_ANYWAY]


def _kind(name: str) -> Kind:
    return _KINDS.get(name) or ("id" if name.endswith("_id") else "text")


def guess_topic(file_name: str, columns: Collection[str]) -> str:
    """
    Return the topic that a file with *columns* is for, by its name or else by them.

    columns: as records name them.  Raises UsageProblem where that is not clear.
    """
    stem = PurePath(file_name).name.split(".")[0].lower()
    by_name = [
        topic
        for topic, pattern in _IN_NAMES.items()
        if re.search(rf"(?:^|[^a-z]){pattern}(?:$|[^a-z])", stem)
    ]
    if len(by_name) == 1:
        return by_name[0]
    by_columns = {topic for column, topic in _TELLING.items() if column in columns}
    if len(by_columns) == 1:
        return by_columns.pop()
    message = (
        f"{file_name}: neither its name nor its columns tell which topic its rows are for. "
        f"Remedy: name it with --topic ({', '.join(TOPICS)})."
    )
    raise UsageProblem(message)

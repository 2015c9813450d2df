"""
A dead letter as it is listed, and the choice of some among many.

Pure.  The bytes of the bad record are not kept, so that a hundred thousand fit in memory.
Source: contract.md, "Bad records" and `dead-letters`.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from sys import intern
from typing import Any, Final, NamedTuple

from msgspec import Struct

from streams.core.decode import Headers, restriction

ACCOUNT_LINKS: Final = "account-links"  # a cluster may do without it
INPUTS: Final = ("objections", "account-ages", "notices", ACCOUNT_LINKS, "content")
CONTENT: Final = "content"
RESTRICTING_USERS: Final = ("objections", "account-ages", ACCOUNT_LINKS)
LATEST_MS: Final = 253_402_300_799_999  # the end of the year 9999, the last that a date has
KEY_SHOWN_MAX: Final = 256  # characters; a valid key has no more


class Place(NamedTuple):
    """Where a bad record lay in its input; topic: its full name."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Letter(Struct, gc=False, kw_only=True):
    """
    A dead letter.

    input: the topic's name in the contract.
    received_ms, error, detail, at: None for one that is no longer kept (after 90 days), while
    what it restricts still stands; at: its partition and offset in `dead-letters`.
    key: shown, cut and escaped; user_id: None where the key is no valid id.
    content_id: of the item the record names, None where it names none or it is not known.
    pseudonym: user_id is not the id but its pseudonym, all that is known of the user.
    stands_for_more: no more is known of those of its user (or item) before it, and it stands until
    all up to it are dismissed.
    """

    place: Place
    input: str
    received_ms: int | None = None
    error: str | None = None
    detail: str | None = None
    key: str | None = None
    user_id: str | None = None
    content_id: str | None = None
    truncated: bool = False
    at: tuple[int, int] | None = None
    open: bool = True
    stands_for_more: bool = False
    pseudonym: bool = False

    @property
    def restricts(self) -> str | None:
        """What stands while it is open: "user", "item" or None, which is nothing."""
        if self.user_id is None:
            return None
        if self.input in RESTRICTING_USERS:
            return "user"
        return "item" if self.input == CONTENT and self.content_id is not None else None

    @property
    def complete(self) -> bool:
        """Whether the dead letter holds all of the record's bytes."""
        return self.at is not None and not self.truncated

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "place": str(self.place),
            "topic": self.place.topic,
            "partition": self.place.partition,
            "offset": self.place.offset,
            "time": None if self.received_ms is None else time_text(self.received_ms),
            "error": self.error,
            "detail": self.detail,
            "key": self.key,
            "user_id": self.user_id,
            "content_id": self.content_id,
            "restricts": self.restricts,
            "truncated": self.truncated,
            "kept": self.at is not None,
            "open": self.open,
            **({"stands_for_more": True} if self.stands_for_more else {}),
            **({"pseudonym": True} if self.pseudonym else {}),
        }


class Choice(NamedTuple):
    """
    Which dead letters are meant; what is not given chooses all.

    inputs: by their names in the contract; since_ms is included, until_ms is not: broker time
    stamps of the bad records.  One that is no longer kept has no time and no error to go by.
    """

    place: Place | None = None
    inputs: frozenset[str] = frozenset()
    errors: frozenset[str] = frozenset()
    user_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether *letter* is meant."""
        if self.place is not None:
            return letter.place == self.place
        if self.inputs and letter.input not in self.inputs:
            return False
        if self.errors and letter.error not in self.errors:
            return False
        if self.user_id is not None and letter.user_id != self.user_id:
            return False
        received_ms = letter.received_ms
        if received_ms is None:
            return self.since_ms is None and self.until_ms is None
        late_enough = self.since_ms is None or received_ms >= self.since_ms
        return late_enough and (self.until_ms is None or received_ms < self.until_ms)


def read_letter(
    headers: Headers,
    key: bytes | None,
    value: bytes | None,
    at: tuple[int, int],
    inputs: Mapping[str, str],
) -> Letter | None:
    """
    Return the dead letter in a record of `dead-letters` at *at*; None where it is none of ours.

    inputs: full topic name -> name in the contract.
    """
    found = {name: _text(data) for name, data in headers or ()}
    name = inputs.get(found.get("dlq_topic", ""))
    try:
        place = Place(
            intern(found["dlq_topic"]), int(found["dlq_partition"]), int(found["dlq_offset"])
        )
        received_ms = int(found["dlq_timestamp"])
    except (KeyError, ValueError):
        return None
    if name is None or not 0 <= received_ms <= LATEST_MS:
        return None
    whom = restriction(name, key, value)
    return Letter(
        place=place,
        input=name,
        received_ms=received_ms,
        error=intern(found.get("dlq_error", "")),
        detail=intern(found.get("dlq_detail", "")),
        key=None if key is None else _text(key[: 4 * KEY_SHOWN_MAX])[:KEY_SHOWN_MAX],
        user_id=whom.user_id,
        content_id=whom.content_id,
        truncated="dlq_truncated" in found,
        at=at,
    )


def in_order(letters: Iterable[Letter]) -> list[Letter]:
    """Return *letters*, the oldest first; those no longer kept before all others."""
    return sorted(letters, key=lambda each: (each.received_ms or 0, each.place))


def time_text(moment_ms: int) -> str:
    """Return *moment_ms* as RFC 3339 in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(data: bytes | str | None) -> str:
    return data.decode(errors="backslashreplace") if isinstance(data, bytes) else data or ""

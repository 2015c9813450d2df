"""
Judges records as the worker's own decoders do, and counts what is wrong by kind.  Pure.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec import Struct

from streams.core.decode import CHECKS
from streams.core.reasons import ALL_PRODUCTS, PRODUCTS
from streams.errors import BadRecord
from streams.importing.mapping import Records

SHOWN_LINES: Final = 5

_DISMISSAL: Final = BadRecord("field_value", "action: expected one of filed, withdrawn")


class Judged(NamedTuple):
    """
    bad: rows, from 0, that are refused.
    doubtful: rows that name products nobody knows, so that they object to all.
    """

    bad: dict[int, BadRecord]
    doubtful: list[int]


def judge(topic: str, records: Records, now_ms: int) -> Judged:
    """Return what a worker that read *records* now would refuse."""
    check = CHECKS[topic]
    judged = Judged(records.bad, [])
    bad = judged.bad
    for at, (key, value) in enumerate(zip(records.keys, records.values, strict=True)):
        if at in bad:
            continue
        try:
            check(key, value, now_ms)
        except BadRecord as error:
            bad[at] = error
    if topic == "objections":
        bad.update(
            {at: _DISMISSAL for at, said in enumerate(records.actions) if said == "dismissed"}
        )
        judged.doubtful.extend(_doubtful(records))
    return judged


def _doubtful(records: Records) -> Iterator[int]:
    known = set(PRODUCTS)
    for at, named in enumerate(records.products):
        if named is None or at in records.bad:
            continue
        try:
            is_known = type(named) is list and known.issuperset(named)
        except TypeError:  # something in it is no text
            is_known = False
        if not is_known:
            yield at


assert (1 << len(PRODUCTS)) - 1 == ALL_PRODUCTS  # what a doubtful objection covers


class Kind(Struct):
    """How many rows are refused for one reason, and the first lines of them."""

    code: str
    detail: str
    rows: int
    lines: list[int]


class Tally:
    """Counts refusals by kind."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], Kind] = {}
        self.doubtful = Kind("products_unknown", "covers all products", 0, [])

    def add(self, error: BadRecord, line: int) -> None:
        """Count a row that is refused."""
        key = error.code, error.detail
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = Kind(*key, 0, [])
        count(kind, line)

    @property
    def rows(self) -> int:
        """How many rows are refused."""
        return sum(kind.rows for kind in self._kinds.values())

    def kinds(self) -> list[Kind]:
        """Return the kinds, the most frequent first."""
        return sorted(self._kinds.values(), key=lambda kind: (-kind.rows, kind.lines[0]))

    def table(self) -> list[str]:
        """Return the kinds as lines of a table."""
        rows = [("rows", "code", "expected", "lines")]
        for kind in self.kinds():
            lines = ", ".join(map(str, kind.lines)) + (", …" if kind.rows > len(kind.lines) else "")
            rows.append((f"{kind.rows:,}", kind.code, kind.detail, lines))
        if len(rows) == 1:
            return []
        widths = [max(len(row[at]) for row in rows) for at in range(3)]
        return [
            f"{row[0]:>{widths[0]}}  {row[1]:{widths[1]}}  {row[2]:{widths[2]}}  {row[3]}"
            for row in rows
        ]


def count(kind: Kind, line: int) -> None:
    """Count a row of *kind*."""
    kind.rows += 1
    if len(kind.lines) < SHOWN_LINES:
        kind.lines.append(line)

"""
Dead letters as people read them.  Pure.

Keys and ids are whatever a sender wrote: nothing of them may move a terminal's cursor.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from streams.dead_letters.letter import Letter, time_text

TEXT_MAX: Final = 40  # characters of a key or id


def table(letters: Sequence[Letter]) -> Iterator[str]:
    """Yield aligned lines with a heading, none for no letters."""
    if not letters:
        return
    head = ("RECEIVED", "PLACE", "ERROR", "KEY", "RESTRICTS", "STATE", "DETAIL")
    rows = [head, *map(_row, letters)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(head) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join((*cells, row[-1])).rstrip()


def _row(letter: Letter) -> tuple[str, ...]:
    content_id = f" {shown_text(letter.content_id)}" if letter.content_id is not None else ""
    notes = [] if letter.detail is None else [_printable(letter.detail)]
    if letter.truncated:
        notes.append("(cut)")
    if letter.stands_for_more:
        notes.append("(stands for all before it as well: dismiss them together)")
    if letter.at is None:
        notes.append("(the dead letter is no longer kept)")
    return (
        "-" if letter.received_ms is None else time_text(letter.received_ms),
        str(letter.place),
        shown_text(letter.error or "-"),
        "-" if letter.key is None else shown_text(letter.key),
        f"{letter.restricts}{content_id}" if letter.restricts else "nobody",
        "open" if letter.open else "resolved",
        " ".join(notes),
    )


def against(letter: Letter, *, lifts: bool = False) -> str:
    """Return whom *letter* restricts, or what it *lifts* when it is dismissed."""
    user_id = shown_text(letter.user_id or "")
    end = "lifts UNREADABLE_INPUT from" if lifts else "restricts"
    if letter.restricts == "user":
        return f"{end} user {user_id}, for all products"
    if letter.restricts == "item":
        return f"{end} item {shown_text(letter.content_id or '')} of user {user_id}"
    return "restricts nobody; it is only taken off the list" if lifts else "restricts nobody"


def shown_text(text: str) -> str:
    """Return a key or id fit for a line of a terminal, cut where it is long."""
    printable = _printable(text)
    return printable if len(printable) <= TEXT_MAX else f"{printable[:TEXT_MAX]}…"


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )

"""
The report on objections as a page that needs nothing else, and as a table.  Pure.

The page has no script and no reference to anywhere; it prints.  Neither names a user: an objection
that is overdue is named by its own id.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from streams.audit.figures import WITHIN_S, Figures, Group
from streams.core.times import rfc3339

Row = Sequence[str]

_STYLE: Final = """\
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem; }
h1 { font-size: 1.4rem; }
h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; min-width: 100%; }
caption { font-weight: bold; text-align: left; padding: .25rem 0; }
th, td { border-bottom: 1px solid #888; padding: .25rem .75rem .25rem 0; text-align: right; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
.words td { text-align: left; } .words th { text-align: left; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  tr { break-inside: avoid; } thead { display: table-header-group; } .scroll { overflow: visible; }
}
"""
_HEAD_OF_GROUP: Final = (
    "objections",
    *(f"within {each:,} s" for each in WITHIN_S),
    "later",
    "not yet",
)


def html(found: Figures) -> str:
    """Return the page."""
    since, until, made = (rfc3339(each) for each in (found.since_ms, found.until_ms, found.made_ms))
    title = "Objections to AI training"
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}: {since} to {until}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n"
        f"<main>\n<h1>{title}</h1>\n"
        f"<p>Filed from {since} to before {until}, as it stood at {made}. Times are those of the "
        "Kafka broker; a delay counts from an objection's arrival.</p>\n"
        f"<p><strong>{found.objections:,}</strong> objections, "
        f"<strong>{found.withdrawals:,}</strong> withdrawals, "
        f"<strong>{len(found.overdue):,}</strong> of both overdue, "
        f"<strong>{sum(each[2] for each in found.dead_letters):,}</strong> records that could not "
        "be read.</p>\n"
    ]
    parts += _section(
        "How long it took",
        "Delays of objections, in seconds",
        ("until", "reached", "open", "half within", "99 % within", "longest"),
        (
            (each.stage, _n(each.reached), _n(each.open), _s(each.p50_s), _s(each.p99_s),
             _s(each.worst_s))
            for each in found.delays
        ),
    )  # fmt: skip
    for title_, name, groups in (
        ("By channel", "channel", found.channels),
        ("By country", "country", found.countries),
    ):
        parts += _section(
            title_,
            f"Objections by {name}, and how soon they were published; each counts once",
            (name, *_HEAD_OF_GROUP),
            (_cells(each) for each in groups),
        )
    parts += _section(
        "Overdue",
        f"Open for more than {found.overdue_after_s / 3_600:g} hours",
        ("objection", "action", "received", "open"),
        (
            (each.objection_id, each.action, rfc3339(each.received_ms), ", ".join(each.open))
            for each in found.overdue
        ),
        words=True,
    )
    parts += _section(
        "Records that could not be read",
        "Dead letters of the period; each restricts whom it is about until it is mended",
        ("topic", "code", "records"),
        ((topic, code, _n(count)) for topic, code, count in found.dead_letters),
        words=True,
    )
    return "".join([*parts, "</main>\n</body>\n</html>\n"])


def table(found: Figures) -> str:
    """Return the same as CSV: section, name, measure, value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("section", "name", "measure", "value"))
    writer.writerows(_rows(found))
    return text.getvalue()


def _rows(found: Figures) -> Iterator[tuple[str, str, str, object]]:
    for name, instant_ms in (
        ("since", found.since_ms),
        ("until", found.until_ms),
        ("made", found.made_ms),
    ):
        yield "period", name, "at", rfc3339(instant_ms)
    yield "total", "objections", "count", found.objections
    yield "total", "withdrawals", "count", found.withdrawals
    for delay in found.delays:
        for measure in ("reached", "open", "p50_s", "p99_s", "worst_s"):
            value = getattr(delay, measure)
            yield "delay", delay.stage, measure, "" if value is None else value
    for section, groups in (("channel", found.channels), ("country", found.countries)):
        for group in groups:
            yield section, group.name, "objections", group.objections
            for limit_s, count in zip(WITHIN_S, group.within, strict=True):
                yield section, group.name, f"published_within_{limit_s}_s", count
            yield section, group.name, "published_later", group.later
            yield section, group.name, "unpublished", group.unpublished
    for late in found.overdue:
        for stage in late.open:
            name = _harmless(f"{late.objection_id}/{late.action}")
            yield "overdue", name, stage, rfc3339(late.received_ms)
    for topic, code, count in found.dead_letters:
        yield "dead letters", topic, _harmless(code), count


def _harmless(text: str) -> str:
    """Return *text* from outside so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


def _section(
    title: str, caption: str, head: Row, rows: Iterable[Row], *, words: bool = False
) -> Iterator[str]:
    lines = list(rows)
    yield f"<h2>{escape(title)}</h2>\n"
    if not lines:
        yield "<p>None.</p>\n"
        return
    kind = ' class="words"' if words else ""
    yield (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">\n'
        f"<table{kind}>\n<caption>{escape(caption)}</caption>\n<thead><tr>"
    )
    yield "".join(f'<th scope="col">{escape(each)}</th>' for each in head)
    yield "</tr></thead>\n<tbody>\n"
    for first, *rest in lines:
        cells = "".join(f"<td>{escape(each)}</td>" for each in rest)
        yield f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>\n'
    yield "</tbody>\n</table>\n</div>\n"


def _cells(group: Group) -> Row:
    counts = (group.objections, *group.within, group.later, group.unpublished)
    return (group.name, *map(_n, counts))


def _n(count: int) -> str:
    return f"{count:,}"


def _s(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:,.3f}"

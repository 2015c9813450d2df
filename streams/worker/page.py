"""
The status page: what a worker is and how far it has got, as plain HTML.

Made for people in a hurry and for screen readers: tables with captions and headings, states as
words and not as colours, no script, nothing loaded, colours of the reader's own light or dark mode.
Pure: takes values, returns text.  Every text is escaped: host and topic names come from outside.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from streams.metrics import Gauges

REFRESH_S: Final = 5

_HEAD: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{refresh}<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }}
table {{ border-collapse: collapse; margin: 1.5rem 0; }}
caption {{ font-weight: bold; text-align: left; }}
th, td {{ border-bottom: 1px solid; padding: .25rem .75rem; text-align: right; }}
th:first-child, td.text {{ text-align: left; }}
</style>
</head>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLine:
    """A partition of this worker; state: a word or two (`serving`, `restoring`)."""

    partition: int
    state: str
    lag_records: int
    fanout_pending_items: int
    clock_overdue_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicLine:
    """An input over all partitions of this worker; topic: its full name."""

    topic: str
    lag_records: int
    oldest_unpropagated_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that the status page shows; transactions: how many have ended, by outcome."""

    worker: str
    group: str
    version: str
    partitions: tuple[PartitionLine, ...]
    topics: tuple[TopicLine, ...]
    transactions: tuple[tuple[str, int], ...]


def make_page(
    *,
    worker: str,
    group: str,
    version: str,
    states: Mapping[int, str],
    gauges: Gauges,
    transactions: Mapping[str, int],
) -> Page:
    """Return the page of a worker: its partitions' *states*, and the numbers of *gauges*."""
    oldest: dict[str, float] = {}
    for (topic, _), age_s in gauges.oldest_unpropagated().items():
        oldest[topic] = max(oldest.get(topic, 0.0), age_s)
    lag_by_topic, lag_by_partition = Counter[str](), Counter[int]()
    for (topic, partition), records in gauges.lag().items():
        lag_by_topic[topic] += records
        lag_by_partition[partition] += records
    pending, overdue = gauges.fanout_pending(), gauges.clock_overdue()
    return Page(
        worker=worker,
        group=group,
        version=version,
        partitions=tuple(
            PartitionLine(
                partition=number,
                state=state,
                lag_records=lag_by_partition[number],
                fanout_pending_items=pending.get(number, 0),
                clock_overdue_s=overdue.get(number, 0.0),
            )
            for number, state in sorted(states.items())
        ),
        topics=tuple(
            TopicLine(
                topic=topic,
                lag_records=lag_by_topic[topic],
                oldest_unpropagated_s=oldest.get(topic, 0.0),
            )
            for topic in dict.fromkeys((*oldest, *lag_by_topic))
        ),
        transactions=tuple(transactions.items()),
    )


def render(page: Page, ready: bool, detail: str, refresh: bool = False) -> str:
    """
    Return the page as HTML; *detail* says what is missing while not *ready*.

    refresh: let the browser load it again every REFRESH_S.  Only when asked for, since a page
    that reloads by itself throws a screen reader back to its top.
    """
    head = _HEAD.format(
        refresh=f'<meta http-equiv="refresh" content="{REFRESH_S}">\n' if refresh else "",
        title=escape(f"{page.worker} – objection-streams"),
    )
    again = (
        '<a href="/">Stop refreshing</a>'
        if refresh
        else f'<a href="/?refresh">Refresh every {REFRESH_S} seconds</a>'
    )
    return "\n".join(
        [
            f"{head}<body>\n<main>",
            f"<h1>Worker {escape(page.worker)}</h1>",
            f"<p>Group {escape(page.group)}, objection-streams {escape(page.version)}</p>",
            f"<p><strong>{'Ready' if ready else 'Not ready'}</strong>: {escape(detail)}</p>",
            _inputs(page.topics),
            _partitions(page.partitions),
            _table("Transactions", ("Outcome", "Count"), page.transactions),
            f'<nav><p>{again} · <a href="/metrics">Metrics</a></p></nav>',
            "</main>\n</body>\n</html>\n",
        ]
    )


def _inputs(topics: Iterable[TopicLine]) -> str:
    return _table(
        "Inputs",
        ("Topic", "Lag (records)", "Oldest not propagated (s)"),
        [(each.topic, each.lag_records, each.oldest_unpropagated_s) for each in topics],
    )


def _partitions(partitions: Iterable[PartitionLine]) -> str:
    return _table(
        "Partitions",
        ("Partition", "State", "Lag (records)", "Items to answer again", "Timer overdue (s)"),
        [
            (
                str(each.partition),
                each.state,
                each.lag_records,
                each.fanout_pending_items,
                each.clock_overdue_s,
            )
            for each in partitions
        ],
    )


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str | int | float]]) -> str:
    """Return a table whose first column names its rows."""
    columns = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    lines = [
        f'<tr><th scope="row">{escape(str(name))}</th>{"".join(map(_cell, cells))}</tr>'
        for name, *cells in rows
    ] or [f'<tr><td class="text" colspan="{len(heads)}">none</td></tr>']
    return (
        f"<table>\n<caption>{escape(caption)}</caption>\n<thead><tr>{columns}</tr></thead>\n"
        "<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table>"
    )


def _cell(value: str | int | float) -> str:
    if isinstance(value, str):
        return f'<td class="text">{escape(value)}</td>'
    return f"<td>{value:,.1f}</td>" if isinstance(value, float) else f"<td>{value:,}</td>"

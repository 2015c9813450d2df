"""
The status page as HTML.

Made for people in a hurry, on a phone or in a dark room, and for screen readers: one sentence that
says it all, tables with captions and headings, states as words beside colours, colours of the
reader's own light or dark mode, nothing loaded from elsewhere.  It renews itself without being
loaded again, so that nobody is thrown back to its top; the script is small, and all can be read
without it.  Pure: takes values, returns text.  Every text is escaped: names come from outside.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Final

from streams.latencies import BOUNDS_MS
from streams.worker.page import PROMISE_S, STORE_PROMISE_S, Page

REFRESH_S: Final = 5

SCRIPT: Final = files(__package__).joinpath("page.js").read_text("utf-8")

# For the Content-Security-Policy: this script and no other.
SCRIPT_HASH: Final = "sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()

_STYLE: Final = files(__package__).joinpath("page.css").read_text("utf-8")
_HEAD: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{refresh}<title>{title}</title>
<style>
{style}</style>
</head>
"""

Cell = str | int | float


TEXT: Final = ' class="text"'


class Bad(float):
    """A number of seconds that is more than is promised."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def render(page: Page, ready: bool, detail: str, refresh: bool = False) -> str:
    """
    Return the page as HTML; *detail* says what is missing while not *ready*.

    refresh: let a browser without scripts load it again every REFRESH_S.
    """
    good, verdict = _verdict(page, ready, detail)
    head = _HEAD.format(
        style=_STYLE,
        refresh=f'<meta http-equiv="refresh" content="{REFRESH_S}">\n' if refresh else "",
        title=escape(f"{'On time' if good else 'Look'}: {page.worker} – objection-streams"),
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
            verdict,
            _section("How late", [_inputs(page), _stores(page)]),
            _section("Pending", [_pending(page), _partitions(page)]),
            _section("Dead letters", [_dead_letters(page)]),
            _section("Since the start", [_transactions(page)]),
            f'<footer>\n<p><span id="live" data-every-s="{REFRESH_S}" role="status"></span> '
            '<button id="pause" type="button" hidden>Pause updating</button></p>',
            f'<nav aria-label="More"><p><noscript>{again} · </noscript>'
            '<a href="/metrics">Metrics</a></p></nav>\n</footer>',
            f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        ]
    )


def _verdict(page: Page, ready: bool, detail: str) -> tuple[bool, str]:
    """Return whether all is well, and what says so, or what is not."""
    oldest = page.oldest
    late = oldest is not None and oldest.oldest_unpropagated_s > PROMISE_S
    held = page.held_partitions
    on_time = ready and not late and not page.late_stores
    good = on_time and not held
    words = "On time" if good else "Grants held" if on_time else "Late" if ready else "Not ready"
    lines = [
        "Everything that has arrived is published."
        if oldest is None
        else "The oldest record not published has waited "
        f"{oldest.oldest_unpropagated_s:,.1f} s, in {oldest.topic}.",
        *(
            f"Store {each.store} has not {each.phase} what it was told "
            f"{each.oldest_unacknowledged_s:,.1f} s ago."
            for each in page.late_stores
        ),
        *(
            f"Partition {each.partition} allows nothing more, as too many would be allowed again: "
            "see objections grants status. Purges go on."
            for each in held
        ),
        f"{'Ready' if ready else 'Not ready'}: {detail}.",
    ]
    if page.at:
        lines.append(f"As of {page.at}.")
    told = "".join(f"<p>{escape(line)}</p>" for line in lines)
    # Only the first words are read out when they change: the ages change all the time.
    return good, (
        f'<div id="verdict" class="verdict{" good" if good else ""}">\n'
        f'<p id="state" data-part role="status"><strong>{words}</strong></p>\n'
        f'<div id="why" data-part>{told}</div>\n</div>'
    )


def _section(title: str, tables: Iterable[str]) -> str:
    return "\n".join([f"<section>\n<h2>{title}</h2>", *tables, "</section>"])


def _inputs(page: Page) -> str:
    return _table(
        "inputs",
        f"Inputs, over the last {_minutes(page.covered_s)}",
        (
            "Topic",
            "Oldest not published (s)",
            "Published p99 (s)",
            "Published p50 (s)",
            "Published records",
            "Decided p99 (s)",
            "Decided p50 (s)",
            "Lag (records)",
        ),
        [
            (
                each.topic,
                _age(each.oldest_unpropagated_s, PROMISE_S),
                _within(each.published.p99_s, PROMISE_S),
                _within(each.published.p50_s, PROMISE_S),
                each.published.count,
                _within(each.decided.p99_s, PROMISE_S),
                _within(each.decided.p50_s, PROMISE_S),
                each.lag_records,
            )
            for each in page.topics
        ],
    )


def _stores(page: Page) -> str:
    return _table(
        "stores",
        f"Data stores, purges over the last {_minutes(page.covered_s)}",
        ("Store", "Phase", "Oldest not acknowledged (s)", "p99 (s)", "p50 (s)", "Purges"),
        [
            (
                each.store,
                each.phase,
                _age(each.oldest_unacknowledged_s, STORE_PROMISE_S),
                _within(each.purges.p99_s, STORE_PROMISE_S),
                _within(each.purges.p50_s, STORE_PROMISE_S),
                each.purges.count,
            )
            for each in page.stores
        ],
    )


def _pending(page: Page) -> str:
    pending = [each for each in page.partitions if each.fanout_pending_items]
    rows: list[tuple[Cell, ...]] = [
        (
            f"Fan-outs of partition {each.partition}",
            _progress(each.fanout_pending_items, each.fanout_peak_items),
            f"{each.fanout_pending_items:,} items to answer again",
        )
        for each in pending
    ]
    if page.restore is not None:
        rows.append(
            (
                "Restore",
                f"for {page.restore.seconds:,.0f} s",
                f"{page.restore.rows:,} rows read",
            )
        )
    rows += [
        (
            f"Timers of partition {each.partition}",
            "due",
            f"the oldest is {each.clock_overdue_s:,.1f} s late",
        )
        for each in page.partitions
        if each.clock_overdue_s > 0
    ]
    rows += [
        (
            f"New policy in partition {each.partition}",
            "under way",
            f"{each.policy_pending_users:,} users to decide again",
        )
        for each in page.partitions
        if each.policy_pending_users
    ]
    rows += [
        (
            f"Grants of partition {each.partition}",
            "held",
            f"{each.grants_held_users:,} users wait for a release",
        )
        for each in page.held_partitions
    ]
    return _table("under-way", "Under way", ("What", "How far", "How much"), rows)


def _partitions(page: Page) -> str:
    return _table(
        "partitions",
        f"Partitions of this worker: {len(page.partitions)}",
        ("Partition", "State", "Lag (records)", "Items to answer again", "Timer overdue (s)"),
        [
            (
                str(each.partition),
                each.state,
                each.lag_records,
                each.fanout_pending_items,
                float(each.clock_overdue_s),
            )
            for each in page.partitions
        ],
    )


def _dead_letters(page: Page) -> str:
    return _table(
        "dead-letters",
        "Dead letters",
        ("Topic", "Restricting somebody", "Codes of the last hour"),
        [
            (
                each.topic,
                each.open_n,
                ", ".join(f"{code} ({count:,})" for code, count in each.codes) or "none",
            )
            for each in page.dead_letters
        ],
    )


def _transactions(page: Page) -> str:
    return _table("transactions", "Transactions", ("Outcome", "Count"), page.transactions)


def _within(bound_s: float | None, promise_s: float) -> Cell:
    """Return a bound as text: a bucket tells no more than that."""
    if bound_s is None:
        return Markup('<td><span aria-label="nothing">–</span></td>')
    if bound_s == float("inf"):
        return Markup(f'<td class="bad">&gt; {BOUNDS_MS[-1] // 1000}</td>')
    bad = ' class="bad"' if bound_s > promise_s else ""
    return Markup(f"<td{bad}>≤ {bound_s:g}</td>")


def _age(age_s: float, promise_s: float) -> Cell:
    return Bad(age_s) if age_s > promise_s else float(age_s)


def _progress(left: int, peak: int) -> Cell:
    done = max(peak - left, 0)
    share = done * 100 // peak if peak else 0
    return Markup(
        f'<td class="text"><progress value="{done}" max="{max(peak, 1)}" '
        f'aria-label="{share} percent of {peak} items"></progress> {share} %</td>'
    )


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return "hour" if minutes >= 60 else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _table(name: str, caption: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """
    Return a table whose first column names its rows.

    name: of the box around it, which stays as the script renews what is in it: who scrolls there,
    or has the focus on it, is not disturbed.
    """
    table = list(rows)
    texts = [_is_text(cell) for cell in table[0]] if table else [True] * len(heads)
    columns = "".join(
        f'<th scope="col"{TEXT if text else ""}>{escape(head)}</th>'
        for head, text in zip(heads, texts, strict=True)
    )
    lines = [
        f'<tr><th scope="row">{escape(str(first))}</th>{"".join(map(_cell, cells))}</tr>'
        for first, *cells in table
    ] or [f'<tr><td class="text" colspan="{len(heads)}">none</td></tr>']
    return (
        f'<div id="{name}" data-part class="scroll" role="region" tabindex="0" '
        f'aria-labelledby="{name}-caption">\n'
        f'<table>\n<caption id="{name}-caption">{escape(caption)}</caption>\n'
        f"<thead><tr>{columns}</tr></thead>\n"
        "<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table>\n</div>"
    )


def _is_text(value: Cell) -> bool:
    return isinstance(value, str) and (not isinstance(value, Markup) or TEXT in value)


def _cell(value: Cell) -> str:
    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return f'<td class="text">{escape(value)}</td>'
    if isinstance(value, Bad):
        return f'<td class="bad">{value:,.1f}</td>'
    return f"<td>{value:,.1f}</td>" if isinstance(value, float) else f"<td>{value:,}</td>"

"""The report on objections: its figures by hand, its page in a real Chromium, its table."""

import csv
import io
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from streams.audit.figures import Figures, Filed, Period, figures
from streams.audit.report_files import html, table
from streams.commands import main
from streams.core.receipts import Receipt, StoreProgress
from streams.core.times import rfc3339
from tests.chromium import axe
from tests.making import NOW_MS

HOUR_MS: Final = 3_600_000
PERIOD: Final = Period(NOW_MS - 48 * HOUR_MS, NOW_MS, NOW_MS)
EVIL: Final = '=1+1"<script>alert(1)</script>'


def filed(
    objection_id: str, after_ms: int | None, received_ms: int = NOW_MS - HOUR_MS, **changes: Any
) -> Filed:
    """Return an objection published so long after it came, hidden a second later; None: neither."""
    published = None if after_ms is None else rfc3339(received_ms + after_ms)
    hidden = None if after_ms is None else rfc3339(received_ms + after_ms + 1_000)
    receipt = Receipt(
        objection_id,
        "u1",
        "filed",
        rfc3339(received_ms),
        rfc3339(received_ms),
        published,
        stores={"index": StoreProgress(hidden)},
    )
    whole = Filed(objection_id, "filed", "web", "DE", received_ms, receipt)
    return whole._replace(**changes)


def made() -> Figures:
    """Return a report of everything there can be."""
    old_ms = NOW_MS - 30 * HOUR_MS
    return figures(
        PERIOD,
        [
            *(filed(f"o{number}", 100 * number) for number in range(1, 100)),
            filed("slow", 100_000, country="FR", hide_only=frozenset({"index"})),
            filed("lost", None, old_ms, channel="mail", receipt=None),
            filed(EVIL, None, old_ms, channel="unknown", country="unknown"),
            filed("back", None, old_ms, action="withdrawn"),
        ],
        {("objections", "field_missing"): 3},
        24 * 3_600,
    )


def test_delays_are_percentiles_of_what_got_there() -> None:
    """Half, 99 of a hundred and the longest; what is open is counted beside."""
    published, hidden, erased = made().delays

    assert (published.stage, published.reached, published.open) == ("published", 100, 2)
    assert (published.p50_s, published.p99_s, published.worst_s) == (5.0, 9.9, 100.0)
    assert (hidden.stage, hidden.reached, hidden.open) == ("hidden in index", 100, 1)
    assert hidden.worst_s == 101.0
    assert (erased.stage, erased.reached, erased.open) == ("erased in index", 0, 100)
    assert erased.p50_s is None


def test_groups_count_by_delay() -> None:
    """Each objection is in one column; withdrawals are in none."""
    found = made()
    channels = {each.name: each for each in found.channels}
    countries = {each.name: each for each in found.countries}

    assert (found.objections, found.withdrawals) == (102, 1)
    assert list(channels) == ["in_app", "email", "web", "mail", "import", "unknown"]
    web = channels["web"]
    assert (web.within, web.later, web.unpublished) == ((10, 40, 49, 1), 0, 0)
    assert channels["mail"].unpublished == channels["unknown"].unpublished == 1
    assert channels["in_app"].objections == 0
    assert {name: each.objections for name, each in countries.items()} == {
        "DE": 100,
        "FR": 1,
        "unknown": 1,
    }


def test_overdue_is_what_is_open_for_long() -> None:
    """An open objection of an hour ago is not; one without a receipt is, and a withdrawal."""
    overdue = {each.objection_id: each for each in made().overdue}

    assert set(overdue) == {"lost", EVIL, "back"}
    assert overdue["lost"].open == ("published",)
    assert overdue["back"].open == ("published", "hidden in index", "erased in index")


def test_nothing_at_all() -> None:
    """A period without objections has a report, too."""
    found = figures(PERIOD, [], {}, 0)

    assert "<p>None.</p>" in html(found)
    assert "total,objections,count,0" in table(found)


def test_the_table_is_plain_and_harmless() -> None:
    """One figure a line; what others wrote is never a formula."""
    rows = list(csv.DictReader(io.StringIO(table(made()))))
    figures_by = {(each["section"], each["name"], each["measure"]): each["value"] for each in rows}

    assert figures_by["delay", "published", "p99_s"] == "9.9"
    assert figures_by["delay", "erased in index", "p50_s"] == ""
    assert figures_by["channel", "web", "published_within_60_s"] == "49"
    assert figures_by["dead letters", "objections", "field_missing"] == "3"
    assert ("overdue", f"'{EVIL}/filed", "published") in figures_by
    assert not any(each["name"].startswith("=") for each in rows)


def test_the_page_stands_alone_and_names_no_user() -> None:
    """No script, no address, nothing of a user; what others wrote is text."""
    page = html(made())

    assert "u1" not in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page
    assert "url(" not in page
    assert "@media print" in page


@pytest.mark.parametrize("options", [(), ("--window-size=360,800",)], ids=["desk", "phone"])
def test_the_page_is_accessible(tmp_path: Path, options: tuple[str, ...]) -> None:
    """axe-core has nothing to say, on a phone neither."""
    found = axe(html(made()), tmp_path, *options)

    assert [] == [(each["id"], each["help"]) for each in found["violations"]]
    assert found["passes"]


@pytest.mark.parametrize(
    "arguments,said",
    [
        ([], "neither --html nor --csv"),
        (["--csv", "x.csv", "--since", "yesterday"], "--since is 'yesterday', expected a date"),
        (["--csv", "x.csv", "--until", "2026-04-15T09:00:00"], "a time with its offset"),
        (["--csv", "x.csv", "--since", "2026-04-15", "--until", "2026-04-15"], "not before"),
        (["--csv", "no/such/folder/x.csv"], "there is no such folder"),
    ],
)
def test_wrong_usage_is_named(arguments: list[str], said: str) -> None:
    """Before Kafka is asked, with status 2."""
    result = CliRunner().invoke(main, ["audit", "report", *arguments])

    assert result.exit_code == 2
    assert said in result.stderr

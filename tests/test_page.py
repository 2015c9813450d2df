"""The status page: what it says, for whom it can be read, and that it renews itself."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from streams.last_hour import Spread
from streams.metric_table import PROPAGATION, STORE_PROPAGATION
from streams.worker.page import (
    DeadLetterLine,
    Page,
    PartitionLine,
    RestoreLine,
    StoreLine,
    TopicLine,
    make_page,
)
from streams.worker.page_html import render
from tests.test_metrics import Measured

PAGE = Page(
    worker="host-7",
    group="eu.objections",
    version="1.2.3",
    partitions=(
        PartitionLine(
            partition=4,
            state="restoring",
            lag_records=1_234,
            fanout_pending_items=56_789,
            fanout_peak_items=100_000,
            clock_overdue_s=3.25,
            policy_pending_users=12,
            grants_held_users=1_500,
        ),
    ),
    topics=(
        TopicLine(
            topic="eu.content",
            lag_records=4_321,
            oldest_unpropagated_s=0.75,
            decided=Spread(900, 0.02, 0.05),
            published=Spread(800, 0.1, 2.5),
        ),
    ),
    stores=(
        StoreLine(
            store="index",
            phase="hidden",
            oldest_unacknowledged_s=1.5,
            purges=Spread(70, 1.0, float("inf")),
        ),
    ),
    dead_letters=(
        DeadLetterLine(topic="eu.notices", open_n=2, codes=(("no_json", 5), ("key_missing", 1))),
    ),
    restore=RestoreLine(rows=123_456, seconds=7.0),
    transactions=(("committed", 17), ("aborted", 1), ("fenced", 0)),
    at="03:04:05 UTC",
    covered_s=3_590.0,
)
QUIET = replace(
    PAGE,
    partitions=(PartitionLine(partition=4, state="serving", lag_records=0, fanout_pending_items=0,
                              clock_overdue_s=0.0),),
    topics=(TopicLine(topic="eu.content", lag_records=0, oldest_unpropagated_s=0.0),),
    restore=None,
)  # fmt: skip


class Outline(HTMLParser):
    """The tags and the words of a page; fails on tags that are closed in the wrong order."""

    VOID = frozenset({"meta"})
    UNREAD = frozenset({"style", "script"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert [] == self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self._open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip() and self.UNREAD.isdisjoint(self._open):
            self.words.append(data.strip())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of each *tag*."""
        return [attributes for found, attributes in self.tags if found == tag]


def _words(page: Page, *, ready: bool = True, detail: str = "serving 1 partitions") -> str:
    return " ".join(Outline(render(page, ready, detail)).words)


def test_it_shows_all_it_is_given() -> None:
    """How late, by stage and store; what is pending and how far; what stands open; what is done."""
    words = _words(PAGE, ready=False, detail="restoring: 0 of 1 partitions are serving")

    for part in (
        "Worker host-7 Group eu.objections, objection-streams 1.2.3",
        "Not ready The oldest record not published has waited 0.8 s, in eu.content.",
        "Not ready: restoring: 0 of 1 partitions are serving. As of 03:04:05 UTC.",
        "Inputs, over the last hour",
        "eu.content 0.8 ≤ 2.5 ≤ 0.1 800 ≤ 0.05 ≤ 0.02 4,321",
        "index hidden 1.5 > 60 ≤ 1 70",
        "Fan-outs of partition 4 43 % 56,789 items to answer again",
        "Restore for 7 s 123,456 rows read",
        "Timers of partition 4 due the oldest is 3.2 s late",
        "New policy in partition 4 under way 12 users to decide again",
        "Grants of partition 4 held 1,500 users wait for a release",
        "4 restoring 1,234 56,789 3.2",
        "eu.notices 2 no_json (5), key_missing (1)",
        "committed 17 aborted 1 fenced 0",
    ):
        assert part in words


@pytest.mark.parametrize(
    "page, ready, first",
    [
        pytest.param(QUIET, True, "On time Everything that has arrived is published.", id="quiet"),
        pytest.param(
            replace(QUIET, topics=(replace(QUIET.topics[0], oldest_unpropagated_s=1.0),)),
            True,
            "On time The oldest record not published has waited 1.0 s",
            id="as promised",
        ),
        pytest.param(
            replace(QUIET, topics=(replace(QUIET.topics[0], oldest_unpropagated_s=1.1),)),
            True,
            "Late The oldest record not published has waited 1.1 s",
            id="late",
        ),
        pytest.param(
            replace(QUIET, stores=(replace(PAGE.stores[0], oldest_unacknowledged_s=5.1),)),
            True,
            "Late Everything that has arrived is published. "
            "Store index has not hidden what it was told 5.1 s ago.",
            id="late store",
        ),
        pytest.param(
            replace(QUIET, partitions=(replace(QUIET.partitions[0], grants_held_users=7),)),
            True,
            "Grants held Everything that has arrived is published. Partition 4 allows nothing more",
            id="grants held",
        ),
        pytest.param(QUIET, False, "Not ready Everything", id="not ready"),
    ],
)
def test_the_first_words_say_how_it_stands(page: Page, ready: bool, first: str) -> None:
    """One look is enough: on time only where every promise is kept right now."""
    html = render(page, ready, "x")

    assert f"1.2.3 {first}" in _words(page, ready=ready)
    assert ('class="verdict good"' in html) == first.startswith("On time")


def test_it_is_for_everybody() -> None:
    """
    A language, a title, one heading, captions and named columns and rows; nothing is loaded from
    anywhere, all can be read without the script, and it reloads by itself only when asked to.
    """
    page = Outline(render(PAGE, True, "x"))
    refreshing = Outline(render(PAGE, True, "x", refresh=True))

    assert [{"lang": "en"}] == page.named("html")
    assert len(page.named("h1")) == len(page.named("title")) == len(page.named("main")) == 1
    assert len(page.named("table")) == len(page.named("caption")) == 6
    assert {"col", "row"} == {heading["scope"] for heading in page.named("th")}
    assert not [tag for tag, _ in page.tags if tag in {"link", "img", "iframe"}]
    assert [{}] == page.named("script")
    assert all(bar["aria-label"] for bar in page.named("progress"))
    assert {"name": "color-scheme", "content": "light dark"} in page.named("meta")
    assert "refresh" not in [meta.get("http-equiv") for meta in page.named("meta")]
    assert {"http-equiv": "refresh", "content": "5"} in refreshing.named("meta")
    assert ["/", "/metrics"] == [link["href"] for link in refreshing.named("a")]
    parts = [attrs["id"] for _, attrs in page.tags if "data-part" in attrs]
    assert len(parts) == len(set(parts)) == 8


def test_it_escapes_everything() -> None:
    """Names come from hosts, topics and errors; none of them becomes a tag."""
    evil = '<script>alert("x")</script>&\''
    page = replace(
        PAGE,
        worker=evil,
        group=evil,
        version=evil,
        at=evil,
        partitions=(replace(PAGE.partitions[0], state=evil),),
        topics=(replace(PAGE.topics[0], topic=evil),),
        stores=(replace(PAGE.stores[0], store=evil, phase=evil, oldest_unacknowledged_s=9.0),),
        dead_letters=(DeadLetterLine(topic=evil, open_n=1, codes=((evil, 1),)),),
        transactions=((evil, 1),),
    )

    html = render(page, ready=False, detail=evil)

    outline = Outline(html)
    assert len(outline.named("script")) == 1  # our own
    assert "<script>alert" not in html
    # title, heading, group, version, moment, detail, two topics, store and phase twice, state,
    # a topic and a code of dead letters, an outcome
    assert 16 == " ".join(outline.words).count(evil)


def test_a_worker_without_partitions() -> None:
    """Nothing to show is said in a word."""
    bare = Page(worker="w", group="g", version="1", partitions=(), topics=(), transactions=())

    outline = Outline(render(bare, ready=False, detail="not a member of the group"))

    assert 6 == outline.words.count("none")


def test_it_sums_up_what_the_gauges_say() -> None:
    """
    Lag adds up by topic and by partition, of ages the greatest counts, and a partition that is
    still restoring has a line although no gauge knows it.
    """
    gauges = Measured(
        oldest={("objections", 0): 0.5, ("objections", 1): 2.0, ("content", 0): 0.0},
        behind={("objections", 0): 3, ("objections", 1): 4, ("content", 0): 10},
        pending={0: 7},
        overdue={0: 1.5},
    )

    page = make_page(
        worker="w",
        group="g",
        version="1",
        states={1: "restoring", 0: "serving"},
        gauges=gauges,
        transactions={"committed": 2},
        spreads={
            (PROPAGATION, ("decided", "objections")): Spread(1, 0.1, 0.2),
            (PROPAGATION, ("published", "objections")): Spread(2, 0.3, 0.4),
            (STORE_PROPAGATION, ("index", "hidden")): Spread(3, 0.5, 0.6),
        },
        peaks={0: 9},
        codes={("eu.objections", "no_json"): 1, ("eu.objections", "key_missing"): 4},
    )

    assert page.partitions == (
        PartitionLine(
            partition=0,
            state="serving",
            lag_records=13,
            fanout_pending_items=7,
            fanout_peak_items=9,
            clock_overdue_s=1.5,
            grants_held_users=5,
        ),
        PartitionLine(
            partition=1,
            state="restoring",
            lag_records=4,
            fanout_pending_items=0,
            clock_overdue_s=0.0,
        ),
    )
    assert page.topics == (
        TopicLine(
            topic="objections",
            lag_records=7,
            oldest_unpropagated_s=2.0,
            decided=Spread(1, 0.1, 0.2),
            published=Spread(2, 0.3, 0.4),
        ),
        TopicLine(topic="content", lag_records=10, oldest_unpropagated_s=0.0),
    )
    assert page.stores == (
        StoreLine(
            store="index",
            phase="hidden",
            oldest_unacknowledged_s=2.5,
            purges=Spread(3, 0.5, 0.6),
        ),
    )
    assert page.dead_letters == (
        DeadLetterLine(topic="eu.objections", open_n=2, codes=(("key_missing", 4), ("no_json", 1))),
    )
    assert page.transactions == (("committed", 2),)

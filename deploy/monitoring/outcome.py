"""What comes out: stores, dead letters, what becomes allowed or is purged."""

from deploy.monitoring import limits
from deploy.monitoring.panels import Panel, Query, from_good
from deploy.monitoring.series import (
    EVERY,
    GRANTS,
    HELD,
    OWED,
    C,
    quantile,
)


def stores() -> list[Panel]:
    """Return how late each store is, and whether one went back."""
    metric, late = "objections_store_propagation_seconds", "objections:hidden_late:ratio"
    return [
        Panel(
            "timeseries",
            "Oldest output not hidden",
            "By store: grows second by second while a store does not acknowledge.",
            [Query(f'max by (store) ({OWED}{{phase="hidden"}})', "{{store}}")],
            unit="s",
            steps=from_good(warn=limits.HIDDEN_S, bad=limits.STORE_LATE_S),
        ),
        Panel(
            "timeseries",
            "From filed to hidden, by store",
            "Purges only, from the broker's time stamp of their cause.",
            [
                Query(quantile(0.5, metric, 'phase="hidden"', "store"), "{{store}}, p50"),
                Query(quantile(0.99, metric, 'phase="hidden"', "store"), "{{store}}, p99"),
            ],
            unit="s",
            steps=from_good(warn=limits.HIDDEN_S, bad=limits.STORE_LATE_S),
            log=True,
        ),
        Panel(
            "timeseries",
            "Share of purges hidden later than 5 s",
            "Burning the month's 1 %: the lines are where ObjectionsHiddenLate pages, of 6 h and "
            "of 1 h.",
            [
                Query(f"{late}5m", "{{store}}, 5 min"),
                Query(f"{late}1h", "{{store}}, 1 h"),
                Query(f"{late}6h", "{{store}}, 6 h"),
            ],
            unit="percentunit",
            steps=from_good(warn=limits.BURNS[1].ratio, bad=limits.BURNS[0].ratio),
        ),
        Panel(
            "timeseries",
            "Oldest output not erased",
            "By store.  Each erases at its own pace, PostgreSQL once a day.",
            [Query(f'max by (store) ({OWED}{{phase="erased"}})', "{{store}}")],
            unit="s",
            steps=from_good(warn=24 * 3_600, bad=limits.ERASURE_LATE_S),
            width=12,
        ),
        Panel(
            "timeseries",
            "Acknowledgements that went back, or were refused",
            "Went back: the store was restored from a backup.  Refused: above the end of the "
            "output.",
            [
                Query(
                    f"sum by (store) (increase(objections_store_regressions_total[{EVERY}]))",
                    "{{store}} went back",
                ),
                Query(
                    "sum by (store) "
                    f"(increase(objections_acknowledgements_refused_total[{EVERY}]))",
                    "{{store}} refused",
                ),
            ],
            width=12,
        ),
        Panel(
            "timeseries",
            "Canary: from filed to hidden, by store",
            "A made-up account objects all day: the whole way, also when nobody else does.  "
            "Waiting: what it filed last is not hidden yet.",
            [
                Query(
                    quantile(0.99, "objections_canary_hidden_seconds", C, "store"),
                    "{{store}}, p99",
                ),
                Query(
                    f"max by (store) (objections_canary_waiting_seconds{{{C}}}) > "
                    f"{limits.HIDDEN_S:g}",
                    "{{store}}, waiting",
                ),
            ],
            unit="s",
            steps=from_good(warn=limits.HIDDEN_S, bad=limits.STORE_LATE_S),
            no_value="no canary",
            width=12,
        ),
        Panel(
            "timeseries",
            "Canary: from filed to erased, by store",
            "The mean of those erased lately, and the oldest that is not: each store erases at "
            "its own pace.",
            [
                Query(
                    f"sum by (store) (rate(objections_canary_erased_seconds_sum{{{C}}}[1h])) / "
                    f"sum by (store) (rate(objections_canary_erased_seconds_count{{{C}}}[1h]))",
                    "{{store}}, mean",
                ),
                Query(
                    f"max by (store) (objections_canary_unerased_seconds{{{C}}})",
                    "{{store}}, oldest",
                ),
            ],
            unit="s",
            steps=from_good(warn=24 * 3_600, bad=limits.ERASURE_LATE_S),
            no_value="no canary",
            width=12,
        ),
    ]


def dead_letters() -> list[Panel]:
    """Return those that are open, and those that arrive."""
    return [
        Panel(
            "stat",
            "Open",
            "Each keeps a user or an item from being used.  `objections dead-letters list` shows "
            "them, and those that restrict nobody as well.",
            [Query("sum by (topic) (objections_dead_letters_open)", "{{topic}}")],
            steps=from_good(warn=1, bad=100),
            width=8,
            names=True,
        ),
        Panel(
            "timeseries",
            "Open, over time",
            "A step up is a producer that writes what cannot be read.",
            [Query("sum by (topic) (objections_dead_letters_open)", "{{topic}}")],
        ),
        Panel(
            "timeseries",
            "Arriving",
            "Also those that restrict nobody, as they name no user.",
            [
                Query(
                    "sum by (topic) "
                    f'(rate(objections_events_total{{outcome="dead_letter"}}[{EVERY}]))',
                    "{{topic}}",
                )
            ],
            unit="cps",
        ),
    ]


def grants() -> list[Panel]:
    """Return what is published, and when it is far beyond the usual."""
    return [
        Panel(
            "timeseries",
            "Published by topic and kind",
            "Tombstones purge, records allow.",
            [
                Query(
                    f"sum by (topic, kind) (rate(objections_published_total[{EVERY}]))",
                    "{{topic}} {{kind}}",
                )
            ],
            unit="cps",
            width=8,
        ),
        Panel(
            "timeseries",
            "Grants, and where they are far beyond the usual",
            f"{limits.GRANTS_FACTOR} times what 95 % of the last week stayed below is where "
            f"ObjectionsGrantsUnusual fires, from {limits.GRANTS_FLOOR_PER_S} a second on.",
            [
                Query(
                    f"sum by (topic) (rate(objections_published_total{{{GRANTS}}}[10m]))",
                    "{{topic}}",
                ),
                Query(
                    "clamp_min("
                    f"{limits.GRANTS_FACTOR} * objections:granted_usual:rate{limits.GRANTS_USUAL}, "
                    f"{limits.GRANTS_FLOOR_PER_S})",
                    "{{topic}}, limit",
                ),
            ],
            unit="cps",
            width=8,
        ),
        Panel(
            "timeseries",
            "Users whose grants are held",
            "By partition: its breaker has tripped, and nothing more is allowed there until "
            "`objections grants release`.  Purges go on; no more than 20,000 are counted.",
            [Query(f"max by (partition) ({HELD}) > 0", "partition {{partition}}")],
            no_value="none",
            width=8,
        ),
    ]

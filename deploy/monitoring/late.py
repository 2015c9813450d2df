"""The first row: is anybody's objection late, where, in which store, since when?"""

from deploy.monitoring import limits
from deploy.monitoring.panels import Panel, Query, from_bad, from_good
from deploy.monitoring.series import (
    OBJECTIONS,
    OLDEST,
    OWED,
    SEEN,
    W,
    oldest,
    seconds_le,
)


def late_now() -> list[Panel]:
    """Return the figures of this moment."""
    objections = f"max({oldest(OBJECTIONS)})"
    in_time = (
        "sum by ({label}) (increase({metric}_bucket{{{matchers},{le}}}[1h])) / "
        "sum by ({label}) (increase({metric}_count{{{matchers}}}[1h]))"
    )
    published = in_time.format(
        label="topic",
        metric="objections_propagation_seconds",
        matchers=f'stage="published",{OBJECTIONS}',
        le=f'le="{seconds_le(limits.PUBLISHED_WITHIN_MS)}"',
    )
    hidden = in_time.format(
        label="store",
        metric="objections_store_propagation_seconds",
        matchers='phase="hidden"',
        le=f'le="{seconds_le(limits.HIDDEN_WITHIN_MS)}"',
    )
    return [
        Panel(
            "stat",
            "Oldest objection waits",
            "How long the oldest objection has waited for its outputs.  0 when none waits. "
            "Orange from the promised second, red from where ObjectionsStalled fires.",
            [Query(objections)],
            unit="s",
            steps=from_good(warn=limits.PUBLISHED_S, bad=limits.OBJECTION_STALLED_S),
            width=4,
            height=5,
            no_value="nobody tells",
        ),
        Panel(
            "stat",
            "Waiting since",
            "When the oldest objection that still waits was filed.",
            [Query(f"(time() - {objections}) * 1000 and {objections} > {limits.PUBLISHED_S:g}")],
            unit="dateTimeFromNow",
            width=4,
            height=5,
            no_value="none waits",
        ),
        Panel(
            "stat",
            "Not hidden yet, by store",
            "Age of the oldest output that a store has not hidden.  Orange from the promised 5 s, "
            "red from where ObjectionsStoreLate fires.",
            [Query(f'max by (store) ({OWED}{{phase="hidden"}})', "{{store}}")],
            unit="s",
            steps=from_good(warn=limits.HIDDEN_S, bad=limits.STORE_LATE_S),
            width=5,
            height=5,
            no_value="no store tells",
            names=True,
        ),
        Panel(
            "stat",
            "Without a worker",
            "Partitions that the monitor sees and no worker tells of.  After a worker's death the "
            "group gives them away within seconds; then they are restored.",
            [
                Query(
                    f"count({SEEN} unless on (topic, partition) {OLDEST}{{{W}}}) "
                    f"or 0 * count({SEEN})"
                )
            ],
            steps=from_good(warn=1, bad=1),
            width=3,
            height=5,
            no_value="no monitor",
        ),
        Panel(
            "stat",
            "Published within 1 s",
            "Share of the objections of the last hour.  Promised are 99 %.",
            [Query(published, "{{topic}}")],
            unit="percentunit",
            steps=from_bad(warn=0.98, good=limits.OBJECTIVE),
            width=4,
            height=5,
            no_value="none came",
            decimals=2,
            names=True,
        ),
        Panel(
            "stat",
            "Hidden within 5 s",
            "Share of the purges of the last hour, by store.  Promised are 99 % in each.",
            [Query(hidden, "{{store}}")],
            unit="percentunit",
            steps=from_bad(warn=0.98, good=limits.OBJECTIVE),
            width=4,
            height=5,
            no_value="none came",
            decimals=2,
            names=True,
        ),
    ]


def where() -> list[Panel]:
    """Return the tables that name places and alerts."""
    waits = f"({oldest()}) > {limits.PUBLISHED_S:g}"
    owner = f"topk by (topic, partition) (1, 0 * {OLDEST}{{{W}}} + 1)"
    return [
        Panel(
            "table",
            "Where: what has waited longest",
            "Inputs whose oldest record is not published, and the worker that has the partition; "
            "none where nobody has it.",
            [
                Query(
                    f"topk(10, ({waits}) * on (topic, partition) group_left (instance) {owner} "
                    f"or ({waits}) unless on (topic, partition) {OLDEST}{{{W}}})"
                )
            ],
            unit="s",
            steps=from_good(warn=limits.PUBLISHED_S, bad=limits.OBJECTION_STALLED_S),
            width=12,
            height=7,
            no_value="nothing waits",
            columns={
                "topic": "topic",
                "partition": "partition",
                "instance": "worker",
                "Value": "waits",
            },
        ),
        Panel(
            "table",
            "Alerts that fire",
            "Each has a section of its name in the runbook.",
            [Query('ALERTS{alertname=~"Objections.*",alertstate="firing"}')],
            width=12,
            height=7,
            no_value="no alert fires",
            columns={
                "severity": "severity",
                "alertname": "alert",
                "topic": "topic",
                "partition": "partition",
                "store": "store",
                "instance": "process",
            },
        ),
    ]

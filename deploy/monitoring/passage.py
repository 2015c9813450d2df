"""The way of a record: stages, partitions and their owners, work that waits."""

from deploy.monitoring import limits
from deploy.monitoring.panels import Panel, Query, from_good
from deploy.monitoring.series import (
    EVERY,
    OBJECTIONS,
    OLDEST,
    W,
    oldest,
    quantile,
)


def stages() -> list[Panel]:
    """Return how long objections take, and what becomes of records."""
    metric = "objections_propagation_seconds"
    published, decided = (f'stage="{x}",{OBJECTIONS}' for x in ("published", "decided"))
    late = "objections:published_late:ratio"
    return [
        Panel(
            "timeseries",
            "Objections: from filed to decided and published",
            "From the broker's time stamp.  What waits still is not in it: see the first row.",
            [
                Query(quantile(0.5, metric, published), "published, p50"),
                Query(quantile(0.99, metric, published), "published, p99"),
                Query(quantile(0.99, metric, decided), "decided, p99"),
            ],
            unit="s",
            steps=from_good(warn=limits.PUBLISHED_S, bad=limits.OBJECTION_STALLED_S),
            width=9,
            log=True,
        ),
        Panel(
            "timeseries",
            "Published, p99 by input",
            "Content may wait behind objections, ages and notices.",
            [Query(quantile(0.99, metric, 'stage="published"', "topic"), "{{topic}}")],
            unit="s",
            width=8,
            log=True,
        ),
        Panel(
            "timeseries",
            "Share of objections later than 1 s",
            "Burning the month's 1 %: the lines are where ObjectionsPublishedLate pages, of 6 h "
            "and of 1 h.",
            [
                Query(f"{late}5m", "{{topic}}, 5 min"),
                Query(f"{late}1h", "{{topic}}, 1 h"),
                Query(f"{late}6h", "{{topic}}, 6 h"),
            ],
            unit="percentunit",
            steps=from_good(warn=limits.BURNS[1].ratio, bad=limits.BURNS[0].ratio),
            width=7,
        ),
        Panel(
            "timeseries",
            "Records by input and outcome",
            "What was applied, what changed nothing, and dead letters.",
            [
                Query(
                    f"sum by (topic, outcome) (rate(objections_events_total[{EVERY}])) > 0",
                    "{{topic}} {{outcome}}",
                )
            ],
            unit="cps",
            width=12,
        ),
        Panel(
            "timeseries",
            "Transactions by outcome",
            "Aborted: Kafka refused, all of it is done again.  Fenced: the partitions had moved.",
            [
                Query(
                    f"sum by (outcome) (rate(objections_transactions_total[{EVERY}]))",
                    "{{outcome}}",
                )
            ],
            unit="cps",
            width=12,
        ),
    ]


def partitions() -> list[Panel]:
    """Return what waits where, and who has it."""
    return [
        Panel(
            "timeseries",
            "Oldest record not published, by input and partition",
            "As the monitor says, or else the worker; those above 1 s.",
            [
                Query(
                    f"({oldest()}) > {limits.PUBLISHED_S:g}",
                    "{{topic}}/{{partition}}",
                )
            ],
            unit="s",
            steps=from_good(warn=limits.PUBLISHED_S, bad=limits.OBJECTION_STALLED_S),
            width=9,
            no_value="nothing waits",
        ),
        Panel(
            "timeseries",
            "Records behind, by input and partition",
            "End offset minus position, where it is not 0.",
            [
                Query(
                    "max by (topic, partition) (objections_consumer_lag_records) > 0",
                    "{{topic}}/{{partition}}",
                )
            ],
            width=8,
            no_value="nothing is behind",
        ),
        Panel(
            "timeseries",
            "Partitions by worker",
            "Serving, and still being restored.  Their sum is the number of partitions, or "
            "somebody is missing.",
            [
                Query(
                    "sum by (instance, state) (objections_partitions) > 0", "{{instance}} {{state}}"
                )
            ],
            width=7,
            stacked=True,
        ),
        Panel(
            "table",
            "Who has which partition",
            "As workers say; a partition may be told of twice for a moment while it moves.",
            [Query(f"max by (partition, instance) ({OLDEST}{{{W},{OBJECTIONS}}})")],
            unit="s",
            steps=from_good(warn=limits.PUBLISHED_S, bad=limits.OBJECTION_STALLED_S),
            width=12,
            no_value="no worker",
            columns={
                "partition": "partition",
                "instance": "worker",
                "Value": "oldest objection waits",
            },
        ),
        Panel(
            "timeseries",
            "Workers that tell of a partition",
            "1 is right.  0 is ObjectionsPartitionUnowned, here a gap.",
            [
                Query(
                    f"count by (topic, partition) ({OLDEST}{{{W},{OBJECTIONS}}})",
                    "{{topic}}/{{partition}}",
                )
            ],
            width=12,
        ),
    ]


def waiting() -> list[Panel]:
    """Return fan-outs, timers and a new policy's users."""
    return [
        Panel(
            "timeseries",
            "Fan-outs: items still to be answered",
            "After a decision on their user changed.  It falls to 0; tombstones go first.",
            [
                Query(
                    "sum by (partition) (objections_fanout_pending_items) > 0",
                    "partition {{partition}}",
                )
            ],
            stacked=True,
            no_value="no fan-out",
        ),
        Panel(
            "timeseries",
            "Clock: the oldest timer that is overdue",
            "Birthdays and notice windows.  Many at once take their time: what they allow goes at "
            "a limited rate.",
            [
                Query(
                    "max by (partition) (objections_clock_overdue_seconds) > 0",
                    "partition {{partition}}",
                )
            ],
            unit="s",
            steps=from_good(warn=60, bad=limits.CLOCK_OVERDUE_S),
            no_value="none is overdue",
        ),
        Panel(
            "timeseries",
            "Policy: users still to be decided again",
            "After a worker was started with a new policy; no more than 20,000 are counted.",
            [
                Query(
                    "sum by (partition) (objections_policy_pending_users) > 0",
                    "partition {{partition}}",
                )
            ],
            stacked=True,
            no_value="none",
        ),
    ]

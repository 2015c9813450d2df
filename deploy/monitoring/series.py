"""What rules and panels look for: selectors, and expressions that both use."""

from typing import Final

from deploy.monitoring import limits

W: Final = f'job="{limits.WORKER_JOB}"'
M: Final = f'job="{limits.MONITOR_JOB}"'
C: Final = f'job="{limits.CANARY_JOB}"'
F: Final = f'job="{limits.INTAKE_JOB}"'
ANY: Final = (
    f'job=~"{limits.WORKER_JOB}|{limits.MONITOR_JOB}|{limits.CANARY_JOB}|{limits.INTAKE_JOB}"'
)

OBJECTIONS: Final = 'topic=~".*objections"'  # with whatever prefix; among inputs there is one such
OTHERS: Final = 'topic!~".*objections"'
GRANTS: Final = 'kind="record",topic=~".*training-(users|content)"'

OLDEST: Final = "objections_oldest_unpropagated_seconds"
OWED: Final = "objections_oldest_unacknowledged_seconds"
HELD: Final = "objections_grants_held_users"
SEEN: Final = f"objections_consumer_lag_records{{{M},{OBJECTIONS}}}"  # by the monitor

EVERY: Final = "$__rate_interval"  # Grafana's own: four scrapes at least


def oldest(matchers: str = "") -> str:
    """
    Return the PromQL of the age of the oldest record not published, by topic and partition.

    The monitor's word counts; a worker's only where the monitor says nothing, since of a partition
    that it is restoring a worker knows no more than since when it has it.
    """
    of_job = (",".join(filter(None, (job, matchers))) for job in (M, W))
    return " or ".join(f"max by (topic, partition) ({OLDEST}{{{each}}})" for each in of_job)


def quantile(share: float, metric: str, matchers: str, by: str = "") -> str:
    """Return the PromQL of a quantile of a histogram's recent course, by a label."""
    labels = f"le, {by}" if by else "le"
    rate = f"rate({metric}_bucket{{{matchers}}}[{EVERY}])"
    return f"histogram_quantile({share}, sum by ({labels}) ({rate}))"


def seconds_le(bound_ms: int) -> str:
    """Return how a bucket's bound is written in the label `le`."""
    return str(bound_ms / 1000)

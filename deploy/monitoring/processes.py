"""What runs, as processes: restores, resources, whether they are reached."""

from deploy.monitoring import limits
from deploy.monitoring.panels import Panel, Query, from_bad, from_good
from deploy.monitoring.series import (
    ANY,
    EVERY,
    M,
)


def restores() -> list[Panel]:
    """Return how often state is restored, and how long it takes."""
    return [
        Panel(
            "timeseries",
            "Restores begun and finished, per 10 minutes",
            "One for each time a worker is given partitions.  Begun again and again is a loop.",
            [
                Query(
                    "sum by (instance, outcome) (increase(objections_restores_total[10m]))",
                    "{{instance}} {{outcome}}",
                )
            ],
        ),
        Panel(
            "timeseries",
            "Rows read back",
            "From the changelogs; counted when a restore ends.",
            [
                Query(
                    f"sum by (instance) (increase(objections_restored_rows_total[{EVERY}]))",
                    "{{instance}}",
                )
            ],
        ),
        Panel(
            "timeseries",
            "How long the latest restore took",
            "Its partitions stood still meanwhile.",
            [Query("objections_restore_seconds", "{{instance}}")],
            unit="s",
        ),
    ]


def processes() -> list[Panel]:
    """Return processor, memory, files, and who is reached."""
    return [
        Panel(
            "timeseries",
            "Processor",
            "1 is a whole core; a worker's own work has one at most.",
            [Query(f"rate(process_cpu_seconds_total{{{ANY}}}[{EVERY}])", "{{job}} {{instance}}")],
            steps=from_good(warn=0.8, bad=1),
            width=6,
            decimals=2,
        ),
        Panel(
            "timeseries",
            "Memory",
            "Resident, RocksDB's block cache included.",
            [Query(f"process_resident_memory_bytes{{{ANY}}}", "{{job}} {{instance}}")],
            unit="bytes",
            width=6,
        ),
        Panel(
            "timeseries",
            "Open files, of those allowed",
            "RocksDB holds many, for each partition.",
            [
                Query(
                    f"process_open_fds{{{ANY}}} / process_max_fds{{{ANY}}}",
                    "{{job}} {{instance}}",
                )
            ],
            unit="percentunit",
            steps=from_good(warn=0.7, bad=0.9),
            width=6,
        ),
        Panel(
            "timeseries",
            "Time since start",
            "A saw is a process that ends again and again.",
            [Query(f"time() - process_start_time_seconds{{{ANY}}}", "{{job}} {{instance}}")],
            unit="s",
            width=6,
        ),
        Panel(
            "stat",
            "Reached by Prometheus",
            "1: yes, 0: no.",
            [Query(f"up{{{ANY}}}", "{{job}} {{instance}}")],
            steps=from_bad(warn=1, good=1),
            width=8,
            height=6,
            no_value="nobody",
            names=True,
        ),
        Panel(
            "stat",
            "Kafka tells the monitor all it asks",
            "1: yes, 0: no, and what was known then ages on.",
            [Query(f"objections_monitor_up{{{M}}}", "{{instance}}")],
            steps=from_bad(warn=1, good=1),
            width=4,
            height=6,
            no_value="no monitor",
        ),
        Panel(
            "stat",
            "Monitor's last look",
            "How long ago Kafka told it everything.",
            [Query(f"objections_monitor_look_age_seconds{{{M}}}", "{{instance}}")],
            unit="s",
            steps=from_good(warn=10, bad=limits.LOOK_AGE_S),
            width=6,
            height=6,
            no_value="no monitor",
        ),
        Panel(
            "stat",
            "Partitions whose fan-outs the monitor knows",
            "All of them, once it has read the changelogs.",
            [Query(f"objections_monitor_partitions_read{{{M}}}", "{{instance}}")],
            width=6,
            height=6,
            no_value="no monitor",
        ),
    ]

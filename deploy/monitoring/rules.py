"""
Recording and alerting rules as data: plain PromQL, thresholds from `limits`.

Every alert has a section of its name in RUNBOOK.md, to which its link is computed.
`critical` wakes somebody, `warning` waits for the morning.
"""

from typing import Any, Final

from deploy.monitoring import form, limits
from deploy.monitoring.limits import BURNS, LONG_WINDOWS, WINDOWS
from deploy.monitoring.rule import Rule, alert, record
from deploy.monitoring.series import (
    GRANTS,
    HELD,
    OBJECTIONS,
    OLDEST,
    OTHERS,
    OWED,
    SEEN,
    C,
    M,
    W,
    oldest,
    seconds_le,
)

RUNBOOK: Final = "deploy/monitoring/RUNBOOK.md"

Group = dict[str, Any]


def rules(runbook: str = RUNBOOK) -> dict[str, list[Group]]:
    """
    Return the rule file; *runbook* is put before `#alertname` in each alert's link.

    Groups are evaluated side by side, so what an alert is judged by is recorded in its own group;
    only the long windows look at two shares of another, which move slowly.
    """
    groups = [
        _group("objections-promise", [*_promise(long=False), *_promise_alerts(long=False)]),
        _group(
            "objections-promise-long", [*_promise(long=True), *_promise_alerts(long=True)], "2m"
        ),
        _group("objections-grants", _grants()),
        _group("objections-propagation", _propagation()),
        _group("objections-absent", _absent()),
        _group("objections-stores", _stores()),
        _group("objections-canary", _canary()),
        _group("objections-intake", form.rules()),
        _group("objections-state", _state()),
    ]
    for group in groups:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["annotations"]["runbook_url"] = f"{runbook}#{slug(rule['alert'])}"
    return {"groups": groups}


def slug(heading: str) -> str:
    """Return the anchor that a heading of one word has in rendered Markdown."""
    return heading.lower()


def _group(name: str, rules_of_group: list[Rule], interval: str | None = None) -> Group:
    every = {} if interval is None else {"interval": interval}
    return {"name": name, **every, "rules": rules_of_group}


def _selectors() -> list[tuple[str, str, str, str, int]]:
    """Return name, label, metric, matchers and the limit in ms of each promise."""
    return [
        (
            "published_late",
            "topic",
            "objections_propagation_seconds",
            f'stage="published",{OBJECTIONS}',
            limits.PUBLISHED_WITHIN_MS,
        ),
        (
            "hidden_late",
            "store",
            "objections_store_propagation_seconds",
            'phase="hidden"',
            limits.HIDDEN_WITHIN_MS,
        ),
    ]


def _promise(*, long: bool) -> list[Rule]:
    """Return the shares that were late, by window; the number too where a page needs it."""
    found = []
    for name, label, metric, matchers, limit_ms in _selectors():
        le = f'le="{seconds_le(limit_ms)}"'
        for window in WINDOWS:
            if (window in LONG_WINDOWS) != long:
                continue
            ratio = f"""
                1 - (
                  sum by ({label}) (rate({metric}_bucket{{{matchers},{le}}}[{window}]))
                  /
                  sum by ({label}) (rate({metric}_count{{{matchers}}}[{window}]))
                )
            """
            found.append(record(f"objections:{name}:ratio{window}", ratio))
            if any(burn.long == window and burn.severity == "critical" for burn in BURNS):
                number = f"""
                    sum by ({label}) (increase({metric}_count{{{matchers}}}[{window}]))
                    -
                    sum by ({label}) (increase({metric}_bucket{{{matchers},{le}}}[{window}]))
                """
                found.append(record(f"objections:{name}:records{window}", number))
    return found


def _promise_alerts(*, long: bool) -> list[Rule]:
    told = {
        "published_late": (
            "PublishedLate",
            "{{ $value | humanizePercentage }} of {{ $labels.topic }} took over 1 s to be "
            "published, over %(long)s",
        ),
        "hidden_late": (
            "HiddenLate",
            "{{ $value | humanizePercentage }} of purges took over 5 s to be hidden in store "
            "{{ $labels.store }}, over %(long)s",
        ),
    }
    found = []
    for recorded, (name, summary) in told.items():
        for burn in BURNS:
            if (burn.long in LONG_WINDOWS) != long:
                continue
            expr = (
                f"objections:{recorded}:ratio{burn.long} > {burn.ratio}\n"
                f"and objections:{recorded}:ratio{burn.short} > {burn.ratio}"
            )
            if burn.severity == "critical":
                number = f"objections:{recorded}:records{burn.long}"
                expr += f"\nand round({number}) >= {limits.LATE_RECORDS_MIN}"
            found.append(
                alert(
                    name,
                    burn.severity,
                    expr,
                    "2m" if burn.severity == "critical" else "15m",
                    summary % {"long": burn.long},
                    f"At this rate: {burn.what}. Promised are 99 % in time.",
                )
            )
            found[-1]["labels"]["window"] = burn.long
    return found


def _grants() -> list[Rule]:
    window, usual = limits.GRANTS_WINDOW, limits.GRANTS_USUAL
    now, before = f"objections:granted:rate{window}", f"objections:granted_usual:rate{usual}"
    return [
        record(
            now,
            f"sum by (topic) (rate(objections_published_total{{{GRANTS}}}[{window}]))",
        ),
        record(
            before,
            f"""
            quantile_over_time(0.95, {now}[{usual}] offset 30m)
            or {now} * 0
            """,
        ),
        alert(
            "GrantsUnusual",
            "critical",
            f"""
            {now} > {limits.GRANTS_FACTOR} * {before}
            and {now} >= {limits.GRANTS_FLOOR_PER_S}
            """,
            "5m",
            "{{ $labels.topic }} allows {{ $value | humanize }} a second, far beyond the usual",
            f"More than {limits.GRANTS_FACTOR} times what 95 % of the last {usual} stayed below. "
            "A wrong policy file or a broken age feed looks like this.",
        ),
        alert(
            "GrantsHeld",
            "critical",
            f"max by (partition) ({HELD}) > 0",
            limits.GRANTS_HELD_FOR,
            "Partition {{ $labels.partition }} allows nothing more: {{ $value }} users wait",
            "More users than its limit would have been allowed again within the window. Purges go "
            "on; grants wait until somebody has looked and released them.",
        ),
    ]


def _propagation() -> list[Rule]:
    known = "objections:oldest_unpropagated_seconds:max"
    return [
        record(known, oldest()),
        # A worker tells of all partitions it was given, also while it restores them.
        record(
            "objections:partition_owners:count",
            f"count by (topic, partition) ({OLDEST}{{{W}}})",
        ),
        alert(
            "Stalled",
            "critical",
            f"{known}{{{OBJECTIONS}}} > {limits.OBJECTION_STALLED_S}",
            "2m",
            "{{ $labels.topic }}/{{ $labels.partition }} holds an objection that has waited "
            "{{ $value | humanizeDuration }}",
            "Nothing that it covers is certain to be purged from any store.",
        ),
        alert(
            "InputStalled",
            "warning",
            f"{known}{{{OTHERS}}} > {limits.INPUT_STALLED_S}",
            "5m",
            "{{ $labels.topic }}/{{ $labels.partition }} has waited "
            "{{ $value | humanizeDuration }}",
            "Ages, notices or content, deletions among them, are not acted upon.",
        ),
        alert(
            "PartitionUnowned",
            "critical",
            f"""
            max by (topic, partition) ({SEEN})
            unless objections:partition_owners:count
            """,
            limits.UNOWNED_FOR,
            "No worker has {{ $labels.topic }}/{{ $labels.partition }}",
            "{{ $value }} objections wait there. The monitor sees the partition, and no worker "
            "that Prometheus reaches tells of it.",
        ),
        alert(
            "ClockOverdue",
            "warning",
            f"""
            max by (partition) (objections_clock_overdue_seconds) > {limits.CLOCK_OVERDUE_S}
            unless max by (partition) ({HELD}) > 0
            """,
            "5m",
            "Timers of partition {{ $labels.partition }} are late by "
            "{{ $value | humanizeDuration }}",
            "Birthdays and ends of notice windows do not change decisions in time.",
        ),
    ]


def _absent() -> list[Rule]:
    return [
        alert(
            "WorkerAbsent",
            "critical",
            f"absent(objections_propagation_seconds_count{{{W}}})",
            limits.ABSENT_FOR,
            "No worker tells of itself",
            "Either none runs, or Prometheus reaches none: every objection waits, or nobody knows.",
        ),
        alert(
            "MonitorAbsent",
            "critical",
            f"absent(objections_monitor_up{{{M}}})",
            limits.ABSENT_FOR,
            "No `objections monitor` tells of itself",
            "Partitions without a worker are seen by it alone: a stall there would go unnoticed.",
        ),
        alert(
            "MonitorBlind",
            "critical",
            f"""
            objections_monitor_up{{{M}}} == 0
            or objections_monitor_look_age_seconds{{{M}}} > {limits.LOOK_AGE_S}
            """,
            "2m",
            "Kafka does not tell the monitor {{ $labels.instance }} what it asks",
            "Kafka is away, or refuses the monitor; workers are likely to stand still as well.",
        ),
        alert(
            "TargetDown",
            "warning",
            f'up{{job=~"{limits.WORKER_JOB}|{limits.MONITOR_JOB}|{limits.INTAKE_JOB}"}} == 0',
            "5m",
            "{{ $labels.instance }} ({{ $labels.job }}) cannot be scraped",
            "One process of several is gone, frozen, or not reached.",
        ),
        alert(
            "StoresNotMeasured",
            "warning",
            f"""
            (
              absent(objections_oldest_unacknowledged_seconds{{{M}}})
              and on () count(objections_monitor_up{{{M}}})
            )
            or
            (
              absent(objections_store_propagation_seconds_count{{{W}}})
              and on () count(objections_propagation_seconds_count{{{W}}})
            )
            """,
            "10m",
            "{{ $labels.job }} tells of no data store",
            "OBJECTIONS_STORES is not set there, or acknowledgements are not read: no receipt and "
            "no alert tells whether a store purges.",
        ),
    ]


def _stores() -> list[Rule]:
    known = "objections:oldest_unacknowledged_seconds:max"
    return [
        record(known, f"max by (store, phase) ({OWED})"),
        alert(
            "StoreLate",
            "critical",
            f'{known}{{phase="hidden"}} > {limits.STORE_LATE_S}',
            "2m",
            "Store {{ $labels.store }} has not hidden what was published "
            "{{ $value | humanizeDuration }} ago",
            "Its readers may still be given what people have objected to.",
        ),
        alert(
            "ErasureLate",
            "warning",
            f'{known}{{phase="erased"}} > {limits.ERASURE_LATE_S}',
            "10m",
            "Store {{ $labels.store }} has not erased what was published "
            "{{ $value | humanizeDuration }} ago",
            "No query returns it, but its bytes are still there.",
        ),
        alert(
            "StoreWentBack",
            "critical",
            "sum by (store) (increase("
            f"objections_store_regressions_total[{limits.WENT_BACK_WINDOW}])) > 0",
            "0m",
            "Store {{ $labels.store }} went back to an earlier state",
            "It was restored from a backup: what was purged since then is in it again.",
        ),
        alert(
            "AcknowledgementsRefused",
            "warning",
            "sum by (store) (increase("
            f"objections_acknowledgements_refused_total[{limits.WENT_BACK_WINDOW}])) > 0",
            "0m",
            "Store {{ $labels.store }} acknowledges what there is not",
            "Such acknowledgements do not count: it follows another cluster's topics, or counts "
            "wrongly.",
        ),
    ]


def _canary() -> list[Rule]:
    turns = f'objections_canary_turns_total{{{C},outcome="hidden"}}'
    return [
        alert(
            "CanaryLate",
            "critical",
            f"max by (store) (objections_canary_waiting_seconds{{{C}}}) > {limits.STORE_LATE_S}",
            "1m",
            "Store {{ $labels.store }} has not hidden what the canary filed "
            "{{ $value | humanizeDuration }} ago",
            "Nobody's objection gets there, in one partition at the least.",
        ),
        alert(
            "CanaryAbsent",
            "warning",
            f"""
            up{{{C}}} == 0
            or
            sum by (job) (increase({turns}[{limits.CANARY_WINDOW}])) == 0
            """,
            "5m",
            f"The canary has come through nowhere for {limits.CANARY_WINDOW}",
            "It is not there, its account is not allowed, or a store does not hide it: at quiet "
            "hours nobody would notice a store that no longer purges.",
        ),
    ]


def _state() -> list[Rule]:
    window = limits.RESTART_WINDOW
    begun = f'objections_restores_total{{{W},outcome="begun"}}'
    return [
        alert(
            "Unreadable",
            "critical",
            'sum by (topic) (increase(objections_events_total{outcome="dead_letter",'
            f"{OBJECTIONS}}}[{limits.UNREADABLE_WINDOW}])) > 0",
            "0m",
            "An objection in {{ $labels.topic }} could not be read",
            "Where it names no user, nobody is protected by it until it is mended.",
        ),
        alert(
            "DeadLettersOpen",
            "warning",
            "sum by (topic) (objections_dead_letters_open) > 0",
            limits.DEAD_LETTERS_FOR,
            "{{ $value }} dead letters of {{ $labels.topic }} are open",
            "Each keeps a user or an item from being used until it is mended or dismissed.",
        ),
        alert(
            "RestoreLoop",
            "critical",
            f"""
            round(increase({begun}[{window}])) >= {limits.RESTARTS_MIN}
            or changes(process_start_time_seconds{{{W}}}[{window}]) >= {limits.RESTARTS_MIN}
            """,
            limits.RESTARTS_FOR,
            "{{ $labels.instance }} restores its state over and over",
            "It is expelled from the group or ends again and again: its partitions stand still "
            "meanwhile.",
        ),
        alert(
            "RestoreUnfinished",
            "warning",
            f'objections_partitions{{{W},state="restoring"}} > 0',
            limits.RESTORE_UNFINISHED_FOR,
            "{{ $labels.instance }} has been restoring {{ $value }} partitions for half an hour",
            "Their objections wait until it has ended.",
        ),
    ]

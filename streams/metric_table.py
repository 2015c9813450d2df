"""
Every metric of the worker, the monitor and the canary, declared once: the table people look up.

The numbers behind them are of `streams.metrics`.  Source: contract.md, "Metrics".
"""

from dataclasses import dataclass
from typing import Final, Literal

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's public face; topic labels hold the full name, with its prefix."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: Labels
    unit: str
    meaning: str


PROPAGATION = Metric(
    "objections_propagation_seconds",
    "histogram",
    ("stage", "topic"),
    "seconds",
    "From the input's broker time stamp until it is decided, and until the transaction with the "
    "last output it caused is committed (published).",
)
OLDEST_UNPROPAGATED = Metric(
    "objections_oldest_unpropagated_seconds",
    "gauge",
    ("topic", "partition"),
    "seconds",
    "Age of the oldest input record, fetched or not, whose outputs are not all published; "
    "0 when none.",
)
EVENTS = Metric(
    "objections_events_total",
    "counter",
    ("topic", "outcome"),
    "records",
    "Input records that were applied, changed nothing, or became a dead letter.",
)
PUBLISHED = Metric(
    "objections_published_total",
    "counter",
    ("topic", "kind"),
    "records",
    "Output records and tombstones in committed transactions.",
)
TRANSACTIONS = Metric(
    "objections_transactions_total",
    "counter",
    ("outcome",),
    "transactions",
    "Transactions that were committed, rolled back, or refused since the partitions had moved.",
)
CONSUMER_LAG = Metric(
    "objections_consumer_lag_records",
    "gauge",
    ("topic", "partition"),
    "records",
    "End offset of the input minus the position read to.",
)
FANOUT_PENDING = Metric(
    "objections_fanout_pending_items",
    "gauge",
    ("partition",),
    "items",
    "Items still to be answered again after their user's decision changed.",
)
CLOCK_OVERDUE = Metric(
    "objections_clock_overdue_seconds",
    "gauge",
    ("partition",),
    "seconds",
    "How late the oldest timer is that is due and has not fired; 0 when none.",
)
POLICY_PENDING = Metric(
    "objections_policy_pending_users",
    "gauge",
    ("partition",),
    "users",
    "Users still to be decided again by a new policy; no more than 20,000 are counted.",
)
GRANTS_HELD = Metric(
    "objections_grants_held_users",
    "gauge",
    ("partition",),
    "users",
    "Users whose grants are held until the breaker on re-inclusion is released, at the least 1; "
    "0 while it has not tripped. No more than 20,000 are counted.",
)
DEAD_LETTERS_OPEN = Metric(
    "objections_dead_letters_open",
    "gauge",
    ("topic",),
    "records",
    "Unresolved dead letters of this worker's partitions: those that stand against a user or an "
    "item until they are mended or dismissed. One that restricts nobody (a notice, no valid key, "
    "no readable content_id) is not among them; `dead-letters list` shows it.",
)
RESTORED_ROWS = Metric(
    "objections_restored_rows_total",
    "counter",
    (),
    "rows",
    "Rows of state read back from the changelogs.",
)
RESTORE = Metric(
    "objections_restore_seconds",
    "gauge",
    (),
    "seconds",
    "How long the latest restore of state took; 0 before the first.",
)
RESTORES = Metric(
    "objections_restores_total",
    "counter",
    ("outcome",),
    "restores",
    "Restores of all partitions of an assignment: begun, and finished; others were cut short by "
    "the next assignment.",
)
PARTITIONS = Metric(
    "objections_partitions",
    "gauge",
    ("state",),
    "partitions",
    "Partitions the group has given to this worker: serving, or restoring as yet.",
)
STANDBY_LAG = Metric(
    "objections_standby_lag_rows",
    "gauge",
    ("partition",),
    "rows",
    "Rows of state that this worker's warm copy of another's partition lacks; a series for each "
    "copy, none where OBJECTIONS_STANDBY is off.",
)

STORE_PROPAGATION = Metric(
    "objections_store_propagation_seconds",
    "histogram",
    ("store", "phase"),
    "seconds",
    "From the input's broker time stamp to the store's acknowledgement, purges only.",
)
OLDEST_UNACKNOWLEDGED = Metric(
    "objections_oldest_unacknowledged_seconds",
    "gauge",
    ("store", "phase"),
    "seconds",
    "Age of the oldest output the store has not acknowledged; 0 when none.",
)
STORE_REGRESSIONS = Metric(
    "objections_store_regressions_total",
    "counter",
    ("store",),
    "acknowledgements",
    "Acknowledgements that went back: the store was restored from a backup.",
)
ACKNOWLEDGEMENTS_REFUSED = Metric(
    "objections_acknowledgements_refused_total",
    "counter",
    ("store",),
    "acknowledgements",
    "Acknowledgements above the end of the output they are of: they do not count.",
)

METRICS: Final = (
    PROPAGATION, OLDEST_UNPROPAGATED, EVENTS, PUBLISHED, TRANSACTIONS, CONSUMER_LAG,
    FANOUT_PENDING, CLOCK_OVERDUE, POLICY_PENDING, GRANTS_HELD, DEAD_LETTERS_OPEN,
    RESTORED_ROWS, RESTORE, RESTORES, STANDBY_LAG, PARTITIONS,
    STORE_PROPAGATION, OLDEST_UNACKNOWLEDGED, STORE_REGRESSIONS, ACKNOWLEDGEMENTS_REFUSED,
)  # fmt: skip

# What `objections monitor` tells of itself, beside the lag and the ages above.
MONITOR_UP = Metric(
    "objections_monitor_up",
    "gauge",
    (),
    "",
    "1 while Kafka tells the monitor all that it asks; 0 otherwise: what was known then ages on.",
)
MONITOR_LOOK_AGE = Metric(
    "objections_monitor_look_age_seconds",
    "gauge",
    (),
    "seconds",
    "How long ago Kafka last told the monitor all that it asked; absent before it did.",
)
MONITOR_PARTITIONS_READ = Metric(
    "objections_monitor_partitions_read",
    "gauge",
    (),
    "partitions",
    "Partitions of which all fan-outs are known: whose changelog has been read to its end.",
)

MONITOR_METRICS: Final = (
    OLDEST_UNPROPAGATED, CONSUMER_LAG, OLDEST_UNACKNOWLEDGED,
    MONITOR_UP, MONITOR_LOOK_AGE, MONITOR_PARTITIONS_READ,
)  # fmt: skip


# What `objections canary` tells.
CANARY_PUBLISHED = Metric(
    "objections_canary_published_seconds",
    "histogram",
    (),
    "seconds",
    "From the filing of the canary's objection until its tombstones are published.",
)
CANARY_HIDDEN = Metric(
    "objections_canary_hidden_seconds",
    "histogram",
    ("store",),
    "seconds",
    "From the filing of the canary's objection until the store has acknowledged that it is hidden.",
)
CANARY_WAITING = Metric(
    "objections_canary_waiting_seconds",
    "gauge",
    ("store",),
    "seconds",
    "How long ago the canary's objection was filed that the store has not hidden; 0 when it has.",
)
CANARY_ERASED = Metric(
    "objections_canary_erased_seconds",
    "histogram",
    ("store",),
    "seconds",
    "From the filing of the canary's objection until the store has acknowledged that it is erased; "
    "of each store and partition one at a time.",
)
CANARY_UNERASED = Metric(
    "objections_canary_unerased_seconds",
    "gauge",
    ("store",),
    "seconds",
    "How long ago the oldest of the canary's objections was filed that the store has hidden and "
    "not erased, among those that are followed; 0 when there is none.",
)
CANARY_TURNS = Metric(
    "objections_canary_turns_total",
    "counter",
    ("outcome",),
    "turns",
    "Turns of the canary: hidden in every store, or its account was not allowed to begin with.",
)

CANARY_METRICS: Final = (
    CANARY_PUBLISHED,
    CANARY_HIDDEN,
    CANARY_WAITING,
    CANARY_ERASED,
    CANARY_UNERASED,
    CANARY_TURNS,
)

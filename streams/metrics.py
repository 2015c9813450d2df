"""
Every metric of a worker, declared once; the numbers behind them, and their Prometheus text.

`METRICS` is the table people look up, and the collector is built from it.
Counters and histograms are fed in whole batches by the event loop and the transaction's thread.
Gauges are asked of the worker at each scrape, so they are never older than the answer.
No clock here: whoever knows the time hands it in.  Source: contract.md, "Metrics".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final, Literal, Protocol, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from streams.latencies import BOUNDS_MS, Latencies

Stage = Literal["decided", "published"]
EventOutcome = Literal["applied", "unchanged", "dead_letter"]
OutputKind = Literal["record", "tombstone"]
TransactionOutcome = Literal["committed", "aborted", "fenced"]
RestoreOutcome = Literal["begun", "finished"]

Labels = tuple[str, ...]
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

_LE: Final = (*(str(bound_ms / 1000) for bound_ms in BOUNDS_MS), "+Inf")

# What generate_latest writes: the text format every version of Prometheus reads.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


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


class Gauges(Protocol):
    """What is asked at each scrape; seconds, records and items as the methods' metrics say."""

    def oldest_unpropagated(self) -> Mapping[tuple[str, int], float]: ...
    def lag(self) -> Mapping[tuple[str, int], int]: ...
    def fanout_pending(self) -> Mapping[int, int]: ...
    def clock_overdue(self) -> Mapping[int, float]: ...
    def policy_pending(self) -> Mapping[int, int]: ...
    def grants_held(self) -> Mapping[int, int]: ...
    def oldest_unacknowledged(self) -> Mapping[tuple[str, str], float]: ...
    def dead_letters_open(self) -> Mapping[str, int]: ...
    def standby_lag(self) -> Mapping[int, int]: ...
    def partition_states(self) -> Mapping[str, int]: ...


class Exposition(Collector):
    """The numbers of one process, in a registry of their own; subclasses collect them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return all metrics as CONTENT_TYPE says; call it where what they tell may be read."""
        return generate_latest(self._registry)


class Metrics(Exposition):
    """
    The numbers of one worker.

    inputs, outputs: full topic names whose series exist from the start with 0, so that `rate`
    sees their first event and `absent` means that the worker is gone.
    stores: the phases that each store acknowledges, whose series exist from the start as well.
    """

    def __init__(
        self,
        inputs: Iterable[str],
        outputs: Iterable[str] = (),
        stores: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        inputs, stores = tuple(inputs), stores or {}
        self._lock = Lock()  # Held for a few microseconds: never while a gauge is asked.
        self._source: Gauges | None = None
        self._restore_s = 0.0
        self._latencies: dict[Metric, dict[Labels, Latencies]] = {
            PROPAGATION: {
                (stage, topic): Latencies() for stage in get_args(Stage) for topic in inputs
            },
            STORE_PROPAGATION: {
                (name, phase): Latencies() for name, phases in stores.items() for phase in phases
            },
        }
        self._counts: dict[Metric, dict[Labels, int]] = {
            EVENTS: {(topic, each): 0 for topic in inputs for each in get_args(EventOutcome)},
            PUBLISHED: {(topic, each): 0 for topic in outputs for each in get_args(OutputKind)},
            TRANSACTIONS: {(each,): 0 for each in get_args(TransactionOutcome)},
            RESTORED_ROWS: {(): 0},
            RESTORES: {(each,): 0 for each in get_args(RestoreOutcome)},
            STORE_REGRESSIONS: {(name,): 0 for name in stores},
            ACKNOWLEDGEMENTS_REFUSED: {(name,): 0 for name in stores},
        }
        super().__init__()

    def watch(self, source: Gauges) -> None:
        """Ask *source* for the gauges from now on; until then they have no series."""
        self._source = source

    def decided(self, topic: str, received_ms: Sequence[int], now_ms: int) -> None:
        """Records with these broker time stamps have been folded at *now_ms*."""
        self._observe("decided", topic, received_ms, now_ms)

    def published(self, topic: str, received_ms: Sequence[int], now_ms: int) -> None:
        """All that records with these broker time stamps caused is committed at *now_ms*."""
        self._observe("published", topic, received_ms, now_ms)

    def events(
        self, topic: str, applied: int = 0, unchanged: int = 0, dead_letter: int = 0
    ) -> None:
        """Count what became of records of *topic*."""
        counts: dict[EventOutcome, int] = {
            "applied": applied,
            "unchanged": unchanged,
            "dead_letter": dead_letter,
        }
        self._count(EVENTS, {(topic, outcome): count for outcome, count in counts.items()})

    def outputs(self, topic: str, records: int = 0, tombstones: int = 0) -> None:
        """Count what was published on *topic*."""
        counts: dict[OutputKind, int] = {"record": records, "tombstone": tombstones}
        self._count(PUBLISHED, {(topic, kind): count for kind, count in counts.items()})

    def transaction(self, outcome: TransactionOutcome) -> None:
        """Count a transaction that has ended."""
        self._count(TRANSACTIONS, {(outcome,): 1})

    def restore_begun(self) -> None:
        """Count a restore that begins."""
        self._count(RESTORES, {("begun",): 1})

    def restored(self, rows: int, seconds: float) -> None:
        """Count a restore that has ended."""
        self._count(RESTORES, {("finished",): 1})
        self._count(RESTORED_ROWS, {(): rows})
        self._restore_s = seconds

    def store_propagation(
        self, store: str, phase: str, purges: Iterable[tuple[int, int]], at_ms: int
    ) -> None:
        """Purges have been acknowledged at *at_ms*: their causes' time stamps, and how many."""
        with self._lock:
            latencies = self._latencies[STORE_PROPAGATION].setdefault((store, phase), Latencies())
            for received_ms, count in purges:
                latencies.observe(at_ms - received_ms, count)

    def store_regression(self, store: str) -> None:
        """Count an acknowledgement that went back."""
        self._count(STORE_REGRESSIONS, {(store,): 1})

    def acknowledgement_refused(self, store: str) -> None:
        """Count an acknowledgement of what there is not."""
        self._count(ACKNOWLEDGEMENTS_REFUSED, {(store,): 1})

    def latencies(self) -> dict[tuple[Metric, Labels], list[int]]:
        """Return how many took no longer than each of BOUNDS_MS, and how many there are."""
        with self._lock:
            return {
                (metric, labels): [*each.within, each.count]
                for metric, found in self._latencies.items()
                for labels, each in found.items()
            }

    def transactions(self) -> Mapping[str, int]:
        """Return how many transactions have ended, by outcome."""
        with self._lock:
            return {outcome: count for (outcome,), count in self._counts[TRANSACTIONS].items()}

    def collect(self) -> Iterator[Family]:
        """Yield a family for each of METRICS."""
        gauges = self._gauges()
        for metric in METRICS:
            if metric.type == "histogram":
                with self._lock:
                    family = histogram(metric, self._latencies[metric])
                yield family
            elif metric.type == "counter":
                with self._lock:
                    counts = dict(self._counts[metric])
                yield counter(metric, counts)
            else:
                yield gauge(metric, gauges[metric])

    def _observe(self, stage: Stage, topic: str, received_ms: Sequence[int], now_ms: int) -> None:
        if not received_ms:
            return
        with self._lock:
            latencies = self._latencies[PROPAGATION].setdefault((stage, topic), Latencies())
            latencies.observe_many(received_ms, now_ms)

    def _count(self, metric: Metric, news: Mapping[Labels, int]) -> None:
        with self._lock:
            counts = self._counts[metric]
            for labels, count in news.items():
                counts[labels] = counts.get(labels, 0) + count

    def _gauges(self) -> dict[Metric, dict[Labels, float]]:
        found: dict[Metric, dict[Labels, float]] = {
            metric: {} for metric in METRICS if metric.type == "gauge"
        }
        found[RESTORE] = {(): self._restore_s}
        if self._source is not None:
            found[OLDEST_UNPROPAGATED] = by_place(self._source.oldest_unpropagated())
            found[CONSUMER_LAG] = by_place(self._source.lag())
            found[FANOUT_PENDING] = _by_partition(self._source.fanout_pending())
            found[CLOCK_OVERDUE] = _by_partition(self._source.clock_overdue())
            found[POLICY_PENDING] = _by_partition(self._source.policy_pending())
            found[GRANTS_HELD] = _by_partition(self._source.grants_held())
            found[OLDEST_UNACKNOWLEDGED] = dict(self._source.oldest_unacknowledged().items())
            found[DEAD_LETTERS_OPEN] = {
                (topic,): number for topic, number in self._source.dead_letters_open().items()
            }
            found[STANDBY_LAG] = _by_partition(self._source.standby_lag())
            found[PARTITIONS] = {
                (state,): number for state, number in self._source.partition_states().items()
            }
        return found


def histogram(metric: Metric, found: Mapping[Labels, Latencies]) -> HistogramMetricFamily:
    """Return the family of a histogram, with series for each of *found*."""
    family = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, each in found.items():
        buckets = list(zip(_LE, [*each.within, each.count], strict=True))
        family.add_metric(labels, buckets, sum_value=each.sum_ms / 1000)
    return family


def counter(metric: Metric, values: Mapping[Labels, float]) -> CounterMetricFamily:
    """Return the family of a counter, with a series for each of *values*."""
    family = CounterMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def gauge(metric: Metric, values: Mapping[Labels, float]) -> GaugeMetricFamily:
    """Return the family of a gauge, with a series for each of *values*."""
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def by_place(values: Mapping[tuple[str, int], float]) -> dict[Labels, float]:
    """Return values by their labels topic and partition."""
    return {(topic, str(partition)): value for (topic, partition), value in values.items()}


def _by_partition(values: Mapping[int, float]) -> dict[Labels, float]:
    return {(str(partition),): value for partition, value in values.items()}

"""
The numbers behind a worker's metrics, and their Prometheus text.

`streams.metric_table` declares them; the collector is built from `METRICS` there.
Counters and histograms are fed in whole batches by the event loop and the transaction's thread.
Gauges are asked of the worker at each scrape, so they are never older than the answer.
No clock here: whoever knows the time hands it in.  Source: contract.md, "Metrics".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Final, Literal, Protocol, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from streams.latencies import BOUNDS_MS, Latencies
from streams.metric_table import (
    ACKNOWLEDGEMENTS_REFUSED,
    CLOCK_OVERDUE,
    CONSUMER_LAG,
    DEAD_LETTERS_OPEN,
    EVENTS,
    FANOUT_PENDING,
    GRANTS_HELD,
    METRICS,
    OLDEST_UNACKNOWLEDGED,
    OLDEST_UNPROPAGATED,
    PARTITIONS,
    POLICY_PENDING,
    PROPAGATION,
    PUBLISHED,
    RESTORE,
    RESTORED_ROWS,
    RESTORES,
    STANDBY_LAG,
    STORE_PROPAGATION,
    STORE_REGRESSIONS,
    TRANSACTIONS,
    Labels,
    Metric,
)

Stage = Literal["decided", "published"]
EventOutcome = Literal["applied", "unchanged", "dead_letter"]
OutputKind = Literal["record", "tombstone"]
TransactionOutcome = Literal["committed", "aborted", "fenced"]
RestoreOutcome = Literal["begun", "finished"]

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

_LE: Final = (*(str(bound_ms / 1000) for bound_ms in BOUNDS_MS), "+Inf")

# What generate_latest writes: the text format every version of Prometheus reads.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


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

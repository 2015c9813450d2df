"""What is counted is what is scraped, and counting by batches is counting record by record."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from streams.latencies import BOUNDS_MS, Latencies
from streams.metric_table import DEAD_LETTERS_OPEN, METRICS, Metric
from streams.metrics import Metrics

NOW_MS = 1_760_000_000_000
INPUTS = ("eu.objections", "eu.content")
OUTPUTS = ("eu.eligibility", "eu.training-content")


@dataclass(frozen=True)
class Measured:
    """A worker in which nothing moves."""

    oldest: dict[tuple[str, int], float] = field(default_factory=dict)
    behind: dict[tuple[str, int], int] = field(default_factory=dict)
    pending: dict[int, int] = field(default_factory=dict)
    overdue: dict[int, float] = field(default_factory=dict)

    def oldest_unpropagated(self) -> Mapping[tuple[str, int], float]:
        return self.oldest

    def lag(self) -> Mapping[tuple[str, int], int]:
        return self.behind

    def fanout_pending(self) -> Mapping[int, int]:
        return self.pending

    def clock_overdue(self) -> Mapping[int, float]:
        return self.overdue

    def oldest_unacknowledged(self) -> dict[tuple[str, str], float]:
        return {("index", "hidden"): 2.5}

    def grants_held(self) -> dict[int, int]:
        return {0: 5}

    def policy_pending(self) -> dict[int, int]:
        return {0: 0}

    def dead_letters_open(self) -> dict[str, int]:
        return {"eu.objections": 2}

    def standby_lag(self) -> dict[int, int]:
        return {2: 40}

    def partition_states(self) -> dict[str, int]:
        return {"serving": 3, "restoring": 1}


def scrape(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the value of each series, by its name and labels, as Prometheus reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return the value of one series; KeyError when it is not there."""
    return scrape(metrics)[name, frozenset(labels.items())]


def names(metrics: Metrics) -> set[str]:
    """Return the names of all series of ours."""
    return {name for name, _ in scrape(metrics) if name.startswith("objections_")}


moments_ms = st.one_of(
    st.integers(NOW_MS - 70_000, NOW_MS + 5_000),
    st.sampled_from([NOW_MS - bound_ms + off for bound_ms in BOUNDS_MS for off in (-1, 0, 1)]),
)


@given(st.lists(st.lists(moments_ms, max_size=50), max_size=4))
def test_counting_by_batches_is_counting_record_by_record(batches: list[list[int]]) -> None:
    """
    In any order, with ties, on the bounds, and with clocks ahead of ours, which count as 0.
    """
    latencies = Latencies()

    for batch in batches:
        latencies.observe_many(batch, NOW_MS)

    each_ms = [max(NOW_MS - moment_ms, 0) for batch in batches for moment_ms in batch]
    assert [sum(1 for ms in each_ms if ms <= bound) for bound in BOUNDS_MS] == latencies.within
    assert (len(each_ms), sum(each_ms)) == (latencies.count, latencies.sum_ms)


@given(st.lists(moments_ms))
def test_a_batch_is_left_as_it_was(batch: list[int]) -> None:
    """
    Time stamps are the caller's list, in the caller's order.
    """
    before = list(batch)

    Latencies().observe_many(batch, NOW_MS)

    assert before == batch


def test_the_promise_is_a_bound() -> None:
    """
    "99 % within 1 s" is read off a bucket, not guessed between two; so is the alert's minute.
    """
    assert {1_000, 60_000} <= set(BOUNDS_MS)


def test_propagation_is_a_histogram_in_seconds() -> None:
    """
    The stages are apart; buckets are cumulative and end in all there is.
    """
    metrics = Metrics(INPUTS)

    metrics.decided("eu.objections", [NOW_MS - 3, NOW_MS - 3], NOW_MS)
    metrics.published("eu.objections", [NOW_MS - 40, NOW_MS - 999, NOW_MS - 61_000], NOW_MS)

    labels = {"stage": "published", "topic": "eu.objections"}
    bucket = "objections_propagation_seconds_bucket"
    assert 0 == value(metrics, bucket, le="0.035", **labels)
    assert 1 == value(metrics, bucket, le="0.05", **labels)
    assert 2 == value(metrics, bucket, le="1.0", **labels)
    assert 2 == value(metrics, bucket, le="60.0", **labels)
    assert 3 == value(metrics, bucket, le="+Inf", **labels)
    assert 3 == value(metrics, "objections_propagation_seconds_count", **labels)
    assert 62.039 == value(metrics, "objections_propagation_seconds_sum", **labels)
    labels["stage"] = "decided"
    assert 0.006 == value(metrics, "objections_propagation_seconds_sum", **labels)


def test_known_series_start_at_0() -> None:
    """
    Before anything has happened every counter and histogram is there, and what it counts is 0.
    """
    found = scrape(Metrics(INPUTS, OUTPUTS))

    ours = {key: count for key, count in found.items() if key[0].startswith("objections_")}
    by_name = [name for name, _ in ours]
    assert {0} == set(ours.values())
    assert 2 * 3 == by_name.count("objections_events_total")
    assert 2 * 2 == by_name.count("objections_published_total")
    assert 3 == by_name.count("objections_transactions_total")
    assert 2 * 2 == by_name.count("objections_propagation_seconds_count")
    assert 1 == by_name.count("objections_restored_rows_total")
    assert 1 == by_name.count("objections_restore_seconds")
    assert 2 == by_name.count("objections_restores_total")


def test_counters_add_up() -> None:
    """
    Each call adds to the series its arguments name, and to no other.
    """
    metrics = Metrics(INPUTS, OUTPUTS)

    metrics.events("eu.content", applied=5, dead_letter=1)
    metrics.events("eu.content", applied=2, unchanged=3)
    metrics.outputs("eu.eligibility", records=7)
    metrics.outputs("eu.training-content", records=1, tombstones=2)
    metrics.transaction("committed")
    metrics.transaction("committed")
    metrics.transaction("fenced")
    metrics.restore_begun()
    metrics.restored(1_000, 1.5)
    metrics.restore_begun()
    metrics.restore_begun()
    metrics.restored(500, 0.25)

    content = {"topic": "eu.content"}
    assert 7 == value(metrics, "objections_events_total", outcome="applied", **content)
    assert 3 == value(metrics, "objections_events_total", outcome="unchanged", **content)
    assert 1 == value(metrics, "objections_events_total", outcome="dead_letter", **content)
    published = "objections_published_total"
    assert 7 == value(metrics, published, topic="eu.eligibility", kind="record")
    assert 0 == value(metrics, published, topic="eu.eligibility", kind="tombstone")
    assert 2 == value(metrics, published, topic="eu.training-content", kind="tombstone")
    assert {"committed": 2, "aborted": 0, "fenced": 1} == metrics.transactions()
    assert 2 == value(metrics, "objections_transactions_total", outcome="committed")
    assert 1_500 == value(metrics, "objections_restored_rows_total")
    assert 0.25 == value(metrics, "objections_restore_seconds")
    assert 3 == value(metrics, "objections_restores_total", outcome="begun")
    assert 2 == value(metrics, "objections_restores_total", outcome="finished")


def test_a_topic_not_named_at_the_start_is_counted_from_its_first_record() -> None:
    """
    Nothing is lost for want of a declaration.
    """
    metrics = Metrics([])

    metrics.decided("late", [NOW_MS], NOW_MS)
    metrics.events("late", applied=1)
    metrics.outputs("late", tombstones=1)

    assert 1 == value(metrics, "objections_events_total", topic="late", outcome="applied")
    assert 1 == value(metrics, "objections_published_total", topic="late", kind="tombstone")
    assert 1 == value(
        metrics, "objections_propagation_seconds_count", topic="late", stage="decided"
    )


def test_gauges_are_asked_at_each_scrape() -> None:
    """
    A gauge says what is so now; a partition that has gone leaves no series behind.
    """
    metrics = Metrics(INPUTS)
    measured = Measured({("eu.content", 3): 0.5}, {("eu.content", 3): 12}, {3: 7}, {3: 60.0})

    metrics.watch(measured)

    place = {"topic": "eu.content", "partition": "3"}
    assert 0.5 == value(metrics, "objections_oldest_unpropagated_seconds", **place)
    assert 12 == value(metrics, "objections_consumer_lag_records", **place)
    assert 7 == value(metrics, "objections_fanout_pending_items", partition="3")
    assert 60 == value(metrics, "objections_clock_overdue_seconds", partition="3")
    measured.behind.clear()
    assert "objections_consumer_lag_records" not in names(metrics)


def test_what_is_scraped_is_what_is_declared() -> None:
    """
    Names, types, labels and meanings on the wire are those of the table.
    """
    metrics = Metrics(INPUTS, OUTPUTS, {"index": ("hidden", "erased")})
    metrics.watch(Measured({("a", 0): 1.0}, {("a", 0): 1}, {0: 1}, {0: 1.0}))

    families = {
        family.name: family
        for family in text_string_to_metric_families(metrics.text().decode())
        if family.name.startswith("objections_")
    }

    assert {metric.name.removesuffix("_total") for metric in METRICS} == families.keys()
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        assert (metric.type, metric.meaning) == (family.type, family.documentation)
        assert set(metric.labels) == labels, metric.name


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_say_what_is_counted(metric: Metric) -> None:
    """
    Prometheus's way: the prefix, the unit, and `_total` on counters alone.
    """
    assert metric.name.startswith("objections_")
    assert metric.name.endswith("_total") == (metric.type == "counter")
    if metric.type != "counter" and metric is not DEAD_LETTERS_OPEN:  # as the contract has it
        assert metric.name.endswith(f"_{metric.unit}")


def test_the_process_is_measured_and_nothing_else_is() -> None:
    """
    A registry of our own: what other libraries register for themselves stays out.
    """
    found = {name.split("_")[0] for name, _ in scrape(Metrics(INPUTS))}

    assert {"objections", "process"} == found


def test_no_count_is_lost_between_threads() -> None:
    """
    The event loop and the transaction's thread count at once while both are scraped.
    """
    metrics = Metrics(INPUTS)
    rounds = 2_000

    def count() -> None:
        for _ in range(rounds):
            metrics.events("eu.content", applied=1)
            metrics.decided("eu.content", [NOW_MS], NOW_MS)

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        metrics.text()
    for thread in threads:
        thread.join()

    total = 2 * rounds
    assert total == value(metrics, "objections_events_total", topic="eu.content", outcome="applied")
    labels = {"topic": "eu.content", "stage": "decided"}
    assert total == value(metrics, "objections_propagation_seconds_count", **labels)


def test_purges_are_counted_by_store_and_phase() -> None:
    """Each purge counts from its cause to the acknowledgement, also where many are one group."""
    metrics = Metrics(INPUTS, OUTPUTS, {"index": ("hidden", "erased"), "features": ("hidden",)})

    metrics.store_propagation("index", "hidden", [(1_000, 3), (1_400, 1)], 1_500)
    metrics.store_regression("index")
    metrics.acknowledgement_refused("features")

    of_index = {"store": "index", "phase": "hidden"}
    assert 4 == value(metrics, "objections_store_propagation_seconds_count", **of_index)
    assert 1.6 == value(metrics, "objections_store_propagation_seconds_sum", **of_index)
    bucket = {**of_index, "le": "0.1"}
    assert 1 == value(metrics, "objections_store_propagation_seconds_bucket", **bucket)
    assert 4 == value(
        metrics, "objections_store_propagation_seconds_bucket", **{**of_index, "le": "0.5"}
    )
    erased = {"store": "index", "phase": "erased"}
    assert 0 == value(metrics, "objections_store_propagation_seconds_count", **erased)
    assert 1 == value(metrics, "objections_store_regressions_total", store="index")
    assert 0 == value(metrics, "objections_store_regressions_total", store="features")
    assert 1 == value(metrics, "objections_acknowledgements_refused_total", store="features")

"""The monitor's Prometheus text: of all partitions what a worker tells of its own."""

import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily

from streams.metric_table import (
    CONSUMER_LAG,
    MONITOR_LOOK_AGE,
    MONITOR_METRICS,
    MONITOR_PARTITIONS_READ,
    MONITOR_UP,
    OLDEST_UNACKNOWLEDGED,
    OLDEST_UNPROPAGATED,
    Labels,
    Metric,
)
from streams.metrics import Exposition, by_place, gauge
from streams.monitor.watcher import Watcher


class Series(Exposition):
    """Builds the gauges of MONITOR_METRICS from what *watcher* saw last, as of each scrape."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        super().__init__()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield a family for each of MONITOR_METRICS."""
        sight, now_ms = self._watcher.sight, int(time.time() * 1000)
        look_age_s = (now_ms - sight.looked_ms) / 1000
        values: dict[Metric, dict[Labels, float]] = {
            OLDEST_UNPROPAGATED: by_place(sight.oldest_unpropagated_s(now_ms)),
            CONSUMER_LAG: by_place(sight.lag_records()),
            OLDEST_UNACKNOWLEDGED: dict(sight.oldest_unacknowledged_s(now_ms).items()),
            MONITOR_UP: {(): 0.0 if sight.problem else 1.0},
            MONITOR_LOOK_AGE: {(): max(look_age_s, 0.0)} if sight.looked_ms else {},
            MONITOR_PARTITIONS_READ: {(): len(sight.known)},
        }
        for metric in MONITOR_METRICS:
            yield gauge(metric, values[metric])

"""What the form counts, and its Prometheus text."""

from collections import Counter
from collections.abc import Iterator
from typing import Final, Literal

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from streams.metrics import Metric

Outcome = Literal["saved", "not_saved"]

SUBMISSIONS: Final = Metric(
    "objections_intake_submissions_total",
    "counter",
    ("action", "outcome"),
    "submissions",
    "Objections and withdrawals that people sent by form or API: confirmed by Kafka (saved), or "
    "not, which they were told (not_saved).",
)
REFUSALS: Final = Metric(
    "objections_intake_refusals_total",
    "counter",
    ("reason",),
    "requests",
    "Requests to form or API that were refused: forged or expired links and forms, other websites, "
    "too many requests.",
)
INTAKE_METRICS: Final = (SUBMISSIONS, REFUSALS)
REASONS: Final = ("forged", "expired", "elsewhere", "too_many")


class IntakeMetrics(Collector):
    """Counts in the event loop alone."""

    def __init__(self) -> None:
        self._submissions = Counter(
            {
                (action, outcome): 0
                for action in ("filed", "withdrawn")
                for outcome in ("saved", "not_saved")
            }
        )
        self._refusals = Counter(dict.fromkeys(REASONS, 0))
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def submitted(self, action: str, outcome: Outcome) -> None:
        """Count an objection or withdrawal."""
        self._submissions[action, outcome] += 1

    def refused(self, reason: str) -> None:
        """Count a request that got nowhere."""
        assert reason in REASONS, reason
        self._refusals[reason] += 1

    def text(self) -> bytes:
        """Return all metrics as CONTENT_TYPE says."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield a family for each of INTAKE_METRICS."""
        submissions = _family(SUBMISSIONS)
        for (action, outcome), count in self._submissions.items():
            submissions.add_metric([action, outcome], count)
        yield submissions
        refusals = _family(REFUSALS)
        for reason, count in self._refusals.items():
            refusals.add_metric([reason], count)
        yield refusals


def _family(metric: Metric) -> CounterMetricFamily:
    return CounterMetricFamily(
        metric.name.removesuffix("_total"), metric.meaning, labels=list(metric.labels)
    )

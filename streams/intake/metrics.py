"""What the form counts, and its Prometheus text."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from streams.latencies import Latencies
from streams.metric_table import Labels, Metric
from streams.metrics import Exposition, Family, counter, gauge, histogram

SUBMISSIONS: Final = Metric(
    "objections_intake_submissions_total",
    "counter",
    ("action", "outcome"),
    "submissions",
    "Objections and withdrawals that people sent by form or API: confirmed by Kafka (saved), or "
    "not, which they were told (not_saved).",
)
CONFIRMATION: Final = Metric(
    "objections_intake_confirmation_seconds",
    "histogram",
    (),
    "seconds",
    "From handing what people sent to Kafka until Kafka has confirmed it; those saved only.",
)
WAITING: Final = Metric(
    "objections_intake_waiting_submissions",
    "gauge",
    (),
    "submissions",
    "Submissions that wait for Kafka's confirmation now.",
)
REFUSALS: Final = Metric(
    "objections_intake_refusals_total",
    "counter",
    ("reason",),
    "requests",
    "Requests to form or API that were refused: forged or expired links and forms, other websites, "
    "too many requests.",
)
INTAKE_METRICS: Final = (SUBMISSIONS, CONFIRMATION, WAITING, REFUSALS)
REASONS: Final = ("forged", "expired", "elsewhere", "too_many")


class IntakeMetrics(Exposition):
    """
    Counts in the event loop alone.

    waiting: how many wait for Kafka's confirmation now.
    """

    def __init__(self) -> None:
        self._submissions: Counter[Labels] = Counter(
            {
                (action, outcome): 0
                for action in ("filed", "withdrawn")
                for outcome in ("saved", "not_saved")
            }
        )
        self._confirmation = Latencies()
        self.waiting = 0
        self._refusals = Counter(dict.fromkeys(REASONS, 0))
        super().__init__()

    def saved(self, action: str, took_s: float) -> None:
        """Count an objection or withdrawal that Kafka has confirmed after *took_s*."""
        self._submissions[action, "saved"] += 1
        self._confirmation.observe(int(took_s * 1000))

    def not_saved(self, action: str) -> None:
        """Count one that Kafka has not confirmed."""
        self._submissions[action, "not_saved"] += 1

    def refused(self, reason: str) -> None:
        """Count a request that got nowhere."""
        assert reason in REASONS, reason
        self._refusals[reason] += 1

    def collect(self) -> Iterator[Family]:
        """Yield a family for each of INTAKE_METRICS."""
        yield counter(SUBMISSIONS, self._submissions)
        yield histogram(CONFIRMATION, {(): self._confirmation})
        yield gauge(WAITING, {(): self.waiting})
        yield counter(REFUSALS, {(reason,): count for reason, count in self._refusals.items()})

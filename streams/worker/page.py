"""
What the status page shows: how late propagation is and was, what is pending, what stands open.

Values only, made of what gauges and histograms say; `page_html` draws them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from streams.last_hour import Spread
from streams.metric_table import PROPAGATION, STORE_PROPAGATION, Labels, Metric
from streams.metrics import Gauges

PROMISE_S: Final = 1.0  # within which 99 % of all is published, and what is "on time" here
STORE_PROMISE_S: Final = 5.0  # within which 99 % is hidden in every store

NOTHING: Final = Spread(0, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLine:
    """
    A partition of this worker; state: a word or two (`serving`, `restoring`).

    fanout_peak_items: the most that was pending since there was nothing pending.
    grants_held_users: whose grants the breaker holds; 0 while it has not tripped.
    """

    partition: int
    state: str
    lag_records: int
    fanout_pending_items: int
    clock_overdue_s: float
    fanout_peak_items: int = 0
    policy_pending_users: int = 0
    grants_held_users: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicLine:
    """An input over all partitions of this worker; topic: its full name."""

    topic: str
    lag_records: int
    oldest_unpropagated_s: float
    decided: Spread = NOTHING
    published: Spread = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLine:
    """A phase of a data store: its oldest output not acknowledged, and purges of the last hour."""

    store: str
    phase: str
    oldest_unacknowledged_s: float
    purges: Spread = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterLine:
    """Dead letters of an input: how many stand open, and those of the last hour by code."""

    topic: str
    open_n: int
    codes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreLine:
    """A restore that is going on."""

    rows: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """
    All that the status page shows.

    at: the moment it is of, for people; covered_s: how much of the last hour is known;
    transactions: how many have ended, by outcome.
    """

    worker: str
    group: str
    version: str
    partitions: tuple[PartitionLine, ...]
    topics: tuple[TopicLine, ...]
    transactions: tuple[tuple[str, int], ...]
    stores: tuple[StoreLine, ...] = ()
    dead_letters: tuple[DeadLetterLine, ...] = ()
    restore: RestoreLine | None = None
    at: str = ""
    covered_s: float = 0.0

    @property
    def oldest(self) -> TopicLine | None:
        """The input whose oldest record has waited longest; None where all is published."""
        found = max(self.topics, key=lambda line: line.oldest_unpropagated_s, default=None)
        return found if found is not None and found.oldest_unpropagated_s > 0 else None

    @property
    def held_partitions(self) -> tuple[PartitionLine, ...]:
        """The partitions in which nothing more is allowed until somebody has looked."""
        return tuple(each for each in self.partitions if each.grants_held_users)

    @property
    def late_stores(self) -> tuple[StoreLine, ...]:
        """The stores that have not acknowledged for longer than is promised, longest first."""
        late = (each for each in self.stores if each.oldest_unacknowledged_s > STORE_PROMISE_S)
        return tuple(sorted(late, key=lambda line: -line.oldest_unacknowledged_s))


def make_page(
    *,
    worker: str,
    group: str,
    version: str,
    states: Mapping[int, str],
    gauges: Gauges,
    transactions: Mapping[str, int],
    spreads: Mapping[tuple[Metric, Labels], Spread] | None = None,
    peaks: Mapping[int, int] | None = None,
    codes: Mapping[tuple[str, str], int] | None = None,
    restore: RestoreLine | None = None,
    at: str = "",
    covered_s: float = 0.0,
) -> Page:
    """
    Return the page of a worker: its partitions' *states*, and the numbers of *gauges*.

    spreads: of the last *covered_s* seconds, by metric and labels; codes: dead letters of the last
    hour, by full topic and code; peaks: the most items that were pending, by partition.
    """
    spreads, peaks, codes = spreads or {}, peaks or {}, codes or {}
    pending, overdue = gauges.fanout_pending(), gauges.clock_overdue()
    policy, behind = gauges.policy_pending(), _by_partition(gauges.lag())
    held = gauges.grants_held()
    return Page(
        worker=worker,
        group=group,
        version=version,
        partitions=tuple(
            PartitionLine(
                partition=number,
                state=state,
                lag_records=behind[number],
                fanout_pending_items=pending.get(number, 0),
                fanout_peak_items=max(peaks.get(number, 0), pending.get(number, 0)),
                clock_overdue_s=overdue.get(number, 0.0),
                policy_pending_users=policy.get(number, 0),
                grants_held_users=held.get(number, 0),
            )
            for number, state in sorted(states.items())
        ),
        topics=tuple(_topics(gauges, spreads)),
        stores=tuple(
            StoreLine(
                store=store,
                phase=phase,
                oldest_unacknowledged_s=age_s,
                purges=spreads.get((STORE_PROPAGATION, (store, phase)), NOTHING),
            )
            for (store, phase), age_s in gauges.oldest_unacknowledged().items()
        ),
        dead_letters=tuple(_dead_letters(gauges.dead_letters_open(), codes)),
        transactions=tuple(transactions.items()),
        restore=restore,
        at=at,
        covered_s=covered_s,
    )


def _topics(gauges: Gauges, spreads: Mapping[tuple[Metric, Labels], Spread]) -> Iterable[TopicLine]:
    oldest: dict[str, float] = {}
    for (topic, _), age_s in gauges.oldest_unpropagated().items():
        oldest[topic] = max(oldest.get(topic, 0.0), age_s)
    behind: Counter[str] = Counter()
    for (topic, _), records in gauges.lag().items():
        behind[topic] += records
    for topic in dict.fromkeys((*oldest, *behind)):
        yield TopicLine(
            topic=topic,
            lag_records=behind[topic],
            oldest_unpropagated_s=oldest.get(topic, 0.0),
            decided=spreads.get((PROPAGATION, ("decided", topic)), NOTHING),
            published=spreads.get((PROPAGATION, ("published", topic)), NOTHING),
        )


def _by_partition(lag: Mapping[tuple[str, int], int]) -> Counter[int]:
    found: Counter[int] = Counter()
    for (_, partition), records in lag.items():
        found[partition] += records
    return found


def _dead_letters(
    open_by_topic: Mapping[str, int], codes: Mapping[tuple[str, str], int]
) -> Iterable[DeadLetterLine]:
    topics = dict.fromkeys((*open_by_topic, *(topic for topic, _ in codes)))
    for topic in topics:
        found = sorted(
            ((code, count) for (name, code), count in codes.items() if name == topic),
            key=lambda each: (-each[1], each[0]),
        )
        yield DeadLetterLine(topic=topic, open_n=open_by_topic.get(topic, 0), codes=tuple(found))

"""
Thresholds of alerts and of the dashboard's colours: with units, and why they are what they are.

Change one here, build again (`python -m deploy.monitoring`), and mend the cases in `tests/` that
stand just before and at it.
"""

from typing import Final, Literal, NamedTuple

from streams.latencies import BOUNDS_MS

# How Prometheus is told to call the two kinds of processes: `job_name` in prometheus.yml.
WORKER_JOB: Final = "objections-worker"
MONITOR_JOB: Final = "objections-monitor"
CANARY_JOB: Final = "objections-canary"  # may be left out, as may the form
INTAKE_JOB: Final = "objections-intake"

# A turn takes a second, and the pause after it five minutes at the most.
CANARY_WINDOW: Final = "15m"

# The form.  A broker that restarts is away for less than the form waits for it: nobody is told to
# come back.  One who is may try again; five within five minutes is a Kafka that does not take them.
NOT_SAVED_MIN: Final = 5
NOT_SAVED_WINDOW: Final = "5m"
# Whose pages stand still for longer press again, or leave.  A bound of a bucket.
CONFIRMED_WITHIN_MS: Final = 2_500
CONFIRMED_S: Final = CONFIRMED_WITHIN_MS / 1000
CONFIRMED_WINDOW: Final = "10m"
# Some links are always old or cut off by a mail program; more than are saved is a wrong key, or
# somebody who guesses.
LINKS_REFUSED_MIN: Final = 20
LINKS_REFUSED_WINDOW: Final = "15m"
INTAKE_KNOWN: Final = "1d"  # a form that was there within so long is missed

# The promises.  They are read off histograms, so each limit is a bound of a bucket.
OBJECTIVE: Final = 0.99  # of objections, over 30 days
PUBLISHED_WITHIN_MS: Final = 1_000
HIDDEN_WITHIN_MS: Final = 5_000
PUBLISHED_S: Final = PUBLISHED_WITHIN_MS / 1000
HIDDEN_S: Final = HIDDEN_WITHIN_MS / 1000
assert {PUBLISHED_WITHIN_MS, HIDDEN_WITHIN_MS, CONFIRMED_WITHIN_MS} <= set(BOUNDS_MS)

Severity = Literal["critical", "warning"]  # wakes somebody; waits for the morning


class Burn(NamedTuple):
    """
    A speed at which the budget of late objections (1 % of 30 days') is used up.

    long, short: windows, both of which must be that bad: the long one makes sure that it matters,
    the short one that it is still so.
    ratio: the share that is late.
    """

    long: str
    short: str
    ratio: float
    severity: Severity
    what: str


# The windows of Google's SRE workbook, chapter 5.
BURNS: Final = (
    Burn("1h", "5m", 0.144, "critical", "2 % of the month's budget within an hour"),
    Burn("6h", "30m", 0.06, "critical", "5 % of the month's budget within six hours"),
    Burn("1d", "2h", 0.03, "warning", "10 % of the month's budget within a day"),
    Burn("3d", "6h", 0.01, "warning", "10 % of the month's budget within three days"),
)
assert all(burn.ratio >= 1 - OBJECTIVE - 1e-9 for burn in BURNS)
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
LONG_WINDOWS: Final = ("1d", "3d")  # looked at every 2 minutes only: they cost the most
LATE_RECORDS_MIN: Final = 5  # one late objection of three is 33 %, and no reason to wake anybody

# An objection takes 0.1 s; a restart or a rebalance a few seconds; an account of a million items
# half a minute.
OBJECTION_STALLED_S: Final = 60
# Content waits behind objections, ages and notices, and may come in floods.
INPUT_STALLED_S: Final = 300
# A worker that died has its partitions given away after its session's timeout and a rebalance.
UNOWNED_FOR: Final = "2m"
ABSENT_FOR: Final = "3m"  # two or three scrapes missed are no absence, nor is a quick restart
LOOK_AGE_S: Final = 60  # the monitor looks every second

STORE_LATE_S: Final = 60  # promised are 5 s; a store may ask for a pause, or be restarted
# PostgreSQL erases once a day, everything else more often: a day and two hours for the run itself.
ERASURE_LATE_S: Final = 26 * 3_600
# A store that went back stays in sight for as long as people need to come to it.
WENT_BACK_WINDOW: Final = "30m"

DEAD_LETTERS_FOR: Final = "15m"  # time for a producer's own correction to arrive
UNREADABLE_WINDOW: Final = "1h"

# Of one worker within 10 minutes, for 20: rolling restarts and scaling are over by then.
RESTARTS_MIN: Final = 3
RESTART_WINDOW: Final = "10m"
RESTARTS_FOR: Final = "20m"
# 390 million rows of a partition were reckoned at 15 minutes, the largest so far.
RESTORE_UNFINISHED_FOR: Final = "30m"

# What the clock allows goes at a limited rate (OBJECTIONS_GRANT_RATE): a birthday of many may take
# minutes.
CLOCK_OVERDUE_S: Final = 900

# Grants that are held wait for somebody, and purges go on: sleep ends it as well.  But whoever has
# broken a feed or a policy should hear of it while they remember what they did.
GRANTS_HELD_FOR: Final = "1m"

GRANTS_WINDOW: Final = "10m"
GRANTS_USUAL: Final = "7d"  # a whole week: days and nights differ, and so do Sundays
GRANTS_FACTOR: Final = 5  # times what nineteen of twenty moments of that week stayed below
GRANTS_FLOOR_PER_S: Final = 10  # 6,000 within the window: a quiet service has no usual

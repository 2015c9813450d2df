"""
Two workers that share the partitions, as their metrics tell from outside.
"""

from http import HTTPStatus

from tests.worker_process import PARTITIONS, Worker

SERVING = 'objections_partitions{state="serving"}'
LAG = "objections_standby_lag_rows"


def share(one: Worker, other: Worker) -> bool:
    """Whether two workers serve half of the partitions each."""
    if any(each.get("/readyz").status != HTTPStatus.OK for each in (one, other)):
        return False
    return one.metrics()[SERVING] == other.metrics()[SERVING] == PARTITIONS / 2


def is_warm(worker: Worker, rows: int) -> bool:
    """Whether a worker has copies of the other's partitions that lack less than *rows* in all."""
    lags = [value for series, value in worker.metrics().items() if series.startswith(LAG)]
    return len(lags) == PARTITIONS // 2 and sum(lags) < rows

"""
The fan-outs under way in a partition: which of them go on in a cycle, and how far.

Each is a row of the state (`streams.core.fanout`).  Purges go before grants, and large accounts
share what a cycle may take, so that nobody waits for another's million of items.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final

from streams.core.answers import Answers
from streams.core.changes import CAUSED_BY_TIME
from streams.core.fanout import PURGE, Job
from streams.core.fold import Fold
from streams.state.layer import Layer
from streams.state.view import View
from streams.worker.folded import Fanned, forget
from streams.worker.guard import Guard

PENDING_COUNTED_MAX: Final = 20_000  # items of a fan-out counted for a metric
JOBS_SHARING: Final = 4  # large fan-outs that share a cycle's slice
JOBS_PER_CYCLE: Final = 64  # all of them, where most are small
JOBS_MAX: Final = 1_000  # fan-outs beside which no timer fires: they are kept in memory


class FanOuts:
    """
    Those of one partition, which *view* holds, oldest first.

    holding: tells whether nothing may be granted now.
    """

    def __init__(self, view: View, guard: Guard, holding: Callable[[], bool]) -> None:
        self._view = view
        self._guard = guard
        self._holding = holding

    def pending_items(self) -> int:
        """Return how many items the fan-outs under way have still to look at, at the least."""
        return sum(
            sum(1 for _ in islice(self._view.items_of(user_id, job.cursor), PENDING_COUNTED_MAX))
            for user_id, job in list(self._view.jobs.items())
        )

    def ready(self, grants: int) -> list[str]:
        """Return the users with fan-outs that can go on; no order."""
        return [
            user_id
            for user_id, job in self._view.jobs.items()
            if not self._waits(job) and (grants > 0 or not _is_rationed(job))
        ]

    def has_room(self) -> bool:
        """Whether timers may fire and users be swept: no hold, and room for their fan-outs."""
        if self._holding():
            return False
        jobs = self._view.jobs
        if len(jobs) < JOBS_MAX:
            return True
        return self._guard.tripped and sum(not self._waits(job) for job in jobs.values()) < JOBS_MAX

    def work_off(
        self, answers: Answers, fold: Fold, layer: Layer, slice_items: int, grants: int
    ) -> list[Fanned]:
        """Answer the next items of some fan-outs, purges first, each in its turn."""
        grants -= answers.grants_by_time
        ready = self.ready(grants)
        ready.sort(key=lambda user_id: self._view.jobs[user_id].phase)
        share = max(slice_items // min(len(ready) or 1, JOBS_SHARING), 1)
        fanned: list[Fanned] = []
        for user_id in ready[:JOBS_PER_CYCLE]:
            job, row = self._view.jobs[user_id], self._view.user(user_id)
            assert row is not None
            limit = share
            if _is_rationed(job):
                limit = min(limit, max(grants, 1))
            looked_at = answers.work_off(user_id, job, row, limit, fold.items)
            slice_items -= looked_at
            if _is_rationed(job):
                grants -= looked_at
            then = answers.jobs[user_id]
            layer.jobs[user_id] = then
            del self._view.jobs[user_id]  # to the end of the queue
            if then is not None:
                self._view.jobs[user_id] = then
            else:
                fanned.append(fanned_of(job))
            if slice_items <= 0:
                break
        forget(layer, answers)
        return fanned

    def _waits(self, job: Job) -> bool:
        """Whether a fan-out has to wait: it may grant, and grants are held."""
        if self._guard.tripped and job.phase > PURGE:
            return True
        return self._holding() and (job.phase > PURGE or not job.rest)


def fanned_of(job: Job) -> Fanned:
    """Return what is told of *job* when it is done, or goes on."""
    return Fanned(job.topic, job.received_ms, job.traceparent)


def _is_rationed(job: Job) -> bool:
    """Whether *job* now grants what time or a policy allowed, and nobody asked for."""
    return job.phase > PURGE and job.topic in CAUSED_BY_TIME

"""
A steady random load for tests that take workers and Kafka away under it, and its final check.

Every record tells something new: an objection is filed only when none stands, ages alternate, no
content revision comes twice.  So an output that is committed twice shows.
"""

import random
import re
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import chain
from typing import Any, Final, NamedTuple, Self

from streams.core.reasons import PRODUCTS
from streams.kafka.local import LocalKafka
from streams.proof import INPUTS, OUTPUTS, Record, read
from tests.uncommitted import assert_uncommitted_ends_alike
from tests.worker_process import (
    PARTITIONS,
    WAIT_S,
    Inputs,
    Watch,
    Worker,
    assert_proven,
    settings_of,
    wait_for,
)

USERS: Final = 150
ITEMS_MAX: Final = 40  # of one user
RATE_PER_S: Final = 250.0
TICK_S: Final = 0.01
BORN: Final = ("1980-02-29", "2015-06-15")  # an adult and a minor, in turn
NOTICE_DAYS: Final = 30  # the policy's window
NOTICE_ENDS_S: Final = 4.0  # within the test, for some: then time decides, and no record

SETTLED_S: Final = 0.3  # after which a commit asked for has been carried out on all partitions

# What a worker says when it has lost its partitions, and in the end when Kafka refuses it.
GIVEN_UP: Final = "partitions given up"
REFUSED: Final = "Kafka refused this worker for good"

Value = dict[str, Any] | bytes


class LoadUser:
    """One user's records so far, so that the next one tells something new."""

    def __init__(self, user_id: str, chance: random.Random, *, timed: bool) -> None:
        self.user_id = user_id
        self._timed = timed
        self._chance = chance
        self._standing: str | None = None  # the objection filed and not withdrawn
        self._objections = 0
        self._ages = 0
        self._noticed = False
        self._revisions: list[int] = []

    def next(self) -> tuple[str, Value]:
        """Return another record: its topic, as in the contract, and value."""
        if not self._noticed:
            return self._notice()
        if not self._ages:
            return self._age()
        roll = self._chance.random()
        if roll < 0.3:
            return self._objection()
        return self._age() if roll < 0.36 else self._content()

    def _notice(self) -> tuple[str, Value]:
        self._noticed = True
        window = timedelta(days=NOTICE_DAYS)
        ends_soon = self._timed and self._chance.random() < 0.3
        left = timedelta(seconds=NOTICE_ENDS_S if ends_soon else -3600)
        delivered = datetime.now(UTC) - window + left
        return "notices", {
            "user_id": self.user_id,
            "notice_id": f"n-{self.user_id}",
            "delivered_at": delivered.isoformat(),
        }

    def _age(self) -> tuple[str, Value]:
        observed = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=self._ages)
        born = BORN[self._ages % 2]
        self._ages += 1
        return "account-ages", {
            "user_id": self.user_id,
            "observed_at": observed.isoformat(),
            "birth_date": born,
            "country": "DE",
        }

    def _objection(self) -> tuple[str, Value]:
        if self._standing is not None:
            objection_id, self._standing = self._standing, None
            return "objections", self._with_action(objection_id, "withdrawn")
        self._objections += 1
        self._standing = f"o-{self.user_id}-{self._objections}"
        value = self._with_action(self._standing, "filed")
        if self._chance.random() < 0.4:
            value["products"] = self._chance.sample(PRODUCTS, self._chance.randint(1, 3))
        return "objections", value

    def _with_action(self, objection_id: str, action: str) -> dict[str, Any]:
        return {"user_id": self.user_id, "objection_id": objection_id, "action": action}

    def _content(self) -> tuple[str, Value]:
        if self._revisions and (len(self._revisions) >= ITEMS_MAX or self._chance.random() < 0.3):
            number = self._chance.randrange(len(self._revisions))
            self._revisions[number] += self._chance.randint(1, 3)
        else:
            number = len(self._revisions)
            self._revisions.append(0)
        visibility = self._chance.choices(("public", "friends", "deleted"), (20, 3, 1))[0]
        return "content", {
            "user_id": self.user_id,
            "content_id": f"c-{self.user_id}-{number}",
            "revision": self._revisions[number],
            "product": PRODUCTS[number % len(PRODUCTS)],
            "kind": "post",
            "visibility": visibility,
            "modality": "text",
            "created_at": "2026-03-01T12:00:00Z",
        }


class Load(threading.Thread):
    """
    Sends random records at a rate until the `with` block ends; the seed makes them repeatable.

    plain: without what the clock decides, and without bad records.
    sent: how many records so far.  What Kafka did not take fails the block's end.
    """

    def __init__(
        self,
        kafka: LocalKafka,
        prefix: str,
        seed: int,
        *,
        rate_per_s: float = RATE_PER_S,
        users: int = USERS,
        plain: bool = False,
    ) -> None:
        super().__init__(name="load", daemon=True)
        self.sent = 0
        self._rate_per_s = rate_per_s
        self._chance = random.Random(seed)
        self._users = [
            LoadUser(f"u{number}", self._chance, timed=not plain) for number in range(users)
        ]
        self._plain = plain
        self._turn: list[LoadUser] = []
        self._inputs = Inputs(kafka, prefix, enable_idempotence=True)
        self._stopping = threading.Event()
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._stopping.set()
        self.join()
        if error is None:
            assert self._error is None, f"the load ended: {self._error!r}"

    def run(self) -> None:
        """Send until stopped; what is late is made up for."""
        try:
            began_s = time.monotonic()
            while not self._stopping.wait(TICK_S):
                owed = int((time.monotonic() - began_s) * self._rate_per_s)
                while self.sent < owed:
                    self._send_one()
            # Not `Inputs.flush`: a record sent twice by an idempotent producer has no known offset.
            left = self._inputs.producer.flush(WAIT_S)
            assert not left, f"{left} records were not acknowledged"
            assert self._inputs._error is None, self._inputs._error
        except BaseException as error:  # noqa: BLE001  (raised by the block's end)
            self._error = error

    def _send_one(self) -> None:
        self.sent += 1
        if not self._plain and self._chance.random() < 0.005:
            user_id = f"poison-{self.sent}"
            self._inputs.queue("objections", b"{", key=user_id)
            return
        if not self._turn:  # so that no user has two records at almost the same time
            self._turn = self._chance.sample(self._users, len(self._users))
        self._inputs.queue(*self._turn.pop().next())


class Frozen(NamedTuple):
    """A worker's words, commits and rollbacks up to the moment it was frozen."""

    said: int
    commits: float
    rollbacks: float


def freeze(watch: Watch, worker: Worker, *, in_transaction: bool) -> Frozen:
    """
    Freeze the only *worker* of its group while it has a transaction open, or none.

    Returns what `bring_back` wants to know.
    """
    deadline_s = time.monotonic() + WAIT_S
    while True:
        frozen = Frozen(len(worker.log()), commits(worker), rollbacks(worker))
        worker.freeze()
        time.sleep(SETTLED_S)
        if in_transaction == bool(watch.open_transactions()):
            return frozen
        worker.thaw()
        assert time.monotonic() < deadline_s, "the moment never came"
        time.sleep(random.uniform(0, 0.05))


def bring_back(worker: Worker, frozen: Frozen) -> str:
    """
    Wait until a woken *worker* is past what it had in hand when it was frozen, and serves.

    Returns what it has done: "rolled back", "rejoined", "went on", or "restarted": where it has
    ended with the reason it is started again, as a supervisor would.
    """

    def found() -> str:
        if not worker.running:
            return "restarted"
        if rollbacks(worker) > frozen.rollbacks:
            return "rolled back"
        if GIVEN_UP in worker.log()[frozen.said :]:
            return "rejoined"
        return "went on" if commits(worker) > frozen.commits + 1 else ""

    def settled() -> bool:
        return not worker.running or worker.get("/readyz").status == HTTPStatus.OK

    wait_for(lambda: bool(found()), f"a rollback, a commit or an end; {worker.log_tail()}")
    wait_for(settled, f"to serve again or end; {worker.log_tail()}")
    if worker.running:
        return found()
    assert worker.wait_end() == 1, worker.log_tail()
    assert REFUSED in worker.log()[frozen.said :].splitlines()[-1], worker.log_tail()
    worker.start()
    worker.wait_ready()
    return "restarted"


def commits(worker: Worker) -> float:
    """Return how many transactions *worker* has committed; 0 when it does not answer."""
    return _transactions(worker, "committed")


def rollbacks(worker: Worker) -> float:
    """Return how many transactions *worker* has rolled back; 0 when it does not answer."""
    return _transactions(worker, "aborted|fenced")


def _transactions(worker: Worker, outcomes: str) -> float:
    found = re.findall(
        rf'^objections_transactions_total{{outcome="(?:{outcomes})"}} (\S+)$',
        worker.get("/metrics").text,
        re.MULTILINE,
    )
    return sum(map(float, found))


def wait_until_served(*workers: Worker) -> None:
    """Return when *workers* together serve all partitions, and each some."""

    def serving(worker: Worker) -> int:
        answer = worker.get("/readyz").text
        return int(answer.split()[1]) if answer.startswith("serving") else 0

    names = ", ".join(str(worker.log_path) for worker in workers)
    wait_for(lambda: _is_whole([serving(each) for each in workers]), f"all is served: {names}")


def _is_whole(shares: list[int]) -> bool:
    return sum(shares) == PARTITIONS and all(shares)


def assert_faultless(kafka: LocalKafka, prefix: str) -> dict[str, list[Record]]:
    """
    Prove what a `Load` has come to, and that nothing was committed twice; returns the outputs.

    Readers of uncommitted data must have come to the same.

    A decision is published again for a record that changes nothing by itself (a withdrawal read
    while grants are held), so of eligibility only the same answer to the same record counts: as
    many as the user has records of that time stamp.
    """
    outputs = assert_proven(kafka, prefix, once=False)
    counts = Counter(_identity(record) for record in chain(*(outputs[name] for name in OUTPUTS)))
    records = Counter[tuple[object, ...]](
        (each.key_text, b"%d" % each.timestamp_ms)
        for each in chain(*read(settings_of(kafka, prefix), INPUTS).values())
    )
    twice = [
        f"{identity}: {count} times"
        for identity, count in counts.items()
        if count > max(records[identity[2:]], 1)
    ]
    assert_uncommitted_ends_alike(kafka, prefix)
    assert not twice, "committed twice:\n" + "\n".join(twice[:40])
    allowed = sum(record.value is not None for record in outputs["training-content"])
    purged = len(outputs["training-content"]) - allowed
    assert min(allowed, purged) > 0, f"proves nothing: {allowed} allowed, {purged} purged"
    return outputs


def _identity(record: Record) -> tuple[object, ...]:
    """Return topic and event, and of a decision the user and the time stamp it answers."""
    event = record.topic, record.header("ce_id")
    if not record.topic.endswith("eligibility"):
        return event
    return *event, record.key_text, record.header("objections_received_at")

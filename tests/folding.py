"""
One partition in memory: cycles over the real fold and answers, and a store that reads them.

The state is a few dicts.  `Reader` does what contract.md asks of a data store: it remembers the
highest (epoch, revision) of each key, drops what is lower, and lets a tombstone win a tie.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

from streams.core.answers import Answers
from streams.core.breaker import Breaker
from streams.core.changes import Origin, UserRow
from streams.core.decode import ItemFacts, restriction
from streams.core.fanout import Job
from streams.core.fold import Fold
from streams.core.item import Item
from streams.core.outputs import Output, Writer
from streams.core.policy import Policy
from streams.core.reasons import PRODUCTS, reason_names
from streams.errors import BadRecord
from tests.making import DEFAULTS, PREFIX, Record, item_facts, user_facts

UNBOUNDED_ITEMS = 1_000  # more than any user of these tests has


class Delivery(NamedTuple):
    """A record at its offset; *record* may be bad, *resolves* is its `dlq_resolves` header."""

    topic: str
    offset: int
    record: Record
    received_ms: int
    resolves: str | None = None

    @property
    def ref(self) -> str:
        """The name of this record's dead letter."""
        return f"{self.topic}/0/{self.offset}"


class Reader:
    """Keys of the outputs as a store keeps them: whether they stand, and at which pair."""

    def __init__(self) -> None:
        self.pairs: dict[tuple[str, str], tuple[int, int]] = {}
        self.standing: set[tuple[str, str]] = set()
        self.decisions: list[Record] = []

    def apply(self, output: Output) -> None:
        """Take one output record in."""
        headers = {name: str(value) for name, value in output.headers}
        pair = (int(headers["objections_epoch"]), int(headers.get("objections_revision", "0")))
        assert output.key is not None
        key = (output.topic, output.key.decode())
        last = self.pairs.get(key, pair)
        assert pair >= last, f"(epoch, revision) of {key} fell from {last} to {pair}"
        was_purged = key in self.pairs and key not in self.standing
        self.pairs[key] = pair
        if output.topic == "eligibility":
            self.decisions.append(json.loads(output.value or b"null"))
        if output.value is None:
            self.standing.discard(key)
        elif not (was_purged and pair == last):
            self.standing.add(key)

    def items(self) -> set[str]:
        """Return the content ids that may be used, by the item's own lock."""
        return {key for topic, key in self.standing if topic == "training-content"}

    def products(self) -> set[str]:
        """Return the `product/user_id` that may be used."""
        return {key for topic, key in self.standing if topic == "training-users"}


class Shell:
    """The state of one partition, and the cycles over it."""

    def __init__(self, policy: Policy = DEFAULTS) -> None:
        self.users: dict[str, UserRow] = {}
        self.items: dict[str, dict[bytes, Item]] = {}
        self.jobs: dict[str, Job] = {}
        self.reader = Reader()
        self.breaker: Breaker | None = None
        self._policy = policy
        self._content_end = 0

    def user(self, user_id: str) -> UserRow | None:
        """Return the row of a user."""
        return self.users.get(user_id)

    def item(self, user_id: str, content_id: str) -> Item | None:
        """Return an item."""
        return self.items.get(user_id, {}).get(content_id.encode())

    def item_of_dead_letter(self, user_id: str, offset: int) -> str | None:
        """Return the item that is unreadable by the record at *offset*."""
        of_user = self.items.get(user_id, {}).items()
        found = [content_id for content_id, item in of_user if offset in item.dead_letters]
        return found[0].decode() if found else None

    def dead_letters_of(self, user_id: str) -> set[int]:
        """Return the offsets of a user's unreadable `content` records."""
        found = self.items.get(user_id, {}).values()
        return {offset for item in found for offset in item.dead_letters}

    def items_of(self, user_id: str, after: bytes = b"") -> Iterator[tuple[bytes, Item]]:
        """Yield the items of a user behind *after*."""
        of_user = self.items.get(user_id, {})
        yield from ((each, of_user[each]) for each in sorted(of_user) if each > after)

    def cycle(
        self,
        *deliveries: Delivery,
        now_ms: int,
        inline_items: int = UNBOUNDED_ITEMS,
        hold: bool = False,
        breaks: bool = False,
    ) -> list[Output]:
        """
        Fire what is due, fold *deliveries*, answer, and move one slice of each fan-out on.

        hold: grants, and so timers and fan-outs, wait.
        breaks: the breaker has tripped: timers wait.
        """
        fold = Fold(self, self._policy, now_ms, PREFIX, hold_grants=hold, breaker=self.breaker)
        for user_id, row in self.users.items():
            if row.next_change_ms <= now_ms and not (hold or breaks):
                fold.time_passed(user_id, row.next_change_ms, 0)
        for delivery in deliveries:
            deliver(fold, delivery)
        answers = Answers(Writer("/tests", now_ms, self._policy), self, PREFIX, self._content_end)
        ends = [each.offset + 1 for each in deliveries if each.topic == "content"]
        self._content_end = max([self._content_end, *ends])
        answers.add_fold(fold, inline_items)
        self._keep(fold, answers)
        for user_id, job in [] if hold else list(self.jobs.items()):
            answers.work_off(user_id, job, self.users[user_id], 1, fold.items)
        self._keep_jobs(answers)
        outputs = answers.outputs()
        for output in outputs:
            self.reader.apply(output)
        return outputs

    def finish(self, now_ms: int) -> None:
        """Run empty cycles until no fan-out is left."""
        while self.jobs:
            self.cycle(now_ms=now_ms)

    def _keep(self, fold: Fold, answers: Answers) -> None:
        for user_id, change in fold.users.items():
            self.users[user_id] = change.after
        for (user_id, content_id), item_change in fold.items.items():
            if item_change.after is not None:
                self.items.setdefault(user_id, {})[content_id.encode()] = item_change.after
        self._keep_jobs(answers)

    def _keep_jobs(self, answers: Answers) -> None:
        for user_id, job in answers.jobs.items():
            self.jobs.pop(user_id, None)
            if job is not None:
                self.jobs[user_id] = job
        for user_id, forgotten in answers.forgotten.items():
            for answer in forgotten:
                self.items.get(user_id, {}).pop(answer.content_id, None)


def deliver(fold: Fold, delivery: Delivery) -> None:
    """Decode one record and fold it, as a worker does."""
    topic, offset, record, received_ms, resolves = delivery
    try:
        event = (
            item_facts(record, offset, received_ms)
            if topic == "content"
            else user_facts(record, received_ms)
        )
    except BadRecord:
        _deliver_bad(fold, delivery)
        return
    if isinstance(event, ItemFacts):
        fold.item_record(event, Origin(topic, 0, offset, received_ms, event.content_id))
    else:
        fold.user_record(event, Origin(topic, 0, offset, received_ms, event.cause_id))
    if resolves is not None:
        fold.resolution(event.user_id, resolves, Origin(topic, 0, offset, received_ms))


def _deliver_bad(fold: Fold, delivery: Delivery) -> None:
    topic, offset, record, received_ms, _ = delivery
    value = json.dumps(record).encode()
    found = restriction(topic, record["user_id"].encode(), value)
    user_id, content_id = found.user_id, found.content_id
    assert user_id is not None
    origin = Origin(topic, 0, offset, received_ms)
    if topic == "content":
        fold.bad_item_record(user_id, content_id, offset, origin)
    else:
        fold.bad_user_record(user_id, None if topic == "notices" else delivery.ref, origin)


def reasons_by_product(row: UserRow) -> dict[str, list[str]]:
    """Return a row's decision as `eligibility` writes it."""
    return {
        name: list(reason_names(found))
        for name, found in zip(PRODUCTS, row.decision.reasons, strict=True)
    }

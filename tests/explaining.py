"""
A user's story told to the real core in memory, and the evidence its topics would hold of it.

    told = Told()
    told.tell(grown_up(), notice(), objection())
    found = told.explain()
"""

import json
from typing import Any

from streams.core.policy import Policy
from streams.explain.assemble import Wanted, explain
from streams.explain.evidence import CONTENT_CHANGELOG, USERS_CHANGELOG, Evidence
from streams.explain.explanation import Explanation, Fact
from streams.explain.passage import PURGE_ACKS
from streams.explain.reading import OF_ITEMS, OF_USERS
from streams.proof import INPUTS, OUTPUTS, Record
from streams.state import rows
from tests.folding import Delivery, Shell
from tests.making import DEFAULTS, NOW_MS
from tests.making import Record as Input
from tests.proving import as_bytes, as_input, topic_of

POLICY_ROW = rows.position_key("policy")


class Told:
    """The topics of one partition, by their names, and the state that *shell* made of them."""

    def __init__(self, policy: Policy = DEFAULTS) -> None:
        self.policy = policy
        self.shell = Shell(policy)
        self.topics: dict[str, list[Record]] = {name: [] for name in (*INPUTS, *OUTPUTS)}
        self.folded = dict.fromkeys(INPUTS, 0)

    def tell(
        self,
        *records: Input,
        at_ms: int = NOW_MS,
        hold: bool = False,
        resolves: str | None = None,
        inline_items: int = 1_000,
    ) -> list[str]:
        """Let records arrive at *at_ms* and be decided one by one; return their places."""
        places = []
        for record in records:
            delivery = self.send(record, at_ms=at_ms, resolves=resolves)
            self.folded[delivery.topic] = delivery.offset + 1
            self._cycle(delivery, now_ms=at_ms, hold=hold, inline_items=inline_items)
            places.append(delivery.ref)
        return places

    def tell_at_once(self, *records: Input, at_ms: int = NOW_MS) -> list[str]:
        """Let records arrive and be decided in one batch; return their places."""
        deliveries = [self.send(record, at_ms=at_ms) for record in records]
        for each in deliveries:
            self.folded[each.topic] = each.offset + 1
        self._cycle(*deliveries, now_ms=at_ms)
        return [each.ref for each in deliveries]

    def send(self, record: Input, *, at_ms: int = NOW_MS, resolves: str | None = None) -> Delivery:
        """Let a record arrive that nobody decides on."""
        topic = topic_of(record)
        delivery = Delivery(topic, len(self.topics[topic]), record, at_ms, resolves)
        self.topics[topic].append(as_input(delivery))
        return delivery

    def pass_time(self, to_ms: int) -> None:
        """Let what is due by *to_ms* be decided."""
        self._cycle(now_ms=to_ms)

    def finish(self) -> None:
        """Work off the fan-outs."""
        while self.shell.jobs:
            self._cycle(now_ms=NOW_MS)

    def _cycle(self, *deliveries: Delivery, now_ms: int, **options: Any) -> None:
        for output in self.shell.cycle(*deliveries, now_ms=now_ms, **options):
            log = self.topics[output.topic]
            headers = as_bytes(output.headers)
            key, value = output.key, output.value
            log.append(Record(output.topic, 0, len(log), now_ms, key, value, headers))

    def evidence(self, user_id: str = "u1", content_id: str | None = None) -> Evidence:
        """Return what a reader of the topics finds of a user."""
        found = Evidence(user_id, 0, "", content_id)
        found.committed = dict(self.folded)
        topics = {**self.topics, **self._changelogs()}
        for topic in (*OF_USERS, *OF_ITEMS, PURGE_ACKS):
            for record in topics.get(topic, []):
                if found.wants(topic, record.key):
                    found.take(topic, record)
        found.ends = {name: len(self.topics[name]) for name in INPUTS}
        return found

    def explain(
        self,
        wanted: Wanted | None = None,
        *,
        user_id: str = "u1",
        now_ms: int = NOW_MS,
        policy: Policy | None = None,
    ) -> Explanation:
        """Return the explanation of a user."""
        wanted = wanted or Wanted(listed=100)
        evidence = self.evidence(user_id, wanted.content_id)
        return explain(evidence, policy or self.policy, now_ms, wanted)

    def _changelogs(self) -> dict[str, list[Record]]:
        decided_by = {"version": self.policy.version, "digest": self.policy.digest}
        users = [(POLICY_ROW, rows.encode_text(json.dumps(decided_by)))]
        users += [(rows.user_key(x), rows.encode_user(row)) for x, row in self.shell.users.items()]
        if self.shell.breaker is not None:
            users.append((rows.BREAKER_KEY, rows.encode_breaker(self.shell.breaker.state)))
        users += [(rows.job_key(x), rows.encode_job(job)) for x, job in self.shell.jobs.items()]
        content = [
            (rows.item_key(user_id, content_id.decode()), rows.encode_item(item))
            for user_id, of_user in self.shell.items.items()
            for content_id, item in of_user.items()
        ]
        for topic, offset in self.folded.items():
            row = (rows.position_key(topic), rows.encode_number(offset))
            (content if topic == "content" else users).append(row)
        return {
            name: [Record(name, 0, at, NOW_MS, *row) for at, row in enumerate(found)]
            for name, found in ((USERS_CHANGELOG, users), (CONTENT_CHANGELOG, content))
        }


def fact(found: Explanation, kind: str, **details: object) -> Fact:
    """Return the one fact of *kind* with these details."""
    (only,) = (
        each
        for each in found.facts
        if each.kind == kind and details.items() <= each.details.items()
    )
    return only


def why(found: Explanation, product: str, reason: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return what causes a reason against a product: in words, and the places."""
    (of_product,) = (each for each in found.products if each.product == product)
    because = [x for each in of_product.reasons if each.reason == reason for x in each.because]
    return [(each.says, each.places) for each in because]

"""
The account of one partition: its ids, what is said of it, and what the outputs say back.

It is allowed by the policy in force and has one item, of which nobody has the content.  Its ids
begin with `objections-canary-`, so that whoever meets one knows.  Pure.
"""

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any, Final, NamedTuple

from streams.core.policy import COVERABLE_KINDS, Policy
from streams.core.reasons import PRODUCTS
from streams.core.receipts import FOLLOWED
from streams.core.subjects import Subjects
from streams.core.times import rfc3339
from streams.errors import UsageProblem
from streams.kafka.partitioner import partition_of

PREFIX: Final = "objections-canary-"
BORN: Final = "1900-01-01"  # of age by any policy, but for one that nobody alive is
LONG_AGO_MS: Final = 946_684_800_000  # 2000-01-01: any notice window has passed

ELIGIBILITY, USERS, CONTENT = range(len(FOLLOWED))

Record = dict[str, Any]


class Account(NamedTuple):
    """
    A made-up account.

    product, kind, country, noticed_ms: such as the policy covers.
    subject: its name in the outputs.
    """

    user_id: str
    subject: str
    product: str
    kind: str
    country: str
    noticed_ms: int

    @property
    def content_id(self) -> str:
        """Its one item."""
        return f"{self.user_id}.c"

    @property
    def keys(self) -> Mapping[int, bytes]:
        """What the outputs call it, by their places in `FOLLOWED`."""
        return {
            ELIGIBILITY: self.subject.encode(),
            USERS: f"{self.product}/{self.subject}".encode(),
            CONTENT: self.content_id.encode(),
        }

    def introduced(self, now_ms: int) -> list[tuple[str, Record]]:
        """Return what lets it be allowed, by topic."""
        user = {"user_id": self.user_id}
        now = rfc3339(now_ms)
        age = {"birth_date": BORN, "country": self.country, "assurance": "verified"}
        delivered = {"notice_id": "canary", "delivered_at": rfc3339(self.noticed_ms)}
        item = {
            "content_id": self.content_id,
            "revision": 1,
            "product": self.product,
            "kind": self.kind,
            "visibility": "public",
            "modality": "text",
            "created_at": now,
        }
        return [
            ("account-ages", {**user, "observed_at": now, **age}),
            ("notices", {**user, **delivered}),
            ("content", {**user, **item}),
        ]

    def objection(self, objection_id: str, action: str) -> tuple[str, Record]:
        """Return an objection filed or withdrawn, and its topic."""
        record = {"user_id": self.user_id, "objection_id": objection_id, "action": action}
        return "objections", record

    def deleted(self, now_ms: int) -> tuple[str, Record]:
        """Return what ends it, and its topic."""
        record = {"user_id": self.user_id, "observed_at": rfc3339(now_ms), "account": "deleted"}
        return "account-ages", record


def account(
    name: str, partition: int, partitions_n: int, policy: Policy, subjects: Subjects
) -> Account:
    """
    Return an account called *name* that lies in *partition*.

    Raises UsageProblem where *policy* covers nobody.
    """
    products = [each for each in PRODUCTS if each in policy.products]
    kinds = [each for each in COVERABLE_KINDS if each in policy.kinds]
    if not (products and kinds and policy.countries):
        raise UsageProblem(
            f"policy {policy.version} covers no product, no kind of items or no country, so no "
            "canary is ever allowed: expected one that covers somebody (OBJECTIONS_POLICY)."
        )
    user_id = next(
        each
        for each in (f"{PREFIX}{name}-{partition}-{number}" for number in count())
        if partition_of(each.encode(), partitions_n) == partition
    )
    return Account(
        user_id,
        subjects.of(user_id),
        products[0],
        kinds[0],
        min(policy.countries),
        max(policy.notices_from_ms or 0, LONG_AGO_MS),
    )


class Heard:
    """The last word of the outputs on an account; offsets by the outputs' places in `FOLLOWED`."""

    def __init__(self, of: Account) -> None:
        self._keys = of.keys
        self._last: dict[int, tuple[int, bool]] = {}  # offset, and whether it is a tombstone

    def take(self, topic: int, key: bytes | None, offset: int, *, tombstone: bool) -> None:
        """Take in an output record."""
        if key == self._keys[topic]:
            self._last[topic] = offset, tombstone

    def forget(self) -> None:
        """Let what is said from now on count alone."""
        self._last.clear()

    def knows(self, topics: Iterable[int]) -> bool:
        """Whether something was said on all of *topics*."""
        return all(topic in self._last for topic in topics)

    @property
    def allowed(self) -> bool:
        """Whether both locks are open."""
        return self._both(tombstone=False)

    @property
    def purged(self) -> bool:
        """Whether both locks are shut."""
        return self._both(tombstone=True)

    def offset(self, topic: int) -> int:
        """Return the last word's offset."""
        return self._last[topic][0]

    def _both(self, *, tombstone: bool) -> bool:
        return all(self._last.get(topic, (0, None))[1] is tombstone for topic in (USERS, CONTENT))

"""
Proof that nobody was allowed untold: every permission that stands, against the deliveries known.

A permission is proven where the state knows a delivery whose notice window had passed when the
permission was published.  Facts about a user are only ever added, so any row of a user proves.
The permissions are read first and the state behind them; what is not proven is looked at again, as
one transaction becomes visible in one topic a moment before it does in another.
"""

import time
from typing import Final

from msgspec import Struct

from streams.core.notices import told_from_ms
from streams.core.policy import Policy
from streams.core.times import NEVER_MS, rfc3339
from streams.errors import CheckFailed
from streams.notices.reading import POLICY_ROW, Reading, Say, decided_by
from streams.settings import Settings
from streams.sinks.sink import TRAINING_USERS
from streams.state import rows
from streams.worker.names import USERS_CHANGELOG

TOPICS: Final = (USERS_CHANGELOG, TRAINING_USERS)
LOOK_AGAIN_S: Final = (0.5, 2.0)
# A worker's clock may be ahead of the broker's, whose time stamp says when it was published.
CLOCKS_APART_MS: Final = 60_000


class Untold(Struct, frozen=True, kw_only=True):
    """A permission that stands and that no delivery known justifies; *told_from*: if ever."""

    user_id: str
    product: str
    topic: str
    partition: int
    offset: int
    allowed_at: str
    told_from: str | None


class Proof(Struct, kw_only=True):
    """
    What was found.

    permissions: those that stand.  untold: the first of those that are not justified, in all
    untold_n.  unproven: of users whose state was lost, and whose facts are being read again.
    """

    audited_at: str
    policy_version: int
    permissions: int = 0
    untold_n: int = 0
    unproven: int = 0
    untold: list[Untold] = []
    took_s: float = 0.0


class _Permission(Struct, frozen=True, gc=False):
    offset: int
    allowed_ms: int


class _Partition:
    """Permissions of one partition that are not proven yet, by user_id and then product."""

    def __init__(self, policy: Policy, clock_offset_ms: int) -> None:
        self.proven: dict[bytes, int] = {}  # of users with a permission: told from when on
        self.seeded: set[bytes] = set()
        self.standing: dict[bytes, dict[bytes, _Permission]] = {}
        self.decided_by = (Policy().version, Policy().digest)  # all there was before it was noted
        self._policy = policy
        self._clock_offset_ms = clock_offset_ms

    def read(self, reading: Reading, number: int) -> None:
        for message in reading.records(TRAINING_USERS, number):
            key = message.key()
            if not isinstance(key, bytes):
                continue
            product, _, user = key.partition(b"/")
            allowed_ms = message.timestamp()[1] + self._clock_offset_ms
            if message.value() is not None:
                permission = _Permission(message.offset() or 0, allowed_ms)
                self.standing.setdefault(user, {})[product] = permission
            elif user in self.standing:
                self.standing[user].pop(product, None)
        for key, value in reading.state(number):
            if value is None:
                continue
            if key == POLICY_ROW:
                self.decided_by = decided_by(value)
            elif key[:1] == rows.USER and key[1:] in self.standing:
                row = rows.decode_user(value)
                told_ms = told_from_ms(row.user, self._policy)
                self.proven[key[1:]] = min(told_ms, self.proven.get(key[1:], NEVER_MS))
                (self.seeded.add if row.seeded else self.seeded.discard)(key[1:])

    def count(self) -> int:
        return sum(len(each) for each in self.standing.values())

    def unproven(self) -> list[tuple[bytes, bytes, _Permission]]:
        """Return user_id, product and permission of what nothing justifies."""
        return [
            (user, product, each)
            for user, products in self.standing.items()
            for product, each in products.items()
            if self.proven.get(user, NEVER_MS) > each.allowed_ms + CLOCKS_APART_MS
        ]


def prove(settings: Settings, policy: Policy, limit: int, say: Say) -> Proof:
    """
    Return what stands, naming *limit* permissions that nothing justifies.

    Raises Unreachable, and CheckFailed where topics are missing or a partition is decided by
    another policy: an audit by the wrong one would prove nothing.
    """
    began_s = time.monotonic()
    proof = Proof(audited_at=rfc3339(int(time.time() * 1000)), policy_version=policy.version)
    with Reading(settings, TOPICS, say) as reading:
        for number in range(reading.partitions_n):
            partition = _Partition(policy, int(settings.clock_offset_s * 1000))
            partition.read(reading, number)
            for pause_s in LOOK_AGAIN_S:
                if not partition.unproven():
                    break
                time.sleep(pause_s)
                partition.read(reading, number)
            _check_policy(settings, partition, policy, number)
            _add(proof, partition, settings, number, limit)
    proof.took_s = round(time.monotonic() - began_s, 3)
    return proof


def _check_policy(settings: Settings, partition: _Partition, policy: Policy, number: int) -> None:
    if partition.standing and partition.decided_by != (policy.version, policy.digest):
        version, _ = partition.decided_by
        other = "another policy" if version == policy.version else "the policy"
        raise CheckFailed(
            f"partition {number} of {settings.topic(USERS_CHANGELOG)} is decided by {other} of "
            f"version {version}, and this audit would judge by version {policy.version}. Remedy: "
            "name the workers' policy in OBJECTIONS_POLICY, or wait until they all decide by it."
        )


def _add(proof: Proof, partition: _Partition, settings: Settings, number: int, limit: int) -> None:
    proof.permissions += partition.count()
    for user, product, permission in partition.unproven():
        if user in partition.seeded:
            proof.unproven += 1
            continue
        proof.untold_n += 1
        if len(proof.untold) < limit:
            told_ms = partition.proven.get(user, NEVER_MS)
            proof.untold.append(
                Untold(
                    user_id=user.decode("utf-8", "replace"),
                    product=product.decode("utf-8", "replace"),
                    topic=settings.topic(TRAINING_USERS),
                    partition=number,
                    offset=permission.offset,
                    allowed_at=rfc3339(permission.allowed_ms),
                    told_from=None if told_ms == NEVER_MS else rfc3339(told_ms),
                )
            )

"""
Takes objections and withdrawals in: the same for the form and the API.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from streams.core.reasons import PRODUCTS
from streams.core.receipts import Action
from streams.core.times import rfc3339
from streams.intake.desk import Receipts
from streams.intake.metrics import IntakeMetrics
from streams.intake.sender import NotSaved

RECENT_MAX: Final = 10_000  # saved here a moment ago, and not among the receipts yet

_encode: Final = msgspec.json.Encoder().encode


class Sends(Protocol):
    """Who hands records to Kafka."""

    async def send(self, user_id: str, value: bytes) -> None:
        """Return once Kafka has the record for good.  Raises `NotSaved`."""


class Knows(Protocol):
    """Who knows the receipts."""

    @property
    def is_complete(self) -> bool:
        """Whether all that was there at the start has been read."""

    def of_user(self, user_id: str) -> dict[str, Receipts]:
        """Return the latest objections of a user."""

    def receipts(self, user_id: str, objection_id: str) -> Receipts:
        """Return the receipts of one objection."""


class Counter:
    """Confirms what Kafka has confirmed, and nothing else."""

    def __init__(self, sender: Sends, desk: Knows, metrics: IntakeMetrics) -> None:
        self.desk = desk
        self._sender = sender
        self._metrics = metrics
        self._recent: OrderedDict[tuple[str, str, Action], None] = OrderedDict()

    async def file(
        self,
        user_id: str,
        objection_id: str,
        products: Sequence[str],
        now_s: float,
        *,
        locale: str,
        channel: str = "web",
    ) -> None:
        """
        Save an objection to the use of *products*.  Raises `NotSaved`.

        An objection to all of them names none, so that it covers what may come, too.
        """
        record: dict[str, object] = {}
        if set(products) != set(PRODUCTS):
            record["products"] = list(products)
        record |= {"channel": channel, "locale": locale}
        await self._save(user_id, objection_id, "filed", now_s, record)

    async def withdraw(
        self, user_id: str, objection_id: str, now_s: float, *, locale: str, channel: str = "web"
    ) -> None:
        """Save the withdrawal of an objection.  Raises `NotSaved`."""
        record: dict[str, object] = {"channel": channel, "locale": locale}
        await self._save(user_id, objection_id, "withdrawn", now_s, record)

    def knows(self, user_id: str, objection_id: str, action: Action) -> bool:
        """Whether this was saved before, as far as is known here."""
        if self.saved_lately(user_id, objection_id, action):
            return True
        return action in self.desk.receipts(user_id, objection_id)

    def saved_lately(self, user_id: str, objection_id: str, action: Action) -> bool:
        """Whether this was saved here a moment ago."""
        return (user_id, objection_id, action) in self._recent

    async def _save(
        self,
        user_id: str,
        objection_id: str,
        action: Action,
        now_s: float,
        record: dict[str, object],
    ) -> None:
        whole = {
            "user_id": user_id,
            "objection_id": objection_id,
            "action": action,
            "occurred_at": rfc3339(int(now_s * 1000)),
            **record,
        }
        begun_s = time.monotonic()
        self._metrics.waiting += 1
        try:
            await self._sender.send(user_id, _encode(whole))
        except NotSaved:
            self._metrics.not_saved(action)
            raise
        finally:
            self._metrics.waiting -= 1
        self._metrics.saved(action, time.monotonic() - begun_s)
        self._recent[user_id, objection_id, action] = None
        if len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)

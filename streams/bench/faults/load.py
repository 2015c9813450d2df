"""
A steady random load of objections, withdrawals, ages, notices, links and content.

Every record tells something new: an objection is filed only when none stands, ages alternate, no
content revision comes twice.  So an output that is committed twice shows.
"""

import logging
import random
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final, Self

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from streams.core.reasons import PRODUCTS
from streams.errors import CommandError
from streams.settings import Settings

USERS: Final = 150
ITEMS_MAX: Final = 40  # of one user
RATE_PER_S: Final = 250.0
TICK_S: Final = 0.01
FLUSH_S: Final = 60.0
STUCK_S: Final = 20.0  # without an answer: longer than Kafka is away
PURGE_S: Final = 5.0
BORN: Final = ("1980-02-29", "2015-06-15")  # an adult and a minor, in turn
NOTICE_DAYS: Final = 30  # the policy's window
LINKED_SHARE: Final = 0.2  # of the users, with one before them: more, and nobody is allowed much
NOTICE_ENDS_S: Final = 4.0  # within the run, for some: then time decides, and no record

# librdkafka's own lines: brokers are taken from under it on purpose.
QUIET: Final = logging.getLogger(f"{__name__}.kafka")
QUIET.disabled = True

Value = dict[str, Any] | bytes


class LoadUser:
    """
    One user's records so far, so that the next one tells something new.

    partner: whose account this one is linked with, now and then.
    """

    def __init__(
        self, user_id: str, chance: random.Random, *, timed: bool, partner: str | None = None
    ) -> None:
        self.user_id = user_id
        self._timed = timed
        self._partner = partner
        self._linked = False
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
        if self._partner is not None and roll > 0.9:
            return self._link(self._partner)
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

    def _link(self, partner: str) -> tuple[str, Value]:
        self._linked = not self._linked
        return "account-links", {
            "user_id": self.user_id,
            "linked_user_id": partner,
            "action": "linked" if self._linked else "unlinked",
            "occurred_at": datetime.now(UTC).isoformat(),
        }

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

    plain: without what the clock decides, without links, and without bad records.
    fresh: how many of the users make room for new ones whenever all have had their turn.
    sent, acknowledged: how many records so far.  What Kafka did not take fails the block's end.
    abandoned: those whose client was stuck and was renewed: they are in the log once or never.
    rate_per_s: may be changed at any time.
    """

    def __init__(
        self,
        settings: Settings,
        seed: int,
        *,
        rate_per_s: float = RATE_PER_S,
        users: int = USERS,
        plain: bool = False,
        fresh: int = 0,
    ) -> None:
        super().__init__(name="load", daemon=True)
        self.rate_per_s = rate_per_s
        self.sent = self.acknowledged = self.abandoned = 0
        self._answered_s = 0.0
        self._chance = random.Random(seed)
        self._numbers = count()
        self._plain = plain
        self._fresh = fresh
        self._users = [self._new_user() for _ in range(users)]
        self._turn: list[LoadUser] = []
        self._settings = settings
        self._producer = self._connect()
        self._stopping = threading.Event()
        self._error: BaseException | None = None

    @property
    def under_way(self) -> int:
        """How many records Kafka has still to acknowledge."""
        return self.sent - self.acknowledged - self.abandoned

    @property
    def user_ids(self) -> list[str]:
        """The users that records are about now."""
        return [user.user_id for user in self._users]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._stopping.set()
        self.join()
        if error is None and self._error is not None:
            raise CommandError(f"the load ended: {self._error!r}") from self._error

    def run(self) -> None:
        """Send until stopped; what is late is made up for."""
        try:
            owed, seen_s = 0.0, time.monotonic()
            while not self._stopping.wait(TICK_S):
                now_s = time.monotonic()
                owed, seen_s = owed + (now_s - seen_s) * self.rate_per_s, now_s
                while owed >= 1:
                    owed -= 1
                    self._send_one()
                self._raise_failed()
                if not self.under_way:
                    self._answered_s = now_s
                elif now_s - self._answered_s > STUCK_S:
                    self._renew()
            if self._producer.flush(FLUSH_S):
                self._renew()
            self._raise_failed()
        except BaseException as error:  # noqa: BLE001  (raised by the block's end)
            self._error = error

    def _connect(self) -> Producer:
        return Producer(
            self._settings.kafka(
                acks="all",
                partitioner="murmur2_random",
                linger_ms=5,
                enable_idempotence=True,
                # A leader that was looked for while Kafka was away is not looked for again sooner.
                topic_metadata_refresh_interval_ms=1_000,
            ),
            logger=QUIET,
        )

    def _renew(self) -> None:
        """
        Go on with a new client, and give up what the old one holds.

        Seen in librdkafka 2.16: an idempotent producer that was told of partitions without leader,
        as Kafka stood still, sends nothing any more.
        """
        self._producer.purge()
        self._producer.flush(PURGE_S)
        self._producer = self._connect()
        self._answered_s = time.monotonic()

    def _new_user(self) -> LoadUser:
        number = next(self._numbers)
        linked = not self._plain and number > 0 and self._chance.random() < LINKED_SHARE
        partner = f"u{number - 1}" if linked else None
        return LoadUser(f"u{number}", self._chance, timed=not self._plain, partner=partner)

    def _send_one(self) -> None:
        if not self._plain and self._chance.random() < 0.005:
            self._send("objections", b"{", f"poison-{self.sent + 1}")
            return
        if not self._turn:  # so that no user has two records at almost the same time
            for number in self._chance.sample(range(len(self._users)), self._fresh):
                self._users[number] = self._new_user()
            self._turn = self._chance.sample(self._users, len(self._users))
        topic, value = self._turn.pop().next()
        assert isinstance(value, dict)
        self._send(topic, msgspec.json.encode(value), str(value["user_id"]))

    def _send(self, topic: str, value: bytes, key: str) -> None:
        self.sent += 1
        while True:
            try:
                self._producer.produce(
                    self._settings.topic(topic), value, key, on_delivery=self._on_delivery
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                break
        self._producer.poll(0)

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        # Raised here, confluent-kafka 2.16 would lose it.
        if error is None:
            self.acknowledged += 1
            self._answered_s = time.monotonic()
        elif error.code() in {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}:
            self.abandoned += 1
        else:
            self._failed = self._failed or error

    _failed: KafkaError | None = None

    def _raise_failed(self) -> None:
        if self._failed is not None:
            raise CommandError(f"Kafka did not take a record of the load: {self._failed}")

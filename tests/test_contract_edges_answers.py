"""
Edges of contract.md on bad records of items and on answers, each named by its sentence.

Each test sends records to one partition in memory and looks at the outputs as a store does.
"""

from typing import Any

import pytest

from streams.core.outputs import REVISION_MAX, Output
from streams.core.reasons import PRODUCTS
from streams.core.times import rfc3339
from streams.core.user import User
from tests.folding import Delivery, Shell
from tests.making import (
    NOW_MS,
    PREFIX,
    Record,
    age,
    content,
    dismissal,
    grown_up,
    notice,
    objection,
)

UNREADABLE = content(revision=-1)


class Desk:
    """Sends records one at a time to a partition with an allowed user; offsets count up."""

    def __init__(self) -> None:
        self.shell = Shell()
        self.offset = -1
        self.send("account-ages", grown_up())
        self.send("notices", notice())
        self.offset = -1

    def send(self, topic: str, record: Record, **more: Any) -> list[Output]:
        """Fold one record in a cycle of its own; return the outputs."""
        self.offset += 1
        return self.shell.cycle(
            Delivery(topic, more.get("offset", self.offset), record, NOW_MS, more.get("resolves")),
            now_ms=NOW_MS,
        )

    def content(self, record: Record, **more: Any) -> list[str]:
        """Send a record to `content`; return the types of the answers."""
        return types(self.send("content", record, **more))

    @property
    def allowed(self) -> bool:
        """Whether a store that read everything may use the item."""
        return "c1" in self.shell.reader.items()

    @property
    def pair(self) -> tuple[int, int]:
        """The (epoch, revision) of the item's last answer."""
        return self.shell.reader.pairs["training-content", "c1"]


def types(outputs: list[Output]) -> list[str]:
    """Return the `ce_type` of each output."""
    return [str(dict(output.headers)["ce_type"]) for output in outputs]


@pytest.fixture
def desk() -> Desk:
    """Return a desk with an allowed user."""
    return Desk()


class TestUnreadableItems:
    def test_never_known(self, desk: Desk) -> None:
        """“A bad record of an item never known is answered with a tombstone of revision 0.”"""
        assert ["content.purged"] == desk.content(UNREADABLE)
        assert 0 == desk.pair[1]

    def test_until_a_good_record_at_a_later_offset(self, desk: Desk) -> None:
        """“for an item also until a good record of it arrives at a later offset”"""
        desk.content(content(), offset=5)
        assert desk.allowed
        desk.content(UNREADABLE, offset=7)
        assert not desk.allowed
        desk.content(content(revision=2), offset=6)
        assert not desk.allowed
        desk.content(content(revision=2), offset=8)
        assert desk.allowed

    def test_a_dead_letter_before_a_good_record(self, desk: Desk) -> None:
        """A replayed dead letter at an earlier offset does not restrict a readable item."""
        desk.content(content(), offset=5)
        desk.content(UNREADABLE, offset=4)

        assert desk.allowed

    def test_dismissed(self, desk: Desk) -> None:
        """“It stands until the dead letter is resolved”, and a later epoch wins over the purge."""
        desk.content(content())
        desk.content(UNREADABLE)
        tombstone = desk.pair
        desk.send("objections", dismissal(dead_letter=PREFIX + "1"))

        assert desk.allowed
        assert desk.pair > tombstone

    def test_replayed(self, desk: Desk) -> None:
        """“a mended record ... with the header `dlq_resolves`”, first of its item as well."""
        desk.content(UNREADABLE)
        desk.content(content(revision=0), resolves=PREFIX + "0")

        assert desk.allowed

    def test_dismissed_and_sent_again(self, desk: Desk) -> None:
        """An item first unreadable, dismissed, then sent with revision 0 is not lost to stores."""
        desk.content(UNREADABLE)
        desk.send("objections", dismissal(dead_letter=PREFIX + "0"))
        desk.content(content(revision=0))

        assert desk.allowed

    def test_dismissed_before_it_is_read_again(self, desk: Desk) -> None:
        """A dead letter replayed behind its dismissal restricts nothing and loses nothing."""
        desk.send("objections", dismissal(dead_letter=PREFIX + "3"))
        desk.content(UNREADABLE, offset=3)
        epoch = desk.shell.users["u1"].epoch
        desk.send("objections", dismissal(dead_letter=PREFIX + "3"))
        assert epoch == desk.shell.users["u1"].epoch
        desk.content(content(revision=0), offset=4)

        assert desk.allowed

    def test_the_user_is_not_restricted(self, desk: Desk) -> None:
        """“in `content`, when key and `content_id` are readable, for that item”"""
        products = desk.shell.reader.products()
        desk.content(UNREADABLE)
        desk.content({"user_id": "u1"})

        assert products == desk.shell.reader.products()


class TestAnswers:
    def test_every_content_record_is_answered(self, desk: Desk) -> None:
        """“Every content record is answered, with a record or a tombstone”, unchanged ones too."""
        assert ["content.allowed"] == desk.content(content())
        assert ["content.allowed"] == desk.content(content())
        assert ["content.purged"] == desk.content(content(revision=2, visibility="friends"))
        assert ["content.purged"] == desk.content(content(revision=1))

    @pytest.mark.parametrize("kind", ["private_message", "story"])
    def test_private_message(self, desk: Desk, kind: str) -> None:
        """“a private message is neither stored nor answered, unless its content_id was known”"""
        assert [] == desk.content(content(kind=kind))
        assert {} == desk.shell.items
        assert ["content.allowed"] == desk.content(content())
        assert ["content.purged"] == desk.content(content(kind=kind, revision=0))
        assert ["content.purged"] == desk.content(content(revision=7))

    def test_a_private_message_shows_its_user(self) -> None:
        """“A user is seen with the first record, good or bad, whose key is a valid id.”"""
        delivery = Delivery("content", 0, content(kind="private_message"), NOW_MS)

        outputs = Shell().cycle(delivery, now_ms=NOW_MS)

        assert ["eligibility.decided"] == types(outputs)

    @pytest.mark.parametrize(
        "topic,record",
        [
            ("objections", objection(action="withdrawn")),
            ("account-ages", grown_up()),
            ("notices", notice()),
            ("notices", notice(delivered_at="soon")),
        ],
    )
    def test_nothing_changes(self, desk: Desk, topic: str, record: Record) -> None:
        """“An input record about the user that changes nothing publishes the same decision”"""
        desk.send(topic, record)
        before = desk.shell.reader.decisions[-1]

        assert ["eligibility.decided"] == types(desk.send(topic, record))
        assert before == desk.shell.reader.decisions[-1]

    def test_time_passing(self) -> None:
        """“`cause.topic` is `clock` for time passing”, and publishes without any record."""
        shell = Shell()
        due_ms = NOW_MS + 30 * 86_400_000
        delivered = notice(delivered_at=rfc3339(NOW_MS))
        shell.cycle(
            Delivery("account-ages", 0, grown_up(), NOW_MS),
            Delivery("notices", 0, delivered, NOW_MS),
            now_ms=NOW_MS,
        )

        assert [] == shell.cycle(now_ms=due_ms - 1)
        outputs = shell.cycle(now_ms=due_ms + 5)

        assert ["eligibility.decided", *["user.allowed"] * 4] == types(outputs)
        decision = shell.reader.decisions[-1]
        assert ("clock", True) == (decision["cause"]["topic"], decision["eligible"])
        assert str(due_ms) == dict(outputs[0].headers)["objections_received_at"]


class TestDeletedAccounts:
    GONE = age(account="deleted")

    def test_later_content(self, desk: Desk) -> None:
        """“Later content of that id is answered with a tombstone and not stored.”"""
        desk.send("account-ages", self.GONE)

        for record in (content(), UNREADABLE):
            assert ["content.purged"] == desk.content(record)
            assert REVISION_MAX == desk.pair[1]
            assert {} == desk.shell.items

    def test_items_are_purged_and_leave(self, desk: Desk) -> None:
        """“purges are published, then the user's ... items leave the state”"""
        desk.content(content(revision=3))

        outputs = types(desk.send("account-ages", self.GONE))

        assert ["eligibility.decided", *["user.purged"] * 4, "content.purged"] == outputs
        assert REVISION_MAX == desk.pair[1]
        assert {} == desk.shell.items["u1"]
        assert User(deleted=True) == desk.shell.users["u1"].user

    @pytest.mark.parametrize("inline_items", [0, 10])
    def test_an_item_in_the_cycle_of_the_deletion_leaves(
        self, desk: Desk, inline_items: int
    ) -> None:
        """No row of an item stays, also of one that the deletion's own cycle has touched."""
        desk.content(content())
        desk.shell.cycle(
            Delivery("account-ages", 9, self.GONE, NOW_MS),
            Delivery("content", 9, content(revision=2), NOW_MS),
            now_ms=NOW_MS,
            inline_items=inline_items,
        )
        desk.shell.finish(NOW_MS)

        assert {} == desk.shell.items["u1"]
        assert not desk.allowed


class TestHold:
    """“No grant leaves a partition before its objections, ages and notices have been read”"""

    def test_nothing_more_is_allowed(self) -> None:
        """While grants are held a user keeps a reason, and is allowed once the hold ends."""
        shell = Shell()
        shell.cycle(Delivery("account-ages", 0, grown_up(), NOW_MS), now_ms=NOW_MS, hold=True)
        shell.cycle(Delivery("notices", 0, notice(), NOW_MS), now_ms=NOW_MS, hold=True)
        assert set() == shell.reader.products()

        shell.cycle(now_ms=NOW_MS)

        assert len(PRODUCTS) == len(shell.reader.products())

    def test_an_objection_read_last_wins(self) -> None:
        """What an unread objection forbids is never allowed in between."""
        shell = Shell()
        deliveries = [
            Delivery("account-ages", 0, grown_up(), NOW_MS),
            Delivery("notices", 0, notice(), NOW_MS),
            Delivery("objections", 0, objection(products=["facebook"]), NOW_MS),
        ]
        found = [types(shell.cycle(each, now_ms=NOW_MS, hold=True)) for each in deliveries]
        found.append(types(shell.cycle(now_ms=NOW_MS)))

        assert not any("user.allowed" in each for each in found[:-1])
        assert ["user.allowed"] * 3 == [each for each in found[-1] if each.startswith("user.")]

    def test_purges_are_not_held(self, desk: Desk) -> None:
        """Only grants wait: an objection read while grants are held purges at once."""
        desk.content(content())
        desk.shell.cycle(Delivery("objections", 0, objection(), NOW_MS), now_ms=NOW_MS, hold=True)

        assert set() == desk.shell.reader.products()
        assert not desk.allowed

    def test_a_dismissal_waits(self, desk: Desk) -> None:
        """An item that becomes readable while grants are held is answered behind the hold."""
        desk.content(content())
        desk.content(UNREADABLE)
        dismissed = Delivery("objections", 0, dismissal(dead_letter=PREFIX + "1"), NOW_MS)
        outputs = desk.shell.cycle(dismissed, now_ms=NOW_MS, hold=True)
        assert "content.allowed" not in types(outputs)

        desk.shell.finish(NOW_MS)

        assert desk.allowed

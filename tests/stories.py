"""
Small stories about users: records in, and the exact outputs that each of them must bring about.

A story is a list of steps; a step is one input record and all that is published because of it.
What a step expects leaves out what can be computed: partition, times, ids, the repeated headers.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from streams.core.reasons import PRODUCTS
from tests.making import age, content, grown_up, notice, objection

REVISION_MAX = 2**63 - 1
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

NOBODYS = ["AGE_UNKNOWN", "COUNTRY_NOT_COVERED", "NOTICE_PENDING"]  # reasons of a user unheard of


class Expected(NamedTuple):
    """
    One output record: its topic, key, value (None for a tombstone) and what its headers hold.

    An `eligibility` value lacks `decided_at` and `cause`, which follow from *since*: the step,
    counted from 0, that led to the decision.  None is the step that it stands in.
    """

    topic: str
    key: str
    value: dict[str, Any] | None
    type: str
    epoch: int
    revision: int | None = None
    since: int | None = None


class Step(NamedTuple):
    """An input record, what it brings about, and the code it gets when it is bad."""

    topic: str
    value: dict[str, Any] | bytes
    expected: tuple[Expected, ...] = ()
    bad: str = ""
    trace: bytes | None = None
    mends: int | None = None  # the step whose dead letter its header `dlq_resolves` names
    dismisses: int | None = None  # the step whose dead letter it dismisses


class Story(list[Step]):
    """The steps of one user, whose id and content ids are the story's name and what follows."""

    def __init__(self, name: str, *, granted: bool = True) -> None:
        super().__init__()
        self.name = name
        if granted:
            self.age(self.decides(1, ["NOTICE_PENDING"]))
            self.notice(self.decides(2, []), *self.allows(2))

    def add(
        self, topic: str, value: dict[str, Any] | bytes, *expected: Expected, **of: Any
    ) -> None:
        """Add a step."""
        self.append(Step(topic, value, expected, **of))

    def age(self, *expected: Expected, **changes: Any) -> None:
        """Add an `account-ages` record, of an adult unless *changes* say otherwise."""
        self.add("account-ages", grown_up(user_id=self.name, **changes), *expected)

    def notice(self, *expected: Expected, days_ago: float = 100, notice_id: str = "n1") -> None:
        """Add a notice."""
        at = (datetime.now(UTC) - timedelta(days=days_ago)).isoformat()
        record = notice(user_id=self.name, notice_id=notice_id, delivered_at=at)
        self.add("notices", record, *expected)

    def objects(self, *expected: Expected, trace: bytes | None = None, **changes: Any) -> None:
        """Add an `objections` record."""
        self.add("objections", objection(user_id=self.name, **changes), *expected, trace=trace)

    def dismisses(self, step: int, *expected: Expected) -> None:
        """Add the dismissal of the dead letter of *step*."""
        value = {"user_id": self.name, "action": "dismissed"}
        self.add("objections", value, *expected, dismisses=step)

    def item(self, *expected: Expected, item: str = "c1", **changes: Any) -> None:
        """Add a `content` record of the item "<story>.<item>"."""
        self.add("content", self.content_value(item, **changes), *expected)

    def bad_item(self, *expected: Expected, item: str = "c1") -> None:
        """Add a `content` record without modality."""
        value = self.content_value(item, modality=None)
        self.add("content", value, *expected, bad="field_missing")

    def content_value(self, item: str = "c1", **changes: Any) -> dict[str, Any]:
        """Return the value of a `content` record."""
        return content(user_id=self.name, content_id=f"{self.name}.{item}", **changes)

    def decides(
        self,
        epoch: int,
        reasons: list[str] | dict[str, list[str]],
        since: int | None = None,
    ) -> Expected:
        """Return the decision with *reasons* against every product, or by product."""
        if not isinstance(reasons, dict):
            reasons = {product: list(reasons) for product in PRODUCTS}
        products = {product: sorted(reasons.get(product, [])) for product in PRODUCTS}
        union = sorted({each for of_product in products.values() for each in of_product})
        value = {
            "user_id": self.name,
            "epoch": epoch,
            "eligible": not union,
            "reasons": union,
            "products": products,
        }
        return Expected("eligibility", self.name, value, "eligibility.decided", epoch, since=since)

    def allows(self, epoch: int, products: Iterable[str] = PRODUCTS) -> list[Expected]:
        """Return the `training-users` records of *products*."""
        return [
            Expected(
                "training-users",
                f"{product}/{self.name}",
                {"user_id": self.name, "product": product, "epoch": epoch},
                "user.allowed",
                epoch,
            )
            for product in products
        ]

    def purges(self, epoch: int, products: Iterable[str] = PRODUCTS) -> list[Expected]:
        """Return the `training-users` tombstones of *products*."""
        return [
            Expected("training-users", f"{each}/{self.name}", None, "user.purged", epoch)
            for each in products
        ]

    def gives(self, epoch: int, revision: int = 1, item: str = "c1", **changes: Any) -> Expected:
        """Return the record of an item."""
        key = f"{self.name}.{item}"
        value = {
            "content_id": key,
            "user_id": self.name,
            "revision": revision,
            "product": "instagram",
            "kind": "post",
            "modality": "text",
            "language": None,
            "created_at": "2026-04-15T09:00:00Z",
            "epoch": epoch,
            **changes,
        }
        return Expected("training-content", key, value, "content.allowed", epoch, revision)

    def takes(self, epoch: int, revision: int = 1, item: str = "c1") -> Expected:
        """Return the tombstone of an item."""
        key = f"{self.name}.{item}"
        return Expected("training-content", key, None, "content.purged", epoch, revision)


def _objection_to_some_products() -> Story:
    s = Story("some-products")
    s.item(s.gives(2, item="f", product="facebook"), item="f", product="facebook")
    s.item(s.gives(2, item="i"), item="i")
    only_facebook = {"facebook": ["OBJECTION"]}
    s.objects(
        s.decides(3, only_facebook),
        *s.purges(3, ["facebook"]),
        s.takes(3, item="f"),
        products=["facebook"],
    )
    both = {"facebook": ["OBJECTION"], "instagram": ["OBJECTION"]}
    s.objects(
        s.decides(4, both),
        *s.purges(4, ["instagram"]),
        s.takes(4, item="i"),
        products=["instagram"],
    )
    s.objects(
        s.decides(5, []),
        *s.allows(5, ["facebook", "instagram"]),
        s.gives(5, item="f", product="facebook"),
        s.gives(5, item="i"),
        action="withdrawn",
        products=["facebook"],
    )
    s.objects(s.decides(5, [], since=6))  # the withdrawn id stays withdrawn
    s.objects(
        s.decides(6, ["OBJECTION"]),
        *s.purges(6),
        s.takes(6, item="f"),
        s.takes(6, item="i"),
        objection_id="o2",
    )
    return s


def _withdrawal_first() -> Story:
    s = Story("withdrawal-first")
    s.objects(s.decides(2, [], since=1), action="withdrawn")
    s.objects(s.decides(2, [], since=1))
    return s


def _doubtful_products() -> Story:
    s = Story("doubtful-products")
    s.objects(s.decides(3, ["OBJECTION"]), *s.purges(3), products=["facebook", "orkut"])
    return s


def _same_objection_twice() -> Story:
    s = Story("same-twice")
    s.item(s.gives(2))
    s.objects(s.decides(3, ["OBJECTION"]), *s.purges(3), s.takes(3), trace=TRACE)
    s.objects(s.decides(3, ["OBJECTION"], since=3))
    s.objects(s.decides(3, ["OBJECTION"], since=3), objection_id="o2")
    s.objects(s.decides(3, ["OBJECTION"], since=3), action="withdrawn")
    return s


def _content_first() -> Story:
    s = Story("content-first", granted=False)
    s.item(s.decides(1, NOBODYS), s.takes(1))
    s.item(s.takes(1, 2), revision=2)
    s.notice(s.decides(2, ["AGE_UNKNOWN", "COUNTRY_NOT_COVERED"]))
    s.age(s.decides(3, []), *s.allows(3), s.gives(3, 2))
    return s


def _late_content() -> Story:
    s = Story("late-content")
    s.objects(
        s.decides(3, {"instagram": ["OBJECTION"]}),
        *s.purges(3, ["instagram"]),
        products=["instagram"],
    )
    s.item(s.takes(3))
    s.item(s.gives(3, item="f", product="facebook"), item="f", product="facebook")
    s.objects(s.decides(4, []), *s.allows(4, ["instagram"]), s.gives(4), action="withdrawn")
    return s


def _revisions() -> Story:
    s = Story("revisions")
    s.item(
        s.gives(2, 5, modality="image", language="gsw-CH"),
        revision=5,
        modality="image",
        language="gsw-CH",
    )
    s.item(s.gives(2, 5, modality="image", language="gsw-CH"), revision=3)
    s.item(s.takes(2, 6), revision=6, visibility="friends")
    s.item(s.gives(2, 7), revision=7, language="not a tag")
    return s


def _ties() -> Story:
    s = Story("ties")
    s.item(s.gives(2, modality="image"), modality="image")
    s.item(s.gives(2, modality="voice"), modality="voice")  # the greater bytes
    s.item(s.gives(2, modality="voice"), modality="text")  # the smaller ones
    s.item(s.takes(2), visibility="friends")
    s.item(s.takes(2), modality="voice")
    return s


def _visibility() -> Story:
    s = Story("visibility")
    s.item(s.takes(2), visibility="family")  # unknown: private
    s.item(
        s.gives(2, item="ai", kind="ai_interaction"),
        item="ai",
        kind="ai_interaction",
        visibility="private",
    )
    s.item(
        s.takes(2, 2, item="ai"), item="ai", kind="ai_interaction", visibility="deleted", revision=2
    )
    return s


def _deleted_item() -> Story:
    s = Story("deleted-item")
    s.item(s.gives(2, 5), revision=5)
    s.item(s.takes(2, 5), revision=3, visibility="deleted")
    s.item(s.takes(2, 9), revision=9)
    return s


def _created_at() -> Story:
    s = Story("created-at", granted=False)
    s.age(s.decides(1, ["NOTICE_PENDING"]), birth_date="2005-05-01")  # of age 2023-05-02T12:00Z
    s.notice(s.decides(2, []), *s.allows(2))
    s.item(s.gives(2, created_at="2023-05-02T12:00:00Z"), created_at="2023-05-02T12:00:00Z")
    s.item(s.takes(2, item="c2"), item="c2", created_at="2023-05-02T11:59:59.999Z")
    s.item(s.takes(2, 2), revision=2, created_at="2023-05-02T11:00:00Z")
    s.item(s.takes(2, 3), revision=3)  # the earliest of all revisions counts
    return s


def _private_messages() -> Story:
    s = Story("private-message", granted=False)
    s.item(s.decides(1, NOBODYS), kind="private_message")
    s.item(kind="private_message", revision=2)
    s.item(kind="dream", item="c2")  # unknown: private_message
    s.item(s.takes(1, 3), revision=3)
    return s


def _item_becomes_private_message() -> Story:
    s = Story("becomes-private")
    s.item(s.gives(2))
    s.item(s.takes(2, 2), revision=2, kind="private_message")
    s.item(s.takes(2, 3), revision=3)
    s.item(s.gives(2, item="c2"), item="c2")
    s.item(s.takes(2, item="c2"), item="c2", kind="dream")
    return s


def _ages() -> Story:
    s = Story("ages")
    s.item(s.gives(2))
    under_age = s.decides(3, ["UNDER_AGE"])
    s.age(under_age, *s.purges(3), s.takes(3), birth_date="2012-05-01", assurance="verified")
    s.age(s.decides(3, ["UNDER_AGE"], since=3), observed_at="2026-02-01T00:00:00Z")
    s.age(
        s.decides(4, []),
        *s.allows(4),
        s.gives(4),
        assurance="verified",
        observed_at="2026-03-01T00:00:00Z",
    )
    s.age(
        s.decides(5, ["COUNTRY_NOT_COVERED"]),
        *s.purges(5),
        s.takes(5),
        country="US",
        observed_at="2026-04-01T00:00:00Z",
    )
    return s


def _age_unknown() -> Story:
    s = Story("age-unknown", granted=False)
    reasons = ["AGE_UNKNOWN", "COUNTRY_NOT_COVERED", "NOTICE_PENDING"]
    s.add("account-ages", age(user_id=s.name), s.decides(1, reasons))
    s.age(
        s.decides(2, ["NOTICE_PENDING", "UNDER_AGE"]),
        age_band="under_18",
        birth_date=None,
        observed_at="2026-01-02T00:00:00Z",
    )
    return s


def _notices() -> Story:
    s = Story("notices", granted=False)
    s.age(s.decides(1, ["NOTICE_PENDING"]))
    s.notice(s.decides(1, ["NOTICE_PENDING"], since=0), days_ago=10)
    s.notice(s.decides(2, []), *s.allows(2), days_ago=31, notice_id="n2")
    s.notice(s.decides(2, [], since=2), days_ago=5, notice_id="n3")
    return s


def _account_deleted() -> Story:
    s = Story("account-deleted")
    s.item(s.gives(2, item="a"), item="a")
    s.item(s.takes(2, 4, item="b"), item="b", revision=4, visibility="friends")
    gone = ["ACCOUNT_DELETED"]
    tombstones = [s.takes(3, REVISION_MAX, item="a")]
    s.age(
        s.decides(3, gone),
        *s.purges(3),
        *tombstones,
        account="deleted",
        observed_at="2020-01-01T00:00:00Z",
    )
    s.item(s.takes(3, REVISION_MAX, item="a"), item="a", revision=7)
    s.item(s.takes(3, REVISION_MAX, item="new"), item="new")
    s.age(s.decides(3, gone, since=4), observed_at="2026-06-01T00:00:00Z")
    s.objects(s.decides(3, gone, since=4))
    return s


def _unseen_account_deleted() -> Story:
    s = Story("deleted-unseen", granted=False)
    s.age(s.decides(1, ["ACCOUNT_DELETED"]), account="deleted")
    s.item(s.takes(1, REVISION_MAX))
    s.item(item="pm", kind="private_message")
    return s


def _bad_item_then_good() -> Story:
    s = Story("bad-item-good")
    s.item(s.gives(2))
    s.bad_item(s.takes(2))
    s.item(s.decides(3, []), s.gives(3, 2), revision=2)
    return s


def _bad_item_never_known() -> Story:
    s = Story("bad-item-unknown")
    s.bad_item(s.takes(2, 0))
    s.item(s.decides(3, []), s.gives(3, 0), revision=0)
    return s


def _bad_item_dismissed() -> Story:
    s = Story("bad-item-dismissed")
    s.item(s.gives(2))
    s.bad_item(s.takes(2))
    s.dismisses(3, s.decides(3, []), s.gives(3))
    s.dismisses(3, s.decides(3, [], since=4))
    return s


def _bad_item_mended() -> Story:
    s = Story("bad-item-mended")
    s.item(s.gives(2))
    s.bad_item(s.takes(2))
    s.add("content", s.content_value(revision=2), s.decides(3, []), s.gives(3, 2), mends=3)
    return s


def _bad_objection_dismissed() -> Story:
    s = Story("bad-objection-dismissed")
    s.item(s.gives(2))
    unreadable = ["UNREADABLE_INPUT"]
    bad = json.dumps({"user_id": s.name, "action": "filed"}).encode()
    s.add(
        "objections", bad, s.decides(3, unreadable), *s.purges(3), s.takes(3), bad="field_missing"
    )
    s.add("objections", b"{", s.decides(3, unreadable, since=3), bad="value_not_json")
    s.dismisses(3, s.decides(3, unreadable, since=3))
    s.dismisses(4, s.decides(4, []), *s.allows(4), s.gives(4))
    return s


def _bad_objection_mended() -> Story:
    s = Story("bad-objection-mended")
    s.add(
        "objections",
        b"[]",
        s.decides(3, ["UNREADABLE_INPUT"]),
        *s.purges(3),
        bad="value_not_object",
    )
    mended = objection(user_id=s.name, products=["facebook"])
    rest = ["instagram", "whatsapp", "messenger"]
    s.add(
        "objections", mended, s.decides(4, {"facebook": ["OBJECTION"]}), *s.allows(4, rest), mends=2
    )
    return s


def _bad_age_mended() -> Story:
    s = Story("bad-age-mended")
    value = grown_up(user_id=s.name, observed_at="yesterday")
    s.add(
        "account-ages", value, s.decides(3, ["UNREADABLE_INPUT"]), *s.purges(3), bad="time_format"
    )
    mended = grown_up(user_id=s.name, observed_at="2026-02-01T00:00:00Z")
    s.add("account-ages", mended, s.decides(4, []), *s.allows(4), mends=2)
    return s


def _bad_notice() -> Story:
    s = Story("bad-notice")
    value = notice(user_id=s.name, delivered_at="2026-01-01T00:00:00")
    s.add("notices", value, s.decides(2, [], since=1), bad="time_without_offset")
    return s


def _seen_by_a_bad_record() -> Story:
    s = Story("seen-by-bad", granted=False)
    s.bad_item(s.decides(1, NOBODYS), s.takes(1, 0))
    s.add("objections", b"{}", s.decides(2, [*NOBODYS, "UNREADABLE_INPUT"]), bad="field_missing")
    return s


STORIES = {
    story.name: story
    for story in (
        _objection_to_some_products(), _withdrawal_first(), _doubtful_products(),
        _same_objection_twice(), _content_first(), _late_content(), _revisions(), _ties(),
        _visibility(), _deleted_item(), _created_at(), _private_messages(),
        _item_becomes_private_message(), _ages(), _age_unknown(), _notices(), _account_deleted(),
        _unseen_account_deleted(), _bad_item_then_good(), _bad_item_never_known(),
        _bad_item_dismissed(), _bad_item_mended(), _bad_objection_dismissed(),
        _bad_objection_mended(), _bad_age_mended(), _bad_notice(), _seen_by_a_bad_record(),
    )
}  # fmt: skip

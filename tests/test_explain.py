"""Explanations are assembled from evidence alone: here from what the real core made of stories."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.core.breaker import Breaker, State
from streams.core.policy import Policy
from streams.core.reasons import PRODUCTS
from streams.core.times import DAY_MS
from streams.core.user import NOBODY
from streams.explain.assemble import Wanted, explain
from streams.explain.evidence import Evidence, Published
from streams.explain.explanation import HIDDEN, Explanation
from streams.explain.rendering import lines_of
from streams.proof import Record
from tests import strategies
from tests.explaining import Told, fact, why
from tests.making import DEFAULTS, NOW_MS, age, content, dismissal, grown_up, ms, notice, objection

NO_FACT = "no fact of now causes it"
BECAUSE_OF_NOTHING = {"AGE_UNKNOWN", "COUNTRY_NOT_COVERED", "NOTICE_PENDING"}


def told(*records: Any, **options: Any) -> Told:
    """Return the story of *records*, each decided by itself."""
    found = Told()
    found.tell(*records, **options)
    return found


def effects(found: Explanation) -> list[tuple[str | None, str, int | None]]:
    """Return place, effect and epoch of each step."""
    return [(step.place, step.effect, step.epoch) for step in found.history.steps]


# --- Facts and reasons ----------------------------------------------------------------------


def test_each_reason_names_the_fact_and_the_record_that_cause_it() -> None:
    """An objection covers its products; under age ends by itself, by a birth date of some level."""
    found = told(
        grown_up(birth_date="2010-05-01", assurance="verified"),
        notice(delivered_at="2026-06-20T00:00:00Z"),
        objection(products=["facebook"]),
    ).explain()

    assert [("objection o1, filed for facebook", ("objections/0/0",))] == why(
        found, "facebook", "OBJECTION"
    )
    assert [] == why(found, "instagram", "OBJECTION")
    ((says, places),) = why(found, "instagram", "UNDER_AGE")
    assert "birth date 2010-05-01, country DE (verified, " in says
    assert ("account-ages/0/0",) == places
    assert "2028-05-02T12:00:00.000Z" == fact(found, "age").until
    assert "2026-07-20T00:00:00.000Z" == fact(found, "notice").until
    assert found.decision is not None
    cause = found.decision.cause
    assert ("objections", 0, 0, "o1") == (cause.topic, cause.partition, cause.offset, cause.id)
    assert found.ok


def test_what_is_not_known_is_a_reason_without_a_record() -> None:
    """Reasons that stand because nothing is known say so."""
    found = told(objection(products=["facebook"])).explain()

    assert [("no age record is known", ())] == why(found, "instagram", "AGE_UNKNOWN")
    assert [("no record with a country is known", ())] == why(
        found, "instagram", "COUNTRY_NOT_COVERED"
    )
    assert [("no notice that counts was delivered", ())] == why(
        found, "instagram", "NOTICE_PENDING"
    )


def test_superseded_facts_say_why() -> None:
    """An older statement, a lower level, a withdrawn objection, a later notice: told, with why."""
    verified = {"assurance": "verified", "birth_date": "1991-03-09"}
    found = told(
        grown_up(observed_at="2026-01-01T00:00:00Z"),
        grown_up(observed_at="2026-03-01T00:00:00Z"),
        grown_up(**verified, observed_at="2026-02-01T00:00:00Z"),
        grown_up(assurance="inferred", observed_at="2026-01-15T00:00:00Z"),
        notice(notice_id="n2", delivered_at="2026-02-02T00:00:00Z"),
        notice(),
        objection(),
        objection(action="withdrawn"),
    ).explain()

    def standing(kind: str, **details: object) -> tuple[str, str]:
        each = fact(found, kind, **details)
        return each.standing, each.because

    older = {"assurance": "self_declared", "observed_at": "2026-01-01T00:00:00.000Z"}
    newer = {"assurance": "self_declared", "observed_at": "2026-03-01T00:00:00.000Z"}
    assert ("superseded", "self_declared has a newer record, of 2026-03-01T00:00:00.000Z") == (
        standing("age", **older)
    )
    assert ("superseded", "a lower level than verified, and nothing in it restricts") == (
        standing("age", **newer)
    )
    assert ("superseded", "a lower level than verified, and not newer than its record") == (
        standing("age", assurance="inferred")
    )
    assert "in_force" == standing("age", assurance="verified")[0]
    assert ("superseded", "withdrawn, for good") == standing("objection")
    assert ("superseded", "later than the one that counts") == standing(
        "notice", delivered_at="2026-02-02T00:00:00.000Z"
    )
    assert "in_force" == standing("notice", delivered_at="2026-01-01T00:00:00.000Z")[0]
    actions = [(each.action, each.place) for each in fact(found, "objection").sources]
    assert [("filed", "objections/0/0"), ("withdrawn", "objections/0/1")] == actions
    assert found.ok


@pytest.mark.parametrize(
    "lower,reasons",
    [
        ({"birth_date": "2010-05-01"}, ("UNDER_AGE",)),
        ({"age_band": "under_18"}, ("UNDER_AGE",)),
        ({"birth_date": "1990-01-01", "country": "US"}, ("COUNTRY_NOT_COVERED",)),
        ({"birth_date": "2000-01-01"}, ()),  # a later coming of age, by which items are judged
    ],
)
def test_a_newer_lower_level_is_in_force_where_it_restricts(
    lower: dict[str, Any], reasons: tuple[str, ...]
) -> None:
    """Its reasons, or the items it keeps out, come from it, and it says so."""
    found = told(
        notice(),
        grown_up(assurance="verified"),
        age(observed_at="2026-02-01T00:00:00Z", **lower),
    ).explain()

    lower_fact = fact(found, "age", assurance="self_declared")
    assert ("in_force", reasons) == (lower_fact.standing, lower_fact.reasons)
    assert "a lower level than verified, but newer, and it restricts" == lower_fact.because
    assert found.ok


def test_notices_before_the_policys_day_do_not_count() -> None:
    """The policy's `notices_from` supersedes early deliveries."""
    policy = Policy(notices_from_ms=ms("2026-02-01T00:00:00Z"))
    story = Told(policy)
    story.tell(notice(), notice(notice_id="n2", delivered_at="2026-02-02T00:00:00Z"))

    early = fact(story.explain(), "notice", delivered_at="2026-01-01T00:00:00.000Z")

    assert "superseded" == early.standing
    assert "before the policy's notices_from, 2026-02-01T00:00:00.000Z" == early.because


def test_unreadable_records_are_told_with_what_they_restrict() -> None:
    """In force until resolved; notices restrict nobody; of an item until a good record of it."""
    found = told(
        grown_up(),
        age(observed_at="2026-02-01T00:00:00"),
        objection(action="shout"),
        notice(delivered_at="soon"),
        dismissal(dead_letter="account-ages/0/1"),
        content(content_id="bad", created_at="yesterday"),
        content(content_id="mended", created_at="yesterday"),
        content(content_id="mended"),
    ).explain()

    def bad(place: str) -> tuple[str, str, tuple[str, ...]]:
        each = fact(found, "unreadable", place=place)
        return each.standing, each.because, each.products

    assert ("superseded", "mended or dismissed", ()) == bad("account-ages/0/1")
    assert ("in_force", "stands until it is mended or dismissed", PRODUCTS) == bad("objections/0/0")
    assert ("superseded", "an unreadable notice restricts nobody", ()) == bad("notices/0/0")
    assert ("in_force", "restricts item bad, until resolved or read again", ()) == bad(
        "content/0/0"
    )
    assert ("superseded", "a later record of item mended is readable", ()) == bad("content/0/1")
    assert "decided" in [x.effect for x in found.history.steps if x.place == "content/0/2"]
    assert ("objections/0/1",) == tuple(x.place for x in fact(found, "resolution").sources)
    assert (
        "field_value: action: expected one of filed, withdrawn, dismissed, grants_released"
        == (fact(found, "unreadable", place="objections/0/0").details["error"])
    )
    assert [("unreadable record objections/0/0 (field_value: action: expected one of filed, "
             "withdrawn, dismissed, grants_released)", ("objections/0/0",))] == why(
        found, "facebook", "UNREADABLE_INPUT"
    )  # fmt: skip


def test_a_fact_whose_record_has_left_its_topic_is_told_without_it() -> None:
    """Notices are kept for 30 days, and of the ages the last record: the state has more."""
    story = told(grown_up(assurance="verified"), grown_up(), notice())
    story.topics["notices"].clear()
    del story.topics["account-ages"][0]

    found = story.explain()

    assert () == fact(found, "notice").sources
    assert () == fact(found, "age", assurance="verified").sources
    assert "the record that says so is no longer in its topic" in "\n".join(lines_of(found))
    assert found.ok


@settings(max_examples=60)
@given(st.lists(strategies.user_records, min_size=1, max_size=8), strategies.nows)
def test_every_reason_has_its_cause_whatever_was_said(records: list[Any], now_ms: int) -> None:
    """
    Facts in force cause the reasons that are decided, and no others; what is published is in order.
    """
    story = Told()
    story.tell(*records, at_ms=ms("2026-01-01T00:00:00Z"))
    story.pass_time(now_ms)

    found = story.explain(now_ms=now_ms)

    assert found.ok, found.mismatches
    for each in found.products:
        caused = {x for y in found.facts if each.product in y.products for x in y.reasons}
        decided = {reason.reason for reason in each.reasons}
        assert caused <= decided
        assert decided - caused <= BECAUSE_OF_NOTHING
        assert all(x.because and NO_FACT not in x.because[0].says for x in each.reasons)
    assert list(lines_of(found))
    assert found == msgspec.json.decode(msgspec.json.encode(found), type=Explanation)


# --- Next change, history -------------------------------------------------------------------


def test_the_next_change_by_itself_is_told_with_what_it_changes() -> None:
    """First the notice window ends, then the user comes of age, then nothing changes any more."""
    story = told(
        grown_up(birth_date="2008-05-01"),
        notice(delivered_at="2026-03-15T00:00:00Z"),
        objection(products=["facebook"]),
        at_ms=ms("2026-03-20T00:00:00Z"),
    )

    def at(time: str) -> tuple[str | None, bool, str] | None:
        found = story.explain(now_ms=ms(time)).next_change
        return None if found is None else (found.at, found.due, found.says)

    first = at("2026-03-21T00:00:00Z")
    assert ("2026-04-14T00:00:00.000Z", False, "all products: -NOTICE_PENDING") == first
    late = at("2026-04-15T00:00:00Z")
    assert ("2026-04-14T00:00:00.000Z", True, "all products: -NOTICE_PENDING") == late
    story.pass_time(ms("2026-04-15T00:00:00Z"))
    second = at("2026-04-15T00:00:00Z")
    of_age = "facebook: -UNDER_AGE; instagram, whatsapp, messenger: -UNDER_AGE = allowed"
    assert ("2026-05-02T12:00:00.000Z", False, of_age) == second
    story.pass_time(NOW_MS)
    assert at("2026-07-01T00:00:00Z") is None
    assert "time passed -> epoch" in "\n".join(lines_of(story.explain()))


def test_the_history_tells_what_each_record_changed() -> None:
    """Records that caused an epoch, that changed nothing, and that nobody has decided on yet."""
    story = told(grown_up(), notice(), notice(notice_id="n2", delivered_at="2026-02-02T00:00:00Z"))
    story.tell(objection(products=["facebook"]), at_ms=NOW_MS + 1)
    story.tell(objection(products=["facebook"]), at_ms=NOW_MS + 2)
    story.send(objection(objection_id="o2"), at_ms=NOW_MS + 3)

    found = story.explain()

    assert [
        ("account-ages/0/0", "decided", 1),
        ("notices/0/0", "decided", 2),
        ("notices/0/1", "unchanged", None),
        ("objections/0/0", "decided", 3),
        ("objections/0/1", "unchanged", None),
        ("objections/0/2", "pending", None),
    ] == effects(found)
    (change,) = found.history.steps[3].changes
    assert ("facebook", ("OBJECTION",), (), False) == (
        change.product, change.begun, change.ended, change.allowed,
    )  # fmt: skip
    assert ["objections/0/2"] == [each.place for each in found.pending]
    assert [("objection o1, filed for facebook", ("objections/0/0", "objections/0/1"))] == why(
        found, "facebook", "OBJECTION"
    )
    assert 2 == len(story.explain(Wanted(steps=2)).history.steps)
    assert 6 == story.explain(Wanted(steps=2)).history.steps_total
    assert found.ok


def test_epochs_that_left_the_log_are_named() -> None:
    """Of a batch only the last decision is published; compaction takes older ones away."""
    story = Told()
    places = story.tell_at_once(grown_up(), notice(), objection())
    story.tell(objection(action="withdrawn"), at_ms=NOW_MS + 1)
    story.tell(objection(objection_id="o2"), at_ms=NOW_MS + 2)
    missing = story.explain()
    del story.topics["eligibility"][0]
    compacted = story.explain()

    unnamed = [step.place for step in missing.history.steps if step.effect == "unnamed"]
    assert {*places[:2]} == {*unnamed}
    assert ((1, 4),) != missing.history.epochs_missing
    last = story.topics["eligibility"][0]
    epoch = msgspec.json.decode(last.value or b"")["epoch"]
    assert ((1, epoch - 1),) == compacted.history.epochs_missing
    assert f"without a record in the log: epoch 1 to {epoch - 1}" in compacted.history.notes[0]
    assert compacted.ok


# --- Items ----------------------------------------------------------------------------------


def items_story() -> Told:
    """Return a story with items of every kind."""
    return told(
        grown_up(birth_date="2000-01-01"),
        notice(),
        content(content_id="a"),
        content(content_id="b", visibility="friends"),
        content(content_id="c", product="facebook"),
        content(content_id="d", created_at="2010-01-01T00:00:00Z"),
        content(content_id="e", created_at="yesterday"),
        content(content_id="pm", kind="private_message", visibility="private"),
        objection(products=["facebook"]),
    )


def test_items_are_counted_by_reason_and_listed() -> None:
    """What is published of each, every reason against it, and where its answer stands."""
    found = items_story().explain().items

    assert found is not None
    assert (5, 1, 4, 1) == (found.known, found.allowed, found.purged, found.unreadable)
    reasons = {"MINOR_AT_CREATION": 1, "NOT_PUBLIC": 1, "OBJECTION": 1, "UNREADABLE_INPUT": 1}
    assert reasons == found.by_reason
    listed = {each.content_id: (each.published, each.reasons) for each in found.listed}
    assert {
        "a": ("allowed", ()),
        "b": ("purged", ("NOT_PUBLIC",)),
        "c": ("purged", ("OBJECTION",)),
        "d": ("purged", ("MINOR_AT_CREATION",)),
        "e": ("purged", ("UNREADABLE_INPUT",)),
    } == listed
    assert all(x.answer and x.answer.place.startswith("training-content/0/") for x in found.listed)


def test_one_item_is_told_with_its_history_and_what_causes_each_reason() -> None:
    """Records and answers in order; the user's reasons come with the user's facts."""
    story = items_story()
    story.tell(content(content_id="c", product="facebook", revision=2, visibility="friends"))

    found = story.explain(Wanted(content_id="c")).item
    bad = story.explain(Wanted(content_id="e")).item
    unknown = story.explain(Wanted(content_id="nothing")).item

    assert found is not None
    because = {each.reason: [x.says for x in each.because] for each in found.reasons}
    assert ["objection o1, filed for facebook"] == because["OBJECTION"]
    assert ["its visibility is friends"] == because["NOT_PUBLIC"]
    said = [(step.place, step.says.partition(",")[0]) for step in found.steps]
    assert ("content/0/2", "revision 1") in said
    assert [place for place, _ in said if place.startswith("training-content")]
    assert bad is not None
    assert [("content/0/4",)] == [x.places for each in bad.reasons for x in each.because]
    assert unknown is not None
    assert ("no record of this user has this content_id",) == unknown.notes


@pytest.mark.parametrize(
    "records,policy,reason,says",
    [
        (
            [content(content_id="a"), content(content_id="a", kind="private_message")],
            DEFAULTS,
            "PRIVATE_MESSAGE",
            "it is, or was once said to be, a private message",
        ),
        (
            [content(content_id="a"), content(content_id="a", visibility="deleted")],
            DEFAULTS,
            "DELETED",
            "it was deleted",
        ),
        (
            [content(content_id="a", kind="comment")],
            Policy(kinds=frozenset({"post"})),
            "KIND_NOT_COVERED",
            "the policy leaves out the kind comment",
        ),
        (
            [content(content_id="a")],
            Policy(products=frozenset({"facebook"})),
            "PRODUCT_NOT_COVERED",
            "the policy of version 1 leaves the product out",
        ),
        (
            [content(content_id="a", created_at="2007-12-31T00:00:00Z")],
            DEFAULTS,
            "MINOR_AT_CREATION",
            "created 2007-12-31T00:00:00.000Z, before its user came of age "
            "(2008-01-02T12:00:00.000Z)",
        ),
        (
            [content(content_id="a", created_at="then"), dismissal(dead_letter="content/0/0")],
            DEFAULTS,
            "NOT_PUBLIC",
            "nothing readable is known of it",
        ),
    ],
)
def test_reasons_of_an_item_are_told_in_words(
    records: list[Any], policy: Policy, reason: str, says: str
) -> None:
    """What makes each stand, whatever the user's own facts say."""
    story = Told(policy)
    story.tell(grown_up(), notice(), *records)

    explanation = story.explain(Wanted(content_id="a"))

    assert explanation.ok
    assert explanation.item is not None
    because = {each.reason: [x.says for x in each.because] for each in explanation.item.reasons}
    assert [says] == because[reason]


def test_a_fan_out_under_way_explains_what_is_not_answered_yet() -> None:
    """Items that still stand behind the cursor are no mismatch, and are told to be locked."""
    story = told(grown_up(), notice(), *(content(content_id=f"c{x}") for x in range(9)))
    story.tell(objection(), inline_items=1)

    under_way = story.explain()
    story.finish()
    done = story.explain()

    assert under_way.ok
    assert under_way.items is not None
    assert under_way.items.fan_out is not None
    assert under_way.items.locked > 0
    assert any("a fan-out to the items is under way" in each for each in under_way.remarks)
    assert done.ok
    assert done.items is not None
    assert (0, 9, None) == (done.items.allowed, done.items.purged, done.items.fan_out)


# --- Deleted, unknown, undecided ------------------------------------------------------------


def test_of_a_deleted_account_only_what_remains_is_told() -> None:
    """No fact, id or step of before the deletion, though the topics still hold them."""
    story = told(
        grown_up(birth_date="1977-01-02", country="FR"),
        notice(),
        objection(objection_id="o-of-before", products=["facebook"]),
        content(content_id="c-of-before"),
        age(account="deleted", observed_at="2026-03-01T00:00:00Z"),
    )
    story.send(grown_up(birth_date="1977-01-02"))

    found = story.explain(Wanted(listed=9, content_id="c-of-before"))

    text = msgspec.json.encode(replace(found, item=None)).decode() + "\n".join(lines_of(found))
    assert "1977" not in text
    assert "o-of-before" not in text
    assert "OBJECTION" not in text
    assert ["deletion"] == [each.kind for each in found.facts]
    assert [("account-ages/0/1", "decided")] == [
        (step.place, step.effect) for step in found.history.steps
    ]
    assert "objections 1, account-ages 3, notices 1, content 1" in found.remarks[0]
    assert found.items is not None
    assert (0, 1) == (found.items.known, found.items.purged_besides)
    assert found.item is not None
    assert all(step.place.startswith("training-content") for step in found.item.steps)
    assert found.ok


def test_a_user_nobody_has_decided_on_is_told_as_not_decided() -> None:
    """Nothing may be used; the records wait."""
    story = Told()
    story.send(grown_up())

    found = story.explain()

    assert found.decision is None
    assert ["account-ages/0/0"] == [each.place for each in found.pending]
    assert "Not decided yet, so nothing of this user may be used." in list(lines_of(found))
    assert found.ok


def test_redacting_hides_when_somebody_was_born_and_where_they_live() -> None:
    """Neither the date, nor an instant that follows from it, nor a country is in text or JSON."""
    story = told(
        grown_up(birth_date="2008-05-01", country="FR"),
        age(assurance="inferred", age_band="adult", adult_since="2026-05-03", country="ES"),
        notice(),
        content(created_at="2020-01-01T00:00:00Z"),
        at_ms=ms("2026-04-20T00:00:00Z"),
    )
    wanted = Wanted(redact=True, listed=9, content_id="c1")
    before = story.explain(wanted, now_ms=ms("2026-04-20T00:00:00Z"))
    late = story.explain(wanted, now_ms=ms("2026-05-20T00:00:00Z"))
    story.pass_time(ms("2026-05-20T00:00:00Z"))
    after = story.explain(wanted, now_ms=ms("2026-05-20T00:00:01Z"))

    for found in (before, late, after):
        text = msgspec.json.encode(replace(found, asked_at="")).decode()
        text += "\n".join(list(lines_of(found))[1:])
        for telling in ("2008", "2026-05", '"FR"', '"ES"', "country FR", "country ES"):
            assert telling not in text
        assert HIDDEN in text
        assert found.ok
    assert {"UNDER_AGE"} == {x for y in before.next_change.changes for x in y.ended}  # type: ignore[union-attr]


# --- What does not fit together -------------------------------------------------------------


@dataclass
class Break:
    """A way to spoil the evidence, and what is said then."""

    name: str
    says: str
    spoil: Any = field(repr=False)


def _lose_objection(found: Evidence) -> None:
    assert found.row is not None
    found.row = replace(found.row, user=replace(found.row.user, objections={}))


def _lose_row(found: Evidence) -> None:
    found.row = None


def _decide_wrongly(found: Evidence) -> None:
    assert found.row is not None
    decision = replace(found.row.decision, reasons=(0, 0, 0, 0))
    found.row = replace(found.row, decision=decision)


def _mistime(found: Evidence) -> None:
    assert found.row is not None
    found.row = replace(found.row, next_change_ms=NOW_MS + DAY_MS)


def _publish_earlier_epoch(found: Evidence) -> None:
    del found.decisions[-1]


def _publish_nothing(found: Evidence) -> None:
    found.decisions.clear()


def _publish_otherwise(found: Evidence) -> None:
    last = found.decisions[-1]
    value = msgspec.structs.replace(last.value, products=dict.fromkeys(PRODUCTS, ()))
    found.decisions[-1] = last._replace(value=value)


def _permit(found: Evidence) -> None:
    found.permissions["facebook"] = Published(7, 3, 0, stands=True)


def _forbid(found: Evidence) -> None:
    found.permissions["instagram"] = Published(7, 3, 0, stands=False)


def _garble(found: Evidence) -> None:
    found.take("eligibility", Record("eligibility", 0, 9, NOW_MS, b"u1", None))


def _let_stand(found: Evidence) -> None:
    found.answers["c"] = Published(7, 3, 1, stands=True)


def _purge(found: Evidence) -> None:
    found.answers["a"] = Published(7, 3, 1, stands=False)


def _unanswer(found: Evidence) -> None:
    del found.answers["a"]


def _let_stand_old_revision(found: Evidence) -> None:
    found.answers["a"] = Published(7, 3, 0, stands=True)


def _let_stand_unknown(found: Evidence) -> None:
    found.answers["nobody's"] = Published(7, 3, 1, stands=True)


BREAKS = [
    Break("lost", "objections/0/0 was read, but the state does not have", _lose_objection),
    Break("no row", "was read, but the state has no row of the user", _lose_row),
    Break("decision", "facebook: decided is nothing against it, the facts", _decide_wrongly),
    Break("timer", "the decision is timed to change at 2026-07-02", _mistime),
    Break("epoch", "is published, 3 is decided", _publish_earlier_epoch),
    Break("unpublished", "no record of the user is published", _publish_nothing),
    Break("published", "published is nothing against it, decided is", _publish_otherwise),
    Break("garbled", "eligibility/0/9: holds no decision", _garble),
    Break("permitted", "facebook/u1 (training-users/0/7): stands, but may", _permit),
    Break("forbidden", "instagram/u1 (training-users/0/7): is purged", _forbid),
    Break("item", "training-content c (training-content/0/7): stands, but may not", _let_stand),
    Break("purged", "training-content a (training-content/0/7): is purged, but is", _purge),
    Break("unanswered", "training-content a: may be used, but was never", _unanswer),
    Break("revision", "revision 0 stands, the item has 1", _let_stand_old_revision),
    Break("unknown", "stands, but the state has no such item", _let_stand_unknown),
]


@pytest.mark.parametrize("broken", BREAKS, ids=lambda each: each.name)
def test_what_nothing_explains_is_said(broken: Break) -> None:
    """A lost fact, a decision the facts do not give, an output that was not decided."""
    evidence = items_story().evidence()
    whole = explain(evidence, DEFAULTS, NOW_MS, Wanted())
    broken.spoil(evidence)

    found = explain(evidence, DEFAULTS, NOW_MS, Wanted())

    assert whole.ok
    assert not found.ok
    assert any(broken.says in each for each in found.mismatches), found.mismatches
    assert any("WRONG" in line for line in lines_of(found))


def test_a_lost_item_is_said() -> None:
    """A `content` record that was read, of which the state knows nothing."""
    story = items_story()
    story.tell(content(content_id="a", revision=2))
    of_user = story.shell.items["u1"]
    of_user[b"a"] = replace(of_user[b"a"], revision=1)
    del of_user[b"b"]

    found = story.explain()

    lost = [each.partition(" ")[0] for each in found.mismatches if "of its item" in each]
    assert ["content/0/1", "content/0/6"] == lost


def test_a_grant_that_is_held_is_explained() -> None:
    """While objections are being read no grant goes out, and that is no mismatch."""
    story = told(grown_up(), content())
    story.tell(notice(), hold=True)

    found = story.explain()

    assert found.ok
    assert found.decision is not None
    assert found.decision.held is not None
    assert "a grant waits until objections, ages and notices are read" in found.remarks[0]
    assert found.next_change is not None
    assert (None, True) == (found.next_change.at, found.next_change.due)
    assert "all products: -NOTICE_PENDING = allowed" == found.next_change.says


def test_a_grant_that_the_breaker_holds_is_explained() -> None:
    """It waits for people, and the command that tells more is named."""
    story = told(grown_up(), content())
    story.tell(notice(), hold=True)
    story.shell.breaker = Breaker(state=State(tripped=True, trip_ms=NOW_MS))

    found = story.explain()

    assert found.ok
    assert "`objections grants status --partition 0`" in found.remarks[0]


def test_another_policy_than_the_workers_is_explained() -> None:
    """Nothing is called wrong by a policy that did not decide; which one did is said."""
    story = told(grown_up(), notice(), content())

    found = story.explain(policy=Policy(version=2, products=frozenset({"facebook"})))
    same = story.explain(policy=Policy(adult_age=99))

    assert found.ok
    assert "decided by the policy of version 1, explained here by version 2" in found.remarks[0]
    assert same.ok
    assert "decided by another policy of version 1" in same.remarks[0]


def test_a_policy_that_has_not_come_to_the_user_is_explained() -> None:
    """While everybody is decided again, those still to come stand by the older version."""
    story = told(grown_up(), notice())
    story.policy = Policy(version=2, products=frozenset({"facebook"}))

    found = story.explain()

    assert found.ok
    assert ("policy 2 is being applied, and has not come to this user yet",) == found.remarks
    assert found.next_change is not None
    assert found.next_change.due


def test_a_state_that_is_being_rebuilt_is_explained() -> None:
    """A decision taken from the outputs has no facts yet: told, and not called wrong."""
    evidence = items_story().evidence()
    assert evidence.row is not None
    evidence.row = replace(evidence.row, user=NOBODY, seeded=True, next_change_ms=0)

    found = explain(evidence, DEFAULTS, NOW_MS, Wanted())

    assert found.ok
    assert found.decision is not None
    assert found.decision.rebuilding
    assert "the state was lost" in found.remarks[0]


def test_a_group_ahead_of_the_state_is_told() -> None:
    """What the group counts as read and the state does not have is lost, not waiting."""
    story = told(grown_up(), notice())
    evidence = story.evidence()
    lost = story.send(objection())
    evidence = story.evidence()
    evidence.committed["objections"] = 1

    found = explain(evidence, DEFAULTS, NOW_MS, Wanted())

    assert [f"{lost.ref} was read, but the state does not have what it says"] == [*found.mismatches]
    assert any("the group's offset is 1" in each for each in found.remarks)


# --- Text -----------------------------------------------------------------------------------


def test_ids_cannot_command_a_terminal() -> None:
    """What does not print is escaped."""
    found = told(objection(objection_id="\x1b[2Jo\n1")).explain()

    text = list(lines_of(found))

    assert not any("\x1b" in line or "\n" in line for line in text)
    assert any("\\x1b[2Jo\\n1" in line for line in text)

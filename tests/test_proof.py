"""
The proof finds every kind of thing that can be wrong with outputs, and nothing where all is well.

Outputs are made by the real fold and answers over one partition; then one thing is broken.
"""

import json

import pytest

from streams.proof import Record, log_violations, repetitions
from tests.proving import Break, World, change, header, make_world, remove, repeat, replace


@pytest.fixture
def world() -> World:
    """Return users and items of every kind."""
    return make_world()


def test_nothing_is_wrong_with_what_the_core_publishes(world: World) -> None:
    """Outputs of the real fold are proven."""
    assert [] == world.wrong()
    assert {"c1"} == world.truth.items.keys()
    assert [] == repetitions(world.outputs["training-content"])


# What is broken, and a part of the line that must name it.
BREAKS: dict[str, tuple[Break, str]] = {
    "undecided": (remove("eligibility", "u1"), "eligibility u1: never decided"),
    "unknown user": (repeat("eligibility", "u9", "u1"), "eligibility u9: published, but no input"),
    "reason missing": (
        change("eligibility", "u2", reasons=[]),
        "eligibility u2: reasons is [], expected ['OBJECTION']",
    ),
    "product's reasons": (change("eligibility", "u2", products={}), "u2: products is {}"),
    "eligible": (
        change("eligibility", "u2", eligible=True),
        "u2: eligible is True, expected False",
    ),
    "null decision": (replace("eligibility", "u1", value=None), "which this topic never holds"),
    "no JSON": (replace("eligibility", "u1", value=b"?"), "eligibility u1: eligibility/0/"),
    "user's record missing": (
        remove("training-users", "instagram/u1"),
        "training-users instagram/u1: may be used, but was never published",
    ),
    "user purged": (
        replace("training-users", "instagram/u1", value=None),
        "training-users instagram/u1: may be used, but",
    ),
    "user stands": (
        repeat("training-users", "instagram/u2", "facebook/u2"),
        "training-users instagram/u2: stands, but may not be used: OBJECTION",
    ),
    "unknown product": (
        repeat("training-users", "myspace/u1", "facebook/u1"),
        "training-users myspace/u1: published, but no input record",
    ),
    "user's product": (
        change("training-users", "facebook/u1", product="whatsapp"),
        "facebook/u1: product is 'whatsapp', expected 'facebook'",
    ),
    "unanswered": (remove("training-content", "c2"), "c2: a content record was never answered"),
    "bad unanswered": (remove("training-content", "bad"), "bad: a content record was never"),
    "item missing": (remove("training-content", "c1"), "c1: a content record was never answered"),
    "item purged": (replace("training-content", "c1", value=None), "c1: may be used, but"),
    "item stands": (
        repeat("training-content", "u2-c1", "c1"),
        "training-content u2-c1: stands, but may not be used",
    ),
    "unknown item": (repeat("training-content", "c9", "c1"), "c9: published, but no input record"),
    "private message": (
        repeat("training-content", "pm", "c2"),
        "pm: answered, but it is a private message never known otherwise",
    ),
    "modality": (
        change("training-content", "c1", modality="voice"),
        "c1: modality is 'voice', expected 'text'",
    ),
    "language": (change("training-content", "c1", language="de"), "c1: language is 'de'"),
    "created at": (
        change("training-content", "c1", created_at="2026-04-15T09:00:01Z"),
        "training-content c1: created_at is",
    ),
    "item's revision": (change("training-content", "c1", revision=7), "c1: revision is 7"),
    "item's user": (change("training-content", "c1", user_id="u2"), "c1: user_id is 'u2'"),
    "partition": (replace("training-content", "c1", partition=1), "expected in partition 0"),
    "two partitions": (
        repeat("training-users", "facebook/u1", partition=1),
        "its key was written to partition 0 as well",
    ),
    "text null": (
        replace("training-content", "c2", value=b"null"),
        "no JSON object and not null: no record, and no tombstone either",
    ),
    "tombstone with a value": (
        replace("training-content", "c2", value=b"{}"),
        "ce_type is b'content.purged', expected b'content.allowed'",
    ),
    "type of a record": (
        header("training-users", "facebook/u1", "ce_type", b"user.purged"),
        "ce_type is b'user.purged', expected b'user.allowed' for a record",
    ),
    "CloudEvents version": (
        header("eligibility", "u1", "ce_specversion", None),
        "ce_specversion is None",
    ),
    "event id": (header("eligibility", "u1", "ce_id", None), "ce_id is None, expected text"),
    "event id of another": (
        header("training-content", "c1", "ce_id", b"eligibility/u1/1"),
        "ce_id is b'eligibility/u1/1', expected one for each event",
    ),
    "source": (header("eligibility", "u1", "ce_source", b""), "ce_source is b'', expected text"),
    "time": (header("eligibility", "u1", "ce_time", b"now"), "ce_time is b'now', expected an RFC"),
    "subject": (header("eligibility", "u1", "ce_subject", b"u2"), "ce_subject is 'u2'"),
    "epoch": (header("eligibility", "u1", "objections_epoch", b"x"), "objections_epoch is b'x'"),
    "epoch 0": (header("eligibility", "u1", "objections_epoch", b"0"), "objections_epoch is b'0'"),
    "revision": (
        header("training-content", "c1", "objections_revision", None),
        "objections_revision is None, expected 0 or more",
    ),
    "received": (
        header("training-content", "c1", "objections_received_at", b"-1"),
        "objections_received_at is b'-1'",
    ),
    "value's epoch": (
        change("training-users", "facebook/u1", epoch=99),
        "epoch is 99, but key and headers say",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_named(world: World, name: str) -> None:
    """One thing broken in the outputs is found, and the line says where and what."""
    broken, named = BREAKS[name]

    broken(world)

    found = world.wrong()
    assert [line for line in found if named in line], f"{named!r} is not in {found}"


def of_log(*entries: tuple[int, int, bool]) -> list[Record]:
    """Return the log of one item: (epoch, revision, whether it stands) each."""
    log = []
    for offset, (epoch, revision, stands) in enumerate(entries):
        value = {"content_id": "c1", "user_id": "u1", "revision": revision, "epoch": epoch}
        headers = {
            "ce_specversion": "1.0",
            "ce_id": f"{epoch}/{revision}/{stands}",
            "ce_source": "/tests",
            "ce_type": "content.allowed" if stands else "content.purged",
            "ce_time": "2026-07-01T00:00:00.000Z",
            "ce_subject": "u1",
            "objections_epoch": str(epoch),
            "objections_revision": str(revision),
            "objections_received_at": "1",
        }
        log.append(
            Record(
                "x.training-content",
                0,
                offset,
                0,
                b"c1",
                json.dumps(value).encode() if stands else None,
                tuple((key, text.encode()) for key, text in headers.items()),
            )
        )
    return log


def test_a_log_may_rise_and_repeat() -> None:
    """A pair may grow, a record or tombstone repeat, and a tombstone follow an equal record."""
    log = of_log(
        (1, 1, True), (1, 2, True), (1, 2, True), (1, 2, False), (1, 2, False), (2, 1, True)
    )

    assert [] == log_violations(log)
    assert ["x.training-content c1: 1/2/True was published 2 times"] == repetitions(log)[:1]


@pytest.mark.parametrize(
    "before, after",
    [((2, 1, True), (1, 1, True)), ((2, 5, False), (2, 4, False)), ((3, 0, False), (2, 9, True))],
)
def test_a_pair_that_falls_is_found(
    before: tuple[int, int, bool], after: tuple[int, int, bool]
) -> None:
    """A lower epoch, or a lower revision in the same epoch, is a violation."""
    (found,) = log_violations(of_log(before, after))

    assert f"fell from {before[:2]} to {after[:2]} since x.training-content/0/0" in found


def test_a_record_after_a_tombstone_of_its_pair_is_found() -> None:
    """At an equal pair a tombstone wins, so no record may follow it."""
    (found,) = log_violations(of_log((1, 1, True), (2, 1, False), (2, 1, True)))

    assert "a record follows the tombstone x.training-content/0/1 at an equal pair (2, 1)" in found


def test_a_topic_that_is_no_output_is_named() -> None:
    """Records of another topic, or without a key, cannot be judged and are named."""
    (record,) = of_log((1, 1, True))

    found = log_violations([record._replace(topic="content"), record._replace(key=None)])

    assert 2 == len(found)
    assert all("expected a record of eligibility" in line for line in found)

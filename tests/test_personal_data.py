"""The page on personal data says what the topics hold: nothing is left out, nothing out of date."""

from pathlib import Path

import msgspec
import pytest

import topics
from deploy.personal_data.__main__ import main
from deploy.personal_data.page import OUTSIDE, PAGE, kept, page
from topics import Config

ROOT = Path(__file__).parents[1]

# Of no person: counters, places on Kafka, and what CloudEvents asks for.
IMPERSONAL = frozenset(
    {
        *(
            "epoch",
            "dead_letter",
            "through",
            "tripped_at",
            "store",
            "topic",
            "partition",
            "offset",
            "phase",
            "at",
        ),
        *(
            "ce_specversion",
            "ce_id",
            "ce_source",
            "ce_type",
            "ce_time",
            "traceparent",
            "tracestate",
        ),
        *(
            "objections_epoch",
            "objections_revision",
            "objections_received_at",
            "objections_subject_key",
            "dlq_resolves",
        ),
        *("dlq_topic", "dlq_partition", "dlq_offset", "dlq_timestamp", "dlq_error", "dlq_detail"),
        "dlq_truncated",
        *("sequence", "previous", "trail_hash"),
    }
)
# Revisions count; but those of `content` are a person's deeds.
IMPERSONAL_IN = {"training-content": frozenset({"revision"})}


def test_the_page_is_what_the_topics_say(capsys: pytest.CaptureFixture[str]) -> None:
    """Who changes a topic's data is told to build the page again."""
    assert page() == PAGE.read_text("utf-8"), "run python -m deploy.personal_data"
    assert main(["--check"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", topics.names())
def test_every_field_is_judged(name: str) -> None:
    """A field of a value, or a header, is personal or known not to be: none is forgotten."""
    found = topics.definition(name)
    told = {*found.fields, *found.headers}
    impersonal = IMPERSONAL | IMPERSONAL_IN.get(name, frozenset())

    assert set(found.personal.fields) <= told, "personal fields that are none of the topic's"
    assert not set(found.personal.fields) & impersonal
    if not found.personal.what:  # which speaks of all of it
        assert told - impersonal == set(found.personal.fields)
        assert found.personal.fields, "neither fields nor words"


@pytest.mark.parametrize("name", topics.names())
def test_the_page_tells_every_topic(name: str) -> None:
    """Each has its section, with who reads it and for how long it is kept."""
    section = page().split(f"### `{name}`\n")[1].split("\n#")[0]
    found = topics.definition(name)

    assert all(reader in section for reader in (*found.readers, *found.writers))
    assert kept(found) in section


def test_how_long_is_read_from_the_configuration() -> None:
    """The words follow the numbers that the broker is given."""
    content = topics.definition("content")
    hours = content.config | {"retention.ms": Config("5400000", "lower", "")}
    short = msgspec.structs.replace(content, config=hours)

    assert kept(topics.definition("objections")) == "for ever"
    assert kept(content) == "30 days, then deleted"
    assert kept(short) == "1.5 hours, then deleted"
    assert "at most 1 day more, a tombstone 7 days after" in kept(
        topics.definition("training-users")
    )


def test_places_elsewhere_are_there() -> None:
    """What the page says of places outside Kafka names code that exists."""
    assert [each.path for each in OUTSIDE if not (ROOT / each.path).exists()] == []

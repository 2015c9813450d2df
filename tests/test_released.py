"""
What was released stands: the tree is compared with every version that was written down.

A failure here is not mended in topics/released, but by adding beside what is there.
"""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.core.item import Item
from topics.compatible import broken
from topics.public import facts, layout, released

ROOT = Path(__file__).parents[1]
BEFORE = facts()

Now = dict[str, Any]


@pytest.mark.parametrize("version", sorted(released()))
def test_what_was_released_stands(version: str) -> None:
    """Nothing that others build against is removed or changed, and no row loses a fact."""
    assert [] == broken(released()[version], BEFORE)


def test_there_is_something_to_compare_with() -> None:
    """The first version is written down, whole."""
    assert "0.1.0" in released()
    assert set(BEFORE) == set(released()["0.1.0"])


def test_a_version_that_is_written_down_stays(tmp_path: Path) -> None:
    """`--release` refuses to write over a version, and says what to do."""
    done = subprocess.run(
        [sys.executable, "-m", "topics.generate", "--release"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == done.returncode
    assert "0.1.0.json: this version is written down already; raise `version`" in done.stderr


def schema(now: Now, topic: str) -> Any:
    """Return the schema of *topic*, to be changed."""
    return now["topics"][topic]["schema"]


def field(now: Now, topic: str, name: str) -> Any:
    """Return the schema of a field, to be changed."""
    return schema(now, topic)["properties"][name]


BREAKS: dict[str, tuple[Callable[[Now], object], str]] = {
    "topic": (lambda now: now["topics"].pop("receipts"), "topic receipts is gone"),
    "key": (lambda now: now["topics"]["content"].update(key="content_id"), "content: key was"),
    "cleanup": (lambda now: now["topics"]["objections"].update(cleanup="compact"), "cleanup was"),
    "header": (
        lambda now: now["topics"]["training-content"]["headers"].remove("objections_revision"),
        "training-content: header objections_revision is gone",
    ),
    "schema": (
        lambda now: now["topics"]["notices"].update(schema=None),
        "notices: field notice_id is gone",
    ),
    "field of an input": (
        lambda now: schema(now, "account-ages")["properties"].pop("adult_since"),
        "account-ages: field adult_since is gone",
    ),
    "field of an output": (
        lambda now: schema(now, "eligibility")["properties"].pop("cause"),
        "eligibility: field cause is gone",
    ),
    "field within a field": (
        lambda now: schema(now, "eligibility")["$defs"]["EligibilityCause"]["properties"].pop("id"),
        "field id is gone",
    ),
    "required": (
        lambda now: schema(now, "content")["required"].append("language"),
        "content: field language was optional or unknown, and is required",
    ),
    "no longer there": (
        lambda now: schema(now, "training-users")["required"].remove("epoch"),
        "training-users: always there before, field epoch is gone",
    ),
    "word": (
        lambda now: field(now, "content", "modality")["enum"].remove("voice"),
        "content.modality: word voice is gone",
    ),
    "word of a list": (
        lambda now: field(now, "objections", "products")["anyOf"][0]["items"]["enum"].pop(),
        "objections.products[]: word messenger is gone",
    ),
    "type": (
        lambda now: field(now, "training-content", "revision").update(type="string"),
        "training-content.revision: type was 'integer' and is 'string'",
    ),
    "range": (
        lambda now: field(now, "content", "revision").update(minimum=1),
        "content.revision: minimum was 0 and is 1",
    ),
    "pattern": (
        lambda now: field(now, "notices", "notice_id").update(pattern="^[a-z]+$"),
        "notices.notice_id: pattern was None",
    ),
    "condition": (
        lambda now: schema(now, "objections")["else"]["else"]["required"].append("channel"),
        "objections: else was",
    ),
    "condition of a word known before": (
        lambda now: schema(now, "objections")["else"].update(
            {"if": {"properties": {"action": {"const": "withdrawn"}}}}
        ),
        "objections: else was",
    ),
    "error code": (
        lambda now: now["error_codes"].remove("time_without_offset"),
        "error code time_without_offset is gone",
    ),
    "reason": (lambda now: now["reasons"].pop("UNDER_AGE"), "reason UNDER_AGE is gone"),
    "bit": (lambda now: now["reasons"].update(UNDER_AGE=3), "reason UNDER_AGE was 2"),
    "order": (lambda now: now["words"]["products"].reverse(), "products: ['facebook', 'instagram'"),
    "metric": (
        lambda now: now["metrics"].pop("objections_published_total"),
        "metric objections_published_total is gone",
    ),
    "label": (
        lambda now: now["metrics"]["objections_events_total"]["labels"].remove("outcome"),
        "metric objections_events_total was",
    ),
    "setting": (
        lambda now: now["settings"].pop("OBJECTIONS_GROUP"),
        "setting OBJECTIONS_GROUP is gone",
    ),
    "default": (
        lambda now: now["settings"].update(OBJECTIONS_HTTP="0.0.0.0:80"),
        "setting OBJECTIONS_HTTP was",
    ),
    "command": (
        lambda now: now["commands"].pop("objections topics check"),
        "command objections topics check is gone",
    ),
    "option": (
        lambda now: now["commands"]["objections topics apply"].remove("--partitions"),
        "objections topics apply: option --partitions is gone",
    ),
    "exit status": (
        lambda now: now["exit_statuses"].update(Unreachable=4),
        "exit status Unreachable was 3 and is 4",
    ),
    "row": (
        lambda now: now["state_rows"]["user"]["layout"]["User"].append("nickname: str"),
        "row of state user has other fields, but still version ",
    ),
    "older row": (
        lambda now: now["state_rows"]["item"].update(version=0),
        "item: version 1 is not written any more",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_break_is_named(what: str) -> None:
    """Whatever is taken from people is told in one line that names it."""
    now = copy.deepcopy(BEFORE)
    change, told = BREAKS[what]
    change(now)

    found = broken(BEFORE, now)

    assert [line for line in found if told in line], found


def test_additions_are_fine() -> None:
    """Optional fields, headers, words, topics, metrics, settings and commands may be added."""
    now = copy.deepcopy(BEFORE)
    now["topics"]["new"] = now["topics"]["notices"]
    now["topics"]["eligibility"]["headers"].append("ce_new")
    schema(now, "notices")["properties"]["new"] = {"type": "string"}
    schema(now, "eligibility")["properties"]["new"] = {"type": "string"}
    schema(now, "eligibility")["required"].append("new")
    field(now, "content", "modality")["enum"].append("smell")
    now["error_codes"].append("new")
    now["reasons"]["NEW"] = 1 << 20
    now["words"]["products"].append("threads")
    now["metrics"]["objections_new_total"] = {"type": "counter", "labels": []}
    now["settings"]["OBJECTIONS_NEW"] = "1"
    now["commands"]["objections new"] = ["--bootstrap"]
    now["commands"]["objections worker"].append("--new")
    now["state_rows"]["user"]["layout"]["User"].append("nickname: str")
    now["state_rows"]["user"]["version"] += 1

    assert [] == broken(BEFORE, now)


def test_a_layout_is_all_that_a_row_holds() -> None:
    """Fields are told in their order and with their types, as a decoder relies on both."""
    assert ["revision: int", "visibility: int", "value: bytes"] == layout(Item)["Item"][:3]
    of_user = {"UserRow", "User", "Level", "Statement", "Decision", "Cause", "Held", "Mark"}
    assert of_user | {"Link", "Inherited"} == set(BEFORE["state_rows"]["user"]["layout"])

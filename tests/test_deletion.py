"""
What remains of a deleted account: read from the segments of a real Kafka's changelogs.

They are kept uncompressed and compacted at once, so that a file holds a fact or it does not.
"""

import json
from pathlib import Path
from typing import Final

import msgspec
from confluent_kafka.admin import (  # type: ignore[attr-defined] # they are public
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from streams import proof
from streams.core.outputs import REVISION_MAX
from streams.core.user import DELETED_USER, Statement
from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.state import rows
from tests.making import age, content, grown_up, ms, notice, objection
from tests.worker_process import (
    Inputs,
    Watch,
    Worker,
    apply_topics,
    assert_proven,
    settings_of,
    wait_for,
    wait_until_caught_up,
)

USERS: Final = "objections-users-changelog"
ITEMS: Final = "objections-content-changelog"
AT_ONCE: Final = {
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.001",
    "max.compaction.lag.ms": "100",
    "delete.retention.ms": "100",
    "file.delete.delay.ms": "100",  # default 60 s, in which a removed segment stays as *.deleted
    "compression.type": "uncompressed",
}
BORN: Final = "1987-03-09"
BORN_DAY: Final = ms(f"{BORN}T00:00:00Z") // 86_400_000
NOTICED: Final = "2026-02-03T04:05:06.789Z"
LARGE: Final = 300  # items, worked off in slices

encode = msgspec.msgpack.encode


def compact_at_once(kafka: LocalKafka, prefix: str) -> None:
    """Let the changelogs forget as soon as they may."""
    settings = settings_of(kafka, prefix)
    resources = [
        ConfigResource(ResourceType.TOPIC, settings.topic(name)) for name in (USERS, ITEMS)
    ]
    for resource in resources:
        for key, value in AT_ONCE.items():
            resource.add_incremental_config(
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
            )
    client = admin.connect(settings)  # kept until it has answered
    for future in client.incremental_alter_configs(resources).values():
        future.result(10)


def on_disk(kafka: LocalKafka, topic: str) -> bytes:
    """Return the bytes of all files of a topic's one partition."""
    folder = kafka.folder / "data" / f"{topic}-0"
    found = b""
    for path in sorted(folder.iterdir()):
        try:
            found += path.read_bytes()
        except FileNotFoundError:  # the cleaner has just removed it
            continue
    return found


def facts_of(user_id: str) -> dict[str, dict[str, bytes]]:
    """Return, by changelog, what its rows hold of an account, as encoded there."""
    return {
        USERS: {
            "birth date": encode(Statement(True, BORN_DAY, 0, False, 0, "DE")),
            "its day": encode(BORN_DAY),
            "objection": f"o-of-{user_id}".encode(),
            "notice": encode(ms(NOTICED)),
        },
        ITEMS: {"item": f"c-of-{user_id}.".encode(), "value": b'"user_id":"%b"' % user_id.encode()},
    }


def standing(kafka: LocalKafka, prefix: str) -> list[str]:
    """Return which facts of the two accounts are on disk."""
    settings = settings_of(kafka, prefix)
    found = []
    for changelog in (USERS, ITEMS):
        data = on_disk(kafka, settings.topic(changelog))
        for user_id in ("small", "large"):
            for what, encoded in facts_of(user_id)[changelog].items():
                if encoded in data:
                    found.append(f"{user_id}: {what}")
    return found


def test_a_deleted_account_is_forgotten_for_good(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Purges are published, also those of a worker that was killed between slices, before rows leave
    the state; then no segment holds a birth date, an objection, a notice or an item.  What
    remains is the id, `deleted` and the epoch; later records change nothing and are answered.
    """
    apply_topics(kafka, prefix, partitions=1)
    compact_at_once(kafka, prefix)
    slices = {"FANOUT_INLINE_ITEMS": 5, "FANOUT_SLICE_ITEMS": 5}
    worker = Worker(kafka, prefix, tmp_path / "state", **slices)
    with worker, Inputs(kafka, prefix) as inputs, Watch(kafka, prefix) as watch:
        for user_id, count in (("small", 3), ("large", LARGE)):
            inputs.queue("account-ages", grown_up(user_id=user_id, birth_date=BORN))
            inputs.queue("notices", notice(user_id=user_id, delivered_at=NOTICED))
            withdrawn = {"user_id": user_id, "objection_id": f"o-of-{user_id}"}
            inputs.queue("objections", objection(**withdrawn, action="withdrawn"))
            for number in range(count):
                name = f"c-of-{user_id}.{number:03}"
                inputs.queue("content", content(user_id=user_id, content_id=name))
        inputs.flush()
        wait_until_caught_up(kafka, prefix, workers=[worker])
        held = standing(kafka, prefix)

        gone = {"account": "deleted", "observed_at": "2026-03-01T00:00:00Z"}

        def purged() -> set[bytes | None]:
            return {x.key for x in watch.outputs()["training-content"] if x.value is None}

        with worker.slowed():
            deleted = [age(user_id=each, **gone) for each in ("small", "large")]
            inputs.send(*[("account-ages", each) for each in deleted])
            wait_for(lambda: len(purged()) > 40, "some slices of the large account")
            worker.kill9()
        state = proof.read(settings_of(kafka, prefix), [USERS, ITEMS])
        after_kill = watch.outputs()
        worker.start()
        wait_until_caught_up(kafka, prefix, workers=[worker])
        settled = proof.compacted(assert_proven(kafka, prefix)["eligibility"])
        remains = {
            each: rows.decode_user(row.value or b"")
            for each in ("small", "large")
            for row in [
                proof.compacted(proof.read(settings_of(kafka, prefix), [USERS])[USERS])[
                    rows.user_key(each).decode()
                ]
            ]
        }

        later = {"user_id": "large", "observed_at": "2026-06-01T00:00:00Z"}
        inputs.send(
            ("account-ages", grown_up(**later, birth_date=BORN, account="open")),
            ("objections", objection(user_id="large", objection_id="o-of-large")),
            ("content", content(user_id="large", content_id="c-of-large.later", revision=9)),
        )
        wait_until_caught_up(kafka, prefix, workers=[worker])
        outputs = assert_proven(kafka, prefix)

        rolls = 0

        def forgotten() -> bool:
            nonlocal rolls
            rolls += 1
            roll = {"user_id": "other", "content_id": "roll", "revision": rolls}
            inputs.send(
                ("objections", objection(user_id=f"other{rolls}")), ("content", content(**roll))
            )
            return not standing(kafka, prefix)

        wait_for(forgotten, "no segment to hold anything of the accounts")

    assert 2 * 6 == len(held), held  # the search finds what is there
    ended = {x.key for x in state[ITEMS] if x.value is None}
    purged_by_then = {
        rows.item_key("large", (x.key or b"").decode())
        for x in after_kill["training-content"]
        if x.value is None and x.header("ce_subject") == b"large"
    }
    of_large = {key for key in ended if (key or b"").startswith(rows.items_prefix("large"))}
    assert 0 < len(of_large) < LARGE
    assert of_large <= purged_by_then
    assert ["ACCOUNT_DELETED"] == json.loads(settled["large"].value or b"")["reasons"]
    assert all(DELETED_USER == row.user for row in remains.values())
    assert all(row.epoch > 1 for row in remains.values())
    tombstones = [
        x
        for x in outputs["training-content"]
        if x.value is None and x.header("ce_subject") in {b"small", b"large"}
    ]
    assert 3 + LARGE + 1 == len(tombstones)
    assert {b"%d" % REVISION_MAX} == {x.header("objections_revision") for x in tombstones}
    again = proof.compacted(outputs["eligibility"])["large"]
    assert settled["large"].value == again.value

"""
Linked accounts on a real Kafka: owners of different partitions tell each other, also through kills.

Accounts lie in partitions of their own, half of them with either worker.
"""

import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, Final

import msgspec

from streams.kafka.local import LocalKafka
from streams.kafka.partitioner import partition_of
from streams.proof import compacted
from tests.making import content, grown_up, notice, objection
from tests.worker_process import (
    PARTITIONS,
    Inputs,
    Worker,
    apply_topics,
    assert_proven,
    read_outputs,
    wait_until_caught_up,
)

LINKED: Final = "account-links"
COVERED: Final = ["OBJECTION"]


def link(user_id: str, other: str, action: str = "linked", **changes: Any) -> tuple[str, Any]:
    """Return a record that links two accounts, or unlinks them."""
    record = {"linked_user_id": other, "action": action, "occurred_at": "2026-04-15T09:00:00Z"}
    return LINKED, {"user_id": user_id, **record, **changes}


def users_in(*numbers: int) -> Iterator[str]:
    """Yield new users of the partitions *numbers*, in turn."""
    for turn in count():
        number = numbers[turn % len(numbers)]
        yield next(
            user_id
            for user_id in (f"u{turn}-{each}" for each in count())
            if partition_of(user_id.encode(), PARTITIONS) == number
        )


def eligible(user_id: str) -> list[tuple[str, Any]]:
    """Return records by which *user_id* may be used, with an item."""
    return [
        ("account-ages", grown_up(user_id=user_id)),
        ("notices", notice(user_id=user_id)),
        ("content", content(user_id=user_id, content_id=f"c-{user_id}")),
    ]


def reasons(kafka: LocalKafka, prefix: str) -> dict[str, list[str]]:
    """Return the reasons that stand against each user, by what was published last."""
    found = compacted(read_outputs(kafka, prefix)["eligibility"])
    return {
        user_id: msgspec.json.decode(record.value or b"")["reasons"]
        for user_id, record in found.items()
    }


def test_an_objection_covers_linked_accounts_of_other_owners(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """Before or after the link, along a chain; unlinking undoes nothing, a withdrawal all of it."""
    apply_topics(kafka, prefix)
    ann, ben, cem, dan, eve, fay = islice(users_in(0, 1, 2, 3), 6)
    with (
        Worker(kafka, prefix, tmp_path / "one") as one,
        Worker(kafka, prefix, tmp_path / "two") as two,
        Inputs(kafka, prefix) as inputs,
    ):
        workers = [one, two]
        for worker in workers:
            worker.wait_ready()
        everybody = [ann, ben, cem, dan, eve, fay]

        def tell(*records: tuple[str, Any]) -> dict[str, list[str]]:
            inputs.send(*records)
            wait_until_caught_up(kafka, prefix, workers=workers)
            return reasons(kafka, prefix)

        found = tell(*(record for user_id in everybody for record in eligible(user_id)))
        assert {user_id: [] for user_id in everybody} == found
        found = tell(link(ann, ben), link(cem, ben), ("objections", objection(user_id=ann)))
        assert [COVERED, COVERED, COVERED, []] == [found[each] for each in everybody[:4]]
        found = tell(link(dan, cem))  # later: it hears of ann's, over three accounts
        assert COVERED == found[dan]
        two.kill9()
        inputs.send(("objections", objection(user_id=eve, objection_id="o2")), link(fay, eve))
        inputs.send(link(ben, ann, "unlinked", occurred_at="2026-04-16T09:00:00Z"))
        two.start()
        found = tell(link(cem, ben, "unlinked", occurred_at="2026-04-16T09:00:00Z"))
        assert dict.fromkeys(everybody, COVERED) == found
        time.sleep(0.01)
        withdrawn = objection(user_id=ann, action="withdrawn")
        found = tell(("objections", withdrawn))
        assert {user_id: COVERED if user_id in (eve, fay) else [] for user_id in found} == found
    assert_proven(kafka, prefix)

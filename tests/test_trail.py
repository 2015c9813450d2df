"""The audit trail's chain: what a partition adds to it, and that nothing breaks or doubles it."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import topics
from streams.bench.offline import Offline
from streams.bench.workload import Record
from streams.core import trail
from streams.core.outputs import Output
from streams.core.trail import AUDIT_TRAIL, HASH, NO_RECORD, Decided
from streams.errors import Halt
from streams.state import rows
from streams.worker.folded import Folded
from streams.worker.trail import Trail, decode_head, head_in
from tests.making import NOW_MS, content, grown_up, notice, objection, to_bytes

DECIDED = Decided("00" * 16, 1, (), "11" * 32)


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Offline]:
    """Return one partition that may grant, without Kafka."""
    found = Offline(tmp_path, 1, NOW_MS)
    found.release()
    yield found
    found.close()


def fold(offline: Offline, *records: tuple[str, dict[str, Any]]) -> list[Folded]:
    """Fold *records* in one cycle, committed or not."""
    made = [Record(topic, each["user_id"].encode(), to_bytes(each), "") for topic, each in records]
    (fetched,) = offline.rounds(made, len(made))
    return offline.fold(offline.decode(fetched))


def commit(offline: Offline, *records: tuple[str, dict[str, Any]]) -> list[Output]:
    """Fold *records* and note that they are committed; return what was published."""
    cycle = fold(offline, *records)
    offline.write(cycle)
    offline.persisted(cycle)
    return [output for part in cycle for output in part.outputs]


def of_trail(outputs: list[Output]) -> list[dict[str, Any]]:
    """Return the values of the trail's records among *outputs*."""
    return [json.loads(each.value or b"") for each in outputs if each.topic == AUDIT_TRAIL]


def eligibilities(outputs: list[Output]) -> list[bytes]:
    """Return the values of the `eligibility` records among *outputs*."""
    return [each.value or b"" for each in outputs if each.topic == "eligibility"]


def test_a_cycle_adds_one_record_of_all_its_decisions(offline: Offline) -> None:
    """Whose, which epoch, what is allowed, and a hash of what `eligibility` tells of it."""
    outputs = commit(
        offline,
        *(("account-ages", grown_up(user_id=each)) for each in ("ann", "ben")),
        *(("notices", notice(user_id=each)) for each in ("ann", "ben")),
        ("objections", objection(user_id="ben", products=["whatsapp"])),
    )

    (record,) = of_trail(outputs)
    ben, ann = record["decisions"]  # objections are folded first
    assert (record["partition"], record["sequence"]) == (0, 1)
    assert record["previous"] == "0" * 64
    assert ann["subject"] == sha256(b"ann").hexdigest()[:32]
    assert ann["allowed"] == ["facebook", "instagram", "whatsapp", "messenger"]
    assert ben["allowed"] == ["facebook", "instagram", "messenger"]
    told = eligibilities(outputs)
    assert [each["digest"] for each in (ben, ann)] == [sha256(each).hexdigest() for each in told]
    assert [each["epoch"] for each in (ben, ann)] == [json.loads(each)["epoch"] for each in told]


def test_reasons_causes_and_ids_stay_on_eligibility(offline: Offline) -> None:
    """The trail proves them and does not tell them: it has readers of its own."""
    outputs = commit(offline, ("objections", objection(user_id="ann", objection_id="o-77")))

    (value,) = [each.value or b"" for each in outputs if each.topic == AUDIT_TRAIL]
    for word in (b"ann", b"o-77", b"OBJECTION", b"AGE_UNKNOWN", b"objections"):
        assert word not in value


def test_what_decides_nothing_adds_nothing(offline: Offline) -> None:
    """The same record again, and an item of a known user, begin no epoch."""
    commit(offline, ("account-ages", grown_up()))
    again = commit(offline, ("account-ages", grown_up()))

    assert eligibilities(again)
    assert of_trail(again) == []
    assert of_trail(commit(offline, ("content", content()))) == []


def test_the_chain_goes_on_over_cycles_and_starts(offline: Offline) -> None:
    """Each record names the hash of the one before; the state knows the last."""
    outputs = [
        *commit(offline, ("account-ages", grown_up())),
        *commit(offline, ("notices", notice())),
    ]
    partition = offline.partitions[0]
    partition._trail = Trail(partition.store, 0)  # as another worker would find it
    outputs += commit(offline, ("objections", objection()))

    chain = [each for each in outputs if each.topic == AUDIT_TRAIL]
    assert [each["sequence"] for each in of_trail(outputs)] == [1, 2, 3]
    hashes = [sha256(each.value or b"").hexdigest() for each in chain]
    assert [each["previous"] for each in of_trail(outputs)] == ["0" * 64, *hashes[:2]]
    assert [dict(each.headers)[HASH] for each in chain] == hashes
    assert [each.key for each in chain] == [b"0/1", b"0/2", b"0/3"]
    assert head_in(partition.store) == (3, hashes[2])


def test_what_was_rolled_back_leaves_no_gap(offline: Offline) -> None:
    """Two cycles folded and not committed are forgotten: their numbers are given again."""
    commit(offline, ("account-ages", grown_up()))
    partition = offline.partitions[0]
    positions = dict(partition.positions)
    lost = [of_trail(part.outputs) for part in fold(offline, ("notices", notice()))]
    lost += [of_trail(part.outputs) for part in fold(offline, ("objections", objection()))]
    assert [each["sequence"] for (each,) in lost] == [2, 3]

    partition.roll_back(positions)
    offline._ends[0].update(positions)  # they are read again
    (again,) = of_trail(commit(offline, ("objections", objection())))

    assert again["sequence"] == 2
    assert again["previous"] == lost[0][0]["previous"]


def test_a_record_stays_below_what_a_broker_takes() -> None:
    """However many are decided at once, by a new policy say."""
    outputs, head = trail.append(NO_RECORD, 3, NOW_MS, [DECIDED] * (trail.DECISIONS_MAX + 1))

    assert [len(trail.read(each.value or b"").decisions) for each in outputs] == [2_000, 1]
    assert max(len(each.value or b"") for each in outputs) < 1_000_000
    assert head == trail.head_after(outputs[1].value or b"")
    assert head.sequence == 2


@pytest.mark.parametrize("example", topics.accepted("eligibility"), ids=lambda each: each.name)
def test_a_digest_outlives_fields_to_come(example: topics.Example) -> None:
    """It is of the bytes as they are now, whatever a later version adds to them."""
    assert example.value is not None
    later = json.dumps({"new": 1, **json.loads(example.value)}).encode()

    assert trail.digest_of(example.value) == sha256(example.value).hexdigest()
    assert trail.digest_of(later) == trail.digest_of(example.value)


def test_the_examples_are_a_chain() -> None:
    """What the documents show can be checked by hand."""
    first, second = topics.accepted(AUDIT_TRAIL)
    assert first.value is not None
    assert second.value is not None
    told = dict(first.headers)[HASH].decode()

    assert sha256(first.value).hexdigest() == told == trail.read(second.value).previous
    proven = {trail.digest_of(each.value or b"") for each in topics.accepted("eligibility")}
    assert {each.digest for each in trail.read(second.value).decisions} <= proven


def test_a_damaged_row_is_refused() -> None:
    """A chain is not gone on from what nobody wrote."""
    with pytest.raises(Halt, match="audit trail"):
        decode_head(rows.encode_text("7/beef"))

"""
The fault suite's plan, and that its check finds what is planted in made-up logs.
"""

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from streams.bench.faults.check import Violation, violations
from streams.bench.faults.coordinator import place
from streams.bench.faults.disk import overwrite
from streams.bench.faults.plan import KINDS, PAUSE_S, WORKERS, plan
from streams.bench.faults.report import as_json, table
from streams.bench.faults.run import Result
from streams.commands import main
from streams.proof import Record
from tests.folding import Delivery
from tests.making import NOW_MS, content, grown_up, notice, objection
from tests.proving import Break, World, as_input, deliver, header, make_world, play, remove, repeat

ROUND = sum(kind.share for kind in KINDS.values())


def test_a_seed_gives_the_same_faults() -> None:
    """Another seed gives others."""
    first, again, other = (list(islice(plan(seed), 40)) for seed in (1, 1, 2))

    assert first == again
    assert first != other
    assert [*islice(plan(1, ["kill", "disk"]), 9)] == [*islice(plan(1, ["disk", "kill"]), 9)]
    assert list(range(1, 41)) == [fault.number for fault in first]


@pytest.mark.parametrize("seed", range(20))
def test_every_round_has_every_kind(seed: int) -> None:
    """As often as its share says, at moments and of lengths within their limits."""
    faults = list(islice(plan(seed), 2 * ROUND))

    for turn in (faults[:ROUND], faults[ROUND:]):
        assert {name: kind.share for name, kind in KINDS.items()} == Counter(
            fault.kind for fault in turn
        )
    for fault in faults:
        kind = KINDS[fault.kind]
        assert PAUSE_S[0] <= fault.pause_s <= PAUSE_S[1]
        assert fault.worker in range(WORKERS)
        assert kind.lasts_s[0] <= fault.lasts_s <= kind.lasts_s[1]
        assert kind.amount[0] <= fault.amount <= kind.amount[1]


def test_a_wrong_clock_is_an_hour_off_either_way() -> None:
    """Nothing in between, which would prove less."""
    faults = islice(plan(3, ["clock"]), 40)

    assert {-3600.0, 3600.0} == {fault.amount for fault in faults}


def found(world: World, *starts_ms: int) -> list[Violation]:
    """Return what the check finds."""
    return violations(
        world.inputs, {**world.outputs, "dead-letters": letters(world)}, NOW_MS, starts_ms
    )


def letters(world: World) -> list[Record]:
    """Return the dead letters of the world's bad inputs."""
    return [
        Record(
            "dead-letters",
            0,
            at,
            NOW_MS,
            bad.record.key,
            bad.record.value,
            (
                ("dlq_topic", bad.record.topic.encode()),
                ("dlq_partition", b"0"),
                ("dlq_offset", b"%d" % bad.record.offset),
                ("dlq_timestamp", b"%d" % bad.record.timestamp_ms),
                ("dlq_error", bad.code.encode()),
            ),
        )
        for at, bad in enumerate(world.truth.bad.values())
    ]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    """Neither in the outputs of the real fold, nor when workers began before or after."""
    assert [] == found(make_world())
    assert [] == found(make_world(), NOW_MS - 1)
    assert [] == found(make_world(), NOW_MS + 1)


# What is planted, and the rule, key and part of the sentence that must name it.
PLANTED: dict[str, tuple[Break, str, str, str]] = {
    "a lost objection": (remove("eligibility", "u2"), "truth", "u2", "never decided"),
    "a lost item": (remove("training-content", "c2"), "truth", "c2", "was never answered"),
    "a fallen epoch": (
        repeat("training-content", "c1", headers=()),
        "order",
        "c1",
        "objections_epoch is None",
    ),
    "committed twice": (repeat("training-content", "c1"), "twice", "c1", "was committed before in"),
    "a decision committed twice": (
        repeat("eligibility", "u4"),
        "twice",
        "u4",
        "committed before in",
    ),
    "allowed by no decision": (
        header("training-content", "c1", "objections_epoch", b"7"),
        "allowed",
        "c1",
        "there is no such decision",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found(name: str) -> None:
    """By its rule, with topic, partition, offset and key."""
    plant, rule, key, words = PLANTED[name]
    world = make_world()
    plant(world)

    named = [each for each in found(world) if each.rule == rule and words in each.what]

    assert [key] == [each.key for each in named][:1]
    assert all(each.place.count("/") == 2 for each in named) or "never" in words


@pytest.fixture
def objector() -> World:
    """Return an item that was allowed, and purged when its user objected."""
    return play(*deliver(grown_up(), notice(), content(), objection()))


def allowed_again(world: World, at_ms: int, epoch: int | None = None) -> Record:
    """Publish once more that the item may be used; *epoch*: as if a decision of now said so."""
    log = world.outputs["training-content"]
    (first,) = [each for each in log if each.value is not None]
    again = first._replace(offset=len(log), timestamp_ms=at_ms)
    if epoch is not None:
        value = json.loads(first.value or b"{}") | {"epoch": epoch}
        headers = dict(first.headers) | {
            "objections_epoch": b"%d" % epoch,
            "ce_id": b"planted",
        }
        again = again._replace(value=json.dumps(value).encode(), headers=tuple(headers.items()))
    log.append(again)
    return again


def test_an_item_that_comes_back_is_found(objector: World) -> None:
    """An old grant behind the tombstone: the epoch fell, it was there before, and it stands."""
    assert [] == found(objector)
    again = allowed_again(objector, NOW_MS)

    named = found(objector)

    assert {"truth", "order", "twice"} == {each.rule for each in named}
    assert {(again.place, "c1")} == {(each.place, each.key) for each in named}
    assert any("(epoch, revision) fell from" in each.what for each in named)
    assert any("stands, but may not be used" in each.what for each in named)


def test_an_item_that_no_decision_brought_back_is_found(objector: World) -> None:
    """Even in a rising epoch, and also where it is purged again at once."""
    last = objector.outputs["training-content"][-1]
    epoch = int(last.header("objections_epoch") or b"0")
    again = allowed_again(objector, NOW_MS, epoch)
    gone = last._replace(offset=again.offset + 1)
    objector.outputs["training-content"].append(gone)

    named = [each for each in found(objector) if each.rule == "allowed"]

    (one,) = named
    assert (again.place, "c1") == (one.place, one.key)
    assert f"after its tombstone {last.place}" in one.what
    assert "it says" in one.what
    assert "OBJECTION" in one.what


def test_a_grant_that_did_not_wait_for_what_was_unread_is_found(objector: World) -> None:
    """Allowed by workers that came when the objection had long been there, whatever followed."""
    again = allowed_again(objector, NOW_MS + 1_000)

    named = [each for each in found(objector, NOW_MS + 500) if each.rule == "premature"]

    (one,) = named
    assert (again.place, "c1") == (one.place, one.key)
    assert "o1 had stood in objections/0/" in one.what
    for other in (NOW_MS, NOW_MS + 1_001):  # before the objection; after the grant
        assert "premature" not in {each.rule for each in found(objector, other)}


def test_what_was_withdrawn_meanwhile_may_be_allowed(objector: World) -> None:
    """The objection stood when the workers came, but no more when they allowed."""
    withdrawal = as_input(Delivery("objections", 9, objection(action="withdrawn"), NOW_MS + 600))
    objector.inputs["objections"].append(withdrawal)
    allowed_again(objector, NOW_MS + 1_000)

    assert "premature" not in {each.rule for each in found(objector, NOW_MS + 500)}


def test_files_of_a_store_are_damaged(tmp_path: Path) -> None:
    """In as many places as told, in files that hold data, the same for the same chance."""
    for name in ("000001.sst", "000002.log", "MANIFEST-000003", "LOCK", "LOG"):
        (tmp_path / name).write_bytes(bytes(10_000))

    said = overwrite(tmp_path, 5, Random(1))

    damaged = {path.name for path in tmp_path.iterdir() if any(path.read_bytes())}
    assert said.startswith("5 places in ")
    assert damaged
    assert damaged.isdisjoint({"LOCK", "LOG"})


def test_the_table_names_what_was_skipped_and_each_violation() -> None:
    """So does the JSON."""
    result = Result(
        faults=Counter(kill=2),
        fault_s=Counter(kill=5),
        events={"content": 3},
        violations=[Violation("truth", "training-content/1/7", "c1", "stands, but may not be")],
    )
    result.skipped["disk"] = "no mount"

    lines = "\n".join(table(result))

    assert "2.5 s" in lines
    assert "disk skipped: no mount" in " ".join(lines.split())
    assert "kernel network " in lines
    assert "truth: training-content/1/7 key 'c1': stands, but may not be" in lines
    content = as_json({"seed": 1}, result)
    assert 2 == content["faults"]["kill"]["times"]
    assert "no mount" == content["skipped"]["disk"]
    assert "training-content/1/7" == content["violations"][0]["place"]


def test_the_plan_is_shown_and_nothing_done() -> None:
    """So that a run that has found something can be looked at before it is run again."""
    arguments = ["bench", "faults", "--dry-run", "--seed=7", "--faults=3", "--brokers=3"]
    done = CliRunner().invoke(main, arguments)

    assert 0 == done.exit_code
    assert [str(fault) for fault in islice(plan(7), 3)] == done.output.splitlines()


def test_the_kinds_are_listed() -> None:
    """All of them, with what they take."""
    done = CliRunner().invoke(main, ["bench", "faults", "--list"])

    lines = done.output.splitlines()
    assert list(KINDS) == [line.split()[0] for line in lines]
    three = {line.split()[0] for line in lines if line.endswith("(takes --brokers 3)")}
    assert {name for name, kind in KINDS.items() if kind.brokers == 3} == three


def test_what_takes_three_brokers_is_left_out_with_one() -> None:
    """And refused where it is asked for by its name."""
    arguments = ["bench", "faults", "--dry-run", "--faults=50"]
    one, three = (
        {
            line.split(": ")[1].split()[0]
            for line in CliRunner().invoke(main, each).output.splitlines()
        }
        for each in (arguments, [*arguments, "--brokers=3"])
    )
    named = CliRunner().invoke(main, [*arguments, "--kinds=kill,group-coordinator"])

    assert set(KINDS) == three
    assert {name for name, kind in KINDS.items() if kind.brokers == 1} == one
    assert 2 == named.exit_code
    assert "group-coordinator: it takes --brokers 3" in named.output


def test_a_kafka_of_others_is_not_harmed() -> None:
    """What would harm it is left out, and refused by its name; its brokers are not ours."""
    arguments = ["bench", "faults", "--dry-run", "--bootstrap=kafka:9092"]
    all_kinds = CliRunner().invoke(main, [*arguments, "--faults=50"])
    named = CliRunner().invoke(main, [*arguments, "--kinds=broker-kill"])
    brokers = CliRunner().invoke(main, [*arguments, "--brokers=3"])

    assert 0 == all_kinds.exit_code
    assert not [word for word in ("broker", "network", "coordinator") if word in all_kinds.output]
    assert 2 == named.exit_code
    assert "broker-kill: only a Kafka started here is harmed" in named.output
    assert 2 == brokers.exit_code
    assert "--brokers 3 is of a Kafka that is started" in brokers.output


@pytest.mark.parametrize(
    "name, code",
    [("abc", 96_354), ("", 0), ("tests.objections", 1_456_490_729), ("polygenelubricants", 0)],
)
def test_coordinators_are_found_as_kafka_does(name: str, code: int) -> None:
    """By Java's hash of the name, without its sign; its least number, which has none, is 0."""
    assert code % 7 == place(name, 7)


def test_an_unknown_kind_is_refused() -> None:
    """With the names of those there are."""
    done = CliRunner().invoke(main, ["bench", "faults", "--kinds=kill,flood"])

    assert 2 == done.exit_code
    assert "--kinds holds flood, expected some of kill, freeze" in done.output

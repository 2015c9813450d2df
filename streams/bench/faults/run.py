"""
A run from start to end: load, faults one after another, rest, and the check.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from streams import proof
from streams.bench.faults import (
    broker,
    clock,
    coordinator,
    disk,
    importing,
    network,
    workers,
)
from streams.bench.faults.check import Violation, violations
from streams.bench.faults.load import NOTICE_ENDS_S
from streams.bench.faults.plan import KINDS, Fault, lacking, plan
from streams.bench.faults.scene import LOOK_S, Say, Scene, Wounded, running_scene
from streams.errors import CommandError, Unreachable
from streams.proof import INPUTS, OUTPUTS

REST_S: Final = 120.0  # in which what is left must be done, once the load has ended
NOT_HERE: Final = {
    "kernel network": "packets are late or lost, and connections cut, by a proxy, not by tc",
}

Act = Callable[[Scene, Fault], str]
ACTS: Final[Mapping[str, Act]] = {
    "kill": workers.kill,
    "freeze": workers.freeze,
    "outage": workers.outage,
    "broker-kill": broker.kill,
    "broker-freeze": broker.freeze,
    "broker-slow": broker.slow_one,
    "storm": workers.storm,
    "clock": clock.wrong,
    "store": disk.damage,
    "network-slow": network.slow,
    "network-cut": network.cut,
    "network-loss": network.lose,
    "network-stall": network.stall,
    "disk": disk.full,
    "import": importing.run,
    "one-broker-kill": broker.kill_one,
    "one-broker-freeze": broker.freeze_one,
    "one-broker-stall": network.stall_one,
    "transaction-coordinator": coordinator.of_transactions,
    "group-coordinator": coordinator.of_group,
}
assert ACTS.keys() == KINDS.keys()


@dataclass
class Result:
    """
    What a run has come to.

    faults, fault_s: how many there were of each kind, and how long until all was whole again.
    events, published: records by topic, in the inputs and in the outputs.
    abandoned: records of the load that were given up as its own client was stuck.
    filed: objections; withdrawn: withdrawals.  ended: what workers said that ended by themselves.
    skipped: kinds that could not be had here, and why.  unasked: those that were not asked for.
    """

    faults: Counter[str] = field(default_factory=Counter)
    fault_s: Counter[str] = field(default_factory=Counter)
    events: dict[str, int] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)
    abandoned: int = 0
    filed: int = 0
    withdrawn: int = 0
    allowed_items: int = 0
    purged_items: int = 0
    ended: list[str] = field(default_factory=list)
    unasked: tuple[str, ...] = ()
    skipped: dict[str, str] = field(default_factory=lambda: dict(NOT_HERE))
    violations: list[Violation] = field(default_factory=list)


def run(
    folder: Path,
    bootstrap: str | None,
    brokers: int,
    seed: int,
    kinds: Sequence[str],
    rate_per_s: float,
    until: Callable[[Fault], bool],
    say: Say,
) -> Result:
    """
    Run faults of *kinds* under load in *folder*, as long as *until* says of the next one.

    bootstrap: a Kafka of others, to which no harm is done; else one of so many *brokers* is
    started.

    Raises CommandError where the run itself goes wrong; what the service does wrong is a violation.
    """
    result = Result(unasked=tuple(kind for kind in KINDS if kind not in kinds))
    for kind, why in _not_here(kinds, brokers if bootstrap is None else 0):
        result.skipped[kind] = why
        say(f"skipped: {kind}: {why}")
    left = [kind for kind in kinds if kind not in result.skipped]
    with running_scene(folder, bootstrap, brokers, seed, rate_per_s, say) as scene:
        say("starting the workers")
        try:
            with scene.load:
                scene.start_all()
                scene.wait_until_whole()
                if left:
                    _run_faults(scene, plan(seed, left, brokers), until, result, say)
        except CommandError as error:  # the check tells the more of it
            rule = "whole" if isinstance(error, Wounded) else "load"
            result.violations.append(Violation(rule, "", "", str(error)))
        say(f"{scene.load.sent:,} records sent; waiting until all is done")
        _rest(scene, result)
        result.ended += scene.ended
        result.abandoned = scene.load.abandoned
        result.violations += [Violation("crash", "", "", said) for said in scene.crashes]
        say("checking")
        _check(scene, result)
    return result


def _not_here(kinds: Sequence[str], brokers: int) -> Iterator[tuple[str, str]]:
    """Yield what cannot be had with so many *brokers* of our own on this machine, and why."""
    yield from lacking(kinds, brokers).items()
    if "disk" in kinds and (why := disk.why_not_full()):
        yield "disk", why


def _run_faults(
    scene: Scene,
    faults: Iterator[Fault],
    until: Callable[[Fault], bool],
    result: Result,
    say: Say,
) -> None:
    for fault in faults:
        if not until(fault):
            return
        time.sleep(fault.pause_s)
        say(str(fault))
        began_s, ended_n = time.monotonic(), len(scene.ended)
        result.faults[fault.kind] += 1
        try:
            note = _act(scene, fault, result)
            scene.wait_until_whole()
        except Wounded as wounded:
            raise Wounded(f"after fault {fault}: {wounded}") from wounded
        took_s = time.monotonic() - began_s
        result.fault_s[fault.kind] += took_s  # type: ignore[assignment]
        restarts = len(scene.ended) - ended_n
        notes = [note] if note else []
        notes += [f"{restarts} workers ended by themselves"] if restarts else []
        say(
            f"    whole again after {took_s:.1f} s; "
            + "; ".join([f"{scene.load.sent:,} records", *notes])
        )


def _act(scene: Scene, fault: Fault, result: Result) -> str:
    try:
        return ACTS[fault.kind](scene, fault)
    except Wounded:
        raise
    except Unreachable as error:  # a broker that does not come back: what follows means nothing
        raise Wounded(str(error)) from error
    except CommandError as error:
        result.violations.append(Violation(fault.kind, "", "", f"{fault}: {error}"))
        return "VIOLATION"


def _rest(scene: Scene, result: Result) -> None:
    """Wait until all is done, the last notice window over; then let the workers leave."""
    began_s = time.monotonic()
    while True:
        for worker in scene.workers:
            scene.raise_up(worker)
        waited_s = time.monotonic() - began_s
        left = scene.watch.left(int(time.time() * 1000))
        if not left and waited_s > NOTICE_ENDS_S:
            break
        if waited_s > REST_S:
            what = f"not done {REST_S:.0f} s after the load has ended: {left[:10]}"
            result.violations.append(Violation("rest", "", "", what))
            break
        time.sleep(LOOK_S)
    for worker in scene.workers:
        try:
            worker.leave()
        except CommandError as error:
            result.violations.append(Violation("leave", "", "", str(error)))


def _check(scene: Scene, result: Result) -> None:
    inputs = proof.read(scene.settings, INPUTS)
    outputs = proof.read(scene.settings, (*OUTPUTS, "dead-letters"))
    now_ms = int(time.time() * 1000)
    result.violations += violations(inputs, outputs, now_ms, scene.starts_ms)
    result.events = {name: len(records) for name, records in inputs.items()}
    result.published = {name: len(records) for name, records in outputs.items()}
    actions = Counter(b'"withdrawn"' in (each.value or b"") for each in inputs["objections"])
    bad = sum(each.value == b"{" for each in inputs["objections"])
    result.filed, result.withdrawn = actions[False] - bad, actions[True]
    items = outputs["training-content"]
    result.allowed_items = sum(each.value is not None for each in items)
    result.purged_items = len(items) - result.allowed_items
    if not result.allowed_items or not result.purged_items:
        raise CommandError("the run proves nothing: no item was allowed, or none was purged")

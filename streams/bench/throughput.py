"""
One throughput run: a full input, worked off as fast as a system can.

The clock starts with the system's first output that a read_committed consumer gets, or once it has
committed a given share of the input, so that starting up does not count; what its group has
committed by then does not count either.  It stops with the last output.  Processor time is that of
the system's own processes between the two.
"""

import time
from collections.abc import Sequence
from typing import Final

import msgspec

from streams.bench.peers import Place
from streams.bench.produce import preload
from streams.bench.run import (
    STALL_TIMEOUT_S,
    START_TIMEOUT_S,
    Committed,
    Offsets,
    Say,
    differences,
    is_quiet,
    wait_for_answers,
)
from streams.bench.systems import System
from streams.bench.watch import Watcher
from streams.bench.workload import Allowed, Record, answered_ids
from streams.errors import CommandError

LOOK_S: Final = 0.2


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one run measured.

    records: the whole input.  measured_records: those within measured_s.
    resident_mib: the highest seen.
    stolen_share: of the machine's processor time, within measured_s (see `Usage`).
    """

    system: str
    records: int
    measured_records: int
    measured_s: float
    events_per_s: float
    cpu_us_per_event: float
    cpu_cores: float
    resident_mib: float
    stolen_share: float
    outputs: int
    differences: tuple[str, ...]


def measure(
    name: str,
    place: Place,
    records: Sequence[Record],
    allowed: Allowed,
    say: Say,
    warmup_share: float = 0.0,
) -> Throughput:
    """
    Run system *name* at *place*; *allowed* is what must stand in the end.

    warmup_share: of the input, which is worked off before the clock starts.
    Raises CommandError where the system fails, or is done before the clock starts.
    """
    wanted = len(answered_ids(records))
    preload(
        place.bootstrap,
        place.prefix,
        records,
        lambda done: say(f"{name}: writing the input, {done:,} of {len(records):,}"),
    )
    with (
        Watcher(place.bootstrap, place.prefix, place.partitions) as watcher,
        System(name, place) as system,
    ):
        say(f"{name}: starting")
        offsets = Offsets(place, system.group)
        wait_for_answers(system, watcher, 0, START_TIMEOUT_S)
        before = _warmed_up(system, offsets, warmup_share)
        begun_ns, begun = time.time_ns(), system.usage()
        usages = [(begun_ns, begun)]
        while not (
            watcher.answered >= wanted
            and is_quiet(watcher)
            and offsets.committed().done >= before.all
        ):
            system.check()
            usages.append((time.time_ns(), system.usage()))
            say(f"{name}: {watcher.answered:,} of {wanted:,} items answered")
            if time.time_ns() - watcher.last_ns > STALL_TIMEOUT_S * 1e9:
                message = (
                    f"{name} stands still: {watcher.answered} of {wanted} items answered, "
                    f"{offsets.committed()}; {system.log_tail()}"
                )
                raise CommandError(message)
            time.sleep(LOOK_S)
        seen, ended_ns = watcher.finish(), watcher.last_ns
        offsets.close()
    ended = next((usage for at_ns, usage in usages if at_ns >= ended_ns), usages[-1][1])
    measured = max(len(records) - before.done, 0)
    measured_s, cpu_s = (ended_ns - begun_ns) / 1e9, ended.cpu_s - begun.cpu_s
    if not measured or measured_s <= 0:
        message = (
            f"{name} was done with {len(records):,} records before the clock could start: "
            "nothing was measured; give it more with --records"
        )
        raise CommandError(message)
    return Throughput(
        system=name,
        records=len(records),
        measured_records=measured,
        measured_s=measured_s,
        events_per_s=measured / measured_s,
        cpu_us_per_event=cpu_s / measured * 1e6,
        cpu_cores=cpu_s / measured_s,
        resident_mib=max(usage.resident_bytes for _, usage in usages) / 2**20,
        stolen_share=ended.stolen_since(begun),
        outputs=seen.records,
        differences=tuple(differences(seen, allowed)),
    )


def _warmed_up(system: System, offsets: Offsets, share: float) -> Committed:
    """Return what is committed once that is *share* of the input."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        found = offsets.committed()
        if found.done >= share * found.all:
            return found
        system.check()
        if time.monotonic() > deadline_s:
            message = f"{system.name} has committed only {found}; {system.log_tail()}"
            raise CommandError(message)
        time.sleep(LOOK_S / 4)

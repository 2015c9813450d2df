"""
The systems under measurement: a process each, its processor time and its memory.

Ours is `objections worker`; the others are peers.py's.  Each runs in a session
of its own, so that a terminal's Ctrl-C reaches the measuring first, with a watcher that ends it
when we are gone in whatever way.
"""

import os
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

import psutil

from streams.bench.connection import variables as variables_of_kafka
from streams.bench.peers import PEERS, Launch, Place, check_program, python_path
from streams.errors import UsageProblem
from streams.kafka.cache import Say, say_on_stderr
from streams.program import Program

OURS: Final = "ours"
NAMES: Final = (OURS, *PEERS)
_OBJECTIONS: Final = "from streams.commands import main; main()"

# They change decisions or topics: what is expected would not hold.
_NOT_PASSED_ON: Final = (
    "OBJECTIONS_CLOCK_OFFSET_S",
    "OBJECTIONS_POLICY",
    "OBJECTIONS_STORES",
    "OBJECTIONS_SUBJECT_KEY",
)


class Usage(NamedTuple):
    """
    What a system's own processes have used: user and system time, and memory now.

    machine_s: the time of all processors of the machine, idle or not; stolen_s: what of it others
    on its host have had, 0 where the machine cannot tell.
    """

    cpu_s: float
    resident_bytes: int
    machine_s: float
    stolen_s: float

    def stolen_since(self, begun: "Usage") -> float:
        """Return the share of the machine's time that was stolen since *begun*."""
        machine_s = self.machine_s - begun.machine_s
        return (self.stolen_s - begun.stolen_s) / machine_s if machine_s > 0 else 0.0


class System(Program):
    """One system running at *place*; *variables* are for ours alone."""

    def __init__(self, name: str, place: Place, **variables: str) -> None:
        self.group = f"{place.prefix}{'objections' if name == OURS else 'peer'}"
        if name != OURS and variables_of_kafka():
            raise UsageProblem(
                f"{name} cannot connect as OBJECTIONS_KAFKA_ variables say, only ours can. Remedy: "
                "give --peers ours, or unset them."
            )
        launch = _ours(place) if name == OURS else PEERS[name].launch(place)
        environ = launch.environ | variables
        log_path = place.folder / f"{name}.log"
        super().__init__(name, launch.command, environ, log_path, launch.folder, orphaned="KILL")

    def usage(self) -> Usage:
        """Return what the system has used since its start, processes of its own included."""
        cpu_s, resident_bytes = 0.0, 0
        try:
            root = psutil.Process(self.pid)
            for process in [root, *root.children(recursive=True)]:
                times = process.cpu_times()
                cpu_s += times.user + times.system
                resident_bytes += process.memory_info().rss
        except psutil.NoSuchProcess:
            self.check()
        machine = psutil.cpu_times()
        return Usage(cpu_s, resident_bytes, sum(machine), getattr(machine, "steal", 0.0))


def follower(place: Place, store: str, url: str) -> Program:
    """Return an `objections subscribe` that keeps *store*, the one at *url*."""
    ours = _ours(place)
    command = [sys.executable, "-c", _OBJECTIONS, "subscribe", "--store", store, "--sink", url]
    name = f"store-{store}"
    log_path = place.folder / f"{name}.log"
    return Program(name, command, ours.environ, log_path, ours.folder, orphaned="KILL")


def check_available(names: Sequence[str], say: Say = say_on_stderr) -> None:
    """Raise UsageProblem or Unreachable where a system of *names* cannot be run here."""
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        message = f"--peers holds {', '.join(unknown) or 'nothing'}, expected some of " + ", ".join(
            NAMES
        )
        raise UsageProblem(message)
    for name in names:
        if name != OURS:
            check_program(name)
            PEERS[name].prepare(say)


def _ours(place: Place) -> Launch:
    """Return how ours is started; variables that tune a worker are passed on."""
    passed_on = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    # People change their minds by the thousand here; the breaker counts them, and lets them.
    environ = (
        {"OBJECTIONS_BREAKER_USERS_MIN": "1000000"}
        | passed_on
        | {
            "OBJECTIONS_BOOTSTRAP": place.bootstrap,
            "OBJECTIONS_TOPIC_PREFIX": place.prefix,
            "OBJECTIONS_GROUP": f"{place.prefix}objections",
            "OBJECTIONS_STATE_DIR": str(place.folder / "state"),
            "OBJECTIONS_HTTP": "127.0.0.1:0",
            "PYTHONPATH": python_path(),
        }
    )
    return Launch([sys.executable, "-c", _OBJECTIONS, "worker"], environ, place.folder)

"""
Whether what the form confirms is there, under load and with the broker killed under it.

    python -m tests.bench.intake --rate 1000 --seconds 30 --kills 2

On a Kafka of its own: people send the form and programs ask the API in turn, RATE a second in all,
each a user of their own, whether or not earlier ones were answered.  KILLS times, spread evenly,
the broker is killed (SIGKILL) and started again.  In the end `objections` is read: every objection
that was confirmed has to be in it.  Exit status 1 where one is lost.

--plain puts the same load, without kills, on the same form written the way the documentation of its
libraries shows (`intake_plain.py`): what all else here costs.

Latencies are from the moment a submission was due until its answer, all but those not confirmed.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil
import requests
import uvloop

from streams.kafka.local import HOST, LocalKafka
from streams.kafka.ports import free_port
from streams.program import Program
from tests.bench.crowd import Answered, Crowd
from tests.intake_scene import ANSWER_S, KEY, SIGNER, Intake, saved
from tests.worker_settings import apply_topics, wait_for

PREFIX = "load."
PARTITIONS = 4
VALID_S = 3_600
CONFIRM_MS = 8_000


@dataclass
class Result:
    """
    confirmed: ids that the form said were saved; lost: those that are not there.

    cpu_s: processor time of the form, sender_cpu_s: of those who send.
    """

    confirmed: set[str] = field(default_factory=set)
    latencies_s: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    lost: set[str] = field(default_factory=set)
    took_s: float = 0.0
    cpu_s: float = 0.0
    sender_cpu_s: float = 0.0

    @property
    def cpu_us(self) -> float:
        """Return the processor time of the form for one submission."""
        return self.cpu_s / max(self.outcomes.total(), 1) * 1e6

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        rate = len(self.confirmed) / self.took_s if self.took_s else 0.0
        yield f"confirmed {len(self.confirmed):,} in {self.took_s:.1f} s, {rate:,.0f}/s"
        yield "answers: " + ", ".join(f"{name} {n:,}" for name, n in sorted(self.outcomes.items()))
        ordered = sorted(self.latencies_s)
        if ordered:
            p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
            yield f"p50 {p50 * 1000:,.0f} ms, p99 {p99 * 1000:,.0f} ms, worst {ordered[-1]:.1f} s"
        sender_us = self.sender_cpu_s / max(self.outcomes.total(), 1) * 1e6
        yield f"processor time: form {self.cpu_us:,.0f} µs each, who sends {sender_us:,.0f} µs"
        yield f"confirmed and lost: {len(self.lost)}"


def run(
    kafka: LocalKafka,
    intake: Intake,
    rate: int,
    seconds: float,
    kills: int,
    away: Callable[[], None] = lambda: None,
) -> Result:
    """
    Put the load on *intake*, kill *kafka* under it, and say what became of it.

    away: called while there is no broker.
    """

    async def kill() -> None:
        for _ in range(kills):
            await asyncio.sleep(seconds / (kills + 1))
            await asyncio.to_thread(kafka.kill)
            await asyncio.to_thread(away)
            await asyncio.to_thread(kafka.start)

    async def both() -> Result:
        found, _ = await asyncio.gather(_load(intake.form_port, intake.pid, rate, seconds), kill())
        return found

    result = uvloop.run(both())
    there = {
        msgspec.json.decode(each.value() or b"{}")["objection_id"]
        for each in saved(kafka, PREFIX, PARTITIONS)
    }
    result.lost = result.confirmed - there
    return result


def run_plain(kafka: LocalKafka, folder: Path, rate: int, seconds: float) -> Result:
    """Put the load on the same form, written plainly."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.intake_plain", str(port), kafka.bootstrap]
    command += [f"{PREFIX}objections", KEY]
    with Program("plain form", command, os.environ, folder / "plain.log") as plain:

        def is_ready() -> bool:
            plain.check()
            with contextlib.suppress(requests.ConnectionError):
                return requests.get(f"http://{HOST}:{port}/", timeout=ANSWER_S).ok
            return False

        wait_for(is_ready, "the plain form")
        return uvloop.run(_load(port, plain.pid, rate, seconds))


async def _load(port: int, pid: int, rate: int, seconds: float) -> Result:
    requests = [_request(number) for number in range(int(rate * seconds))]
    crowd = Crowd(HOST, port, requests, rate)
    cpu_s, sender_cpu_s = _cpu_s(pid), time.process_time()
    await crowd.run()
    result = Result(took_s=crowd.took_s)
    result.sender_cpu_s = time.process_time() - sender_cpu_s
    result.cpu_s = _cpu_s(pid) - cpu_s
    for answer in crowd.answers:
        outcome = _OUTCOMES.get(answer.status, str(answer.status))
        result.outcomes[outcome] += 1
        if outcome == "saved":
            result.confirmed.add(_objection_id(answer))
            result.latencies_s.append(answer.took_s)
    return result


_OUTCOMES = {201: "saved", 303: "saved", 503: "not saved", 0: "no answer"}


def _request(number: int) -> bytes:
    """Return what somebody sends: by the form, or a program by the API, in turns."""
    user, now_s = f"load-{time.time_ns()}-{number}", time.time()
    token = SIGNER.link_token(user, int(now_s) + VALID_S)
    if number % 2:
        path, kind = f"/o/{token}", "application/x-www-form-urlencoded"
        body = f"word={SIGNER.form_word(f'objection {user}', now_s)}&products=instagram"
    else:
        path, kind = "/api/v1/objections", "application/json"
        body = '{"products":["facebook"]}'
    return (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _objection_id(answer: Answered) -> str:
    if answer.status == 303:
        receipt = urlsplit(answer.header("Location")).path.rpartition("/")[2]
        return SIGNER.receipt(receipt).objection_id
    return str(msgspec.json.decode(answer.body)["objection_id"])


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def main() -> int:
    """Run it and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rate", type=int, default=1_000, help="submissions a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--kills", type=int, default=2, help="of the broker")
    parser.add_argument("--plain", action="store_true", help="the same, written plainly, as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with LocalKafka(path / "kafka") as kafka:
            apply_topics(kafka, PREFIX, PARTITIONS)
            with Intake(kafka, PREFIX, path / "intake", INTAKE_CONFIRM_MS=CONFIRM_MS) as intake:
                intake.wait_ready()
                result = run(kafka, intake, options.rate, options.seconds, options.kills)
            print("\n".join(result.lines()))
            if options.plain:
                plain = run_plain(kafka, path, options.rate, options.seconds)
                print("\n".join(["", "written plainly:", *plain.lines()]))
                print(f"processor time, ours by plain: {result.cpu_us / plain.cpu_us:.2f}")
    return 1 if result.lost else 0


if __name__ == "__main__":
    sys.exit(main())

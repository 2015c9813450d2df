"""
Whether what the form confirms is there, under load and with the broker killed under it.

    python -m tests.bench.intake --rate 1000 --seconds 30 --kills 2

On a Kafka of its own: people send the form and programs ask the API in turn, RATE a second in all,
each a user of their own, whether or not earlier ones were answered.  KILLS times, spread evenly,
the broker is killed (SIGKILL) and started again.  In the end `objections` is read: every objection
that was confirmed has to be in it.  Exit status 1 where one is lost.

Latencies are from the moment a submission was due until its answer, all but those not confirmed.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec

from streams.kafka.local import LocalKafka
from tests.intake_scene import SIGNER, Intake, saved
from tests.worker_settings import apply_topics

PREFIX = "load."
PARTITIONS = 4
VALID_S = 3_600
CONNECTIONS = 200
ANSWER_S = 60.0
CONFIRM_MS = 8_000


@dataclass
class Result:
    """confirmed: ids that the form said were saved; lost: those that are not there."""

    confirmed: set[str] = field(default_factory=set)
    latencies_s: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    lost: set[str] = field(default_factory=set)
    took_s: float = 0.0

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        rate = len(self.confirmed) / self.took_s if self.took_s else 0.0
        yield f"confirmed {len(self.confirmed):,} in {self.took_s:.1f} s, {rate:,.0f}/s"
        yield "answers: " + ", ".join(f"{name} {n:,}" for name, n in sorted(self.outcomes.items()))
        ordered = sorted(self.latencies_s)
        if ordered:
            p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
            yield f"p50 {p50 * 1000:,.0f} ms, p99 {p99 * 1000:,.0f} ms, worst {ordered[-1]:.1f} s"
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
    pauses_s = [seconds / (kills + 1)] * kills
    result = asyncio.run(_load(kafka, intake.form, rate, seconds, pauses_s, away))
    there = {
        msgspec.json.decode(each.value() or b"{}")["objection_id"]
        for each in saved(kafka, PREFIX, PARTITIONS)
    }
    result.lost = result.confirmed - there
    return result


async def _load(
    kafka: LocalKafka,
    form: str,
    rate: int,
    seconds: float,
    pauses_s: list[float],
    away: Callable[[], None],
) -> Result:
    result = Result()
    expires_s = int(time.time()) + VALID_S
    users = [f"load-{time.time_ns()}-{number}" for number in range(int(rate * seconds))]
    tokens = [SIGNER.link_token(user, expires_s) for user in users]  # before the clock starts
    words = [SIGNER.form_word(f"objection {user}", time.time()) for user in users]

    async def send(number: int, due_s: float) -> None:
        try:
            if number % 2:
                found = await _by_form(session, form, tokens[number], words[number])
            else:
                found = await _by_api(session, form, tokens[number])
        except (aiohttp.ClientError, TimeoutError) as error:
            result.outcomes[type(error).__name__] += 1
            return
        if found is None:
            result.outcomes["not saved"] += 1
            return
        result.outcomes["saved"] += 1
        result.confirmed.add(found)
        result.latencies_s.append(time.perf_counter() - due_s)

    async def kill() -> None:
        for pause_s in pauses_s:
            await asyncio.sleep(pause_s)
            await asyncio.to_thread(kafka.kill)
            await asyncio.to_thread(away)
            await asyncio.to_thread(kafka.start)

    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    timeout = aiohttp.ClientTimeout(ANSWER_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        begun_s = time.perf_counter()
        killing = asyncio.create_task(kill())
        tasks = []
        for number in range(len(users)):
            due_s = begun_s + number / rate
            if (wait_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            tasks.append(asyncio.create_task(send(number, due_s)))
        await asyncio.gather(*tasks)
        result.took_s = time.perf_counter() - begun_s
        await killing
    return result


async def _by_form(session: aiohttp.ClientSession, form: str, token: str, word: str) -> str | None:
    data = {"word": word, "products": "instagram"}
    async with session.post(f"{form}/o/{token}", data=data, allow_redirects=False) as answer:
        if answer.status == 303:
            receipt = urlsplit(answer.headers["Location"]).path.rpartition("/")[2]
            return SIGNER.receipt(receipt).objection_id
        assert answer.status == 503, answer.status
        return None


async def _by_api(session: aiohttp.ClientSession, form: str, token: str) -> str | None:
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{form}/api/v1/objections"
    async with session.post(url, json={"products": ["facebook"]}, headers=headers) as answer:
        if answer.status == 201:
            return str((await answer.json())["objection_id"])
        assert answer.status == 503, answer.status
        return None


def main() -> int:
    """Run it and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rate", type=int, default=1_000, help="submissions a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--kills", type=int, default=2, help="of the broker")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with LocalKafka(path / "kafka") as kafka:
            apply_topics(kafka, PREFIX, PARTITIONS)
            with Intake(kafka, PREFIX, path / "intake", INTAKE_CONFIRM_MS=CONFIRM_MS) as intake:
                intake.wait_ready()
                result = run(kafka, intake, options.rate, options.seconds, options.kills)
    print("\n".join(result.lines()))
    return 1 if result.lost else 0


if __name__ == "__main__":
    sys.exit(main())

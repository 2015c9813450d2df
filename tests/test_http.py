"""Real requests against a worker's HTTP, with a status that is a plain value."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from streams.errors import UsageProblem
from streams.metrics import Metrics
from streams.settings import Settings
from streams.worker.http import HttpServer
from streams.worker.page import Page

ANYWHERE = Settings(http_port=0)

PAGE = Page(worker="host-7", group="g", version="1", partitions=(), topics=(), transactions=())

T = TypeVar("T")


@dataclass(frozen=True)
class Fixed:
    """A status that stays as it is."""

    is_ready: bool = True
    detail: str = "serving 12 partitions"
    shown: Page = PAGE

    def ready(self) -> tuple[bool, str]:
        return self.is_ready, self.detail

    def page(self) -> Page:
        return self.shown


@dataclass(frozen=True)
class Answer:
    """What came back for a request."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: str


def run(scenario: Coroutine[None, None, T]) -> T:
    """Return what *scenario* returns, in an event loop like the worker's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(scenario)


def serve(
    scenario: Callable[[HttpServer], Awaitable[T]],
    status: Fixed | None = None,
    metrics: Metrics | None = None,
) -> T:
    """Return what *scenario* returns with a server that listens."""

    async def around() -> T:
        server = HttpServer(ANYWHERE, status or Fixed(), metrics or Metrics([]))
        await server.start()
        try:
            return await scenario(server)
        finally:
            await server.stop()

    return run(around())


def ask(
    path: str,
    *,
    method: str = "GET",
    accept_encoding: str = "identity",
    status: Fixed | None = None,
    metrics: Metrics | None = None,
) -> Answer:
    """Return the answer to one request, made of a server of its own."""

    async def request(server: HttpServer) -> Answer:
        headers = {"Accept-Encoding": accept_encoding}
        async with (
            aiohttp.ClientSession(f"http://{server.address}") as session,
            session.request(method, path, headers=headers) as response,
        ):
            found = {name.lower(): held for name, held in response.headers.items()}
            return Answer(response.status, found, await response.text())

    return serve(request, status, metrics)


def test_healthz_says_that_the_process_runs() -> None:
    """
    Also while nothing can be served: a restore is no reason to be killed.
    """
    answer = ask("/healthz", status=Fixed(False, "no partition assigned"))

    assert (200, "ok\n") == (answer.status, answer.body)
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "detail", ["not a member of the group", "no partition assigned", "partitions restoring 3 of 12"]
)
def test_readyz_says_what_is_missing(detail: str) -> None:
    """
    Not ready is 503 with a line of text.
    """
    answer = ask("/readyz", status=Fixed(False, detail))

    assert (503, f"{detail}\n") == (answer.status, answer.body)


def test_readyz_is_200_when_the_worker_serves() -> None:
    """
    Ready is 200, and the line says what is served.
    """
    answer = ask("/readyz")

    assert (200, "serving 12 partitions\n") == (answer.status, answer.body)


def test_metrics_are_prometheus_text() -> None:
    """
    The content type names the format and its version, and Prometheus's parser reads the body.
    """
    metrics = Metrics(["objections"])
    metrics.events("objections", applied=3)

    answer = ask("/metrics", metrics=metrics)

    applied = {
        sample.labels["outcome"]: sample.value
        for family in text_string_to_metric_families(answer.body)
        for sample in family.samples
        if sample.name == "objections_events_total"
    }
    assert (200, "text/plain; version=0.0.4; charset=utf-8") == (
        answer.status,
        answer.headers["content-type"],
    )
    assert {"applied": 3, "unchanged": 0, "dead_letter": 0} == applied


def test_metrics_are_compressed_only_for_who_asks() -> None:
    """
    Prometheus asks for gzip; a person with curl does not.
    """
    squeezed = ask("/metrics", accept_encoding="gzip")
    plain = ask("/metrics")

    assert "gzip" == squeezed.headers["content-encoding"]
    assert "content-encoding" not in plain.headers
    assert "objections_transactions_total" in squeezed.body
    assert int(squeezed.headers["content-length"]) < int(plain.headers["content-length"])


def test_unknown_paths_are_404() -> None:
    """
    Nothing else is served, Faust's own routes included.
    """
    for path in ("/table", "/router", "/metrics/", "/healthz/x"):
        assert 404 == ask(path).status, path


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz"])
def test_other_methods_are_405(path: str, method: str) -> None:
    """
    Nothing can be changed here; the answer names what is allowed.
    """
    answer = ask(path, method=method)

    assert (405, "GET,HEAD") == (answer.status, answer.headers["allow"])


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/nowhere"])
def test_no_answer_is_kept_or_guessed_at(path: str) -> None:
    """
    Every answer is about this moment, and a browser runs nothing from here.
    """
    headers = ask(path).headers

    assert "no-store" == headers["cache-control"]
    assert "nosniff" == headers["x-content-type-options"]
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_port_0_takes_a_free_one() -> None:
    """
    Two servers side by side have addresses of their own, on this machine only.
    """

    async def beside(first: HttpServer) -> tuple[str, str]:
        second = HttpServer(ANYWHERE, Fixed(), Metrics([]))
        await second.start()
        await second.stop()
        return first.address, second.address

    first, second = serve(beside)

    assert first != second
    assert all(address.startswith("127.0.0.1:") for address in (first, second))
    assert "127.0.0.1:0" not in (first, second)


async def problem_of(settings: Settings) -> str:
    """Return what is said when a server cannot start."""
    with pytest.raises(UsageProblem) as caught:
        await HttpServer(settings, Fixed(), Metrics([])).start()
    assert 2 == caught.value.exit_status
    return str(caught.value)


def test_a_port_that_is_taken_is_a_matter_of_settings() -> None:
    """
    The error names the variable, what it held and the remedy, and the first server goes on.
    """

    async def collide(server: HttpServer) -> tuple[str, str, int]:
        port = int(server.address.rpartition(":")[2])
        problem = await problem_of(Settings(http_port=port))
        async with aiohttp.ClientSession() as session:
            response = await session.get(f"http://{server.address}/healthz")
            return problem, server.address, response.status

    problem, address, status = serve(collide)

    assert problem.startswith(f"OBJECTIONS_HTTP is '{address}', ")
    assert "another process listens there" in problem
    assert "port 0" in problem
    assert 200 == status


@pytest.mark.parametrize(
    "host, remedy",
    [
        pytest.param("192.0.2.1", "this machine has no such address", id="of-another-machine"),
        pytest.param("x" * 64, "expected HOST:PORT", id="no-name"),
    ],
)
def test_an_address_that_is_not_ours_is_a_matter_of_settings(host: str, remedy: str) -> None:
    """
    Whatever keeps us from listening names the variable and what to do.
    """
    problem = run(problem_of(Settings(http_host=host, http_port=0)))

    assert problem.startswith(f"OBJECTIONS_HTTP is '{host}:0', ")
    assert remedy in problem


def test_stopping_frees_the_port() -> None:
    """
    The next worker can listen where this one did; stopping twice, or unstarted, is no error.
    """

    async def again() -> None:
        server = HttpServer(ANYWHERE, Fixed(), Metrics([]))
        await server.stop()
        first = HttpServer(ANYWHERE, Fixed(), Metrics([]))
        await first.start()
        await first.stop()
        await first.stop()
        port = int(first.address.rpartition(":")[2])
        second = HttpServer(Settings(http_port=port), Fixed(), Metrics([]))
        await second.start()
        assert first.address == second.address
        await second.stop()

    run(again())

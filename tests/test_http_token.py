"""HTTP for other machines demands a token; on loopback it does where one is set."""

import logging
from pathlib import Path

import aiohttp
import pytest

from streams.errors import SettingsError, UsageProblem
from streams.metrics import Metrics
from streams.settings import Settings
from streams.worker.http import HttpServer, is_loopback
from tests.monitor_scene import Monitor
from tests.test_http import Fixed, run
from tests.worker_process import Worker

TOKEN = "only-for-prometheus"
CLOSED = ("/", "/metrics", "/elsewhere")
OPEN = ("/healthz", "/readyz")
EVERYWHERE = Settings(http_host="0.0.0.0", http_port=0, http_token=TOKEN)
HERE = Settings(http_port=0)


def statuses(settings: Settings, header: str | None, method: str = "GET") -> dict[str, int]:
    """Return what a server of *settings* answers, by path."""

    async def ask() -> dict[str, int]:
        server = HttpServer(settings, Fixed(), Metrics([]))
        await server.start()
        port = server.address.rpartition(":")[2]
        headers = {} if header is None else {"Authorization": header}
        try:
            async with aiohttp.ClientSession(
                f"http://127.0.0.1:{port}", headers=headers
            ) as session:
                found = {}
                for path in (*CLOSED, *OPEN):
                    async with session.request(method, path) as response:
                        found[path] = response.status
                return found
        finally:
            await server.stop()

    return run(ask())


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        "Bearer \u00ff",
    ],
)
def test_without_the_token_nothing_is_told(header: str | None, method: str) -> None:
    """
    Page, metrics and unknown paths are 401 for all but the very token; probes need none.
    """
    found = statuses(EVERYWHERE, header, method)

    assert {401} == {found[path] for path in CLOSED}
    assert 401 not in {found[path] for path in OPEN}


def test_with_the_token_all_is_told() -> None:
    """
    Whoever has the token is answered as on loopback.
    """
    assert statuses(HERE, None) == statuses(EVERYWHERE, f"Bearer {TOKEN}")
    assert 200 == statuses(HERE, None)["/metrics"]


def test_a_token_that_is_set_is_demanded_on_loopback_too() -> None:
    """
    On loopback no token is needed, unless one is set.
    """
    assert 401 == statuses(Settings(http_port=0, http_token=TOKEN), None)["/metrics"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "worker.example.org"])
def test_without_a_token_there_is_no_server(host: str) -> None:
    """
    An address that others can reach is refused, with the variable and the remedy.
    """
    with pytest.raises(UsageProblem, match=r"OBJECTIONS_HTTP_TOKEN\. Remedy: set it"):
        HttpServer(Settings(http_host=host), Fixed(), Metrics([]))


@pytest.mark.parametrize(
    "host,expected",
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("localhost.example.org", False),
        ("192.168.1.1", False),
    ],
)
def test_what_is_loopback(host: str, expected: bool) -> None:
    """
    Only this machine's own addresses need no token.
    """
    assert expected == is_loopback(host)


@pytest.mark.parametrize("kind", [Worker, Monitor])
def test_refusal_is_exit_status_2(kind: type[Worker], tmp_path: Path) -> None:
    """
    Worker and monitor end with status 2 before it looks for Kafka, and name variable and remedy.
    """
    worker = kind("127.0.0.1:1", "", tmp_path / "state", HTTP="0.0.0.0:0")
    with worker:
        assert 2 == worker.wait_end(30)

    assert "OBJECTIONS_HTTP is '0.0.0.0:0'" in worker.log()
    assert "Remedy: set it" in worker.log()


def test_log_says_that_a_token_is_demanded(caplog: pytest.LogCaptureFixture) -> None:
    """
    The log says that a token is needed, and warns of other machines; the token is not in it.
    """
    with caplog.at_level(logging.INFO):
        statuses(EVERYWHERE, None)

    assert "demand the token of OBJECTIONS_HTTP_TOKEN" in caplog.text
    assert "for other machines" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("held", ["short", "with a blank in the middle", "ümlaut-ümlaut-ümlaut"])
def test_unfit_tokens_are_refused_and_not_shown(held: str) -> None:
    """
    A token that can be guessed, or fits in no header, is refused without being shown.
    """
    with pytest.raises(SettingsError, match="OBJECTIONS_HTTP_TOKEN is hidden") as caught:
        Settings.read({"OBJECTIONS_HTTP_TOKEN": held})

    assert held not in str(caught.value)
    assert TOKEN not in repr(EVERYWHERE)

"""The status page in a real Chromium: it renews itself, owns up to silence, and is accessible."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from streams.worker.http import HttpServer
from streams.worker.page import Page
from streams.worker.page_html import REFRESH_S, render
from tests.chromium import axe, opened
from tests.test_http import Fixed, serve
from tests.test_page import PAGE, QUIET

LATE = replace(QUIET, topics=(replace(QUIET.topics[0], oldest_unpropagated_s=7.5),))
PHONE = "--window-size=360,800"
DARK = "--blink-settings=preferredColorScheme=0"


class Turning(Fixed):
    """A status that says one thing after the other."""

    def __init__(self, *then: Callable[[], Page]) -> None:
        super().__init__()
        object.__setattr__(self, "_then", list(then))

    def page(self) -> Page:
        then: list[Callable[[], Page]] = self._then  # type: ignore[attr-defined] # see above
        return then[0]() if len(then) == 1 else then.pop(0)()


def _seen(status: Fixed, folder: Path, *options: str) -> str:
    """Return the page of a worker as it is after it has been renewed."""

    async def look(server: HttpServer) -> str:
        url = f"http://{server.address}/"
        return await asyncio.to_thread(opened, url, folder, *options, virtual_s=2 * REFRESH_S)

    return serve(look, status)


def _broken() -> Page:
    message = "the worker cannot tell"
    raise RuntimeError(message)


def test_it_renews_itself(tmp_path: Path) -> None:
    """What a worker says later is there, without the page being loaded again."""
    document = _seen(Turning(lambda: LATE, lambda: QUIET), tmp_path)

    assert "<strong>On time</strong>" in document
    assert "Everything that has arrived is published." in document
    assert 'class="verdict good"' in document
    assert "<title>On time: host-7" in document
    assert "Updates every 5 seconds." in document
    assert '<button id="pause" type="button">' in document  # only where there are scripts


def test_what_was_well_says_nothing_once_nobody_answers(tmp_path: Path) -> None:
    """A page left open beside a worker that is gone is not green."""
    document = _seen(Turning(lambda: QUIET, _broken), tmp_path)

    assert "No answer since" in document
    assert 'class="verdict"' in document
    assert "On time" not in document
    assert "<title>No answer</title>" in document


@pytest.mark.parametrize("options", [(), (PHONE, DARK)], ids=["desk", "phone in the dark"])
def test_it_is_accessible(options: tuple[str, ...], tmp_path: Path) -> None:
    """axe-core finds nothing, contrast in both modes included."""
    said = axe(render(PAGE, False, "restoring"), tmp_path, *options)

    found = [f"{each['id']}: {each['nodes'][0]['html']}" for each in said["violations"]]
    assert found == []
    assert "color-contrast" in {each["id"] for each in said["passes"]}

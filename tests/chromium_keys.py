"""
A real Chromium that is worked with the keyboard alone, over its DevTools protocol.

    async with Keyboard(tmp_path) as keyboard:
        await keyboard.open(url)
        await keyboard.press("Tab", "Enter")
"""

import asyncio
import json
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from tests.chromium import program
from tests.worker_settings import POLL_PAUSE_S, WAIT_S

_KEYS: Final = {
    "Tab": {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
    "Space": {"key": " ", "code": "Space", "windowsVirtualKeyCode": 32, "text": " "},
    "Enter": {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
}
_FOCUSED: Final = """
(() => {
  const it = document.activeElement;
  const style = getComputedStyle(it);
  return {tag: it.tagName, id: it.id, text: it.textContent.trim(), checked: !!it.checked,
          outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth)};
})()
"""


class Keyboard:
    """One page of a browser with a profile in *folder*; *options*: more of its command line."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder / "profile"
        self._options = options
        self._numbers = count(1)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(program(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *(f"--user-data-dir={self._folder}", "--remote-debugging-port=0", *self._options),
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            port = await self._port()
            self._session = aiohttp.ClientSession()
            async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = [each for each in await answer.json() if each["type"] == "page"]
            self._socket = await self._session.ws_connect(
                pages[0]["webSocketDebuggerUrl"], max_msg_size=0
            )
            await self.ask("Page.enable")
        except BaseException:
            self._process.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()
        await self._session.close()
        self._process.terminate()
        await self._process.wait()

    async def size(self, width: int, height: int) -> None:
        """Make the page so many CSS pixels large, as on a phone."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2,
            mobile=True,
        )

    async def open(self, url: str) -> None:
        """Open *url* and return once it is there."""
        await self.ask("Page.navigate", url=url)
        await self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def press(self, *names: str) -> None:
        """Press keys, one after the other."""
        for name in names:
            key = _KEYS[name]
            await self.ask("Input.dispatchKeyEvent", type="keyDown", **key)
            released = {field: value for field, value in key.items() if field != "text"}
            await self.ask("Input.dispatchKeyEvent", type="keyUp", **released)

    async def evaluate(self, expression: str) -> Any:
        """Return what *expression* is on the page."""
        said = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return said["result"].get("value")

    async def focused(self) -> dict[str, Any]:
        """Return what has the focus, and how wide its outline is."""
        found: dict[str, Any] = await self.evaluate(_FOCUSED)
        return found

    async def axe(self) -> dict[str, Any]:
        """Return what axe-core says of the page."""
        engine = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
        await self.ask("Runtime.evaluate", expression=engine)
        said = await self.ask(
            "Runtime.evaluate", expression="axe.run()", awaitPromise=True, returnByValue=True
        )
        found: dict[str, Any] = said["result"]["value"]
        return found

    async def wait_for(self, expression: str) -> None:
        """Return once *expression* holds on the page; between two pages there is none."""
        async with asyncio.timeout(WAIT_S):
            while True:
                said = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
                if said.get("result", {}).get("value"):
                    return
                await asyncio.sleep(POLL_PAUSE_S)

    async def ask(self, method: str, **params: object) -> dict[str, Any]:
        """Return what the browser answers to *method* of its DevTools protocol."""
        number = next(self._numbers)
        await self._socket.send_str(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(WAIT_S):
            while True:
                said = json.loads(await self._socket.receive_str())
                if said.get("id") == number:
                    result: dict[str, Any] = said.get("result", {})
                    return result

    async def _port(self) -> int:
        path = self._folder / "DevToolsActivePort"
        async with asyncio.timeout(WAIT_S):
            while not (path.exists() and path.read_text().count("\n")):
                assert self._process.returncode is None, "the browser has ended"
                await asyncio.sleep(POLL_PAUSE_S)
        return int(path.read_text().partition("\n")[0])

"""Headless Chromium driven over the DevTools protocol: clicks, keys, downloads, and every request and console line.

It speaks through two pipes of its own (`--remote-debugging-pipe`), so that nothing listens on a port.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from browser import CHROMIUM

_PATIENCE_S = 60.0


@dataclass(eq=False)
class Browser:
    """One tab. `requests` holds every address it asked for, `console` what pages wrote there and what went wrong."""

    _to: int
    _from: int
    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    _number: int = 0
    _session: str | None = None
    _rest: bytes = b""
    _loaded: bool = False

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer; what else is said meanwhile is noted."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            asked["sessionId"] = self._session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while True:
            said = self._next(time.monotonic() + _PATIENCE_S)
            if said.get("id") == self._number:
                assert "error" not in said, (method, said["error"])
                return dict(said["result"])
            self._note(said)

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            read = os.read(self._from, 1 << 20)
            assert read, "the browser is gone"
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(line))

    def _note(self, said: dict[str, Any]) -> None:
        told = said.get("params", {})
        match said.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Runtime.consoleAPICalled":
                self.console.append(str([part.get("value") for part in told["args"]]))
            case "Runtime.exceptionThrown":
                self.console.append(str(told["exceptionDetails"]))
            case "Log.entryAdded":
                self.console.append(told["entry"]["text"])
            case "Page.loadEventFired":
                self._loaded = True

    def open(self, address: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self._loaded = False
        self.send("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def run(self, code: str) -> Any:
        """What an expression gives in the page; a promise is awaited."""
        found = self.send("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, code: str) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + _PATIENCE_S
        while not (found := self.run(code)):
            assert time.monotonic() < end, f"never true: {code}"
            time.sleep(0.05)
        return found

    def click(self, selector: str, *, share: float = 0.5) -> None:
        """Click an element as a mouse does, `share` of its width from its left."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({selector!r});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
        )
        at = {"x": box[0] + share * box[2], "y": box[1] + box[3] / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, **at)

    def key(self, key: str, *, text: str = "") -> None:
        """Press and release a key."""
        code = {"ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35}.get(key, ord(key.upper()[0]))
        asked = {"key": key, "windowsVirtualKeyCode": code, "text": text}
        self.send("Input.dispatchKeyEvent", type="keyDown", **asked)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path: Path, *, width: int, height: int, dark: bool = False) -> None:
        """A screenshot of the first screen at this size."""
        self.resize(width, height, dark=dark)
        shot = self.send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """The window's size, and whether the reader prefers dark pages."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])


@contextlib.contextmanager
def browsing(*, profile: Path, downloads: Path) -> Iterator[Browser]:
    """A browser with a profile of its own; files that pages give lie in `downloads`."""
    assert CHROMIUM is not None
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    words = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--mute-audio"),
        *("--no-first-run", "--disable-background-networking", "--autoplay-policy=no-user-gesture-required"),
        *(f"--user-data-dir={profile}", "--window-size=1280,900", "about:blank"),
    ]

    shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'  # the browser reads 3 and writes 4
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", *words], pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        browser = Browser(ours_out, ours_in)
        tabs = [t for t in browser.send("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        attached = browser.send("Target.attachToTarget", targetId=tabs[0]["targetId"], flatten=True)
        browser._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            browser.send(f"{domain}.enable")
        yield browser
    finally:
        process.kill()
        process.wait()
        os.close(ours_out)
        os.close(ours_in)

"""A headless browser, driven through the pipe of its DevTools: the page is seen as readers see it, unchanged."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
# The browser reads commands from descriptor 3 and writes answers to 4.
START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
PATIENCE = 20  # seconds


class Browser:
    """One tab.

    `events` are what it has reported since a page was opened: requests, errors, refusals.
    """

    def __init__(self, profile: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._number, self._tab, self._rest = 0, "", b""
        commands, self._to = _pipe()
        self._from, answers = _pipe()
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                START,
                str(commands),
                str(answers),
                str(FOUND),
                *OPTIONS,
                f"--user-data-dir={profile}",
            ],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        tab = self("Target.createTarget", url="about:blank")["targetId"]
        self._tab = self("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._tab:
            message["sessionId"] = self._tab
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self) -> Any:
        while b"\0" not in self._rest:
            some = os.read(self._from, 1 << 20)
            assert some, "the browser has ended"
            self._rest += some
        first, self._rest = self._rest.split(b"\0", 1)
        return json.loads(first)

    def open(self, path: Path) -> None:
        """Open a page and wait until it has drawn its plots."""
        self.events.clear()
        self("Page.navigate", url=path.as_uri())
        ready = f"location.href === {json.dumps(path.as_uri())} && document.readyState === 'complete'"
        self.wait(f"{ready} && document.documentElement.dataset.plots")

    def screen(self, width: int) -> None:
        """Another screen, at once a phone's if it is narrow."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)

    def medium(self, scheme: str = "light", medium: str = "") -> None:
        """Another colour scheme, or paper."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self("Emulation.setEmulatedMedia", media=medium, features=features)

    def wait(self, condition: str) -> None:
        """Wait until something is so."""
        until = time.monotonic() + PATIENCE
        while not self.value(condition):
            assert time.monotonic() < until, f"not in {PATIENCE} seconds: {condition}; {self.troubles()}"
            self._pause()

    def _pause(self) -> None:
        """Give the page a moment by its own clock; while it is being replaced by another it has none."""
        with suppress(AssertionError):
            self("Runtime.evaluate", expression="new Promise((go) => setTimeout(go, 30))", awaitPromise=True)

    def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        found = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def blocked(self) -> list[str]:
        """Why requests were not sent."""
        failed = (event["params"] for event in self.events if event.get("method") == "Network.loadingFailed")
        return [parameters.get("blockedReason", "") for parameters in failed]

    def troubles(self) -> list[Any]:
        """Errors, what was refused, what was written to the console."""
        kinds = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.loadingFailed"}
        return [event["params"] for event in self.events if event.get("method") in kinds]

    def requests(self) -> list[str]:
        """Addresses that were asked for."""
        sent = (event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent")
        return [parameters["request"]["url"] for parameters in sent]

    def close(self) -> None:
        """End it."""
        for end in (self._to, self._from):
            os.close(end)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are none of 3 and 4."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]

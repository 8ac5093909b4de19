# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Chromium without a window, told what to do over two pipes.

Source: the Chrome DevTools Protocol; with --remote-debugging-pipe it reads messages from file descriptor 3, writes them
to 4, and ends each with a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from .processes import LabError

NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "apt-get install --yes --no-install-recommends chromium"


def chromium() -> str:
    """The program: on PATH, or as root from Debian's package. Raises LabError with the line that installs it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in ("apt-get update -qq", INSTALL):
            subprocess.run(command.split(), env=environment, capture_output=True, check=False, timeout=600)
        found = shutil.which("chromium")
    if found is None:
        raise LabError(f"There is no Chromium. On Debian or Ubuntu, as root: {INSTALL}")
    return found


class Browser:
    """One page in one Chromium.

    Attributes:
        complaints: what the page wrote to its console or logged as an error, and what it asked of a network.
    """

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self._profile = tempfile.TemporaryDirectory(prefix="custodes-browser-")
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # 3 and 4 there, whatever they are here.
        moved = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"'
        options = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command = ["bash", "-c", moved, "bash", chromium(), *options, f"--user-data-dir={self._profile.name}"]
        self._process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for pipe in (theirs_in, theirs_out):
            os.close(pipe)
        self._rest, self._number, self._session = b"", 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._in, self._out):
            os.close(pipe)
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result. Raises LabError."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise LabError(f"Chromium refused {method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, file: Path, *, width: int = 1000, scheme: str = "light", media: str = "screen") -> None:
        """Show a file, in a window so wide, for a reader who prefers this scheme of colours."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=file.as_uri())
        while self._read().get("method") != "Page.loadEventFired":
            pass

    def value(self, script: str) -> Any:
        """What a line of JavaScript gives."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def screenshot(self, height: int | None = None) -> bytes:
        """PNG, of the whole page or so much of its top."""
        width = self.value("innerWidth")
        clip = {"clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}} if height else {}
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True, **clip)["data"])

    def pdf(self) -> bytes:
        """As it would be printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._in, 1 << 20)
            if not more:
                raise LabError("Chromium has ended.")
            self._rest += more
        first, _zero, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        self._listen(message.get("method", ""), message.get("params", {}))
        return message

    def _listen(self, method: str, told: dict[str, Any]) -> None:
        if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(told)[:500])
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not told["request"]["url"].startswith("file:"):
            self.complaints.append(told["request"]["url"])

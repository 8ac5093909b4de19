# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host in a folder, with a systemd and an agent that do what a script says."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

SERVICE, TIMER = "degraded-detection.service", "degraded-detection.timer"
UNITS = {
    SERVICE: "[Service]\nType=oneshot\nExecStart=/usr/local/bin/custodes detect --run\n",
    TIMER: "[Timer]\nOnCalendar=*:0/5\n",
}
CONFIG: dict[str, Any] = {
    "state_directory": "/var/lib/custodes/detection",
    "log_directory": "/var/log/security",
    "metrics_file": "/var/lib/metrics/host_detection.prom",
    "delivery": {"destinations": [{"name": "chat", "url_credential": "chat-url"}]},
}
CREDENTIALS = {"chat-url": "https://chat.example.com/hook/s3cr3t"}
COUNTS = {"critical": 0, "high": 0, "medium": 0, "low": 0, "info": 1}


class Killed(BaseException):
    """As SIGKILL: nothing catches it."""


class FakeHost:
    """Attributes: calls, of programs; problem, of the next run; refuses and says, what
    a program that fails, or does not, writes to its standard error."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[str] = []
        self.seen: dict[str, str] = {}
        self.refuses: dict[str, str] = {}
        self.says: dict[str, str] = {}
        self.problem: str | None = None
        self.kill_at: str | None = None
        self.active = self.enabled = self.activating = False
        self.result = "success"
        self.loaded: dict[str, str] = {}
        self.report: dict[str, Any] | None = None
        (root / "run/systemd/system").mkdir(parents=True)
        (root / "etc/systemd/system").mkdir(parents=True)

    def file(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
        line = " ".join(command).replace(str(self.root), "")
        self.calls.append(line)
        if self.kill_at is not None and self.kill_at in line:
            raise Killed(line)
        for start, text in self.refuses.items():
            if start in line:
                return 1, "", text
        if "--check-config" in line:
            self.seen["config"] = Path(command[-1]).read_text()
            folder = Path(environment["CREDENTIALS_DIRECTORY"])
            self.seen["credentials"] = " ".join(sorted(path.name for path in folder.iterdir()))
        if line.startswith("systemd-analyze"):
            self.seen["service"] = Path(next(name for name in command if name.endswith(SERVICE))).read_text()
            return 0, "", self.says.get("systemd-analyze", "")
        if "sys.version_info" in line:
            return 0, "True\n", ""
        if "--last" in line:
            return 0, json.dumps(self.report) if self.report else "", ""
        if line.startswith("systemctl"):
            return self._systemctl(*command[1:])
        return (0, "line of the journal\n", "") if line.startswith("journalctl") else (0, "", "")

    def _systemctl(self, verb: str, *names: str) -> tuple[int, str, str]:
        if verb == "show":
            return 0, "\n".join(self._shown(name) for name in names[1:]), ""
        if verb == "daemon-reload":
            self._load()
        if verb in ("enable", "disable"):
            if not self._unit(TIMER).exists():
                return 1, "", f"Unit file {TIMER} does not exist."
            self.enabled = verb == "enable"
        if verb in ("start", "restart"):
            if not self._unit(names[0]).exists():
                return 5, "", f"Unit {names[0]} not found."
            self._load(names[0])
            return self._run_service() if names[0] == SERVICE else self._activate(active=True)
        return self._activate(active=False) if verb == "stop" and names[0] == TIMER else (0, "", "")

    def _activate(self, *, active: bool) -> tuple[int, str, str]:
        self.active = active
        return 0, "", ""

    def _load(self, *names: str) -> None:
        for name in names or UNITS:
            if self._unit(name).exists():
                if not names or name not in self.loaded:
                    self.loaded[name] = self._unit(name).read_text()
            elif not names:
                self.loaded.pop(name, None)

    def _run_service(self) -> tuple[int, str, str]:
        self.activating = False
        now = datetime.now(timezone.utc).replace(microsecond=0)
        self.result = "exit-code" if self.problem else "success"
        self.report = {
            "version": "0.2.0",
            "started": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "baseline": {"state": "written", "written": None, "items": 7},
            "findings": [{"rule": "baseline.written", "severity": "info", "subject": "x", "summary": "y"}],
            "counts": COUNTS,
            "blind": [],
            "log_store": "unconfigured",
            "problem": self.problem,
        }
        return (1, "", f"Job for {SERVICE} failed.") if self.problem else (0, "", "")

    def _unit(self, name: str) -> Path:
        return self.file(f"/etc/systemd/system/{name}")

    def _shown(self, name: str) -> str:
        there = self._unit(name).exists()
        text = self._unit(name).read_text() if there else ""
        stale = name in self.loaded and self.loaded[name] != text
        active = self.active if name == TIMER else False
        told = {
            "Id": name,
            "LoadState": "loaded" if there or name in self.loaded else "not-found",
            "ActiveState": "activating" if name == SERVICE and self.activating else "active" if active else "inactive",
            "UnitFileState": "enabled" if name == TIMER and self.enabled and there else "",
            "NeedDaemonReload": "yes" if stale else "no",
            "Result": self.result if name == SERVICE else "success",
        }
        return "".join(f"{key}={value}\n" for key, value in told.items())

    def tree(self) -> dict[str, tuple[int, str]]:
        """Every file with its mode and content, but what a systemd of its own would have."""
        return {
            str(path.relative_to(self.root)): (path.stat().st_mode & 0o7777, path.read_bytes().hex()[:4000])
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
        }


def age(host: FakeHost, seconds: int) -> None:
    """Makes every file of the host older, and the last run with them."""
    for path in host.root.rglob("*"):
        if path.is_file():
            told = path.stat()
            os.utime(path, (told.st_atime - seconds, told.st_mtime - seconds))

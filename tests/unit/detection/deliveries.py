# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A world for delivery: a host whose spool survives crashes as it was saved, and receivers that answer by script."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, Optional, Union

from ansible_collections.custodes.security_dr.plugins.module_utils.detection import delivery
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.findings import Finding
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.transport import Answer, HttpError
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError

Reply = Union[int, Answer, str, Callable[[list[str]], Any]]
"""A status, an answer, "hang", "refuse", or what decides by the ids that came."""


class Crashed(BaseException):
    """The process was killed."""


class World:
    """Attributes:
    now: the time.
    replies: each receiver's.
    took: the ids that each has acknowledged, in order.
    calls, statuses: of the last run: (receiver, ids), and what was answered.
    crash_at, crash_saved: the number of the save at which the process dies, and whether the disk has that one.
    unsure: the acknowledgements (receiver, id) that a crash came upon before they were saved.
    """

    def __init__(self, names: Sequence[str] = ("a", "b"), **config: Any) -> None:
        self.now = 1_780_000_000.0
        self.names = names
        self.types: dict[str, str] = {}
        self.config = config
        self.disk: dict[str, Any] = {}
        self.replies: dict[str, Reply] = dict.fromkeys(names, 200)
        self.took: dict[str, list[str]] = {name: [] for name in names}
        self.calls: list[tuple[str, list[str]]] = []
        self.statuses: list[int] = []
        self.unsure: set[tuple[str, str]] = set()
        self._unsaved: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self.crash_at: Optional[int] = None
        self.crash_saved = False
        self.disk_full = False
        self.saves = 0
        self.jitter: Callable[[float], float] = lambda ceiling: ceiling
        self.findings: list[Finding] = []
        self.report: dict[str, Any] = {}
        self._number = 0

    def event(self, severity: str = "high", state: str = "new", finding: str = "", **more: Any) -> dict[str, Any]:
        """A new event, of a finding of its own unless one is named."""
        self._number += 1
        time = datetime.fromtimestamp(self.now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "id": f"e{self._number}", "time": time, "state": state, "host": "web-1", "fingerprint": finding or
            f"f{self._number}", "rule": "process.miner_name", "severity": severity, "technique": "T1496",
            "subject": "/tmp/x", "summary": "A miner.", "evidence": {}, "advice": "Look.", "first_seen": time,
            "last_seen": time, **more,
        }  # fmt: skip

    def options(self) -> delivery.Options:
        given = [
            {"name": name, "type": self.types.get(name, "webhook"), "url": f"https://{name}.example/secret",
             "token": "secret", "timeout": 10} for name in self.names
        ]  # fmt: skip
        return delivery.Options.from_config({"destinations": given, **self.config}, "1.0.0")

    def run(self, *events: dict[str, Any], store: str = "unreachable", later: float = 300.0) -> dict[str, Any]:
        """One run of the detector; time goes on after it, however it ends."""
        memory = copy.deepcopy(self.disk)
        self.calls, self.statuses, self.bodies, self.saves, self._unsaved = [], [], [], 0, []

        def save() -> None:
            self.saves += 1
            if self.disk_full:
                raise StoreError("No space left on device.")
            if self.saves == self.crash_at and not self.crash_saved:
                raise Crashed
            self.disk = json.loads(json.dumps(memory))
            self._unsaved = []
            if self.saves == self.crash_at:
                raise Crashed

        try:
            self.report, self.findings = delivery.deliver(
                events,
                store,
                memory,
                self.options(),
                save,
                self._clock,
                self._sleep,
                self._post,
                self.jitter,
                self._clock,
            )
        except Crashed:
            self.unsure.update(self._unsaved)
            raise
        finally:
            self.crash_at = None
            self.now += later
        return self.report

    def _clock(self) -> float:
        return self.now

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _post(
        self,
        url: str,
        body: bytes,
        headers: dict[str, str],
        ca_cert: Optional[str],
        timeout: float,
        proxy: Optional[str],
    ) -> Answer:
        name = url.split("//")[1].split(".", maxsplit=1)[0]
        payload = json.loads(body)
        self.bodies.append(payload)
        if "events" in payload:
            ids = [event["id"] for event in payload["events"]]
        else:
            ids = [payload.get("payload", {}).get("custom_details", {}).get("id", payload.get("dedup_key"))]
        self.calls.append((name, ids))
        reply: Any = self.replies[name]
        reply = reply(ids) if callable(reply) else reply
        self.now += timeout if reply == "hang" else 0.01
        self.statuses.append(reply.status if isinstance(reply, Answer) else reply if isinstance(reply, int) else 0)
        if reply in ("hang", "refuse"):
            raise HttpError("timeout" if reply == "hang" else "refused", f"{name}.example:443 is not there.")
        answer = reply if isinstance(reply, Answer) else Answer(reply)
        if 200 <= answer.status < 300:
            self.took[name].extend(ids)
            self._unsaved.extend((name, one) for one in ids)
        return answer

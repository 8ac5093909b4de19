# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead man's switch on a host of our own: asks whether alerts could reach anybody, and tells when they could not.

Prometheus is asked whether it is ready, Alertmanager whether it has the alert that always fires. Sources: Prometheus'
documentation, "Management API"; Alertmanager's OpenAPI description of its API v2, GET /alerts.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, NamedTuple, Optional

from ..files import StoreError
from ..lock import locked
from . import delivery, spool, transport
from .errors import DetectionError
from .findings import Finding, Scan, found
from .memory import Memory, utc
from .options import read

LONGEST_STEP = 60.0
"""Seconds that one look may add to a silence: a host that slept or was off has not listened in the meantime."""
TOLD = 1e9
"""Seconds; stands for a silence that was told. It lasts until the target is heard, whatever is wrong meanwhile."""

Fetch = Callable[..., transport.Answer]

_SERVER: dict[str, tuple[type, Any]] = {"name": (str, ...), "url": (str, ...), "ca_cert": (str, None)}
_OPTIONS: dict[str, tuple[type, Any]] = {
    "state_directory": (str, "/var/lib/custodes/watchdog"),
    "prometheus": (list, []),
    "alertmanager": (list, []),
    "alert": (str, "Watchdog"),
    "patience": (float, 45.0),
    "heartbeat_age": (float, 180.0),
    "timeout": (float, 5.0),
    "reminder_hours": (float, 1.0),
    "delivery": (dict, {}),
}


class Target(NamedTuple):
    """A server to ask. Attributes: kind, prometheus or alertmanager; name; url, without a path of the API; ca_cert."""

    kind: str
    name: str
    url: str
    ca_cert: Optional[str]

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.name}"


class Settings(NamedTuple):
    """The configuration.

    Attributes:
        state_directory: for what is remembered between runs, and the lock.
        targets: whom to ask.
        alert: name of the alert that always fires.
        patience: seconds for which a server may be gone or not ready: a restart is no alarm.
        heartbeat_age: seconds since Prometheus sent the alert last. It sends each minute by default, and after a start
            the first time before it has discovered Alertmanager (tried): a restart may leave more than two minutes.
        timeout: seconds for one request.
        reminder: seconds after which a silence that lasts is told again.
        delivery: to whom it is told.
    """

    state_directory: str
    targets: tuple[Target, ...]
    alert: str
    patience: float
    heartbeat_age: float
    timeout: float
    reminder: float
    delivery: delivery.Options

    @property
    def memory(self) -> str:
        """The file of what is remembered."""
        return os.path.join(self.state_directory, "memory.json")

    @classmethod
    def from_config(cls, config: Mapping[str, Any], version: str = "") -> Settings:
        """Checks a configuration. Raises DetectionError."""
        given = read(config, "file", _OPTIONS)
        if not given["state_directory"].startswith("/"):
            raise DetectionError("The configuration's state_directory has to be a full path.")
        targets = [
            _target(kind, one, f"{kind}[{number}]")
            for kind in ("prometheus", "alertmanager")
            for number, one in enumerate(given[kind])
        ]
        if not given["alertmanager"]:
            raise DetectionError(
                "The configuration's alertmanager names no server: nobody could be asked for the alert."
            )
        keys = [target.key for target in targets]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice:
            raise DetectionError(f"The configuration names {twice!r:.100} twice.")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", given["alert"]):
            raise DetectionError("The configuration's alert has to be an alert's name: letters, digits and '_'.")
        told = delivery.Options.from_config(given["delivery"], version)
        if not told.destinations:
            raise DetectionError("The configuration's delivery.destinations is empty: nobody would hear the watchdog.")
        return cls(
            given["state_directory"],
            tuple(targets),
            given["alert"],
            given["patience"],
            given["heartbeat_age"],
            given["timeout"],
            given["reminder_hours"] * 3600.0,
            told,
        )


def _target(kind: str, given: Any, where: str) -> Target:
    server = read(given, where, _SERVER)
    transport.parse_url(server["url"], f"{where}.url")
    return Target(kind, server["name"], server["url"].rstrip("/"), server["ca_cert"])


class Heard(NamedTuple):
    """Of one target. Attributes: trouble, a sentence, "" for none; allowed, seconds that it may last; blind, of us."""

    trouble: str = ""
    allowed: float = 0.0
    blind: str = ""


def listen(target: Target, settings: Settings, now: float, fetch: Fetch = transport.fetch) -> Heard:
    """What one server says at this moment."""
    path = "/-/ready" if target.kind == "prometheus" else f"/api/v2/alerts?filter=alertname%3D%22{settings.alert}%22"
    title = f"{target.kind.capitalize()} {target.name}"
    try:
        answer = fetch(target.url + path, target.ca_cert, settings.timeout)
    except transport.HttpError as error:
        if error.kind == "ca":
            return Heard(blind=f"{title} could not be asked: {error}")
        return Heard(f"{title} cannot be reached: {error}", settings.patience)
    if answer.status != 200:
        return Heard(f"{title} is not ready (it answers {answer.status}).", settings.patience)
    return Heard() if target.kind == "prometheus" else _beat(title, answer.body, settings, now)


def _beat(title: str, body: bytes, settings: Settings, now: float) -> Heard:
    """Whether the alert is among these, of each Prometheus by its label, not silenced, and was sent not long ago."""
    try:
        alerts = [
            (one["status"]["state"], _seconds(one["updatedAt"]), one.get("labels", {}).get("prometheus"))
            for one in json.loads(body)
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        trouble = f"{title} gives no list of alerts ({type(error).__name__}): is this its URL?"
        return Heard(trouble, settings.patience)
    labels = sorted({str(whose) for _state, _updated, whose in alerts if whose})
    # Without the label they cannot be told apart.
    names: list[Optional[str]] = [one.name for one in settings.targets if labels and one.kind == "prometheus"]
    for whose in names or [None]:
        name = f"alert {settings.alert}" + (f" of the Prometheus {whose}" if whose else "")
        mine = [one for one in alerts if whose in (None, one[2])]
        if not mine:
            # Alertmanager keeps no alert over a restart: Prometheus has to send it again first.
            why = f"there is that of {', '.join(labels)}. " if whose else ""
            trouble = f"{title} has no {name}: {why}It is not sent, or its rules are not evaluated."
            return Heard(trouble, settings.heartbeat_age)
        active = [updated for state, updated, _whose in mine if state != "suppressed"]
        if not active:
            return Heard(f"{title} has the {name} silenced or inhibited: remove that silence.")
        age = now - max(active)
        if age > settings.heartbeat_age:
            return Heard(f"{title} was sent the {name} last {age:.0f} seconds ago, or the clocks differ.")
    return Heard()


def _seconds(stamp: str) -> float:
    """Of an RFC 3339 time; its fraction is left out, as Python before 3.11 reads no nine digits."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", stamp)
    if match is None:
        raise ValueError("no time")
    zone = "+00:00" if match[2] == "Z" else match[2]
    return datetime.fromisoformat(match[1] + zone).astimezone(timezone.utc).timestamp()


def judge(before: Mapping[str, float], elapsed: float, heard: Mapping[Target, Heard]) -> tuple[dict[str, float], Scan]:
    """How long each target has been silent, in seconds by its key, and what is to be told of it.

    Args:
        before: what this gave in the last run; a target that is not in it is told of at once.
        elapsed: seconds since then.
        heard: by target.
    """
    silent: dict[str, float] = {}
    findings: list[Finding] = []
    for target, one in heard.items():
        if one.blind:
            silent[target.key] = before.get(target.key, 0.0)
        elif not one.trouble:
            silent[target.key] = 0.0
        else:
            step = min(max(elapsed, 0.0), LONGEST_STEP)
            silent[target.key] = before[target.key] + step if target.key in before else one.allowed
            if silent[target.key] >= one.allowed:
                silent[target.key] = TOLD
                address = transport.parse_url(target.url, "url").address
                findings.append(
                    found(
                        "heartbeat.silent", target.name, one.trouble, {"address": address}, (target.kind, target.name)
                    )
                )
    return silent, Scan(findings, [one.blind for one in heard.values() if one.blind])


def _refused(memory: Memory, delivered: Mapping[str, Any]) -> list[str]:
    """What destinations have refused for good, and nobody else would tell.

    At once, and again at each look while anything is silent; then there is nothing left that somebody has to be told.
    """
    if not delivered.get("rejected") and not delivered.get("dropped") and not memory.active():
        return []
    return [one.summary for one in spool.findings(memory.delivery)]


def run(
    settings: Settings,
    version: str,
    clock: Callable[[], float] = time.time,
    fetch: Fetch = transport.fetch,
    post: Callable[..., transport.Answer] = transport.post,
) -> dict[str, Any]:
    """Asks, remembers, sends, and gives the report; its `problem` is None when all that went well.

    An alert that a destination refused is a problem of its own: it does not get it again.

    Raises BusyError where another run is under way, DetectionError and StoreError where it could not begin.
    """
    began = time.monotonic()
    with locked(settings.state_directory, "watchdog"):
        memory, now = Memory.load(settings.memory), clock()
        heard = {target: listen(target, settings, now, fetch) for target in settings.targets}
        # An age is judged by the time at which it was asked for, and the silence of others by the time of the look.
        last = memory.last_run
        silent, scan = judge(last.get("silent", {}), now - last.get("looked", now), heard)
        memory.update({"heartbeat": scan}, now, os.uname().nodename, settings.reminder)
        report: dict[str, Any] = {
            "version": version,
            "started": utc(now),
            "looked": now,
            "silent": silent,
            "blind": scan.blind,
            "delivery": {},
            "problem": None,
        }
        memory.last_run = report
        problems: list[str] = []

        def save() -> None:
            memory.save(settings.memory)

        # The episode is on disk before it is told; a full disk keeps nothing from being told.
        try:
            save()
        except StoreError as error:
            problems.append(str(error))
        with suppress(StoreError):
            # What another run was killed with is told now; the spool knows each event by its id.
            report["delivery"] = delivery.deliver(
                memory.pending, "unconfigured", memory.delivery, settings.delivery, save, clock, post=post
            )[0]
        memory.pending = []
        problems += _refused(memory, report["delivery"])
        report["duration"] = time.monotonic() - began
        report["problem"] = " ".join(problems) or None
        try:
            save()
        except StoreError as error:
            report["problem"] = str(error)
        return {**report, "findings": memory.active()}

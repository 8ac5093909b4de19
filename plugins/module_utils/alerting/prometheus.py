# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus' HTTP API: has it read its files again, and does it evaluate the rules that are in them?"""

from __future__ import annotations

import base64
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPException
from typing import Any

from .errors import AlertingError

Answer = tuple[int, str]
"""An HTTP status and a body."""

_LONGEST = 64 * 1024 * 1024
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
_DURATION = re.compile(r"(?:\d+(?:ms|[smhdwy]))+")
_PART = re.compile(r"(\d+)(ms|[smhdwy])")


class Http:
    """Requests to one Prometheus, Alertmanager or receiver. No redirect is followed, no proxy of the environment used.

    Args:
        url: its address, with the path it is served under.
        ca_cert: path of the authority that its certificate is verified by; the system's if empty.
        username, password: basic authentication, if any.
        timeout: seconds.
        what: it is, for the messages.
        headers: more of them.
    """

    def __init__(
        self,
        url: str,
        ca_cert: str = "",
        username: str = "",
        password: str = "",
        timeout: float = 10.0,
        what: str = "Prometheus",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise AlertingError(f"{url!r} is no address of {what}: give http://HOST:PORT or https://HOST:PORT.")
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._what = what
        self._headers = dict(headers or {})
        if username:
            both = base64.b64encode(f"{username}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {both}"
        try:
            context = ssl.create_default_context(cafile=ca_cert or None)
        except OSError as error:
            raise AlertingError(
                f"The authority's certificate {ca_cert} cannot be used: {error.strerror or error}."
            ) from error
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirect()
        )

    def __call__(self, method: str, path: str, body: Any = None) -> Answer:
        """The answer to a question, with this body as JSON, whatever its status. Raises AlertingError without one."""
        content = None if body is None else json.dumps(body).encode()
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, content, method=method, headers=headers)  # noqa: S310
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return answer.status, answer.read(_LONGEST).decode(errors="replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(_LONGEST).decode(errors="replace")
        except (OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            # Without what may be a secret.
            where = self.url.partition("?")[0]
            raise AlertingError(
                f"{self._what} does not answer on {where}: {reason}. Is it running, and is this its address?"
            ) from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """A password is for the address that was given, and for no other."""


@dataclass(frozen=True)
class Loaded:
    """What Prometheus runs with.

    Attributes:
        at: when it last loaded its configuration, in seconds since 1970; None if that is not told.
        good: whether the last attempt succeeded.
        alerts: the names of the alerts of each rule file, by its path, in order.
    """

    at: float | None
    good: bool
    alerts: dict[str, list[str]] = field(default_factory=dict)


class Prometheus:
    """One Prometheus.

    Args:
        http: sends a request, by its method and path.
    """

    def __init__(self, http: Callable[[str, str], Answer], url: str) -> None:
        self._http = http
        self._url = url

    def lifecycle(self) -> bool:
        """Whether it may be told to reload by HTTP. Raises AlertingError."""
        return bool(self._get("/api/v1/status/flags").get("web.enable-lifecycle") == "true")

    def loaded(self) -> Loaded:
        """What it runs with. Raises AlertingError."""
        about = self._get("/api/v1/status/runtimeinfo")
        alerts: dict[str, list[str]] = {}
        for group in self._get("/api/v1/rules?type=alert").get("groups") or []:
            names = alerts.setdefault(group.get("file", ""), [])
            names.extend(rule["name"] for rule in group.get("rules") or [])
        return Loaded(_seconds(about.get("lastConfigTime")), bool(about.get("reloadConfigSuccess")), alerts)

    def slow_scrapes(self, longest: float) -> dict[str, float]:
        """The scrape intervals that are longer than `longest`, in seconds, by job. Raises AlertingError."""
        found = self._get("/api/v1/targets?state=active").get("activeTargets") or []
        intervals = {
            target["labels"].get("job", ""): duration(target["scrapeInterval"])
            for target in found
            if target.get("scrapeInterval")
        }
        return {job: seconds for job, seconds in intervals.items() if seconds > longest}

    def reload(self) -> None:
        """Tells it to reload by HTTP. Raises AlertingError when it refuses or fails."""
        status, body = self._http("POST", "/-/reload")
        if status == 200:
            return
        if "not enabled" in body:
            raise AlertingError(no_lifecycle(self._url))
        raise AlertingError(
            f"{self._url}/-/reload: {status}, {body.strip()[:500]}. Prometheus goes on with the configuration it had, "
            "and its next restart would fail. Its log says why (journalctl -u prometheus -n 20)."
        )

    def _get(self, path: str) -> Mapping[str, Any]:
        status, body = self._http("GET", path)
        try:
            data = json.loads(body)["data"] if status == 200 else None
        except (ValueError, KeyError, TypeError):
            data = None
        if not isinstance(data, dict):
            hint = " Give its user name and password." if status == 401 else ""
            raise AlertingError(
                f"{self._url}{path.partition('?')[0]} answers {status} and nothing that Prometheus would say: "
                f"{body.strip()[:200]!r}.{hint}"
            )
        return data


def no_lifecycle(url: str) -> str:
    """What to do where reloading by HTTP is not allowed."""
    return (
        f"Prometheus on {url} does not take orders by HTTP: start it with --web.enable-lifecycle, or reload it by its "
        "service, with a signal."
    )


def duration(text: str) -> float:
    """Seconds of a duration as Prometheus writes it, such as 1m30s. Raises AlertingError."""
    if not _DURATION.fullmatch(text):
        raise AlertingError(f"{text!r} is no duration such as 10s or 1m30s.")
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def _seconds(text: str | None) -> float | None:
    """Of a time such as 2026-01-01T00:00:00.123456789Z."""
    if not text:
        return None
    try:
        # datetime takes no more than microseconds, and no Z before Python 3.11.
        day, _point, rest = text.partition(".")
        zone = rest.lstrip("0123456789") if rest else ""
        if day.endswith("Z"):
            day, zone = day[:-1], "Z"
        return datetime.fromisoformat(day + ("+00:00" if zone in ("Z", "") else zone)).timestamp()
    except ValueError:
        return None

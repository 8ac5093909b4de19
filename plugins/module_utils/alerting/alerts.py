# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alerts at an Alertmanager, and at the receiver that it tells: what fires, what is sent, and did it arrive?

Sources: Alertmanager's API v2 (api/v2/openapi.yaml); PagerDuty's REST API, "List incidents"; Opsgenie's Alert API,
"List alerts"; Jira Service Management's operations API, "List alerts".
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Optional
from urllib.parse import quote, urlencode

from .errors import AlertingError
from .prometheus import Answer

Send = Callable[..., Answer]
"""Called with method, path and perhaps a body for JSON."""

PAUSE = 0.5
"""Seconds between two questions."""
API = {
    "pagerduty": "https://api.pagerduty.com",
    "opsgenie": "https://api.opsgenie.com",
}
"""The address of a receiver's API, where there is one for all. Opsgenie's of the EU is https://api.eu.opsgenie.com."""
RECEIVERS = ("webhook", "pagerduty", "opsgenie", "jsm")


class Alertmanager:
    """One Alertmanager.

    Args:
        send: sends a request.
        url: its address, for the messages.
    """

    def __init__(self, send: Send, url: str) -> None:
        self._send = send
        self._url = url

    def active(self) -> list[dict[str, Any]]:
        """The alerts that fire and are neither silenced nor inhibited: labels, annotations and startsAt each.

        Raises AlertingError.
        """
        status, body = self._send("GET", "/api/v2/alerts?active=true&silenced=false&inhibited=false&unprocessed=true")
        found = _json(body)
        if status != 200 or not isinstance(found, list):
            raise AlertingError(
                f"{self._url}/api/v2/alerts answers {status} and no list of alerts: {body.strip()[:200]!r}."
            )
        return [{key: alert.get(key) for key in ("labels", "annotations", "startsAt")} for alert in found]

    def post(self, labels: Mapping[str, str], annotations: Mapping[str, str], start: float, end: float) -> None:
        """Sends one alert.

        Args:
            start, end: seconds since 1970; one whose end has passed is resolved.

        Raises AlertingError.
        """
        alert = {
            "labels": dict(labels),
            "annotations": dict(annotations),
            "startsAt": _rfc3339(start),
            "endsAt": _rfc3339(end),
        }
        status, body = self._send("POST", "/api/v2/alerts", [alert])
        if status != 200:
            raise AlertingError(f"{self._url}/api/v2/alerts took no alert: {status}, {body.strip()[:300]}")


def matching(alerts: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Those that have all of these labels."""
    return [alert for alert in alerts if all(alert["labels"].get(name) == value for name, value in labels.items())]


class Receiver:
    """What a receiver says of the alerts that it got.

    Args:
        kind: one of RECEIVERS.
        send: sends a request to its API; of a webhook, to the address that tells what arrived there.
        where: for the messages.
    """

    def __init__(self, kind: str, send: Send, where: str) -> None:
        self._kind = kind
        self._send = send
        self._where = where

    def arrived(self, marker: str, since: float) -> Optional[dict[str, Any]]:
        """The alert with this text in it: id and acknowledged; None when it is not there.

        Args:
            since: seconds since 1970; older ones need not be looked at.

        Raises AlertingError.
        """
        status, body = self._send("GET", self._path(since))
        if status != 200:
            raise AlertingError(f"{self._where} answers {status}: {body.strip()[:200]!r}. See its token and address.")
        if self._kind == "webhook":
            return {"id": marker, "acknowledged": None} if marker in body else None
        told = _json(body)
        key = {"pagerduty": "incidents", "opsgenie": "data", "jsm": "values"}[self._kind]
        if not isinstance(told, Mapping) or not isinstance(told.get(key), list):
            raise AlertingError(f"{self._where} answers without a list of {key}: {body.strip()[:200]!r}.")
        for one in told[key]:
            if marker in json.dumps(one):
                acknowledged = one.get("status") == "acknowledged" or bool(one.get("acknowledged"))
                return {"id": str(one.get("id", "")), "acknowledged": acknowledged}
        return None

    def _path(self, since: float) -> str:
        if self._kind == "webhook":
            return ""
        if self._kind == "pagerduty":
            asked = [("statuses[]", "triggered"), ("statuses[]", "acknowledged"), ("since", _rfc3339(since))]
            return "/incidents?" + urlencode([*asked, ("limit", "100")])
        if self._kind == "opsgenie":
            return "/v2/alerts?limit=100&query=" + quote(f"status:open AND createdAt>{int(since * 1000)}")
        return "/v1/alerts?size=100&query=" + quote("status:open")


def headers(kind: str, token: str) -> dict[str, str]:
    """How a receiver's API is logged in to; nothing without a token."""
    if not token:
        return {}
    if kind == "pagerduty":
        return {"Authorization": f"Token token={token}", "Accept": "application/vnd.pagerduty+json;version=2"}
    return {"Authorization": f"{'GenieKey' if kind == 'opsgenie' else 'Bearer'} {token}"}


def wait_for(
    look: Callable[[], Any],
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Any, float, str]:
    """Looks again and again until there is something.

    Returns:
        What was found, or the last that was not; the seconds that it took; and why the last look failed, or "".
    """
    began = clock()
    while True:
        problem, found = "", None
        try:
            found = look()
        except AlertingError as error:
            problem = str(error)
        passed = clock() - began
        if found or passed >= seconds:
            return found, passed, problem
        sleep(PAUSE)


def _json(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _rfc3339(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

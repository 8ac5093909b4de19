# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each kind of alert receiver wants to be sent.

Sources: PagerDuty's developer documentation, "Events API v2" ("Send an alert event"); Opsgenie's documentation, "Alert
API" and "Alerts and alert fields"; Atlassian's, "Jira Service Management ops REST API: Integration events" (the same
shape); Slack's, "Sending messages using incoming webhooks" and "Formatting message text".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

from .errors import DetectionError
from .options import read
from .transport import parse_url

Event = Mapping[str, Any]
"""As it stands in alerts.log."""

MOST_EVENTS = 50
LONGEST_BODY = 256 * 1024
"""Of one request, in bytes."""
LONGEST_TEXT = 4000
"""Characters of one Slack message: what is longer, Slack splits or cuts."""
_LONGEST_LINE = 700

_URLS = {
    "webhook": None,
    "slack": None,
    "pagerduty": "https://events.pagerduty.com/v2/enqueue",
    "opsgenie": "https://api.opsgenie.com/v2/alerts",
    "jsm": "https://api.atlassian.com/jsm/ops/integration/v2/alerts",
}
"""The types, each with the URL that is its default. Opsgenie's customers in the EU give https://api.eu.opsgenie.com/…"""
_NEED_TOKEN = ("pagerduty", "opsgenie", "jsm")

_PAGERDUTY = {"critical": "critical", "high": "error", "medium": "warning", "low": "info", "info": "info"}
_PRIORITY = {"critical": "P1", "high": "P2", "medium": "P3", "low": "P4", "info": "P5"}

_OPTIONS: dict[str, tuple[type, Any]] = {
    "name": (str, ...),
    "type": (str, "webhook"),
    "url": (str, None),
    "token": (str, None),
    "ca_cert": (str, None),
    "timeout": (float, 10.0),
    "proxy": (str, None),
}


class Destination:
    """Where alerts go. Its repr tells no secret: the token is one, and a URL may be.

    Attributes:
        name: what the operator calls it.
        type: webhook, slack, pagerduty, opsgenie or jsm.
        url, token, ca_cert, proxy: ca_cert is a file; None stands for "none", or the system's CA certificates.
        timeout: seconds for one request.
    """

    __slots__ = ("ca_cert", "name", "proxy", "timeout", "token", "type", "url")

    def __init__(self, **options: Any) -> None:
        self.name: str = options["name"]
        self.type: str = options["type"]
        self.url: str = options["url"]
        self.token: Optional[str] = options["token"]
        self.ca_cert: Optional[str] = options["ca_cert"]
        self.timeout: float = options["timeout"]
        self.proxy: Optional[str] = options["proxy"]

    def __repr__(self) -> str:
        return f"<Destination {self.name!r} ({self.type})>"


class Request(NamedTuple):
    """Attributes: url, body, headers. Its repr tells none of them: all may hold a secret."""

    url: str
    body: bytes
    headers: dict[str, str]

    def __repr__(self) -> str:
        return f"<Request of {len(self.body)} bytes>"


def read_destination(config: Any, where: str) -> Destination:
    """A destination of the configuration. Raises DetectionError, without its URL or token."""
    options = read(config, where, _OPTIONS)
    kind = options["type"]
    if kind not in _URLS:
        raise DetectionError(f"The configuration's {where}.type is {kind!r:.40}: it has to be {', '.join(_URLS)}.")
    options["url"] = options["url"] or _URLS[kind]
    if not options["url"]:
        raise DetectionError(f"The configuration's {where} lacks url.")
    url = parse_url(options["url"], f"{where}.url")
    if url.scheme != "https" and url.host not in ("localhost", "127.0.0.1", "::1"):
        raise DetectionError(
            f"The configuration's {where}.url has to begin with https://: alerts are not for all to read."
        )
    if options["proxy"] and (parse_url(options["proxy"], f"{where}.proxy").scheme, url.scheme) != ("http", "https"):
        raise DetectionError(f"The configuration's {where}.proxy has to begin with http://, and its url with https://.")
    if kind in _NEED_TOKEN and not options["token"]:
        raise DetectionError(f"The configuration's {where} lacks token, or token_credential with the name of a file.")
    token = options["token"] or ""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise DetectionError(
            f"The configuration's {where}.token holds what no token can: a space or a special character."
        )
    return Destination(**options)


def batches(kind: str, events: Sequence[Event]) -> list[list[Event]]:
    """The events in their order, cut into what goes into one request to a receiver of this type."""
    if kind not in ("webhook", "slack"):
        return [[event] for event in events]
    limit = LONGEST_TEXT - 300 if kind == "slack" else LONGEST_BODY - 1024
    result: list[list[Event]] = []
    room = 0
    for event in events:
        needed = len(_line(event)) + 1 if kind == "slack" else len(_encode(event)) + 2
        if not result or needed > room or len(result[-1]) == MOST_EVENTS:
            result.append([])
            room = limit
        result[-1].append(event)
        room -= needed
    return result


def request(destination: Destination, events: Sequence[Event], version: str) -> Request:
    """What to send to tell a destination of one of its batches."""
    url, headers, payload = _SHAPES[destination.type](destination, events, version)
    return Request(url, _encode(payload), {"Content-Type": "application/json", **headers})


_Shape = tuple[str, dict[str, str], dict[str, Any]]


def _webhook(destination: Destination, events: Sequence[Event], version: str) -> _Shape:
    """The same events get the same key, so a receiver that knows it can tell a repetition."""
    ids = "\n".join(str(event["id"]) for event in events)
    headers = {"Idempotency-Key": hashlib.sha256(ids.encode("utf-8", "replace")).hexdigest()[:32]}
    if destination.token:
        headers["Authorization"] = f"Bearer {destination.token}"
    return destination.url, headers, {"host": events[0]["host"], "version": version, "events": list(events)}


def _slack(destination: Destination, events: Sequence[Event], _version: str) -> _Shape:
    """Also what Mattermost, Rocket.Chat and Discord (its URL with /slack) take."""
    title = f"{_escaped(_cut(events[0]['host'], 200))}: {len(events)} alert{'s' if len(events) > 1 else ''}"
    return destination.url, {}, {"text": "\n".join([title, *map(_line, events)])}


def _line(event: Event) -> str:
    """One event, in at most _LONGEST_LINE characters; nothing in it is markup that Slack would act on."""
    text = f"[{event['state']}] {event['severity']}: {event['summary']} ({event['rule']}, {event['subject']})"
    longest = _LONGEST_LINE
    while len(escaped := _escaped(_cut(text, longest))) > _LONGEST_LINE:
        longest -= 50
    return f"• {escaped}"


def _escaped(text: str) -> str:
    text = " ".join(text.splitlines())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _pagerduty(destination: Destination, events: Sequence[Event], version: str) -> _Shape:
    """Limits: summary 1,024 characters, dedup_key 255, the whole 512 KB."""
    event = events[0]
    payload: dict[str, Any] = {
        "routing_key": destination.token,
        "event_action": "resolve" if event["state"] == "resolved" else "trigger",
        "dedup_key": _alias(event)[-255:],
    }
    if event["state"] != "resolved":
        payload["client"] = f"custodes {version}".strip()
        payload["payload"] = {
            "summary": _cut(f"{event['host']}: {event['summary']}", 1024),
            "source": _cut(event["host"], 255),
            "severity": _PAGERDUTY[event["severity"]],
            "timestamp": event["time"],
            "component": _cut(event["subject"], 255),
            "class": event["rule"],
            "custom_details": dict(event),
        }
    return destination.url, {}, payload


def _opsgenie(destination: Destination, events: Sequence[Event], _version: str) -> _Shape:
    """Limits: message 130 characters, alias 512, description 15,000, source 100, entity 512."""
    # http.client has it loaded by the time that something is sent.
    from urllib.parse import quote  # noqa: PLC0415

    event = events[0]
    headers = {"Authorization": f"GenieKey {destination.token}"}
    alias = _alias(event)[-512:]
    source = _cut(event["host"], 100)
    if event["state"] == "resolved":
        url = f"{destination.url.rstrip('/')}/{quote(alias, safe='', errors='replace')}/close?identifierType=alias"
        return url, headers, {"source": source, "note": _cut(f"Resolved: {event['summary']}", 1000)}
    evidence = json.dumps(event["evidence"], ensure_ascii=False)
    description = "\n".join([event["summary"], event["subject"], event["advice"], evidence])
    details = ("rule", "severity", "technique", "fingerprint", "id", "first_seen", "last_seen")
    payload = {
        "message": _cut(f"{event['host']}: {event['summary']}", 130),
        "alias": alias,
        "description": _cut(description, 15000),
        "details": {name: str(event[name]) for name in details},
        "entity": _cut(event["subject"], 512),
        "source": source,
        "tags": [event["rule"]],
        "priority": _PRIORITY[event["severity"]],
    }
    return destination.url, headers, payload


_SHAPES: dict[str, Callable[[Destination, Sequence[Event], str], _Shape]] = {
    "webhook": _webhook,
    "slack": _slack,
    "pagerduty": _pagerduty,
    "opsgenie": _opsgenie,
    "jsm": _opsgenie,
}


def _alias(event: Event) -> str:
    """The same for one finding of one host; its end, the fingerprint, is what tells two of them apart."""
    return f"{event['host']}:{event['fingerprint']}"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _encode(payload: Any) -> bytes:
    """JSON in UTF-8; half a surrogate pair is no character, and strict receivers refuse it."""
    return json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")

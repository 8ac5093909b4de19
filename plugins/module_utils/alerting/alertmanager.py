# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration of Alertmanager: who is told what, twice where it is critical, and who is told that all is well.

Source: Alertmanager's documentation, "Configuration"; every key is one that 0.25 takes. It reads secrets from files,
but for a webhook's URL, which 0.25 cannot: that stands in the configuration.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional
from urllib.parse import urlsplit

from .errors import AlertingError

NOBODY = "nobody"
JSM = "https://api.atlassian.com/jsm/ops/integration/"
"""Jira Service Management takes what Opsgenie takes, below this."""
GROUP_BY = {"critical": ["..."], "warning": ["alertname", "cluster", "instance"]}
"""What is critical is in no group: one that joins a group already told of waits for its group_interval."""
GROUP_WAIT = {"critical": "10s", "warning": "10s"}
"""A part of the time from a fault to the receiver, of which every alert has two minutes."""
REPEAT = {"critical": "1h", "warning": "12h"}
HEARTBEAT = {"group_wait": "0s", "group_interval": "1m", "repeat_interval": "30s"}
"""The repeat has to be shorter than the interval: where they are equal, it is sent at every second one only (tried)."""
SMTP = ("smarthost", "from", "hello", "auth_username", "auth_identity", "require_tls")
"""Options of mail that are no secrets, as Alertmanager's `global` has them with smtp_ before."""

Receiver = dict[str, Any]


class Secrets:
    """Secrets by name, and where Alertmanager reads them.

    Args:
        values: by name.
        folder: where each lies in a file of its name.

    Attributes:
        used: the names that the configuration has a file for.
    """

    def __init__(self, values: Mapping[str, Any], folder: str) -> None:
        self._values = values
        self._folder = folder
        self.used: set[str] = set()

    def file(self, name: str, whose: str) -> str:
        """The path of its file. Raises AlertingError."""
        self.value(name, whose)
        self.used.add(name)
        return f"{self._folder}/{name}"

    def value(self, name: str, whose: str) -> str:
        """The secret itself, without space around it, such as the end of line that a prompt or a file has.

        Raises AlertingError, which names it and never shows it.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", str(name)):
            raise AlertingError(
                f"{whose} names the secret {name!r:.60}, which is no name for a file: letters, digits, _-."
            )
        if name not in self._values:
            known = ", ".join(sorted(self._values)) or "none at all"
            raise AlertingError(f"{whose} names the secret {name}, and there is no such one: {known}.")
        value = self._values[name]
        if not isinstance(value, str) or not value.strip():
            raise AlertingError(f"{whose} needs the secret {name}, which is empty or no text: nothing could be sent.")
        if len(value.strip().splitlines()) > 1:
            # Alertmanager would notice only when it has something to send.
            raise AlertingError(f"{whose} names the secret {name}, which has more than one line: none is like that.")
        return value.strip()


def configuration(options: Mapping[str, Any], secrets: Secrets) -> dict[str, Any]:
    """The whole configuration, for YAML or JSON.

    Args:
        options: receivers, by name; default, critical and watchdog, lists of their names; smtp, the global options of
            mail.
        secrets: those that the receivers name.

    Raises AlertingError, which names the receiver and the option.
    """
    receivers = {name: _receiver(name, given, secrets) for name, given in options["receivers"].items()}
    for part in ("default", "critical", "watchdog"):
        _check_part(part, options[part], options["receivers"])
    if not options["critical"]:
        raise AlertingError(
            "Nobody is told what is critical: name at least one receiver, and better two, in 'critical'."
        )
    smtp = _smtp(options.get("smtp") or {}, secrets)
    mails = [name for name, given in options["receivers"].items() if given["type"] == "email"]
    if mails and not smtp:
        raise AlertingError(f"The receiver {mails[0]} sends mail, and 'smtp' says neither smarthost nor from.")
    routes = [_heartbeat_route(name, options["receivers"][name]) for name in options["watchdog"]]
    # Watchdog ends here, whoever else is told of everything.
    routes.append({"matchers": ['alertname="Watchdog"'], "receiver": NOBODY})
    routes += [_route(name, 'severity="critical"', _waits("critical")) for name in options["critical"]]
    routes += [_route(name, 'severity!="critical"', _waits("warning")) for name in options["default"]]
    return {
        **({"global": smtp} if smtp else {}),
        "route": {"receiver": NOBODY, "routes": routes},
        "receivers": [*receivers.values(), {"name": NOBODY}],
        "inhibit_rules": [
            # Of a node that does not answer, what follows from that need not be told.
            {
                "source_matchers": ['alertname="VaultDown"'],
                "target_matchers": ['alertname=~"VaultAutopilotUnhealthy|VaultNoFailureTolerance"'],
                "equal": ["cluster"],
            }
        ],
    }


def _check_part(part: str, names: Sequence[str], receivers: Mapping[str, Any]) -> None:
    for name in names:
        if name not in receivers:
            known = ", ".join(receivers) or "none at all"
            raise AlertingError(f"'{part}' names the receiver {name}, and there is no such one: {known}.")
        kind = receivers[name]["type"]
        if part == "watchdog" and kind not in ("heartbeat", "webhook"):
            raise AlertingError(
                f"'watchdog' names the receiver {name} of the type {kind}, which would call somebody each minute: it "
                "takes heartbeat, or webhook."
            )
        if part != "watchdog" and kind == "heartbeat":
            raise AlertingError(
                f"'{part}' names the receiver {name}, a heartbeat, and nobody reads what is sent there."
            )
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice:
        raise AlertingError(f"'{part}' names the receiver {twice} twice, which is no second path.")


def _waits(severity: str) -> dict[str, Any]:
    return {
        "group_by": GROUP_BY[severity],
        "group_wait": GROUP_WAIT[severity],
        "group_interval": "1m",
        "repeat_interval": REPEAT[severity],
    }


def _route(name: str, matcher: str, waits: Mapping[str, Any]) -> dict[str, Any]:
    return {"matchers": [matcher], "receiver": name, "continue": True, **waits}


def _heartbeat_route(name: str, receiver: Mapping[str, Any]) -> dict[str, Any]:
    """Of every Watchdog, or of that of one Prometheus: one that is silent would be hidden by another that is not."""
    route = _route(name, 'alertname="Watchdog"', HEARTBEAT)
    if "prometheus" in receiver:
        # Quoted as JSON is.
        route["matchers"].append(f"prometheus={json.dumps(receiver['prometheus'], ensure_ascii=False)}")
    return route


def _smtp(given: Mapping[str, Any], secrets: Secrets) -> dict[str, Any]:
    options = dict(given)
    password = options.pop("auth_password_secret", None)
    unknown = sorted(options.keys() - set(SMTP))
    if unknown:
        raise AlertingError(
            f"'smtp' has no option {unknown[0]}: it takes {', '.join((*SMTP, 'auth_password_secret'))}."
        )
    missing = [name for name in ("smarthost", "from") if given and not options.get(name)]
    if missing:
        raise AlertingError(f"'smtp' lacks {missing[0]}.")
    if password:
        options["auth_password_file"] = secrets.file(password, "'smtp'")
    return {f"smtp_{name}": value for name, value in options.items()}


def _receiver(name: str, given: Any, secrets: Secrets) -> Receiver:
    if name == NOBODY:
        raise AlertingError(f"A receiver must not have the name {NOBODY}: it stands for what is told to none.")
    if not isinstance(given, Mapping):
        raise AlertingError(f"The receiver {name} is no mapping of its type and options.")
    options = dict(given)
    kind = options.pop("type", None)
    if kind not in _KINDS:
        raise AlertingError(f"The receiver {name} has the type {kind!r:.40}: it takes {', '.join(_KINDS)}.")
    key, required, optional, shape = _KINDS[kind]
    missing = sorted(set(required) - options.keys())
    unknown = sorted(options.keys() - {*required, *optional})
    if missing:
        raise AlertingError(f"The receiver {name} lacks {missing[0]}.")
    if unknown:
        raise AlertingError(
            f"The receiver {name} has no option {unknown[0]}: it takes {', '.join((*required, *optional))}."
        )
    return {"name": name, key: [shape(f"The receiver {name}", options, secrets)]}


def _http_url(whose: str, url: Any, what: str) -> str:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"\s", url):
        # Not shown: it may be a secret.
        raise AlertingError(f"{whose}: {what} is no URL of http or https with a host.")
    return str(url)


def _webhook(whose: str, options: Mapping[str, Any], secrets: Secrets) -> dict[str, Any]:
    if ("url" in options) == ("url_secret" in options):
        raise AlertingError(f"{whose} takes either url or url_secret, the name of a secret.")
    secret = options.get("url_secret")
    url = _http_url(whose, secrets.value(secret, whose) if secret else options["url"], secret or "url")
    token = options.get("token_secret")
    kind = options.get("token_type", "Bearer")
    authorization = {"type": kind, "credentials_file": secrets.file(token, whose)} if token else None
    return {"url": url, "send_resolved": True, **_http(authorization, options.get("ca_cert"))}


def _http(authorization: Optional[dict[str, str]], ca_cert: Optional[str]) -> dict[str, Any]:
    config: dict[str, Any] = {"authorization": authorization} if authorization else {}
    if ca_cert:
        config["tls_config"] = {"ca_file": ca_cert}
    return {"http_config": config} if config else {}


def _heartbeat(whose: str, options: Mapping[str, Any], secrets: Secrets) -> dict[str, Any]:
    name = options.get("prometheus", "any")
    if not isinstance(name, str) or not name.strip():
        raise AlertingError(f"{whose}: 'prometheus' is no name, which the Watchdog of one Prometheus has as a label.")
    return {**_webhook(whose, options, secrets), "send_resolved": False}


def _slack(whose: str, options: Mapping[str, Any], secrets: Secrets) -> dict[str, Any]:
    channel = {"channel": options["channel"]} if "channel" in options else {}
    text = "{{ range .Alerts }}{{ .Annotations.summary }} {{ .Annotations.runbook_url }}\n{{ end }}"
    _http_url(whose, secrets.value(options["url_secret"], whose), options["url_secret"])
    return {"api_url_file": secrets.file(options["url_secret"], whose), "send_resolved": True, "text": text, **channel}


def _pagerduty(whose: str, options: Mapping[str, Any], secrets: Secrets) -> dict[str, Any]:
    return {"routing_key_file": secrets.file(options["key_secret"], whose), "send_resolved": True}


def _opsgenie(whose: str, options: Mapping[str, Any], secrets: Secrets) -> dict[str, Any]:
    address = {"api_url": _http_url(whose, options["api_url"], "api_url")} if "api_url" in options else {}
    return {"api_key_file": secrets.file(options["key_secret"], whose), "send_resolved": True, **address}


def _jsm(whose: str, options: Mapping[str, Any], secrets: Secrets) -> dict[str, Any]:
    return _opsgenie(whose, {"api_url": JSM, **options}, secrets)


def _email(whose: str, options: Mapping[str, Any], _secrets: Secrets) -> dict[str, Any]:
    if not isinstance(options["to"], str) or "@" not in options["to"]:
        raise AlertingError(f"{whose}: 'to' is no address of mail.")
    return {"to": options["to"], "send_resolved": True}


_HOOK = ("url", "url_secret", "token_secret", "token_type", "ca_cert")
_Kind = tuple[str, tuple[str, ...], tuple[str, ...], Callable[[str, Mapping[str, Any], Secrets], dict[str, Any]]]
_KINDS: dict[str, _Kind] = {
    "webhook": ("webhook_configs", (), _HOOK, _webhook),
    # Any that a POST keeps quiet: healthchecks.io, Dead Man's Snitch, Opsgenie's heartbeats and their like.
    "heartbeat": ("webhook_configs", (), (*_HOOK, "prometheus"), _heartbeat),
    "slack": ("slack_configs", ("url_secret",), ("channel",), _slack),
    "pagerduty": ("pagerduty_configs", ("key_secret",), (), _pagerduty),
    "opsgenie": ("opsgenie_configs", ("key_secret",), ("api_url",), _opsgenie),
    "jsm": ("opsgenie_configs", ("key_secret",), ("api_url",), _jsm),
    "email": ("email_configs", ("to",), (), _email),
}
"""By type: Alertmanager's key, the options that it has to have, those that it may have, and what makes it."""

# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of Alertmanager: who is in it, how secrets are, and what is refused. amtool judges it elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alertmanager import (
    JSM,
    Secrets,
    configuration,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.errors import AlertingError

RECEIVERS = {
    "pager": {"type": "pagerduty", "key_secret": "pd"},
    "jira": {"type": "jsm", "key_secret": "jsm"},
    "chat": {"type": "slack", "url_secret": "slack", "channel": "#ops"},
    "beat": {"type": "heartbeat", "url": "https://hc.example.com/ping"},
}
SECRETS = {
    "pd": "pd-key",
    "jsm": "jsm-key",
    "slack": "https://hooks.example.com/T0",
    "ping": "https://hc.example.com/u",
}
ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "roles/monitoring_rules/files/monitoring-health.rules.yml"
GUIDE = ROOT / "docs/alert-routes.md"


def made(secrets: Secrets | None = None, **changed: Any) -> dict[str, Any]:
    options = {"receivers": RECEIVERS, "default": ["chat"], "critical": ["pager", "jira"], "watchdog": ["beat"]}
    return configuration({**options, **changed}, secrets or Secrets(SECRETS, "/secrets"))


def with_receiver(**given: Any) -> dict[str, Any]:
    return {"receivers": {**RECEIVERS, "x": given}}


def seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def receivers(config: dict[str, Any]) -> dict[str, Any]:
    return {
        one["name"]: next((value[0] for key, value in one.items() if key != "name"), None)
        for one in config["receivers"]
    }


def test_what_is_critical_goes_to_all_that_are_named_and_in_time() -> None:
    routes = [route for route in made()["route"]["routes"] if route["matchers"] == ['severity="critical"']]
    assert [route["receiver"] for route in routes] == ["pager", "jira"]
    assert all(route["continue"] and route["group_wait"] == "10s" for route in routes)


def test_watchdog_goes_to_the_heartbeat_and_to_nobody_else() -> None:
    first, second, *others = made()["route"]["routes"]
    assert (first["receiver"], first["group_interval"], first["continue"]) == ("beat", "1m", True)
    assert second == {"matchers": ['alertname="Watchdog"'], "receiver": "nobody"}
    assert all("Watchdog" not in json.dumps(route) for route in others)
    assert receivers(made())["beat"] == {"url": "https://hc.example.com/ping", "send_resolved": False}


def test_each_prometheus_may_have_a_heartbeat_of_its_own() -> None:
    """Else one that falls silent is not missed, as the other's keeps the same URL quiet."""
    beats = {name: {**RECEIVERS["beat"], "prometheus": name} for name in ("mon-1", 'mon"2')}
    first, second, nobody, *_others = made(receivers={**RECEIVERS, **beats}, watchdog=[*beats])["route"]["routes"]
    assert (first["receiver"], first["matchers"]) == ("mon-1", ['alertname="Watchdog"', 'prometheus="mon-1"'])
    assert second["matchers"] == ['alertname="Watchdog"', r'prometheus="mon\"2"']
    assert nobody["matchers"] == ['alertname="Watchdog"']


def test_a_heartbeat_is_repeated_at_every_interval() -> None:
    """With a repeat as long as the interval, Alertmanager sends at every second one only."""
    route = made()["route"]["routes"][0]
    assert seconds(route["repeat_interval"]) < seconds(route["group_interval"]) == 60


def test_secrets_are_files_and_those_alone_that_somebody_reads() -> None:
    secrets = Secrets({**SECRETS, "mail": "m", "unused": "u"}, "/secrets")
    smtp = {"smarthost": "mail.example.com:587", "from": "a@example.com", "auth_password_secret": "mail"}
    told = made(secrets, smtp=smtp)
    by_name = receivers(told)
    assert by_name["pager"]["routing_key_file"] == "/secrets/pd"
    assert (by_name["jira"]["api_key_file"], by_name["jira"]["api_url"]) == ("/secrets/jsm", JSM)
    assert by_name["chat"]["api_url_file"] == "/secrets/slack"
    assert told["global"]["smtp_auth_password_file"] == "/secrets/mail"
    assert secrets.used == {"pd", "jsm", "slack", "mail"}
    assert not any(f'"{value}"' in json.dumps(told) for value in SECRETS.values())


def test_a_secret_may_end_with_a_line_as_files_and_prompts_have_it() -> None:
    secrets = Secrets({**SECRETS, "ping": SECRETS["ping"] + "\n", "token": "quo\"te'\n"}, "/secrets")
    hook = {"type": "heartbeat", "url_secret": "ping", "token_secret": "token"}
    assert receivers(made(secrets, receivers={**RECEIVERS, "beat": hook}))["beat"]["url"] == SECRETS["ping"]


def test_a_token_may_be_of_another_type_and_a_url_a_secret() -> None:
    """Opsgenie's heartbeats take a key of the type GenieKey, and the URL of healthchecks.io is all its secret."""
    secrets = Secrets(SECRETS, "/secrets")
    options = {"url_secret": "ping", "token_secret": "jsm", "token_type": "GenieKey", "ca_cert": "/etc/ssl/own.pem"}
    hook = receivers(made(secrets, receivers={**RECEIVERS, "beat": {"type": "heartbeat", **options}}))["beat"]
    assert hook["url"] == SECRETS["ping"]
    assert hook["http_config"] == {
        "authorization": {"type": "GenieKey", "credentials_file": "/secrets/jsm"},
        "tls_config": {"ca_file": "/etc/ssl/own.pem"},
    }
    assert "ping" not in secrets.used, "it stands in the configuration"


class Anything(dict[str, str]):
    """Has every secret, each a URL, as some have to be."""

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> str:
        return f"https://{name}.example.com"


def test_the_examples_of_the_guide_can_be_used() -> None:
    text = GUIDE.read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (play,) = yaml.safe_load(block)
    given = {name.removeprefix("alertmanager_routes_"): value for name, value in play["roles"][0]["vars"].items()}
    shown = re.findall(r"^\|[^|]+\| `(\{type: .*?\})`", text, re.MULTILINE)
    assert len(shown) == 2
    more = {f"shown-{number}": yaml.safe_load(one) for number, one in enumerate(shown)}
    named = {**given.pop("receivers"), **more}
    assert given.pop("secrets").startswith("{{")
    told = made(Secrets(Anything(), "/s"), **{**given, "receivers": named, "watchdog": [*given["watchdog"], *more]})
    assert len(told["receivers"]) == len(named) + 1


def test_what_inhibits_and_what_is_inhibited_are_alerts_that_exist() -> None:
    alerts = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    for rule in made()["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            named = set(re.fullmatch(r'alertname=~?"(.+)"', matcher)[1].split("|"))  # type: ignore[index]
            assert named <= alerts


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"critical": []}, "Nobody is told what is critical"),
        ({"critical": ["pagr"]}, r"'critical' names the receiver pagr, .*: pager, jira, chat, beat"),
        (with_receiver(type="sms"), "receiver x has the type 'sms': it takes webhook"),
        (with_receiver(type="pagerduty"), "receiver x lacks key_secret"),
        (with_receiver(type="email", to="a", form="b"), "receiver x has no option form"),
        ({"receivers": {**RECEIVERS, "x": "slack"}}, "receiver x is no mapping"),
        ({"receivers": {**RECEIVERS, "nobody": {"type": "email", "to": "a"}}}, "must not have the name nobody"),
        ({"critical": ["pager", "pager"]}, "names the receiver pager twice, which is no second path"),
        ({"critical": ["pager", "beat"]}, "'critical' names the receiver beat, a heartbeat"),
        ({"watchdog": ["pager"]}, "pager of the type pagerduty, which would call somebody each minute"),
        (
            with_receiver(type="pagerduty", key_secret="pdd"),
            "names the secret pdd, and there is no such one: empty, jsm, lines, pd",
        ),
        (with_receiver(type="pagerduty", key_secret="../x"), "which is no name for a file"),
        (with_receiver(type="pagerduty", key_secret="empty"), "needs the secret empty, which is empty"),
        (with_receiver(type="slack", url_secret="pd"), "receiver x: pd is no URL of http or https"),
        (with_receiver(type="webhook", url="hook.example.com"), "receiver x: url is no URL"),
        (with_receiver(type="webhook", url="https://:443/x"), "receiver x: url is no URL"),
        (with_receiver(type="webhook", url="https://[::1/x"), "receiver x: url is no URL"),
        (with_receiver(type="webhook"), "either url or url_secret"),
        (
            with_receiver(type="webhook", url="https://a", token_secret="lines"),
            "the secret lines, .* more than one line",
        ),
        (with_receiver(type="heartbeat", url="https://a", prometheus=""), "receiver x: 'prometheus' is no name"),
        (with_receiver(type="webhook", url="https://a", prometheus="one"), "receiver x has no option prometheus"),
        (with_receiver(type="webhook", url="https://a", url_secret="ping"), "either url or url_secret"),
        (with_receiver(type="opsgenie", key_secret="pd", api_url="eu"), "api_url is no URL"),
        (with_receiver(type="email", to="ops"), "'to' is no address"),
        (with_receiver(type="email", to="ops@example.com"), "receiver x sends mail, and 'smtp' says neither"),
        ({"smtp": {"smarthost": "a:25"}}, "'smtp' lacks from"),
        ({"smtp": {"smarthost": "a:25", "from": "b", "auth_password": "c"}}, "'smtp' has no option auth_password:"),
        ({"smtp": {"smarthost": "a:25", "from": "b", "auth_password_secret": "c"}}, "'smtp' names the secret c, and"),
    ],
)
def test_what_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(AlertingError, match=message) as caught:
        made(Secrets({**SECRETS, "empty": " ", "lines": "a\nb"}, "/secrets"), **changed)
    assert not any(value in str(caught.value) for value in SECRETS.values())

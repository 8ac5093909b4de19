# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each receiver is sent: its documented shape and limits, whatever the names in a finding hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import receivers
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.receivers import Destination, Request
from hypothesis import given
from hypothesis import strategies as st

DEFAULTS = {"pagerduty": None, "opsgenie": None, "jsm": None, "webhook": "https://hook/x", "slack": "https://hook/s"}


def destination(kind: str, **options: Any) -> Destination:
    config = {"name": "one", "type": kind, "url": DEFAULTS[kind], "token": "t0ken", **options}
    return receivers.read_destination(config, "delivery.destinations[0]")


def event(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"id-{number}", "time": "2026-06-01T12:00:00Z", "state": "new", "host": "web-1",
        "fingerprint": f"{number:016x}", "rule": "process.miner_name", "severity": "critical", "technique": "T1496",
        "subject": "/tmp/xmrig", "summary": "A process has a miner's name.", "evidence": {"pid": 42},
        "advice": "Look.", "first_seen": "2026-06-01T12:00:00Z", "last_seen": "2026-06-01T12:00:00Z", **changes,
    }  # fmt: skip


def sent(kind: str, *events: dict[str, Any], **options: Any) -> tuple[Request, dict[str, Any]]:
    request = receivers.request(destination(kind, **options), events or [event()], "1.2.3")
    return request, json.loads(request.body)


def test_a_webhook_gets_host_version_and_the_events_as_they_are() -> None:
    request, body = sent("webhook", event(1), event(2))
    assert request.url == "https://hook/x"
    assert request.headers["Authorization"] == "Bearer t0ken"
    assert request.headers["Content-Type"] == "application/json"
    assert body == {"host": "web-1", "version": "1.2.3", "events": [event(1), event(2)]}


@pytest.mark.parametrize(
    "config",
    [
        "https://hooks.example.com/SECRET",
        ["https://hooks.example.com/SECRET"],
        {"name": "x", "url": ["https://hooks.example.com/SECRET"]},
        {"name": "x", "url": "https://hooks.example.com/", "token": ["SECRET"]},
    ],
)
def test_a_mistake_in_a_destination_is_told_without_its_secrets(config: Any) -> None:
    with pytest.raises(DetectionError, match=r"destinations\[0\].* has to be (?:an object|a text), and is a ") as told:
        receivers.read_destination(config, "delivery.destinations[0]")
    assert "SECRET" not in str(told.value)


def test_a_webhook_can_do_without_a_token() -> None:
    assert "Authorization" not in sent("webhook", token=None)[0].headers


def test_the_same_events_have_the_same_idempotency_key_and_others_have_another() -> None:
    def key(*events: dict[str, Any]) -> str:
        return sent("webhook", *events)[0].headers["Idempotency-Key"]

    assert key(event(1), event(2)) == key(event(1), event(2, subject="else"))
    assert len({key(event(1)), key(event(2)), key(event(1), event(2))}) == 3


def test_slack_gets_text_alone_with_nothing_in_it_that_calls_a_channel() -> None:
    _request, body = sent("slack", event(1, summary="<!channel> & <http://x|y>"), event(2, state="resolved"))
    assert list(body) == ["text"]
    assert body["text"].splitlines() == [
        "web-1: 2 alerts",
        "• [new] critical: &lt;!channel&gt; &amp; &lt;http://x|y&gt; (process.miner_name, /tmp/xmrig)",
        "• [resolved] critical: A process has a miner's name. (process.miner_name, /tmp/xmrig)",
    ]


def test_pagerduty_gets_a_trigger_of_version_2() -> None:
    request, body = sent("pagerduty")
    assert request.url == "https://events.pagerduty.com/v2/enqueue"
    assert "Authorization" not in request.headers
    assert body["payload"].pop("custom_details") == event()
    assert body == {
        "routing_key": "t0ken",
        "event_action": "trigger",
        "dedup_key": "web-1:0000000000000001",
        "client": "custodes 1.2.3",
        "payload": {
            "summary": "web-1: A process has a miner's name.",
            "source": "web-1",
            "severity": "critical",
            "timestamp": "2026-06-01T12:00:00Z",
            "component": "/tmp/xmrig",
            "class": "process.miner_name",
        },
    }


def test_pagerduty_resolves_by_the_same_key() -> None:
    assert sent("pagerduty", event(state="resolved"))[1] == {
        "routing_key": "t0ken",
        "event_action": "resolve",
        "dedup_key": sent("pagerduty")[1]["dedup_key"],
    }


@pytest.mark.parametrize(
    ("severity", "pagerduty", "priority"),
    [
        ("critical", "critical", "P1"),
        ("high", "error", "P2"),
        ("medium", "warning", "P3"),
        ("low", "info", "P4"),
        ("info", "info", "P5"),
    ],
)
def test_severities_become_the_receivers_own(severity: str, pagerduty: str, priority: str) -> None:
    assert sent("pagerduty", event(severity=severity))[1]["payload"]["severity"] == pagerduty
    assert sent("opsgenie", event(severity=severity))[1]["priority"] == priority


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("opsgenie", "https://api.opsgenie.com/v2/alerts"),
        ("jsm", "https://api.atlassian.com/jsm/ops/integration/v2/alerts"),
    ],
)
def test_opsgenie_and_jira_get_an_alert_and_its_close(kind: str, url: str) -> None:
    request, body = sent(kind)
    assert (request.url, request.headers["Authorization"]) == (url, "GenieKey t0ken")
    assert body["alias"] == "web-1:0000000000000001"
    assert body["message"] == "web-1: A process has a miner's name."
    assert body["details"]["technique"] == "T1496"
    request, body = sent(kind, event(state="resolved"))
    assert request.url == f"{url}/web-1%3A0000000000000001/close?identifierType=alias"
    assert set(body) == {"source", "note"}


def test_opsgenie_of_the_eu_is_a_url() -> None:
    request, _body = sent("opsgenie", event(state="resolved"), url="https://api.eu.opsgenie.com/v2/alerts/")
    assert request.url.startswith("https://api.eu.opsgenie.com/v2/alerts/web-1%3A")


LONG = {"summary": "é" * 50_000, "subject": "<&>" * 50_000, "host": "h" * 5000, "advice": "x" * 50_000}


@pytest.mark.parametrize("kind", sorted(DEFAULTS))
@pytest.mark.parametrize("state", ["new", "resolved"])
def test_every_limit_holds_for_names_that_are_too_long(kind: str, state: str) -> None:
    _request, body = sent(kind, event(**LONG, state=state))
    if kind == "slack":
        assert len(body["text"]) <= receivers.LONGEST_TEXT
    if kind == "pagerduty":
        assert len(body["dedup_key"]) <= 255
        assert body["dedup_key"].endswith(":0000000000000001")
        assert len(body.get("payload", {}).get("summary", "")) <= 1024
    if kind in ("opsgenie", "jsm"):
        longest = {"message": 130, "alias": 512, "description": 15000, "source": 100, "entity": 512, "note": 25000}
        assert all(len(body[name]) <= longest[name] for name in set(body) & set(longest))


@pytest.mark.parametrize("kind", sorted(DEFAULTS))
def test_batches_keep_order_number_and_size(kind: str) -> None:
    events = [event(number, summary="&" * (number * 20)) for number in range(170)]
    events[100]["evidence"] = {"much": "x" * 200_000}
    events[101]["evidence"] = {"much": "x" * 200_000}
    parts = receivers.batches(kind, events)
    assert [one for part in parts for one in part] == events
    if kind == "webhook":
        assert len(parts) < 10
    for part in parts:
        assert len(part) <= (50 if kind in ("webhook", "slack") else 1)
        request, body = sent(kind, *part)
        assert len(request.body) <= receivers.LONGEST_BODY
        assert kind != "slack" or len(body["text"]) <= receivers.LONGEST_TEXT


names = st.text(st.characters(), max_size=300)


@given(st.sampled_from(sorted(DEFAULTS)), st.sampled_from(["new", "reminded", "resolved"]), names, names, names)
def test_every_body_is_strict_json_and_no_header_or_url_is_broken(
    kind: str, state: str, host: str, subject: str, summary: str
) -> None:
    hostile = event(state=state, host=host, subject=subject, summary=summary, evidence={"\ud800": [subject, summary]})
    (batch,) = receivers.batches(kind, [hostile])
    request, body = sent(kind, *batch)
    assert "\ud800" not in request.body.decode("utf-8")
    assert json.loads(json.dumps(body)) == body
    assert (request.url + "".join(request.headers.values())).isascii()
    assert (request.url + "".join(request.headers.values())).isprintable()
    if kind == "slack":
        assert len(body["text"].splitlines()) == 2
        assert not set("<>") & set(body["text"])


def test_neither_url_nor_token_is_in_a_repr() -> None:
    one = destination("webhook")
    assert repr(one) == "<Destination 'one' (webhook)>"
    assert "t0ken" not in repr(receivers.request(one, [event()], ""))
    assert "hook" not in repr(receivers.request(one, [event()], ""))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "teams"}, "type is 'teams'"),
        ({"type": "slack", "url": None}, "lacks url"),
        ({"type": "pagerduty", "url": None, "token": None}, "lacks token"),
        ({"url": "http://hook/secret"}, "https://"),
        ({"url": "https://me:secret@hook/"}, r"destinations\[0\].url"),
        ({"token": "sec ret"}, "token"),
        ({"token": "sec\r\nret"}, "token"),
        ({"token": "secrét"}, "token"),
        ({"proxy": "https://secret:1"}, "proxy"),
        ({"url": "http://localhost/", "proxy": "http://proxy:1"}, "proxy"),
        ({"timeout": 0}, "timeout"),
        ({"secret": 1}, "no option secret"),
        ({"name": None}, "lacks name"),
    ],
)
def test_a_destination_that_cannot_work_is_refused_without_its_secrets(options: dict[str, Any], message: str) -> None:
    config = {"name": "one", "type": "webhook", "url": "https://hook/secret", "token": "secret", **options}
    with pytest.raises(DetectionError, match=message) as caught:
        receivers.read_destination(config, "delivery.destinations[0]")
    assert "secret" not in str(caught.value).replace("no option secret", "")


def test_plain_http_is_for_this_host_alone() -> None:
    assert destination("webhook", url="http://127.0.0.1:8080/x").url == "http://127.0.0.1:8080/x"

# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alertmanager and receivers, asked and answering as documented, and otherwise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting import alerts
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alerts import Alertmanager, Receiver
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.errors import AlertingError

URL = "https://alertmanager.example.com:9093"
MARKER = "drill-20261127T221500Z"


class Server:
    """Answers, and remembers what it was asked."""

    def __init__(self, body: Any, status: int = 200) -> None:
        self.answer = (status, body if isinstance(body, str) else json.dumps(body))
        self.asked: list[tuple[str, str, Any]] = []

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        self.asked.append((method, path, body))
        return self.answer


def alert(**labels: str) -> dict[str, Any]:
    return {"labels": labels, "annotations": {}, "startsAt": "2026-11-27T09:00:00.000Z", "status": {"state": "active"}}


def test_active() -> None:
    server = Server([alert(alertname="VaultDown", severity="critical")])
    (found,) = Alertmanager(server, URL).active()
    assert found == {
        "labels": {"alertname": "VaultDown", "severity": "critical"},
        "annotations": {},
        "startsAt": "2026-11-27T09:00:00.000Z",
    }
    ((method, path, _body),) = server.asked
    assert (method, path.partition("?")[0]) == ("GET", "/api/v2/alerts")
    assert "silenced=false" in path


@pytest.mark.parametrize("body", ["<html>", "{}", "null"])
def test_what_is_no_alertmanager(body: str) -> None:
    with pytest.raises(AlertingError, match="no list of alerts"):
        Alertmanager(Server(body), URL).active()


def test_post() -> None:
    server = Server("")
    Alertmanager(server, URL).post({"alertname": "DR_DRILL_TEST"}, {"summary": "A drill."}, 0, 600)
    assert server.asked == [
        (
            "POST",
            "/api/v2/alerts",
            [
                {
                    "labels": {"alertname": "DR_DRILL_TEST"},
                    "annotations": {"summary": "A drill."},
                    "startsAt": "1970-01-01T00:00:00.000Z",
                    "endsAt": "1970-01-01T00:10:00.000Z",
                }
            ],
        )
    ]
    with pytest.raises(AlertingError, match="took no alert: 400, bad label"):
        Alertmanager(Server("bad label", 400), URL).post({}, {}, 0, 1)


def test_matching() -> None:
    given = [alert(alertname="A", severity="critical"), alert(alertname="B")]
    assert alerts.matching(given, {"severity": "critical"}) == [given[0]]
    assert alerts.matching(given, {}) == given


@pytest.mark.parametrize(
    ("kind", "body", "acknowledged"),
    [
        ("webhook", {"arrived": [{"labels": {"drill": MARKER}}]}, None),
        ("pagerduty", {"incidents": [{"id": "Q1", "title": "x"}, {"id": "Q2", "title": f"DR {MARKER}"}]}, False),
        ("pagerduty", {"incidents": [{"id": "Q2", "status": "acknowledged", "title": f"DR {MARKER}"}]}, True),
        ("opsgenie", {"data": [{"id": "Q2", "acknowledged": True, "message": f"DR {MARKER}"}]}, True),
        ("jsm", {"values": [{"id": "Q2", "acknowledged": False, "message": f"DR {MARKER}"}]}, False),
    ],
)
def test_arrived(kind: str, body: Any, acknowledged: bool | None) -> None:
    found = Receiver(kind, Server(body), URL).arrived(MARKER, 0)
    assert found == {"id": MARKER if kind == "webhook" else "Q2", "acknowledged": acknowledged}


@pytest.mark.parametrize(
    ("kind", "body"),
    [("webhook", "nothing"), ("pagerduty", {"incidents": []}), ("opsgenie", {"data": []}), ("jsm", {"values": []})],
)
def test_not_arrived(kind: str, body: Any) -> None:
    assert Receiver(kind, Server(body), URL).arrived(MARKER, 0) is None


@pytest.mark.parametrize("kind", ["pagerduty", "opsgenie", "jsm"])
def test_what_is_no_receiver(kind: str) -> None:
    with pytest.raises(AlertingError, match=r"answers 401: .*token"):
        Receiver(kind, Server("no", 401), URL).arrived(MARKER, 0)
    with pytest.raises(AlertingError, match="without a list"):
        Receiver(kind, Server({"incidents": 7}), URL).arrived(MARKER, 0)


def test_the_token_goes_into_the_header_that_each_wants() -> None:
    assert alerts.headers("pagerduty", "k")["Authorization"] == "Token token=k"
    assert alerts.headers("opsgenie", "k") == {"Authorization": "GenieKey k"}
    assert alerts.headers("webhook", "") == {}


def test_waiting() -> None:
    clock = iter(range(100))
    answers = iter([None, None, "there"])
    assert alerts.wait_for(lambda: next(answers), 50, lambda _seconds: None, lambda: next(clock)) == ("there", 3, "")


def test_waiting_in_vain_tells_the_last_problem() -> None:
    clock = iter(range(100))

    def look() -> None:
        raise AlertingError("no answer")

    assert alerts.wait_for(look, 2, lambda _seconds: None, lambda: next(clock)) == (None, 2, "no answer")

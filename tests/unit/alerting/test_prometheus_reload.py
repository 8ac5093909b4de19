# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reloading Prometheus: when it is needed, what is waited for, and what is told when it went wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.errors import AlertingError
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.prometheus import (
    Http,
    Loaded,
    Prometheus,
    duration,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.reload import Reload, alerts_in, newest
from unit.detection.webserver import serving

PATH = "/etc/prometheus/rules/x.yml"


class Server:
    """Tells one thing after the other, the last one for ever."""

    def __init__(self, *told: Loaded) -> None:
        self.told = list(told)

    def loaded(self) -> Loaded:
        return self.told.pop(0) if len(self.told) > 1 else self.told[0]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.5

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def settle(server: Server, expected: dict[str, list[str]], wait: float = 5.0) -> Clock:
    clock = Clock()
    Reload(server, expected, 0).settle(lambda: None, clock, clock.sleep, wait)
    return clock


@pytest.mark.parametrize(
    ("loaded", "needed"),
    [
        (Loaded(100, True, {PATH: ["A"]}), False),
        (Loaded(99, True, {PATH: ["A"]}), True),
        (Loaded(100, False, {PATH: ["A"]}), True),
        (Loaded(100, True, {PATH: ["A", "B"]}), True),
        (Loaded(100, True, {}), True),
        (Loaded(None, True, {PATH: ["A"]}), False),
    ],
)
def test_when_it_is_needed(loaded: Loaded, needed: bool) -> None:
    assert Reload(Server(loaded), {PATH: ["A"]}, 100.9).is_needed() is needed


def test_it_waits_until_the_rules_are_there() -> None:
    before, reading, done = Loaded(900, True), Loaded(1000, True), Loaded(1000, True, {PATH: ["A"]})
    assert settle(Server(before, before, reading, done), {PATH: ["A"]}).now == 1001.5


def test_a_refusal_is_told_at_once() -> None:
    server = Server(Loaded(900, True), Loaded(900, False))
    clock = Clock()
    with pytest.raises(AlertingError, match="has refused its configuration and goes on with the one before"):
        Reload(server, {}, 0).settle(lambda: None, clock, clock.sleep, 60)
    assert clock.now == 1000.5


def test_a_signal_that_went_nowhere_is_told() -> None:
    with pytest.raises(AlertingError, match="was told to reload and has not within 5 s"):
        settle(Server(Loaded(900, True)), {})


def test_rules_that_are_not_read_are_told_with_the_line_that_is_missing() -> None:
    with pytest.raises(AlertingError, match=r"rule_files: /etc/prometheus/rules/\*\.yml"):
        settle(Server(Loaded(1000, True)), {PATH: ["A"]})
    with pytest.raises(AlertingError, match=r"still has the rules of .*, which is gone"):
        settle(Server(Loaded(1000, True, {PATH: ["A"]})), {PATH: []})


def test_the_alerts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(
        'groups:\n- rules:\n  - alert: A\n    expr: "alert: no"\n  - expr: x\n    alert: "B"\n  - record: c\n'
    )
    assert alerts_in(str(file)) == ["A", "B"]
    assert alerts_in(str(tmp_path / "none")) == []
    assert newest([str(file), str(tmp_path / "none")]) == file.stat().st_mtime
    assert newest([]) == 0
    file.write_bytes(b"\xff")
    with pytest.raises(AlertingError, match="Cannot read"):
        alerts_in(str(file))


def prometheus(**answers: Any) -> Prometheus:
    told = {name.replace("_", "-"): value for name, value in answers.items()}

    def http(method: str, path: str) -> tuple[int, str]:
        value = told[path.partition("?")[0].rpartition("/")[2]]
        return value if isinstance(value, tuple) else (200, json.dumps({"status": "success", "data": value}))

    return Prometheus(http, "http://p")


def test_what_it_runs_with() -> None:
    groups = [{"file": PATH, "rules": [{"name": "A"}]}, {"file": PATH, "rules": [{"name": "B"}]}]
    info = {"lastConfigTime": "2026-01-01T00:00:00Z", "reloadConfigSuccess": True}
    assert prometheus(runtimeinfo=info, rules={"groups": groups}).loaded() == Loaded(
        1767225600.0, True, {PATH: ["A", "B"]}
    )
    info["lastConfigTime"] = "2026-01-01T01:00:00.123456789+01:00"
    assert prometheus(runtimeinfo=info, rules={"groups": None}).loaded() == Loaded(1767225600.0, True, {})
    info["lastConfigTime"] = "soon"
    assert prometheus(runtimeinfo=info, rules={"groups": []}).loaded().at is None


def test_targets_that_are_scraped_too_seldom() -> None:
    targets = [
        {"labels": {"job": "vault"}, "scrapeInterval": "1m"},
        {"labels": {"job": "loki"}, "scrapeInterval": "10s"},
        {"labels": {"job": "old"}},
    ]
    assert prometheus(targets={"activeTargets": targets}).slow_scrapes(10) == {"vault": 60}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((403, "Lifecycle API is not enabled."), "start it with --web.enable-lifecycle"),
        (
            (500, "failed to reload config: x.yml: line 3"),
            "500, failed to reload config: x.yml: line 3. Prometheus goes on",
        ),
    ],
)
def test_a_reload_by_http_that_fails(answer: tuple[int, str], told: str) -> None:
    with pytest.raises(AlertingError, match=told):
        prometheus(reload=answer).reload()


@pytest.mark.parametrize("answer", [(401, ""), (200, "<html>"), (200, "[]"), (404, "not found")])
def test_something_else_on_that_port_is_told(answer: tuple[int, str]) -> None:
    with pytest.raises(AlertingError, match=f"/api/v1/status/flags answers {answer[0]} and nothing"):
        prometheus(flags=answer).lifecycle()


def test_addresses_and_authorities_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(AlertingError, match="is no address of Prometheus"):
        Http("file:///etc/passwd")
    with pytest.raises(AlertingError, match="cannot be used"):
        Http("https://p", ca_cert=str(tmp_path / "none"))
    with pytest.raises(AlertingError, match=r"does not answer on http://127.0.0.1:9"):
        Http("http://127.0.0.1:9")("GET", "/")


def test_what_speaks_no_http_is_told() -> None:
    with serving(b"SSH-2.0-OpenSSH_9.2\r\n") as server, pytest.raises(AlertingError, match=r"does not answer.*SSH-2.0"):
        Http(f"http://127.0.0.1:{server.port}")("GET", "/")


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10), ("1m30s", 90), ("500ms", 0.5), ("1d", 86400), ("0s", 0)])
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "1x", "10s ", "-1s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(AlertingError, match="is no duration"):
        duration(text)

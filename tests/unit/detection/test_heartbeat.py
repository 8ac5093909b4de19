# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watchdog: what counts as silence, for how long, and who is told of its beginning and its end."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.agent.config import ConfigError
from ansible_collections.custodes.security_dr.plugins.module_utils.agent.watchdog import Watchdog
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import heartbeat
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.heartbeat import Settings
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.transport import Answer, HttpError

START = 1_800_000_000.0
STEP = 30.0


def config(**changed: Any) -> dict[str, Any]:
    return {
        "prometheus": [{"name": "one", "url": "http://127.0.0.1:9090/"}],
        "alertmanager": [{"name": "am", "url": "http://127.0.0.1:9093"}],
        "delivery": {"destinations": [{"name": "pager", "url": "https://hook.example.com/x"}]},
        **changed,
    }


class World:
    """Prometheus, Alertmanager and a webhook that a test can break; each look is half a minute after the last."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings.from_config(config(state_directory=str(folder)))
        self.now = START - STEP
        self.ready = 200
        self.unreachable = ""
        self.sent: float | None = START
        self.steady = True
        self.state = "active"
        self.labels: dict[str, str] = {}
        self.others: list[str] = []
        self.body: bytes | None = None
        self.hook = 200
        self.told: list[dict[str, Any]] = []

    def fetch(self, url: str, _ca: str | None, _timeout: float) -> Answer:
        if self.unreachable and self.unreachable in url:
            raise HttpError("refused", "Connection refused.")
        if url == "http://127.0.0.1:9090/-/ready":
            return Answer(self.ready)
        assert url == "http://127.0.0.1:9093/api/v2/alerts?filter=alertname%3D%22Watchdog%22"
        if self.steady and self.sent is not None:
            self.sent = self.now
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(self.sent or 0))
        alerts: list[dict[str, Any]] = []
        if self.sent is not None:
            alerts = [{"status": {"state": self.state}, "updatedAt": stamp, "labels": self.labels}]
        for name in self.others:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now))
            alerts.append({"status": {"state": "active"}, "updatedAt": stamp, "labels": {"prometheus": name}})
        return Answer(200, json.dumps(alerts).encode() if self.body is None else self.body)

    def post(self, _url: str, body: bytes, *_rest: Any) -> Answer:
        if self.hook < 300:
            self.told += json.loads(body)["events"]
        return Answer(self.hook)

    def look(self, step: float = STEP) -> dict[str, Any]:
        self.now += step
        return heartbeat.run(self.settings, "1", lambda: self.now, self.fetch, self.post)

    def until_told(self, most: int = 20) -> float:
        """Seconds from now until the webhook has an event."""
        began, known = self.now, len(self.told)
        for _time in range(most):
            self.look()
            if len(self.told) > known:
                return self.now - began
        pytest.fail("nobody was told")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    assert made.look()["findings"] == []
    return made


def test_all_is_quiet_while_all_is_well(world: World) -> None:
    for _time in range(10):
        world.look()
    assert world.told == []


@pytest.mark.parametrize("gone", ["9090", "9093"])
def test_a_server_that_is_gone_is_told_within_two_minutes_and_its_return_too(world: World, gone: str) -> None:
    world.unreachable = gone
    assert world.until_told() <= 90
    assert [event["state"] for event in world.told] == ["new"]
    assert world.told[0]["rule"] == "heartbeat.silent"
    assert world.told[0]["severity"] == "critical"
    assert "cannot be reached" in world.told[0]["summary"]
    world.unreachable = ""
    assert world.until_told() == STEP
    assert world.told[1]["state"] == "resolved"


def test_a_restart_is_no_alarm(world: World) -> None:
    world.ready = 503
    world.look()
    world.ready = 200
    world.look()
    # An Alertmanager that was restarted has no alert until Prometheus has sent it again.
    world.sent = None
    world.look()
    world.look()
    world.sent = START
    for _time in range(10):
        world.look()
    assert world.told == []


def test_a_prometheus_that_is_not_ready_is_silent(world: World) -> None:
    world.ready = 503
    assert world.until_told() <= 90
    assert "answers 503" in world.told[0]["summary"]


def test_an_alert_that_is_never_sent_is_silence(world: World) -> None:
    world.sent = None
    assert world.until_told() <= 210
    assert "has no alert Watchdog" in world.told[0]["summary"]


def test_an_alert_that_is_sent_no_longer_is_silence_though_it_still_fires(world: World) -> None:
    world.steady = False
    assert world.until_told() == 210
    assert "210 seconds ago" in world.told[0]["summary"]


def test_a_prometheus_that_does_not_send_is_told_while_the_other_one_does(world: World) -> None:
    world.sent, world.others = None, ["one", "two"]
    assert world.look()["findings"] == []
    world.others = ["two"]
    assert 180 <= world.until_told() <= 210
    (told,) = world.told
    assert "has no alert Watchdog of the Prometheus one: " in told["summary"]
    assert "two" in told["summary"]
    world.others = ["one"]
    world.until_told()
    assert world.told[-1]["state"] == "resolved"


def test_one_alert_that_grows_old_or_is_silenced_is_told_while_the_other_one_does_not(world: World) -> None:
    world.labels, world.others = {"prometheus": "one"}, ["two"]
    world.look()
    world.state = "suppressed"
    assert world.until_told() <= STEP
    assert "of the Prometheus one silenced" in world.told[0]["summary"]
    world.state = "active"
    world.until_told()
    world.steady = False
    assert 180 <= world.until_told() <= 210
    assert "of the Prometheus one last" in world.told[-1]["summary"]


def test_a_silenced_alert_is_told_at_once(world: World) -> None:
    world.state = "suppressed"
    assert world.until_told() == STEP
    assert "silenced" in world.told[0]["summary"]


@pytest.mark.parametrize("body", [b"no JSON", b"{}x", b'{"a": 1}', b'[{"status": {}}]', b'[{"status": 1}]', b"[null]"])
def test_what_is_no_list_of_alerts_is_no_heartbeat(world: World, body: bytes) -> None:
    world.body = body
    world.until_told()
    assert "is this its URL?" in world.told[0]["summary"]


def test_a_time_that_cannot_be_read_is_no_heartbeat(world: World) -> None:
    world.body = b'[{"status": {"state": "active"}, "updatedAt": "yesterday"}]'
    world.until_told()


def test_the_first_look_tells_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.unreachable = "9090"
    world.look()
    assert [event["subject"] for event in world.told] == ["one"]


def test_a_host_that_slept_has_not_listened(world: World) -> None:
    world.look()
    world.unreachable = "9093"
    world.look(step=30)
    world.unreachable = ""
    world.look(step=36_000)
    assert world.told == []


def test_an_outage_is_told_once_and_again_after_the_reminder(world: World) -> None:
    world.unreachable = "9093"
    for _time in range(30):
        world.look()
    assert [event["state"] for event in world.told] == ["new"]
    for _time in range(120):
        world.look()
    assert [event["state"] for event in world.told] == ["new", "reminded"]


def test_a_silence_lasts_until_the_heartbeat_is_back_and_not_until_something_answers(world: World) -> None:
    world.unreachable = "9093"
    world.until_told()
    world.unreachable, world.sent = "", None
    for _time in range(3):
        world.look()
    assert [event["state"] for event in world.told] == ["new"]
    world.sent = START
    world.look()
    assert [event["state"] for event in world.told] == ["new", "resolved"]


def test_what_no_webhook_took_is_sent_later(world: World) -> None:
    world.hook, world.unreachable = 503, "9093"
    for _time in range(4):
        report = world.look()
    assert report["delivery"]["destinations"]["pager"]["problem"] == "It answers 503."
    assert report["problem"] is None
    world.hook = 200
    world.look(step=3000)
    assert [event["state"] for event in world.told] == ["new"]


def test_an_alert_that_is_refused_for_good_fails_the_run_while_it_matters(world: World) -> None:
    world.unreachable, world.hook = "9093", 401
    reports = [world.look() for _time in range(6)]
    refused = "The webhook pager refused 1 alert (it answers 401)."
    assert [report["problem"] for report in reports[-3:]] == [refused] * 3
    # What it was not told of has not ended for it either: there is nothing left to tell.
    world.unreachable = ""
    assert world.look()["problem"] is None
    # A token that is valid again: the next alert is taken, and none is refused any longer.
    world.hook, world.unreachable = 200, "9093"
    world.until_told()
    assert world.look()["problem"] is None


def test_a_ca_file_that_cannot_be_read_is_a_blind_spot_that_is_told(world: World, monkeypatch: Any) -> None:
    def fetch(*_arguments: Any) -> Answer:
        raise HttpError("ca", "No CA.")

    monkeypatch.setattr(world, "fetch", fetch)
    report = world.look()
    assert len(report["blind"]) == 2
    assert {event["rule"] for event in world.told} == {"scan.blind"}


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"alertmanager": []}, "names no server"),
        ({"alertmanager": [{"name": "a"}]}, "lacks url"),
        ({"alertmanager": [{"name": "a", "url": "ftp://x"}]}, "no URL"),
        ({"alertmanager": 2 * [{"name": "a", "url": "http://x"}]}, "twice"),
        ({"alert": 'x"}'}, "alert's name"),
        ({"delivery": {}}, "nobody would hear"),
        ({"state_directory": "here"}, "full path"),
        ({"patience": 0}, "above 0"),
        ({"unknown": 1}, "no option unknown"),
    ],
)
def test_a_configuration_that_could_not_watch_is_refused(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(DetectionError, match=text):
        Settings.from_config(config(**changed))


def test_the_command_judges_its_configuration_and_tells_its_last_run(tmp_path: Path) -> None:
    file = tmp_path / "watchdog.json"
    file.write_text(json.dumps(config(state_directory=str(tmp_path))))

    def custodes(**asked: Any) -> tuple[int, str]:
        out = io.StringIO()
        options = {"run": False, "last": False, "check_config": False, "json": False, "config": str(file), **asked}
        return Watchdog.run(SimpleNamespace(**options), {}, out), out.getvalue()

    assert custodes(check_config=True) == (0, f"{file} is usable.\n")
    assert "No run" in custodes(last=True)[1]
    file.write_text(json.dumps(config(alertmanager=[])))
    with pytest.raises(ConfigError, match="names no server"):
        custodes(check_config=True)

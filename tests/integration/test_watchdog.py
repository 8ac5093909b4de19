# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's watchdog, as the file that hosts run, with a real Prometheus and Alertmanager that are killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from ansible_collections.custodes.security_dr.plugins.module_utils.agent import zipapp
from lab.alertmanager import Alertmanager
from lab.debian import debian_program
from lab.processes import wait_for
from lab.prometheus import Prometheus
from lab.receiver import Receiver

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "roles" / "monitoring_rules" / "files" / "monitoring-health.rules.yml"
DASHBOARD = ROOT / "roles" / "monitoring_rules" / "files" / "security-infrastructure.json"
PATIENCE = 3


class Site(NamedTuple):
    prometheus: Prometheus
    alertmanager: Alertmanager
    receiver: Receiver
    command: list[str]

    def look(self) -> dict[str, Any]:
        """One run of the agent, as its service does it."""
        done = subprocess.run(self.command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def told(self) -> list[tuple[str, str]]:
        """Of each event that the webhook has: its state and its subject."""
        arrived = self.receiver.arrived("emergency")
        return [(event["state"], event["subject"]) for one in arrived for event in one.body["events"]]

    def until(self, expected: tuple[str, str], seconds: float) -> float:
        """Look each second until that has arrived; the seconds that it took."""
        began = time.monotonic()

        def arrived() -> bool:
            self.look()
            time.sleep(1)
            return expected in self.told()

        wait_for(f"{expected} at the webhook, which has {self.told()}", arrived, seconds)
        return time.monotonic() - began


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Receiver() as receiver:
        alertmanager = Alertmanager(tmp_path, f"{receiver.http}/alerts")
        prometheus = Prometheus(tmp_path)
        prometheus.configure(
            {}, [RULES], [alertmanager.address], evaluation_interval="1s", external_labels={"prometheus": "primary"}
        )
        agent, config = tmp_path / "custodes", tmp_path / "watchdog.json"
        zipapp.write(agent, zipapp.build(sys.executable))
        given = {
            "state_directory": str(tmp_path / "state"),
            "prometheus": [{"name": "primary", "url": prometheus.url}],
            "alertmanager": [{"name": "main", "url": alertmanager.url}],
            "patience": PATIENCE,
            "delivery": {"destinations": [{"name": "emergency", "url": f"{receiver.http}/emergency"}]},
        }
        config.write_text(json.dumps(given))
        config.chmod(0o600)
        (tmp_path / "state").mkdir(mode=0o700)
        command = [str(agent), "watchdog", "--run", "--json", "--config", str(config)]
        try:
            alertmanager.start()
            prometheus.start()
            alerts = f"{alertmanager.url}/api/v2/alerts?filter=alertname%3D%22Watchdog%22"
            # Prometheus has not discovered Alertmanager when it fires first, and sends again a minute later.
            wait_for("the Watchdog in Alertmanager", lambda: bool(requests.get(alerts, timeout=5).json()), 120)
            yield Site(prometheus, alertmanager, receiver, command)
        finally:
            prometheus.kill()
            alertmanager.kill()


def test_kills_and_a_silence_reach_the_emergency_webhook_and_so_do_the_returns(site: Site) -> None:
    assert site.look()["findings"] == []
    site.prometheus.kill()
    site.until(("new", "primary"), 120)
    site.prometheus.start()
    site.until(("resolved", "primary"), 120)
    site.alertmanager.kill()
    site.until(("new", "main"), 120)
    site.alertmanager.start()
    # Prometheus sends the alert again each minute; until then Alertmanager has none, which is still a silence.
    site.until(("resolved", "main"), 120)
    assert len(site.told()) == 4
    silence = {
        "matchers": [{"name": "alertname", "value": "Watchdog", "isRegex": False}],
        "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2100-01-01T00:00:00Z",
        "createdBy": "test",
        "comment": "test",
    }
    requests.post(f"{site.alertmanager.url}/api/v2/silences", json=silence, timeout=5).raise_for_status()
    wait_for("the silenced Watchdog", lambda: "silenced" in str(site.look()["findings"]))
    assert len(site.told()) == 5


def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"].replace("$cluster", ".*") for panel in panels for target in panel.get("targets", [])]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(found)]
    file = tmp_path / "dashboard.rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    command = [str(debian_program("prometheus", "promtool")), "check", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

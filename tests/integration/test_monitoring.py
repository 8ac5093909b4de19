# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the fault to the receiver: two real Prometheis that watch each other, two Alertmanagers, Vault; each is killed.

Vault is real; Fluent Bit's and cert-manager's metrics are stood for. All faults but the last are made at once, so that
it takes two minutes. The seconds of each are printed at the end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alertmanager import Secrets, configuration
from lab.alertmanager import Alertmanager
from lab.exporter import Exporter
from lab.lab import Lab
from lab.processes import wait_for
from lab.prometheus import Prometheus
from lab.receiver import Receiver
from lab.vault import VaultCluster

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "roles" / "monitoring_rules" / "files" / "monitoring-health.rules.yml"
INTERVALS = {"scrape_interval": "10s", "scrape_timeout": "5s", "evaluation_interval": "10s"}
"""As the role monitoring_rules writes them."""
GOAL, GOAL_OF_UP = 120.0, 90.0
"""Seconds from the fault to the receiver; the second for what is simply down, of which 30 are for a machine under load:
that it takes 60 is computed in test_monitoring_rules."""


class Site:
    """All of it on loopback, with the intervals and the routing that the roles have by default."""

    def __init__(self, folder: Path, lab: Lab, stack: ExitStack) -> None:
        self.began = time.monotonic()
        self.stopped_at: float | None = None
        self.overdue = False
        self.receiver = stack.enter_context(Receiver())
        url = f"{self.receiver.http}/alerts"
        routes = {
            "receivers": {"webhook": {"type": "webhook", "url": url}},
            "default": ["webhook"],
            "critical": ["webhook"],
            "watchdog": [],
        }
        config = configuration(routes, Secrets({}, str(folder)))
        self.alertmanagers = [Alertmanager(folder / f"alertmanager-{number}", url, config) for number in (1, 2)]
        self.primary, self.secondary = (Prometheus(folder / name, name) for name in ("primary", "secondary"))
        self.sealed = lab.cluster("monitored-sealed", nodes=1, awskms=False)
        self.killed = lab.cluster("monitored-killed", nodes=1, awskms=False)
        exporter = stack.enter_context(Exporter(self._metrics))
        addresses = [one.address for one in self.alertmanagers]
        watching = {
            "alertmanager": addresses,
            "loki": [exporter.address],
            "fluent-bit": [exporter.address],
            "cert-manager": [exporter.address],
            "vault": self._vault(self.sealed, self.killed),
        }
        for one, other in ((self.primary, self.secondary), (self.secondary, self.primary)):
            one.configure({"prometheus": [f"127.0.0.1:{other.port}"], **watching}, [RULES], addresses, **INTERVALS)
        for server in (*self.alertmanagers, self.primary, self.secondary):
            stack.callback(server.kill)
            server.start()
        for cluster in (self.sealed, self.killed):
            cluster.initialize(wait_voters=False)
            cluster.wait_active()

    @staticmethod
    def _vault(*clusters: VaultCluster) -> dict[str, Any]:
        return {
            "scheme": "https",
            "metrics_path": "/v1/sys/metrics",
            "params": {"format": ["prometheus"]},
            "tls_config": {"ca_file": str(clusters[0].ca_file)},
            "static_configs": [
                {"targets": [address.removeprefix("https://") for one in clusters for address in one.addresses]}
            ],
        }

    def _metrics(self) -> str:
        lines = 100 * (time.monotonic() - self.began)
        delivered = lines if self.stopped_at is None else 100 * (self.stopped_at - self.began)
        return (
            f'fluentbit_input_records_total{{name="tail.0"}} {lines}\n'
            f'fluentbit_output_proc_records_total{{name="primary"}} {delivered}\n'
            f'fluentbit_output_proc_records_total{{name="secondary"}} {lines}\n'
            'certmanager_certificate_renewal_timestamp_seconds{namespace="web",name="shop"} '
            f"{time.time() + (-3600 if self.overdue else 3600):.0f}\n"
        )

    def arrived(self) -> set[str]:
        """The names of the alerts that the receiver has as firing."""
        bodies = [one.body for one in self.receiver.arrived("alerts")]
        return {
            alert["labels"]["alertname"] for body in bodies for alert in body["alerts"] if alert["status"] == "firing"
        }


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("monitoring"), lab, stack)


def seconds_until(site: Site, wanted: set[str], began: float) -> dict[str, float]:
    """When each of the alerts was at the receiver, in seconds; those that were not within the goal are missing."""
    told: dict[str, float] = {}
    while wanted - told.keys() and time.monotonic() < began + GOAL:
        for name in (site.arrived() & wanted) - told.keys():
            told[name] = time.monotonic() - began
        time.sleep(0.2)
    return told


def test_every_fault_is_at_the_receiver_in_time(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    def well() -> bool:
        return all(
            one.firing() <= {"Watchdog", "VaultNoFailureTolerance"}
            and len(one.query("up == 1")) == len(one.query("up")) > 0
            for one in (site.primary, site.secondary)
        )

    wait_for("both Prometheis see everything up", well, 90)
    time.sleep(60)  # for the rates, and to see that nothing alerts meanwhile
    # Each of the two Vaults is one node alone.
    assert site.arrived() <= {"VaultNoFailureTolerance"}
    began = site.stopped_at = time.monotonic()
    site.overdue = True
    site.killed.nodes[0].kill()
    site.sealed.client(token=site.sealed.root_token).sys.seal()
    site.alertmanagers[0].kill()
    told = seconds_until(
        site, {"VaultDown", "VaultSealed", "LogPipelineDown", "CertificateRenewalFailing", "AlertmanagerDown"}, began
    )
    began = time.monotonic()
    site.primary.kill()
    told.update(seconds_until(site, {"PrometheusDown"}, began))
    with capsys.disabled():
        sys.stdout.write(f"\nseconds from the fault to the receiver: { {name: round(told[name]) for name in told} }\n")
    of_up = {"PrometheusDown", "AlertmanagerDown", "VaultDown", "VaultSealed"}
    assert set(told) == of_up | {"LogPipelineDown", "CertificateRenewalFailing"}
    assert {name: told[name] for name in of_up if told[name] > GOAL_OF_UP} == {}

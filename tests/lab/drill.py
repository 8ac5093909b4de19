# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site on loopback for playbooks/dr-drill.yml: all that it breaks, and what it is seen by.

A snapshot of a Vault that is gone, an empty Vault for drills, one more that is the CA; two Lokis with Fluent Bit before
them, or where there is none a stand-in; two Prometheis that watch each other, with Alertmanager and a webhook; a TLS
server; and host detection on this machine, which takes root.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests
import yaml
from ansible_collections.custodes.security_dr.plugins.module_utils.agent import zipapp
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alertmanager import Secrets, configuration
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.rules import select
from ansible_collections.custodes.security_dr.plugins.module_utils.logs import fluent_bit as fluent_bit_config

from .alertmanager import Alertmanager
from .endpoint import TlsServer
from .fluent_bit import FluentBit, fluent_bit_binary
from .lab import Lab
from .loki import Loki
from .pki import write_private
from .playbook import ROOT, Playbook, take_snapshot
from .processes import Server, free_port
from .prometheus import Prometheus
from .seed import seed

DR_DRILL = "playbooks/dr-drill.yml"
RULES = ROOT / "roles" / "monitoring_rules" / "files" / "monitoring-health.rules.yml"
BUCKET = "drill-snapshots"
_SWITCH = "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode(), method='PUT'))"
_ASK = (
    "import ssl, sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=3, context=ssl._create_unverified_context())"
)
_RENEW = """
import json, os, sys, hvac
told = json.load(open(sys.argv[1]))
client = hvac.Client(told["url"], told["token"], verify=told["ca_cert"], timeout=5)
made = client.secrets.pki.generate_certificate("web", "localhost", {"ip_sans": "127.0.0.1", "ttl": "1h"})["data"]
part = told["file"] + ".new"
with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
    file.write("\\n".join([made["private_key"], made["certificate"], *(made.get("ca_chain") or [])]) + "\\n")
os.replace(part, told["file"])
"""


class Shipper:
    """Follows a file and sends each line to each Loki, again until it is taken: in the place of Fluent Bit."""

    def __init__(self, file: Path, lokis: Mapping[str, Loki]) -> None:
        self._stop = threading.Event()
        for loki in lokis.values():
            threading.Thread(target=self._ship, args=(file, loki), daemon=True).start()

    def _ship(self, file: Path, loki: Loki) -> None:
        with file.open() as log, requests.Session() as session:
            session.trust_env = False
            while not self._stop.wait(0.05):
                for line in log:
                    values = [[str(time.time_ns()), line.rstrip("\n")]]
                    body = {"streams": [{"stream": {"job": "fluent-bit"}, "values": values}]}
                    while not self._stop.is_set() and not self._taken(session, loki, body):
                        self._stop.wait(0.5)

    @staticmethod
    def _taken(session: requests.Session, loki: Loki, body: Any) -> bool:
        try:
            return session.post(f"{loki.url}/loki/api/v1/push", json=body, timeout=3).status_code == 204
        except requests.RequestException:
            return False

    def kill(self) -> None:
        self._stop.set()


class DrillLab:
    """The site.

    Args:
        lab: whose Vaults, KMS, S3 and receiver it takes.

    Attributes:
        parts: those that can be drilled here.
        left_out: why the others cannot, a sentence each.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.folder = lab.folder / "drill"
        self.folder.mkdir(mode=0o700)
        self.records = self.folder / "records"
        self._ends: list[Callable[[], None]] = []
        self.left_out: list[str] = []
        self.variables: dict[str, Any] = {
            "ansible_python_interpreter": sys.executable,
            "dr_drill_operator": "alice",
            "dr_drill_reason": "the lab's own",
            "dr_drill_environment": "lab",
            "dr_drill_records": str(self.records),
            "dr_drill_receiver": {"type": "webhook", "url": f"{lab.receiver.http}/control/alerts"},
            "dr_drill_dead_man_seconds": 300,
        }
        self.hosts: dict[str, dict[str, Any]] = {"site": {}}
        for part in (self._vault, self._logs, self._certificates, self._alerting, self._host_detection):
            part()

    def stop(self) -> None:
        """End all that the lab does not end itself."""
        while self._ends:
            self._ends.pop()()

    def playbook(self, **changed: Any) -> Playbook:
        """The drill, as it is called here: variables in a file, hosts in an inventory."""
        nodes = {"ansible_connection": "local", "ansible_become": False}
        names = [f"vault-dr-{number}" for number in range(1, 4)]
        groups = {
            "all": {"hosts": self.hosts, "vars": nodes},
            "vault_dr": {"hosts": {name: {} for name in names}},
        }
        inventory = self.folder / "inventory.json"
        inventory.write_text(json.dumps(groups, indent=2))
        return Playbook({**self.variables, **changed}, self.folder / "work", inventory, DR_DRILL)

    def for_real(self, **changed: Any) -> Playbook:
        """A drill that is allowed: confirmed, and in its window."""
        at = {name: time.gmtime(time.time() + shift) for name, shift in (("begin", -3600), ("end", 3600))}
        window = {name: time.strftime("%Y-%m-%dT%H:%MZ", moment) for name, moment in at.items()}
        allowed = {"dr_drill_mode": "drill", "dr_drill_confirm": "lab", "dr_drill_window": window}
        return self.playbook(**{**allowed, **changed})

    def _started(self, server: Server) -> None:
        self._ends.append(server.kill)
        server.start()

    def _fault(self, name: str, url: str, become: Callable[[str], None]) -> dict[str, Any]:
        """Commands by which the lab's own server is stopped and started, as systemctl would on a host."""
        self.lab.receiver.switches[name] = become
        switch = [sys.executable, "-c", _SWITCH, f"{self.lab.receiver.http}/control/switch/{name}"]
        return {
            "host": "site",
            "become": False,
            "folder": str(self.folder / "faults"),
            "commands": {
                "inject": [*switch, '{"state": "down"}'],
                "undo": [*switch, '{"state": "up"}'],
                "check": [sys.executable, "-c", _ASK, url],
            },
        }

    def _vault(self) -> None:
        origin = self.lab.cluster("drill-prod", nodes=1)
        origin.initialize(wait_voters=False)
        origin.wait_active()
        self.seed = seed(origin)
        self.snapshot = take_snapshot(origin, self.folder / "snapshots")
        # On loopback nothing else keeps the copy from it.
        origin.stop()
        bucket = self.lab.moto.create_bucket(BUCKET, versioned=True)
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.lab.moto.key_id}
        for file in self.snapshot.parent.iterdir():
            self.lab.moto.s3().upload_file(str(file), bucket, file.name, ExtraArgs=encryption)
        dr = self.lab.cluster("drill-dr")
        self.dr = dr
        for number, node in enumerate(dr.nodes, start=1):
            self.hosts[f"vault-dr-{number}"] = {
                "vault_api_addr": node.address,
                "vault_recovery_stop_command": dr.command(node, "stop"),
                "vault_recovery_start_command": dr.command(node, "start"),
                "dr_drill_vault_data_path": str(node.data),
            }
        self.variables |= {
            "dr_drill_vault_unreachable": [{"host": "127.0.0.1", "port": 1}],
            "vault_recovery_ca_cert": str(dr.ca_file),
            "vault_recovery_snapshot": "latest",
            "vault_recovery_store": {
                "type": "s3",
                "bucket": BUCKET,
                "endpoint_url": self.lab.moto.endpoint,
                "region": self.lab.moto.region,
                "access_key": self.lab.moto.environment["AWS_ACCESS_KEY_ID"],
                "secret_key": self.lab.moto.environment["AWS_SECRET_ACCESS_KEY"],
            },
            "vault_recovery_canaries": [self.seed.canary, self.seed.canary_v1],
            "vault_recovery_auth": {
                "auth_method": "approle",
                "role_id": self.seed.recovery.role_id,
                "secret_id": self.seed.recovery.secret_id,
            },
        }

    def _logs(self) -> None:
        log = self.folder / "app.log"
        log.touch()
        lokis = {name: Loki(self.folder / f"loki-{name}") for name in ("primary", "secondary")}
        for loki in lokis.values():
            self._started(loki)
        binary = fluent_bit_binary()
        if binary is None:
            shipper: Any = Shipper(log, lokis)
            self._ends.append(shipper.kill)
            self.left_out.append("There is no Fluent Bit here: the lab's own stand-in ships the lines.")
        else:
            port = free_port()
            (self.folder / "storage").mkdir()
            outputs = {
                name: {"type": "loki", "host": "127.0.0.1", "tls": False, "port": loki.port}
                for name, loki in lokis.items()
            }
            options = {
                "inputs": [{"type": "files", "path": str(log)}],
                "outputs": outputs,
                "buffer": {"path": str(self.folder / "buffer")},
                "bound_bytes": 50_000_000,
                "storage_path": str(self.folder / "storage"),
                "metrics_port": port,
            }
            config = fluent_bit_config.render(options, "yaml")
            self._started(FluentBit(binary, self.folder / "fluent-bit", config, port))
        self.primary_loki = lokis["primary"]
        backends = {name: {"name": name, "type": "loki", "url": loki.url} for name, loki in lokis.items()}
        fault = self._fault("loki", f"{self.primary_loki.url}/ready", self.primary_loki.become)
        self.variables |= {
            "dr_drill_logs_fault": fault,
            "dr_drill_logs_hosts": ["site"],
            "dr_drill_logs_marker_file": str(log),
            "dr_drill_logs_primary": backends["primary"],
            "dr_drill_logs_secondary": backends["secondary"],
        }

    def _certificates(self) -> None:
        ca = self.ca = self.lab.cluster("drill-ca", nodes=1)
        ca.initialize(wait_voters=False)
        ca.wait_active()
        client = ca.client()
        client.sys.enable_secrets_engine("pki", config={"max_lease_ttl": "8760h"})
        root = client.secrets.pki.generate_root("internal", "lab root", {"ttl": "8760h"})["data"]["certificate"]
        role = {"allow_localhost": True, "allow_ip_sans": True, "max_ttl": "72h"}
        client.secrets.pki.create_or_update_role("web", role)
        node, file, told = ca.nodes[0], self.folder / "web.pem", self.folder / "renew.json"
        token = {"url": node.address, "token": ca.root_token, "ca_cert": str(ca.ca_file)}
        write_private(told, json.dumps({**token, "file": str(file)}).encode())
        script = self.folder / "renew.py"
        script.write_text(_RENEW)
        (self.folder / "root.pem").write_text(root + "\n")
        renew = [sys.executable, str(script), str(told)]
        subprocess.run(renew, check=True, timeout=60)
        self.tls = TlsServer(file)
        self._ends.append(self.tls.stop)

        def become(state: str) -> None:
            if state == "down":
                node.stop()
            else:
                node.start()
                ca.wait_active()

        self.variables |= {
            "dr_drill_certificates_fault": self._fault("ca", f"{node.address}/v1/sys/health", become),
            "dr_drill_certificates_endpoints": [{"host": "127.0.0.1", "port": self.tls.port}],
            "dr_drill_certificates_ca_cert": str(self.folder / "root.pem"),
            "dr_drill_certificates_renew": {"host": "site", "become": False, "command": renew},
        }

    def _alerting(self) -> None:
        url = f"{self.lab.receiver.http}/alerts"
        routes = {
            "receivers": {"webhook": {"type": "webhook", "url": url}},
            "default": ["webhook"],
            "critical": ["webhook"],
            "watchdog": [],
        }
        alertmanager = Alertmanager(self.folder / "am", url, configuration(routes, Secrets({}, str(self.folder))))
        self._started(alertmanager)
        rules = self.folder / "rules.json"
        rules.write_text(json.dumps(select(yaml.safe_load(RULES.read_text()), ["alertmanager"], {}, "lab", {})))
        one, other = (Prometheus(self.folder / name, name) for name in ("primary", "secondary"))
        for this, that in ((one, other), (other, one)):
            jobs = {"prometheus": [f"127.0.0.1:{that.port}"], "alertmanager": [alertmanager.address]}
            timing = {"scrape_interval": "10s", "scrape_timeout": "5s", "evaluation_interval": "10s"}
            this.configure(jobs, [rules], [alertmanager.address], **timing)
            self._started(this)

        def become(state: str) -> None:
            if state == "down":
                one.kill()
            else:
                one.start()

        self.alertmanager = alertmanager
        self.variables |= {
            "dr_drill_alertmanagers": [alertmanager.url],
            "dr_drill_watchers_fault": self._fault("prometheus", f"{one.url}/-/ready", become),
        }

    def _host_detection(self) -> None:
        self.parts = ["vault", "logs", "certificates", "alerting", "host_detection", "watchers"]
        if os.geteuid() != 0:
            self.parts.remove("host_detection")
            self.left_out.append("host_detection is left out: it looks at every process, which takes root.")
        folder = self.folder / "detection"
        folder.mkdir(mode=0o700)
        agent, config = folder / "custodes.pyz", folder / "detect.json"
        agent.write_bytes(zipapp.build(sys.executable))
        content = {
            "state_directory": str(folder / "state"),
            "log_directory": str(folder / "log"),
            "infrastructure": {"log_store": {"type": "loki", "url": self.primary_loki.url}},
            "delivery": {
                "destinations": [{"name": "emergency", "type": "webhook", "url": f"{self.lab.receiver.http}/emergency"}]
            },
        }
        write_private(config, json.dumps(content).encode())
        fault = self._fault("loki", f"{self.primary_loki.url}/ready", self.primary_loki.become)
        receiver = {"type": "webhook", "url": f"{self.lab.receiver.http}/control/emergency"}
        self.variables |= {
            "dr_drill_parts": self.parts,
            "dr_drill_host_detection_host": "site",
            "dr_drill_host_detection_fault": fault,
            "dr_drill_host_detection_receiver": receiver,
            "dr_drill_host_detection_folder": str(folder),
            "dr_drill_host_detection_command": [
                sys.executable,
                "-I",
                str(agent),
                "detect",
                "--run",
                "--config",
                str(config),
            ],
        }

# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role vault_snapshot on a host with systemd and a real Vault: what an operator gets, and what the host keeps."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
import pytest
import yaml
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import verify_file
from lab.binaries import vault_binary
from lab.hosts import Hosts, wheels
from lab.pki import Authority, write_private
from lab.playbook import Finished, Playbook
from lab.processes import LabError, wait_for

DEPLOY = "playbooks/deploy-vault-snapshots.yml"
SNAPSHOTS = "/var/backups/vault"
METRICS = "/var/lib/prometheus/node-exporter/vault_snapshot.prom"
SERVICE = "vault-snapshot.service"

VAULT_UNIT = """\
[Service]
ExecStart=/srv/vault server -config=/srv/lab/vault.json
"""


@dataclass
class Site:
    """One Vault node on a host of its own, and the playbook that deploys to it."""

    hosts: Hosts
    playbook: Playbook
    vault: hvac.Client
    keys: dict[str, Any]

    @property
    def root_token(self) -> str:
        return str(self.keys["root_token"])

    def unseal(self) -> None:
        self.vault.sys.submit_unseal_key(self.keys["keys"][0])
        wait_for("Vault is active", lambda: self.vault.sys.read_health_status().status_code == 200)

    def config(self) -> dict[str, Any]:
        """The agent's configuration on the host."""
        config: dict[str, Any] = json.loads(self.run("cat", "/etc/custodes/snapshot.json"))
        return config

    def run(self, *command: str) -> str:
        """Run a program on the host as root. Raises LabError."""
        return self.hosts.run("vault-1", *command)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def snapshots(self) -> list[str]:
        return [name for name in self.run("ls", SNAPSHOTS).split() if name.endswith(".snap")]

    def converge(self, *arguments: str, **changed: Any) -> Finished:
        finished = self.playbook.run(*arguments, timeout=600, **changed)
        assert self.root_token not in finished.output
        return finished


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    shared = folder / "shared"
    shared.mkdir()
    with Hosts(folder / "hosts", ["vault-1"], {vault_binary(): "/srv/vault", shared: "/srv/lab"}) as hosts:
        host = hosts.host("vault-1")
        authority = Authority(folder / "pki")
        cert_file, key_file = authority.issue("vault-1", ["vault-1", host.address])
        url = f"https://{host.address}:8200"
        for source, name in ((cert_file, "cert.pem"), (key_file, "key.pem"), (authority.ca_file, "ca.pem")):
            (shared / name).write_bytes(source.read_bytes())
        (shared / "vault.service").write_text(VAULT_UNIT)
        (shared / "vault.json").write_text(json.dumps(vault_config(url)))
        for command in (
            "mkdir -p /opt/vault /etc/vault.d /var/lib/prometheus/node-exporter",
            "cp /srv/lab/ca.pem /etc/vault.d/ca.pem",
            "cp /srv/lab/vault.service /etc/systemd/system/vault.service",
            "systemctl daemon-reload",
            "systemctl start vault",
        ):
            hosts.run("vault-1", *command.split())
        client = hvac.Client(url=url, verify=str(authority.ca_file))
        wait_for("Vault answers", lambda: answers(client))
        keys = client.sys.initialize(1, 1)
        client.token = keys["root_token"]
        inventory = folder / "inventory.json"
        nodes = {"vault-1": {**hosts.connection(host), "vault_api_addr": url}}
        write_private(inventory, json.dumps({"vault": {"hosts": nodes}}).encode())
        variables = {
            "vault_snapshot_wheels": str(wheels("hvac>=2.1.0", "boto3>=1.36.0", "requests>=2.31.0")),
            "vault_snapshot_admin": {"token": keys["root_token"], "ca_cert": str(authority.ca_file)},
        }
        site = Site(
            hosts, Playbook(variables, folder / "run", inventory, DEPLOY, {"ANSIBLE_PIPELINING": "true"}), client, keys
        )
        site.unseal()
        yield site


def vault_config(url: str) -> dict[str, Any]:
    return {
        "api_addr": url,
        "cluster_addr": url.replace(":8200", ":8201"),
        "cluster_name": "prod",
        "disable_mlock": True,
        "storage": {"raft": {"path": "/opt/vault", "node_id": "vault-1"}},
        "listener": {
            "tcp": {"address": "0.0.0.0:8200", "tls_cert_file": "/srv/lab/cert.pem", "tls_key_file": "/srv/lab/key.pem"}
        },
    }


def answers(client: hvac.Client) -> bool:
    try:
        client.sys.read_health_status(method="GET")
    except OSError:
        return False
    return True


PLACES = (
    "/etc",
    "/etc/systemd/system",
    "/opt",
    "/usr/local/bin",
    "/var/backups",
    "/var/lib/custodes",
    "/var/lib/prometheus",
)


def test_check_mode_on_a_bare_host_changes_nothing(site: Site) -> None:
    before = site.run("sh", "-c", f"ls -lA --time-style=full-iso {' '.join(PLACES)} 2>&1; getent passwd")
    finished = site.converge("--check", "--diff")
    assert finished.rc == 0, finished.output
    assert "custodes/agent/cli.py" in finished.output, "the diff tells what is in the agent"
    assert before == site.run("sh", "-c", f"ls -lA --time-style=full-iso {' '.join(PLACES)} 2>&1; getent passwd")
    assert "vault-snapshot" not in site.vault.sys.list_policies()["data"]["policies"]
    assert "approle/" not in site.vault.sys.list_auth_methods()


def test_one_run_leaves_a_verified_snapshot_and_the_second_changes_nothing(site: Site, tmp_path: Path) -> None:
    finished = site.converge()
    assert finished.rc == 0, finished.output
    (name,) = site.snapshots()
    copy = tmp_path / name
    copy.write_bytes(base64.b64decode(site.run("base64", f"{SNAPSHOTS}/{name}")))
    assert verify_file(copy).index > 0
    assert 'vault_snapshot_last_run_result{result="success"} 1' in site.run("cat", METRICS)
    assert site.run("stat", "-c", "%a %U", METRICS).split() == ["644", "custodes-snapshot"]
    for arguments in ([], ["--check", "--diff"]):
        again = site.converge(*arguments)
        assert again.rc == 0, again.output
        assert "changed=0" in again.output, again.output
    assert site.snapshots() == [name]


def test_the_timer_takes_the_next_one(site: Site) -> None:
    assert site.show("vault-snapshot.timer", "UnitFileState") == "enabled"
    before = site.snapshots()
    # A folder that another role has made for node_exporter's group stays as it is.
    site.run("install", "-d", "-g", "adm", "-m", "0775", "/var/lib/node-metrics")
    finished = site.converge(
        vault_snapshot_on_calendar="*-*-* *:*:00/5",
        vault_snapshot_verify=False,
        vault_snapshot_metrics_directory="/var/lib/node-metrics",
    )
    assert finished.rc == 0, finished.output
    wait_for("the timer has taken a snapshot", lambda: len(site.snapshots()) > len(before), 60)
    wait_for("the service has ended", lambda: site.show(SERVICE, "ActiveState") == "inactive")
    assert site.show(SERVICE, "Result") == "success"
    assert "vault_snapshot_last_success" in site.run("cat", "/var/lib/node-metrics/vault_snapshot.prom")
    assert site.run("stat", "-c", "%a %G", "/var/lib/node-metrics").split() == ["775", "adm"]
    finished = site.converge()
    assert finished.rc == 0, finished.output


def test_the_secret_stays_with_root_and_the_service_is_confined(site: Site) -> None:
    secret_file = "/etc/custodes/credentials/vault-secret-id"
    assert site.run("stat", "-c", "%a %U:%G", "/etc/custodes/credentials", secret_file).splitlines() == [
        "700 root:root",
        "600 root:root",
    ]
    secret = site.run("cat", secret_file).strip()
    assert len(secret) > 20
    assert "secret_id_credential" in site.run("cat", "/etc/custodes/snapshot.json")
    assert secret not in site.run("cat", "/etc/custodes/snapshot.json", f"/etc/systemd/system/{SERVICE}")
    assert secret not in site.run("journalctl", "--output=cat", "--no-pager")
    exposure = site.run("systemd-analyze", "security", "--no-pager", "--threshold=20", SERVICE)
    assert "OK" in exposure.splitlines()[-1], exposure


def test_the_backup_may_do_nothing_else_in_vault(site: Site) -> None:
    config = json.loads(site.run("cat", "/etc/custodes/snapshot.json"))["vault"]
    secret = site.run("cat", "/etc/custodes/credentials/vault-secret-id").strip()
    client = hvac.Client(url=site.vault.url, verify=site.vault.session.verify)
    client.auth.approle.login(config["role_id"], secret)
    with pytest.raises(hvac.exceptions.Forbidden):
        client.sys.list_policies()
    with pytest.raises(hvac.exceptions.Forbidden):
        client.auth.token.lookup_self()
    assert client.adapter.get("/v1/sys/storage/raft/snapshot").status_code == 200
    client.adapter.post("/v1/auth/token/revoke-self")


def test_by_hand_as_root_it_is_the_services_user_that_writes(site: Site) -> None:
    before = set(site.snapshots())
    report = json.loads(site.run("custodes", "snapshot", "--once", "--json"))
    assert report["result"] == "success"
    (name,) = set(site.snapshots()) - before
    owners = site.run("find", SNAPSHOTS, "/var/lib/custodes/vault-snapshot", METRICS, "-printf", "%u\\n").split()
    assert set(owners) == {"custodes-snapshot"}
    assert site.run("custodes", "snapshot", "--once").startswith("Snapshot prod-"), name


def test_a_run_that_fails_says_why_and_the_next_converge_proves_it_is_mended(site: Site) -> None:
    site.run("systemctl", "stop", "vault")
    with pytest.raises(LabError):
        site.run("systemctl", "start", SERVICE)
    assert 'vault_snapshot_last_run_result{result="failed"} 1' in site.run("cat", METRICS)
    failed = site.converge(vault_snapshot_admin={}, vault_snapshot_vault=site.config()["vault"])
    assert failed.rc != 0
    assert "refused" in failed.words
    site.run("systemctl", "start", "vault")
    wait_for("Vault answers", lambda: answers(site.vault))
    site.unseal()
    mended = site.converge()
    assert mended.rc == 0, mended.output
    assert 'vault_snapshot_last_run_result{result="success"} 1' in site.run("cat", METRICS)


def test_the_cron_job_runs_the_same_agent_with_the_same_configuration(site: Site, tmp_path: Path) -> None:
    manifest = tmp_path / "cronjob.yml"
    finished = site.converge(
        vault_snapshot_hosts="none,",
        vault_snapshot_kubernetes_manifest=str(manifest),
        vault_snapshot_kubernetes_image="registry.example.com/vault-snapshot:1",
        vault_snapshot_kubernetes_secret="vault-snapshot",
        vault_snapshot_kubernetes_ca_configmap="vault-ca",
        vault_snapshot_vault=site.config()["vault"],
    )
    assert finished.rc == 0, finished.output
    account, config, job = yaml.safe_load_all(manifest.read_text())
    assert [one["kind"] for one in (account, config, job)] == ["ServiceAccount", "ConfigMap", "CronJob"]
    in_pod = json.loads(config["data"]["snapshot.json"])
    assert in_pod == {**site.config(), "metrics_file": None, "only_on_leader": False}
    agent = base64.b64decode(config["binaryData"]["custodes"])
    on_host = base64.b64decode(site.run("base64", "/usr/local/bin/custodes"))
    # The host's carries the byte code of its Python too.
    sources = {name: code for name, code in members(on_host).items() if not name.endswith(".pyc")}
    assert members(agent) == sources
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert len(config["binaryData"]["custodes"]) < 1_000_000, "a ConfigMap holds no more"


def members(agent: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(agent)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}

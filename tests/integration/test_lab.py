# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: what every other integration test stands on."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hvac
import pytest
import requests
from botocore.exceptions import ClientError
from lab import Lab, LabError
from lab.cloud import Moto
from lab.processes import Server, wait_for
from lab.seed import Seed, fill, seed
from lab.vault import VaultCluster

# A parent that starts servers from a thread that ends, as a test may, and then hangs.
_PARENT = """
import json, sys, threading, time
from lab import Lab
lab = Lab()
def up():
    lab.postgres
    cluster = lab.cluster(nodes=1)
    cluster.initialize(wait_voters=False)
    servers = [lab.moto, lab.postgres, *cluster.nodes]
    folders = [str(lab.folder), str(lab.postgres.cwd)]
    print(json.dumps({"folders": folders, "pids": [server.pid for server in servers]}), flush=True)
thread = threading.Thread(target=up)
thread.start()
thread.join()
time.sleep(600)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as running:
        yield running


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> VaultCluster:
    cluster = lab.cluster("origin")
    cluster.initialize()
    return cluster


@pytest.fixture(scope="module")
def seeded(lab: Lab, cluster: VaultCluster) -> Seed:
    return seed(cluster, lab)


def _login(cluster: VaultCluster, seeded: Seed) -> hvac.Client:
    client = cluster.leader().client()
    client.auth.approle.login(seeded.recovery.role_id, seeded.recovery.secret_id)
    return client


def test_three_nodes_unseal_by_kms_under_one_leader(cluster: VaultCluster) -> None:
    assert sorted(node.health() or 0 for node in cluster.nodes) == [200, 429, 429]
    assert {node.request("GET", "sys/seal-status").json()["type"] for node in cluster.nodes} == {"awskms"}
    assert cluster.voters() == 3


def test_the_recovery_login_reads_both_canaries(cluster: VaultCluster, seeded: Seed) -> None:
    client = _login(cluster, seeded)
    assert client.read("secret/data/dr/canary")["data"]["data"] == seeded.value
    assert client.read(seeded.canary_v1)["data"] == seeded.value


def test_the_recovery_login_reads_nothing_else(cluster: VaultCluster, seeded: Seed) -> None:
    with pytest.raises(hvac.exceptions.Forbidden):
        _login(cluster, seeded).read("secret/data/app/api")


def test_the_snapshot_login_takes_snapshots_and_reads_no_secret(cluster: VaultCluster, seeded: Seed) -> None:
    client = cluster.leader().client()
    client.auth.approle.login(seeded.snapshot.role_id, seeded.snapshot.secret_id)
    answer = cluster.leader().request("GET", "sys/storage/raft/snapshot", token=client.token)
    assert answer.status_code == 200
    assert answer.content[:2] == b"\x1f\x8b"
    with pytest.raises(hvac.exceptions.Forbidden):
        client.read("secret/data/dr/canary")


def test_database_credentials_work_until_they_are_revoked(lab: Lab, cluster: VaultCluster, seeded: Seed) -> None:
    client = _login(cluster, seeded)
    lease = client.read("database/creds/readonly")
    user, password = lease["data"]["username"], lease["data"]["password"]
    assert lab.postgres.query("SELECT current_user", user=user, password=password) == [[user]]
    client.sys.revoke_lease(lease["lease_id"])
    wait_for("the role is dropped", lambda: [user] not in lab.postgres.query("SELECT rolname FROM pg_roles"))


@pytest.mark.parametrize("service", ["s3", "kms"])
def test_another_account_cannot_use_the_cloud(lab: Lab, service: str) -> None:
    stranger = Moto(lab.folder / "stranger")
    stranger.endpoint = lab.moto.endpoint
    with pytest.raises(ClientError, match=r"InvalidAccessKeyId|403"):
        stranger.s3().list_buckets() if service == "s3" else stranger.create_kms_key()


def test_vault_is_no_superuser_of_the_database(lab: Lab) -> None:
    database = lab.postgres
    for statement in (
        "CREATE TABLE stolen (line text); COPY stolen FROM PROGRAM 'id'",
        "GRANT pg_execute_server_program TO vault",
        "ALTER ROLE vault SUPERUSER",
    ):
        with pytest.raises(LabError, match="permission denied"):
            database.query(statement, user=database.user, password=database.password)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up")
def test_the_database_has_no_privileges_on_this_machine(lab: Lab) -> None:
    status = Path(f"/proc/{lab.postgres.pid}/status").read_text()
    assert set(re.findall(r"^(?:Cap(?:Inh|Prm|Eff|Amb)|NoNewPrivs):\t(\w+)$", status, re.MULTILINE)) == {"0" * 16, "1"}
    assert f"Uid:\t{pwd.getpwnam('nobody').pw_uid}\t" in status


def test_the_folder_of_the_database_goes_with_the_lab() -> None:
    with Lab() as own:
        data = Path(own.postgres.query("SHOW data_directory")[0][0])
        assert data.stat().st_mode & 0o777 == data.parent.stat().st_mode & 0o777 == 0o700
    assert not data.parent.exists()


def test_a_killed_leader_is_replaced_and_comes_back(cluster: VaultCluster, seeded: Seed) -> None:
    leader = cluster.leader()
    leader.kill()
    assert leader.health() is None
    assert cluster.wait_active() is not leader
    leader.start()
    cluster.wait_ready_all()
    assert _login(cluster, seeded).read("secret/data/dr/canary")["data"]["data"] == seeded.value


def test_a_paused_node_does_not_answer_until_it_is_resumed(cluster: VaultCluster) -> None:
    standby = next(node for node in cluster.nodes if node is not cluster.leader())
    standby.pause()
    try:
        with pytest.raises(requests.Timeout):
            standby.request("GET", "sys/health", timeout=1)
    finally:
        standby.resume()
    cluster.wait_ready_all()


def test_fill_writes_what_it_was_asked_to(lab: Lab, cluster: VaultCluster, seeded: Seed) -> None:
    fill(cluster, mib=4, value_kib=256)
    client = cluster.client()
    keys = client.list("kv1/fill")["data"]["keys"]
    assert len(keys) == 16
    assert len(client.read(f"kv1/fill/{keys[0]}")["data"]["value"]) == 256 * 1024


def test_the_inventory_names_every_node(lab: Lab, cluster: VaultCluster) -> None:
    result = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(lab.inventory(cluster)), "--list"],
        capture_output=True,
        text=True,
        check=True,
    )
    hosts = json.loads(result.stdout)["_meta"]["hostvars"]
    assert [hosts[f"vault-{number}"]["vault_api_addr"] for number in (1, 2, 3)] == cluster.addresses
    assert {host["vault_recovery_ca_cert"] for host in hosts.values()} == {str(cluster.ca_file)}


def test_destroyed_hosts_come_back_empty_at_the_same_addresses(lab: Lab) -> None:
    cluster = lab.cluster("doomed", nodes=1)
    cluster.initialize()
    before = cluster.addresses
    cluster.wipe_and_start()
    assert cluster.addresses == before
    assert cluster.nodes[0].health() == 501
    cluster.initialize(shares=1, threshold=1)
    assert cluster.wait_active().address == before[0]
    cluster.stop()


def test_shamir_shares_unseal_a_restarted_cluster(lab: Lab) -> None:
    cluster = lab.cluster("shamir", nodes=1, awskms=False)
    cluster.initialize(shares=5, threshold=3)
    cluster.stop()
    cluster.start()
    assert cluster.nodes[0].health() == 503
    cluster.unseal_all()
    cluster.wait_ready_all()
    cluster.stop()


def test_a_failed_start_shows_why(lab: Lab) -> None:
    cluster = lab.cluster("unlucky", nodes=1)
    cluster.initialize(wait_voters=False)
    cluster.stop()
    config = json.loads(cluster.nodes[0].config_file.read_text())
    config["seal"]["awskms"]["endpoint"] = "http://127.0.0.1:9"
    cluster.nodes[0].config_file.write_text(json.dumps(config))
    with pytest.raises(LabError, match=r"(?s)unlucky-1 ended .*127\.0\.0\.1:9.*connection refused"):
        cluster.start()
    assert not cluster.nodes[0].running


def test_a_server_that_never_gets_ready_is_killed(tmp_path: Path) -> None:
    server = Server("sleeper", ["sleep", "600"], tmp_path, ready=lambda: False)
    with pytest.raises(LabError, match=r"sleeper was not ready after 0\.2 s and was killed"):
        server.start(timeout=0.2)
    assert not server.running


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    server = Server("nothing", ["/no/such/program"], tmp_path, ready=lambda: True)
    with pytest.raises(LabError, match="nothing could not be started with /no/such/program"):
        server.start()


def test_a_killed_parent_leaves_no_server_behind() -> None:
    tests = Path(__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", _PARENT], cwd=tests, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        started = json.loads(parent.stdout.readline())
        try:
            assert all(_alive(pid) for pid in started["pids"])
        finally:
            parent.send_signal(signal.SIGKILL)
    wait_for("every server is gone", lambda: not any(_alive(pid) for pid in started["pids"]), timeout=20)
    for folder in started["folders"]:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_folder_is_private_and_goes_with_the_lab() -> None:
    with Lab() as own:
        key_file = own.authority.issue("someone")[1]
        assert own.folder.stat().st_mode & 0o777 == 0o700
        assert key_file.stat().st_mode & 0o777 == 0o600
    assert not own.folder.exists()


def _alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

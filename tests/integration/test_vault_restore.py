# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vault_raft_restore between two real clusters of different unseal keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot import download, errors, restore
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import Connection, VaultClient
from integration.run_ansible import Ansible, task
from lab import Lab
from lab.vault import VaultCluster

pytestmark = pytest.mark.both


@pytest.fixture(scope="module")
def origin(lab: Lab) -> VaultCluster:
    return _start(lab, "origin")


@pytest.fixture(scope="module")
def other(lab: Lab) -> VaultCluster:
    return _start(lab, "other")


def _start(lab: Lab, name: str) -> VaultCluster:
    cluster = lab.cluster(name, nodes=1, awskms=False)
    cluster.initialize(wait_voters=False)
    cluster.client().sys.enable_secrets_engine("kv", path="kv1", options={"version": "1"})
    return cluster


def _as_root(cluster: VaultCluster) -> dict[str, Any]:
    return {"url": cluster.nodes[0].address, "ca_cert": str(cluster.ca_file), "token": cluster.root_token}


def _client(cluster: VaultCluster) -> VaultClient:
    node = cluster.nodes[0]
    return VaultClient(Connection(node.address, ca_cert=str(cluster.ca_file)), cluster.root_token)


def _mark(cluster: VaultCluster, marker: str) -> None:
    cluster.client().secrets.kv.v1.create_or_update_secret("marker", secret={"value": marker}, mount_point="kv1")


def _marker(cluster: VaultCluster, token: str = "") -> str:
    answer = cluster.nodes[0].request("GET", "kv1/marker", token=token or cluster.root_token)
    return str(answer.json()["data"]["value"])


def _reloads(cluster: VaultCluster) -> int:
    """How often the node has logged that it left what it had in memory for what a snapshot holds."""
    return cluster.nodes[0].log_file.read_text().count("running post snapshot restore invalidations")


@contextmanager
def _applications(cluster: VaultCluster) -> Iterator[None]:
    """Others write all the time, as on a real cluster, and so move Raft's index."""
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            cluster.nodes[0].request("PUT", "kv1/noise", token=cluster.root_token, json={"value": "x"}, timeout=60)

    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write) for _unused in range(4)]
        try:
            yield
        finally:
            ended.set()
    for writer in writers:
        writer.result()


@pytest.fixture
def snapshot(origin: VaultCluster, tmp_path: Path) -> Path:
    """A snapshot of the origin, whose marker was `saved` and is `newer` now."""
    _mark(origin, "saved")
    path = download.take(_client(origin), tmp_path / "origin.snap", 60).path
    _mark(origin, "newer")
    return path


def test_what_is_not_restored(ansible: Ansible, origin: VaultCluster, snapshot: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.snap"
    damaged.write_bytes(snapshot.read_bytes()[:-1])
    before = origin.nodes[0].request("GET", "sys/leader").json()["raft_applied_index"]
    checked, *refused = ansible.run(
        [
            task("vault_raft_restore", check=True, path=str(snapshot)),
            task("vault_raft_restore", path=str(damaged)),
            task("vault_raft_restore", check=True, path=str(damaged)),
            task("vault_raft_restore", path=str(tmp_path / "missing.snap")),
            task("vault_raft_restore", path=str(tmp_path)),
            task("vault_raft_restore", path=str(snapshot), nodes=["https://127.0.0.1:1"] * 2, nodes_timeout=1),
        ],
        **_as_root(origin),
    )
    assert checked["changed"] is True
    assert checked["leader"] == origin.nodes[0].address
    types = ["SnapshotCorruptError"] * 2 + ["StoreError"] * 2 + ["VaultUnreachableError"]
    assert [result["error_type"] for result in refused] == types
    for result, name in zip(refused, (damaged, damaged, tmp_path / "missing.snap", tmp_path), strict=False):
        assert str(name) in result["msg"]
    assert "does not have 2 raft peers after 1 s: it has 1" in refused[-1]["msg"]
    assert _marker(origin) == "newer"
    assert origin.nodes[0].request("GET", "sys/leader").json()["raft_applied_index"] == before


def test_a_manifest_of_another_snapshot_is_noticed(origin: VaultCluster, snapshot: Path) -> None:
    kept = snapshot.with_name("kept.snap")
    snapshot.rename(kept)
    later = download.take(_client(origin), snapshot, 60).path
    kept.replace(later)
    with pytest.raises(errors.SnapshotMismatchError, match="One of them was replaced"):
        restore.restore(_client(origin), later, False, 60, 60)
    assert _marker(origin) == "newer"


def test_restored_is_in_force_when_the_module_returns(ansible: Ansible, origin: VaultCluster, snapshot: Path) -> None:
    (result,) = ansible.run(
        [task("vault_raft_restore", path=str(snapshot), nodes=origin.addresses)], **_as_root(origin)
    )
    assert (result["changed"], result["sealed"], result["leader"]) == (True, False, origin.nodes[0].address)
    assert sorted(result["seconds"]) == ["nodes", "peers", "reload", "upload", "verify"]
    assert _marker(origin) == "saved"
    with _applications(origin):
        for round_number in range(2):
            _mark(origin, f"newer-{round_number}")
            before = _reloads(origin)
            assert restore.restore(_client(origin), snapshot, False, 60, 60).sealed is False
            # No wait: what is claimed holds now. To ask for a secret would be to wait, until Vault has reloaded.
            assert _reloads(origin) == before + 1
            assert _marker(origin) == "saved"


def test_another_cluster_needs_force_and_then_the_keys_of_the_origin(
    ansible: Ansible, origin: VaultCluster, other: VaultCluster, snapshot: Path
) -> None:
    _mark(other, "others")
    ansible.secrets += [*origin.keys, *other.keys, origin.root_token]
    target: dict[str, Any] = {"url": other.nodes[0].address, "ca_cert": str(other.ca_file)}
    (refused,) = ansible.run([task("vault_raft_restore", path=str(snapshot))], **_as_root(other))
    assert refused["error_type"] == "VaultApiError"
    assert other.nodes[0].address in refused["msg"]
    assert "set force" in refused["msg"]
    assert _marker(other) == "others"
    forced, wrong_keys, unsealed = ansible.run(
        [
            task("vault_raft_restore", path=str(snapshot), force=True, token=other.root_token),
            task("vault_unseal", key_shares=other.keys[:2]),
            task("vault_unseal", key_shares=origin.keys[:2], reset=True),
        ],
        **target,
    )
    assert (forced["changed"], forced["sealed"]) == (True, True)
    assert wrong_keys["error_type"] == "VaultConfigError"
    assert unsealed["sealed"] is False
    other.wait_active()
    assert _marker(other, origin.root_token) == "saved"
    assert other.nodes[0].request("GET", "kv1/marker", token=other.root_token).status_code == 403

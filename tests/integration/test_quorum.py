# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/recover-vault-quorum.yml brings a cluster back whose majority is lost with its data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.run_ansible import Ansible, task
from lab import Lab
from lab.playbook import FORKED_VAULT_MODULES, Origin, Playbook, accessors, make_origin
from lab.vault import VaultNode

STEPS = [
    "Move its data aside",
    "Wait until it has ended, and keep a copy of its data",
    "Tell it who its peers are from now on",
    "Start Vault",
    "Wait until they serve under one leader",
    "Read every canary at every node",
]


@dataclass(frozen=True)
class Loss:
    """A cluster of three voters with a secret that no snapshot has, and which of its nodes are to be lost.

    Attributes:
        survivor: a standby.
        lost: the others, the active node last.
    """

    origin: Origin
    survivor: VaultNode
    lost: tuple[VaultNode, VaultNode]

    def names(self, *nodes: VaultNode) -> list[str]:
        """Name these nodes' hosts, as the inventory does."""
        return [f"vault-{self.origin.cluster.nodes.index(node) + 1}" for node in nodes]

    def lose(self) -> None:
        """Kill two of the nodes with what they have; the hosts come back empty."""
        for node in self.lost:
            node.kill()
            shutil.rmtree(node.data)
            node.data.mkdir(mode=0o700)

    def playbook(self, folder: Path, *lost: VaultNode, env: Mapping[str, str] | None = None) -> Playbook:
        """Return the recovery. Its proof uses a root token made of key shares on HashiCorp Vault, else a login."""
        origin, role = self.origin, self.origin.seed.recovery
        login = {"auth_method": "approle", "role_id": role.role_id, "secret_id": role.secret_id}
        return Playbook(
            {
                "vault_quorum_lost": self.names(*lost),
                "vault_quorum_directory": str(folder / "quorum"),
                "vault_recovery_key_shares": list(origin.keys[: origin.threshold]),
                "vault_recovery_auth": {} if origin.cluster.server.product == "Vault" else login,
                "vault_recovery_canaries": [origin.seed.canary, "kv1/dr/last"],
            },
            folder / "quorum",
            origin.inventory,
            name="playbooks/recover-vault-quorum.yml",
            env=env or {},
        )

    def decision(self, ansible: Ansible, *lost: VaultNode, **options: Any) -> dict[str, Any]:
        """Return the preflight's result, of the modules that the playbook runs, without the playbook."""
        cluster = self.origin.cluster
        found = ansible.run([task("vault_raft_peers_info", path=str(node.data)) for node in cluster.nodes])
        nodes = [
            {"name": name, "url": node.address, "node_id": node.name, "data": data}
            for name, node, data in zip(self.names(*cluster.nodes), cluster.nodes, found, strict=True)
        ]
        given = {"nodes": nodes, "lost": self.names(*lost), "timeout": 2, "retries": 0, **options}
        return ansible.one("vault_quorum_preflight", ca_cert=str(cluster.ca_file), **given)

    def assert_untouched(self, pid: int | None) -> None:
        """Check that the survivor runs on with its data."""
        assert pid is not None
        assert self.survivor.pid == pid
        assert list(self.survivor.data.glob("aside-*")) == []

    def assert_whole(self) -> None:
        """Check that every node has what was written last, and that the cluster is fault-tolerant again."""
        origin, cluster = self.origin, self.origin.cluster
        for node in cluster.nodes:
            client = cluster.client(node, origin.root_token)
            assert client.read("kv1/dr/last")["data"] == {"written": "before the loss"}
            assert client.read("secret/data/dr/canary")["data"]["data"] == origin.seed.value
        state = cluster.client(token=origin.root_token).read("sys/storage/raft/autopilot/state")["data"]
        assert (state["healthy"], state["failure_tolerance"], len(state["voters"])) == (True, 1, 3)


def start(lab: Lab, name: str, *, awskms: bool) -> Loss:
    origin = make_origin(lab, name, awskms=awskms, wait_voters=True, database=False)
    client = origin.cluster.client(token=origin.root_token)
    client.secrets.kv.v1.create_or_update_secret("dr/last", {"written": "before the loss"}, mount_point="kv1")
    leader = origin.cluster.leader()
    survivor, other = (node for node in origin.cluster.nodes if node is not leader)
    return Loss(origin, survivor, (other, leader))


@pytest.fixture(scope="module")
def unsealed_by_kms(lab: Lab) -> Iterator[Loss]:
    loss = start(lab, "quorum", awskms=True)
    yield loss
    loss.origin.cluster.stop()


@pytest.fixture(scope="module")
def shamir(lab: Lab) -> Iterator[Loss]:
    loss = start(lab, "quorum-shamir", awskms=False)
    yield loss
    loss.origin.cluster.stop()


@pytest.mark.vault
def test_the_recovery_is_refused_until_every_node_is_as_the_operator_says(
    unsealed_by_kms: Loss, ansible: Ansible, tmp_path: Path
) -> None:
    loss, (one, two) = unsealed_by_kms, unsealed_by_kms.lost
    pid = loss.survivor.pid
    one.stop()
    assert "The quorum is not lost: " in loss.decision(ansible, one)["msg"]
    # A node that hangs may only be cut off.
    two.pause()
    hangs = loss.decision(ansible, one, two)["msg"]
    assert f"{loss.names(two)[0]} does not answer, but Vault runs there" in hangs
    two.kill()
    assert "named as lost for good: " + loss.names(one)[0] in loss.decision(ansible, one)["msg"]
    assert loss.decision(ansible, one, two)["action"] == "recover"

    refused = loss.playbook(tmp_path, env=FORKED_VAULT_MODULES).run("-v")
    assert refused.rc == 2, refused.output
    assert "named as lost for good: nothing" in refused.words
    first, second = sorted(loss.names(one, two))
    assert f"""-e '{{"vault_quorum_lost": ["{first}", "{second}"]}}'""" in refused.words.replace('\\"', '"')
    loss.assert_untouched(pid)
    checked = loss.playbook(tmp_path, one, two, env=FORKED_VAULT_MODULES).run("--check")
    assert checked.rc == 0, checked.output
    loss.assert_untouched(pid)


@pytest.mark.vault
def test_two_of_three_nodes_are_lost_with_their_data(unsealed_by_kms: Loss, tmp_path: Path) -> None:
    loss, origin = unsealed_by_kms, unsealed_by_kms.origin
    loss.lose()
    run = loss.playbook(tmp_path, *loss.lost)
    done = run.run()
    assert done.rc == 0, done.output
    assert [key for key in (*origin.keys, origin.root_token) if key in done.output] == []
    loss.assert_whole()
    assert accessors(origin.cluster, origin.root_token) == list(origin.accessors)
    assert done.record["redundant"] is True
    [kept] = loss.survivor.data.glob("aside-*")
    assert (kept / "vault.db").is_file()
    assert not (loss.survivor.data / "raft" / "peers.json").exists()
    again = run.run()
    assert again.rc == 0, again.output
    assert "every node serves: nothing is done" in again.words


def test_a_sealed_majority_is_no_lost_quorum(shamir: Loss, ansible: Ansible) -> None:
    cluster, lost = shamir.origin.cluster, shamir.lost[0]
    lost.kill()
    sealed = [node for node in cluster.nodes if node is not lost]
    for node in sealed:
        node.stop()
        node.start()
    living = ", ".join(f"{name} is sealed" for name in shamir.names(*sealed))
    assert f"A majority of the 3 voters lives ({living})" in shamir.decision(ansible, lost)["msg"]


def test_a_recovery_that_is_killed_at_every_step_continues(shamir: Loss, ansible: Ansible, tmp_path: Path) -> None:
    cluster = shamir.origin.cluster
    cluster.start()
    cluster.unseal_all(shamir.origin.keys[: shamir.origin.threshold])
    cluster.wait_ready_all()
    for node in shamir.lost:
        node.kill()
    run = shamir.playbook(tmp_path, *shamir.lost, env=FORKED_VAULT_MODULES)
    for step in STEPS:
        started = run.start()
        started.wait_for_task(step)
        started.kill_all()
    begun = json.loads((run.directory / "journal.json").read_text())["quorum"]
    other = shamir.decision(ansible, shamir.lost[0], begun=begun)["msg"]
    assert f"An earlier run has begun with vault_quorum_lost {', '.join(begun['lost'])}, now it is " in other
    done = run.run()
    assert done.rc == 0, done.output
    shamir.assert_whole()
    assert done.record["runs"] == len(STEPS) + 1
    # The data that was given up is kept, on each host.
    for node in cluster.nodes:
        [kept] = node.data.glob("aside-*")
        assert (kept / "vault.db").is_file(), node.name

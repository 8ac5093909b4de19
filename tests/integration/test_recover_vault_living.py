# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/recover-vault.yml beside a cluster that is alive: its newer data is never replaced, and no copy is made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from lab.playbook import FORKED_VAULT_MODULES, Origin, Playbook, make_origin
from lab.processes import wait_for
from lab.vault import VaultNode

pytestmark = pytest.mark.both

NEWER = {"value": "written after the snapshot"}
PLANNED = "Say what is going to be done"


@pytest.fixture(scope="module")
def origin(lab: Lab) -> Iterator[Origin]:
    """A cluster of three nodes with a secret that is newer than its snapshot."""
    origin = make_origin(lab, "living", database=False, wait_voters=True)
    write_newer(origin)
    yield origin
    origin.cluster.stop()


def write_newer(origin: Origin) -> None:
    origin.cluster.client().secrets.kv.v2.create_or_update_secret("dr/newer", secret=NEWER)


def has_newer(origin: Origin, node: VaultNode) -> bool:
    answer = node.request("GET", "secret/data/dr/newer", token=origin.root_token)
    return bool(answer.ok and answer.json()["data"]["data"] == NEWER)


def emptied(origin: Origin) -> VaultNode:
    """Empty a node that does not lead and keep it stopped; the two others go on."""
    leader = origin.cluster.wait_active()
    node = next(node for node in reversed(origin.cluster.nodes) if node is not leader)
    node.kill()
    shutil.rmtree(node.data)
    node.data.mkdir(mode=0o700)
    return node


def recovery(origin: Origin, node: VaultNode, folder: Path, **variables: Any) -> Playbook:
    """Return the recovery of one node, by an operator who is logged in to the living cluster."""
    playbook = origin.playbook(
        folder,
        login=origin.seed.recovery,
        vault_recovery_nodes=[node.address],
        vault_recovery_redundant_timeout=0,
        **variables,
    )
    playbook.env = {**FORKED_VAULT_MODULES, "VAULT_TOKEN": origin.root_token}
    return playbook


def test_a_node_that_joins_the_living_cluster_after_the_preflight_is_not_restored(
    origin: Origin, tmp_path: Path
) -> None:
    node = emptied(origin)
    others = [other for other in origin.cluster.nodes if other is not node]
    for other in others:
        other.stop()
    node.start()
    assert node.health() == 501

    run = recovery(origin, node, tmp_path).start()
    run.wait_for_task(PLANNED)
    run.pause()
    # The network works again while the operator looks for key shares.
    for other in others:
        other.launch()
    origin.cluster.wait_ready_all()
    run.resume()
    failed = run.finish()

    assert failed.rc == 2, failed.output
    assert f"Cannot initialize {node.address}: the node was empty when the preflight checked it" in failed.words
    assert "Nothing was restored, and no data was changed" in failed.words
    assert failed.record["status"] == "failed"
    assert all(has_newer(origin, one) for one in origin.cluster.nodes)
    assert not (failed.directory / "init.json").exists()


def test_a_snapshot_is_not_restored_beside_its_living_origin(origin: Origin, tmp_path: Path) -> None:
    node = emptied(origin)
    others = [other for other in origin.cluster.nodes if other is not node]
    isolated = node.config_file.read_text()
    node.config_file.write_text(
        isolated.replace('"leader_api_addr": "https://', '"leader_api_addr": "https://nowhere.invalid')
    )
    node.start()
    try:
        refused = recovery(origin, node, tmp_path).run()
        assert refused.rc == 2, refused.output
        assert "The cluster that the snapshot was taken of is alive" in refused.words
        assert all(other.address in refused.words for other in others)
        assert node.health() == 501
        # From the node's own host, which is where it matters.
        assert "(asked from " in refused.words
        assert "asked from the controller" not in refused.words

        # Nodes that no inventory knows are asked about from here. Check mode asks as well.
        alone = recovery(origin, node, tmp_path / "alone", vault_recovery_ca_cert=str(origin.cluster.ca_file))
        alone.inventory = None
        refused = alone.run("--check")
        assert refused.rc == 2, refused.output
        assert "(asked from the controller)" in refused.words

        checked = recovery(origin, node, tmp_path / "isolated", vault_recovery_origin_isolated="true").run("--check")
        assert checked.rc == 0, checked.output
        assert all(has_newer(origin, other) for other in others)
    finally:
        node.stop()
        node.config_file.write_text(isolated)
        node.start()


def test_a_copy_that_advertises_its_origins_address_is_what_is_replaced(
    lab: Lab, origin: Origin, tmp_path: Path
) -> None:
    """A rehearsal copy has its origin's ID and tokens, and, by a cloned configuration, its api_addr."""
    origin.cluster.wait_ready_all()
    copy = lab.cluster("copy", nodes=1)
    (node,) = copy.nodes
    config = json.loads(node.config_file.read_text())
    prepared = origin.playbook(
        tmp_path / "prepare",
        login=origin.seed.recovery,
        vault_recovery_nodes=[node.address],
        vault_recovery_ca_cert=str(copy.ca_file),
        vault_recovery_origin_isolated=True,
        vault_recovery_redundant_timeout=0,
    )
    prepared.inventory = None
    prepared.env = FORKED_VAULT_MODULES
    made = prepared.run()
    assert made.rc == 0, made.output
    node.stop()
    node.config_file.write_text(json.dumps({**config, "api_addr": origin.cluster.leader().address}))
    node.start()
    wait_for("the copy is active", lambda: node.health() == 200)
    node.request("POST", "kv1/mark", token=origin.root_token, json={"value": "only in the copy"})

    replaced = prepared.run(
        vault_recovery_directory=str(tmp_path / "replace"),
        vault_recovery_confirm=node.request("GET", "sys/health").json()["cluster_name"],
        vault_recovery_target_token=origin.root_token,
    )
    assert replaced.rc == 0, replaced.output
    assert all(has_newer(origin, one) for one in origin.cluster.nodes)
    wait_for("the copy is active again", lambda: node.health() == 200)
    assert node.request("GET", "kv1/mark", token=origin.root_token).status_code == 404
    copy.stop()

# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/recover-vault.yml when something goes wrong: killed, doubled, refused, given the wrong keys."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import Connection, VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.cluster import wait_for as wait_until
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultMissedRestoreError
from integration.run_ansible import Ansible
from lab import Lab, LabError
from lab.pki import write_private
from lab.playbook import (
    FORKED_VAULT_MODULES,
    RESTART,
    RESTART_STANDBYS,
    ROOT,
    Origin,
    Playbook,
    ansible_playbook,
    make_origin,
)
from lab.processes import free_port, wait_for
from lab.vault import VaultNode

QUICK = {"vault_recovery_redundant_timeout": 0}
"""For the tests that do not check whether the cluster is fault-tolerant again."""
PREFLIGHT = "Ask every node, and decide"
INITIALISE = "Initialise the first node"
NOTE = "Note that the restore begins"
RESTORE = "Restore the snapshot on the leader, once every node that can is a Raft peer"
UNSEAL = "Unseal every node with the key shares of the snapshot's origin"
READ = "Read every canary at every node"


@pytest.fixture(scope="module")
def single(lab: Lab) -> Iterator[Origin]:
    """A cluster of one node, for the steps of a recovery that more nodes do not change."""
    origin = make_origin(lab, "faults-single", nodes=1, database=False)
    yield origin
    origin.cluster.stop()


@pytest.fixture(scope="module")
def shamir(lab: Lab) -> Iterator[Origin]:
    """A cluster of three nodes that is unsealed with key shares."""
    origin = make_origin(lab, "faults-shamir", awskms=False, database=False)
    yield origin
    origin.cluster.stop()


@pytest.fixture(scope="module")
def three(lab: Lab) -> Iterator[Origin]:
    """A cluster of three nodes that is unsealed by KMS."""
    origin = make_origin(lab, "faults", database=False)
    yield origin
    origin.cluster.stop()


@pytest.fixture
def lost(three: Origin) -> Origin:
    """The cluster after the disaster: fresh, empty nodes at the same addresses."""
    three.cluster.wipe_and_start()
    return three


def assert_recovered(origin: Origin) -> None:
    for node in origin.cluster.nodes:
        read = origin.cluster.client(node, origin.root_token).read("secret/data/dr/canary")
        assert read["data"]["data"] == origin.seed.value, node.name


def restart_all(origin: Origin) -> None:
    for node in origin.cluster.nodes:
        node.stop()
    for node in origin.cluster.nodes:
        node.start()


def journal(playbook: Playbook) -> dict[str, object]:
    """Return what a killed run has noted."""
    noted: dict[str, object] = json.loads((playbook.directory / "journal.json").read_text())
    return noted


def has_origin(origin: Origin) -> bool:
    """Return whether the first node has the origin's data."""
    return gives_origin(origin, origin.cluster.nodes[0])


def gives_origin(origin: Origin, node: VaultNode) -> bool:
    return bool(node.request("GET", "secret/data/dr/canary", token=origin.root_token, timeout=30).ok)


def test_one_that_is_killed_at_every_step_and_given_a_wrong_login_finishes(single: Origin, tmp_path: Path) -> None:
    cluster, [node] = single.cluster, single.cluster.nodes
    cluster.wipe_and_start()
    playbook = single.playbook(tmp_path, login=single.seed.recovery, **QUICK)
    playbook.env = FORKED_VAULT_MODULES

    # Beside one that runs, another is refused. The first one goes on.
    first = playbook.start()
    first.wait_for_task(PREFLIGHT)
    first.pause()
    playbook.env = {**FORKED_VAULT_MODULES, "TZ": "Asia/Tokyo"}
    second = playbook.run()
    playbook.env = FORKED_VAULT_MODULES
    assert second.rc == 2, second.output
    assert f"Another recovery is running: ansible-playbook with process id {first.pid} " in second.words
    assert node.health() == 501
    first.resume()

    # Its modules go on to their end, as on a controller that lost its terminal.
    first.wait_for_task(INITIALISE)
    # A task is shown before its module runs.
    wait_for("the module has initialized the node", lambda: node.health() != 501)
    first.kill()
    temporary = json.loads((playbook.directory / "init.json").read_text())["root_token"]
    assert "restore" not in journal(playbook)
    cluster.wait_active()
    assert node.request("GET", "auth/token/lookup-self", token=temporary).ok

    # Everything is killed after Vault took the snapshot, and before the module returns.
    run = playbook.start()
    run.wait_for_task(RESTORE)
    wait_for("the restored cluster gives out the origin's secret", lambda: has_origin(single))
    run.kill_all()
    assert journal(playbook)["restore"] == "begun"
    assert not node.request("GET", "auth/token/lookup-self", token=temporary).ok

    wrong = {"auth_method": "approle", "role_id": single.seed.recovery.role_id, "secret_id": "wrong"}
    failed = playbook.run(vault_recovery_auth=wrong)
    assert failed.rc == 2, failed.output
    assert "Login with auth_method approle (mount approle) was refused" in failed.words
    assert failed.record["status"] == "failed"

    run = playbook.start()
    run.wait_for_task(READ)
    run.kill_all()
    again = playbook.run()
    assert again.rc == 0, again.output
    assert "not restore again: an earlier run has" in again.words
    assert_recovered(single)
    assert again.record["runs"] == 5
    assert "init.json" not in [file.name for file in again.directory.iterdir()]


def test_a_shamir_recovery_of_nodes_by_their_addresses_alone_is_killed_and_finishes(
    shamir: Origin, tmp_path: Path
) -> None:
    """As for Vault on Kubernetes: no inventory. More key shares are given than the origin's threshold."""
    cluster = shamir.cluster
    cluster.wipe_and_start()
    known = shamir.playbook(
        tmp_path,
        login=shamir.seed.recovery,
        vault_recovery_nodes=cluster.addresses,
        vault_recovery_ca_cert=str(cluster.ca_file),
        vault_recovery_key_shares=list(shamir.keys),
    )
    assert len(shamir.keys) > shamir.threshold
    playbook = Playbook(known.variables, known.directory, env=FORKED_VAULT_MODULES)
    for task, restored in ((NOTE, False), (UNSEAL, True)):
        run = playbook.start()
        run.wait_for_task(task)
        run.kill_all()
        assert (journal(playbook).get("restore") == "done") is restored
    finished = playbook.run()
    assert finished.rc == 0, finished.output
    assert_recovered(shamir)
    record = finished.record
    assert (record["runs"], record["redundant"]) == (3, True)
    space = next(check for check in record["checks"] if check["name"] == "free space on every node")
    assert space["result"] == "not checked"


@pytest.mark.vault
def test_a_node_that_missed_the_change_of_keys_is_named_though_it_serves(lost: Origin) -> None:
    """One that is down while the leader restores: Vault lets it join the restored cluster with the keys of before."""
    cluster = lost.cluster
    cluster.initialize(shares=1, threshold=1, wait_voters=False)
    late = cluster.nodes[2]
    late.kill()
    answer = cluster.leader().request(
        "POST",
        "sys/storage/raft/snapshot-force",
        token=cluster.root_token,
        data=lost.snapshot.read_bytes(),
        timeout=60,
    )
    assert answer.status_code == 204
    wait_for("the restored cluster gives out the origin's secret", lambda: has_origin(lost))
    late.start()
    clients = [VaultClient(Connection(url, ca_cert=str(cluster.ca_file))) for url in cluster.addresses]
    # Another outcome of the same race: it finds no way to the leader, and never has.
    with suppress(LabError, requests.RequestException):
        wait_for("it has the restored data", lambda: gives_origin(lost, late), 30)
    with pytest.raises(VaultMissedRestoreError, match=f"{late.address} (has missed|is standby without a path)"):
        wait_until(clients, "serving", 3)
    # All at once: restarted alone, on a cluster this young, it is cut off from Raft now and then.
    restart_all(lost)
    assert wait_until(clients, "serving", 60).leader_address == cluster.leader().address


@pytest.mark.vault
def test_a_node_that_missed_the_change_of_keys_is_restarted(lost: Origin, tmp_path: Path) -> None:
    late = lost.cluster.nodes[2]
    playbook = lost.playbook(tmp_path, login=lost.seed.recovery)
    playbook.env = FORKED_VAULT_MODULES
    run = playbook.start()
    run.wait_for_task("Note that the restore begins")
    run.pause()
    wait_for("it has joined", lambda: late.health() == 429)
    late.kill()
    run.resume()
    wait_for("the restored cluster gives out the origin's secret", lambda: has_origin(lost))
    late.start()
    finished = run.finish(600)
    if finished.rc != 0 and RESTART in [step["name"] for step in finished.record["steps"]]:
        # The same race may leave it behind or cut off for all that. What the message asks for brings it back.
        restart_all(lost)
        again = playbook.run()
        assert again.rc == 0, again.output
        assert_recovered(lost)
        return
    assert finished.rc == 0, finished.output
    assert "Stop Vault on every node" in finished.words
    assert RESTART in [step["name"] for step in finished.record["steps"]]
    assert finished.record["redundant"] is True
    assert_recovered(lost)


@pytest.mark.both
def test_a_node_that_dies_and_never_returns_is_left_out_and_joins_later(lost: Origin, tmp_path: Path) -> None:
    cluster = lost.cluster
    first, second, dead = cluster.nodes
    playbook = lost.playbook(tmp_path, login=lost.seed.recovery, **QUICK)
    run = playbook.start()
    run.wait_for_task(NOTE)
    run.kill_all()
    dead.kill()
    shutil.rmtree(dead.data)

    refused = playbook.run("--check")
    assert refused.rc == 2, refused.output
    fewer = playbook.run(vault_recovery_nodes=[first.address, second.address])
    assert fewer.rc == 0, fewer.output
    for node in (first, second):
        assert gives_origin(lost, node), node.name
    # As it does days later, on a new host with an empty data folder.
    dead.data.mkdir(mode=0o700)
    dead.start()
    wait_for("the node that was left out joins and serves", lambda: dead.health() in (200, 429, 473), 60)
    wait_for("it gives the secret of the snapshot", lambda: gives_origin(lost, dead), 30)


def test_standbys_of_openbao_know_the_mounts_of_the_snapshot(lost: Origin, tmp_path: Path) -> None:
    """With standby reads, as they are by default: each node answers a root token itself, without the active node."""
    cluster = lost.cluster
    if cluster.server.product != "OpenBao":
        pytest.skip("Vault's standbys forward every request: needs OpenBao")
    configs = {node: node.config_file.read_text() for node in cluster.nodes}
    for node in cluster.nodes:
        config = json.loads(configs[node])
        del config["disable_standby_reads"]
        node.config_file.write_text(json.dumps(config))
    cluster.wipe_and_start()
    playbook = lost.playbook(tmp_path, login=lost.seed.recovery, **QUICK)
    # A slash at the end of an address makes no other node.
    playbook.inventory = tmp_path / "inventory.json"
    hosts = re.sub(r'("vault_api_addr": "[^"]+)"', r'\1/"', lost.inventory.read_text())
    playbook.inventory.write_text(hosts)
    try:
        finished = playbook.run()
        assert finished.rc == 0, finished.output
        # By a race of its own a node can miss the change of keys as well: that is the reason which is noted then.
        steps = [step["name"] for step in finished.record["steps"]]
        assert {RESTART, RESTART_STANDBYS} & set(steps), steps[-4:]
        assert [gives_origin(lost, node) for node in cluster.nodes] == [True] * 3
    finally:
        for node in cluster.nodes:
            node.config_file.write_text(configs[node])


def test_every_reason_to_refuse_is_reported(single: Origin, tmp_path: Path) -> None:
    """Of a node that is down, one that is older than the snapshot, and another seal."""
    cluster = single.cluster
    cluster.wipe_and_start()
    snapshot = tmp_path / single.snapshot.name
    shutil.copy2(single.snapshot, snapshot)
    manifest = json.loads(single.snapshot.with_name(f"{snapshot.name}.json").read_text())
    changed = {**manifest, "vault_version": "99.0.0", "seal_type": "gcpckms"}
    write_private(snapshot.with_name(f"{snapshot.name}.json"), json.dumps(changed).encode())
    down = f"https://127.0.0.1:{free_port()}"
    playbook = single.playbook(
        tmp_path,
        login=single.seed.recovery,
        vault_recovery_snapshot=str(snapshot),
        vault_recovery_nodes=[*cluster.addresses, down],
    )
    playbook.env = FORKED_VAULT_MODULES
    refused = playbook.run()
    assert refused.rc == 2
    assert f"{down}: connection refused" in refused.words
    older = f"runs Vault {cluster.server.version}, the snapshot is of 99.0.0: install that or newer first."
    assert older in refused.words
    assert f"The snapshot was sealed with 'gcpckms', the nodes have '{manifest['seal_type']}'" in refused.words
    assert cluster.nodes[0].health() == 501
    assert refused.record["status"] == "failed"


def test_the_manifest_of_another_snapshot_is_refused(single: Origin, ansible: Ansible, tmp_path: Path) -> None:
    snapshot = tmp_path / single.snapshot.name
    shutil.copy2(single.snapshot, snapshot)
    manifest = json.loads(single.snapshot.with_name(f"{snapshot.name}.json").read_text())
    write_private(snapshot.with_name(f"{snapshot.name}.json"), json.dumps({**manifest, "sha256": "0" * 64}).encode())
    assert "not the one that" in ansible.one("vault_raft_snapshot_find", path=str(snapshot))["msg"]


def test_a_snapshot_and_a_store_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    variables = {"vault_recovery_nodes": ["https://127.0.0.1:1"], "vault_recovery_snapshot": "latest"}
    refused = Playbook(variables, tmp_path / "recovery").run()
    assert refused.rc == 2
    assert "'latest' is one of vault_recovery_store" in refused.words
    assert not (tmp_path / "recovery").exists()


def test_every_playbook_has_a_name_in_the_collection(tmp_path: Path) -> None:
    names = {"recover_vault": "recover-vault", "snapshot_vault": "snapshot-vault"}
    asked = [*(f"custodes.security_dr.{name}" for name in names), *(f"playbooks/{file}.yml" for file in names.values())]
    listed = subprocess.run(
        [*ansible_playbook(), "--list-tasks", *asked],
        cwd=ROOT,
        env=Playbook({}, tmp_path / "names").environment,
        capture_output=True,
        text=True,
        check=True,
    )
    # What is listed of each, less the line that names it.
    tasks = [one.partition("\n\n")[2].strip() for one in listed.stdout.split("\nplaybook: ")[1:]]
    assert len(tasks) == 4
    assert all("play #1" in one for one in tasks)
    assert tasks[:2] == tasks[2:]

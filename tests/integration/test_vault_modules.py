# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module that speaks to Vault, against real clusters: check, run, check again, run again."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import verify_file
from integration.run_ansible import Ansible, LeakError, four_runs, task
from lab import Lab
from lab.processes import free_port, wait_for
from lab.seed import Seed
from lab.vault import VaultCluster, VaultNode


@pytest.fixture(scope="module")
def single(lab: Lab) -> VaultCluster:
    return lab.cluster("single", nodes=1, awskms=False)


@pytest.fixture
def fresh(single: VaultCluster) -> VaultCluster:
    """One node with Shamir's seal that is not initialised."""
    single.wipe_and_start()
    return single


@pytest.fixture
def standby(cluster: VaultCluster) -> VaultNode:
    return next(node for node in cluster.nodes if node is not cluster.leader())


def _at(cluster: VaultCluster, node: VaultNode | None = None) -> dict[str, Any]:
    return {"url": (node or cluster.nodes[0]).address, "ca_cert": str(cluster.ca_file)}


def _as_root(cluster: VaultCluster) -> dict[str, Any]:
    return {**_at(cluster), "token": cluster.root_token}


def _as_recovery(cluster: VaultCluster, seeded: Seed) -> dict[str, Any]:
    role = seeded.recovery
    return {**_at(cluster), "auth_method": "approle", "role_id": role.role_id, "secret_id": role.secret_id}


def _changed(results: list[dict[str, Any]]) -> list[bool]:
    assert not any(result.get("failed") for result in results), results
    return [result["changed"] for result in results]


def test_a_secret_in_the_output_is_found(ansible: Ansible) -> None:
    with pytest.raises(LeakError, match="1 of 1 secrets"):
        ansible.run_by_playbook([task("ansible.builtin.debug", msg="it is open-sesame")], token="open-sesame")


@pytest.mark.vault
def test_health_of_the_active_node_and_a_standby(ansible: Ansible, cluster: VaultCluster, standby: VaultNode) -> None:
    leader = cluster.leader()
    without_token = [
        *four_runs("vault_health_info", url=leader.address),
        task("vault_health_info", url=standby.address),
    ]
    results = ansible.run(without_token, ca_cert=str(cluster.ca_file))
    assert _changed(results) == [False] * 5
    active, other = results[1], results[4]
    assert (active["state"], active["http_status"], active["is_leader"]) == ("active", 200, True)
    assert (other["state"], other["http_status"], other["is_leader"]) == ("standby", 429, False)
    for result in (active, other):
        assert result["leader_address"] == leader.address
        assert (result["serving"], result["sealed"], result["initialized"]) == (True, False, True)
        assert (result["cluster_name"], result["seal"]["type"], result["autopilot"]) == ("shared", "awskms", None)


@pytest.mark.both
def test_health_tells_autopilot_to_a_token_that_may_know(
    ansible: Ansible, cluster: VaultCluster, seeded: Seed, standby: VaultNode
) -> None:
    root, login = _as_root(cluster), _as_recovery(cluster, seeded)
    bad = "hvs.not-a-token-of-this-cluster"
    results = ansible.run(
        [
            task("vault_health_info", **root),
            task("vault_health_info", **login),
            task("vault_health_info", **{**root, "url": standby.address}),
            task("vault_health_info", **{**root, "token": bad}),
            task("vault_health_info", **{**login, "secret_id": "no-such-secret-id"}),
        ]
    )
    for result in results[:3]:
        assert sorted(server["id"] for server in result["autopilot"]["servers"]) == ["shared-1", "shared-2", "shared-3"]
        assert result["problem"] is None
    for result in results[3:]:
        assert (result["reachable"], result["autopilot"]) == (True, None)
    assert "was refused" in results[4]["problem"]


@pytest.mark.both
def test_health_of_nodes_that_do_not_serve(ansible: Ansible, fresh: VaultCluster) -> None:
    nobody = f"https://127.0.0.1:{free_port()}"
    uninitialised, down = ansible.run(
        [task("vault_health_info", **_at(fresh)), task("vault_health_info", **{**_at(fresh), "url": nobody})]
    )
    assert (uninitialised["state"], uninitialised["http_status"]) == ("not initialised", 501)
    assert (uninitialised["initialized"], uninitialised["serving"]) == (False, False)
    assert (down["reachable"], down["serving"], down["http_status"]) == (False, False, None)
    assert nobody in down["problem"]
    fresh.initialize(shares=5, threshold=3)
    fresh.stop()
    fresh.start()
    sealed = ansible.one("vault_health_info", **_as_root(fresh))
    assert (sealed["state"], sealed["http_status"], sealed["sealed"]) == ("sealed", 503, True)
    seal = sealed["seal"]
    assert (seal["type"], seal["threshold"], seal["shares"], seal["progress"]) == ("shamir", 3, 5, 0)


@pytest.mark.both
def test_cluster_info_and_every_goal(ansible: Ansible, cluster: VaultCluster, seeded: Seed) -> None:
    goals = ("reachable", "unsealed", "serving", "redundant")
    results = ansible.run(
        [
            *four_runs("vault_cluster_info"),
            *(task("vault_cluster_info", token=cluster.root_token, wait_for=goal) for goal in goals),
            task("vault_cluster_info", **_as_recovery(cluster, seeded), wait_for="redundant"),
        ],
        ca_cert=str(cluster.ca_file),
        nodes=cluster.addresses,
    )
    assert _changed(results) == [False] * 9
    for result in results:
        assert [node["url"] for node in result["nodes"]] == cluster.addresses
        assert result["leader_address"] == cluster.leader().address
        assert result["waiting_for"] == []
    assert [result["peers"] for result in results[:4]] == [None] * 4
    for result in results[4:]:
        assert [peer["voter"] for peer in result["peers"]] == [True] * 3
    for result in results[7:]:
        assert (result["autopilot"]["healthy"], result["autopilot"]["failure_tolerance"]) == (True, 1)


def test_init_is_refused_where_keys_would_show_or_be_lost(
    ansible: Ansible, fresh: VaultCluster, tmp_path: Path
) -> None:
    taken = tmp_path / "taken.json"
    taken.write_text('{"root_token": "of-another-cluster"}')
    results = ansible.run(
        [
            task("vault_operator_init"),
            task("vault_operator_init", output_file=str(taken)),
            task("vault_operator_init", output_file=str(tmp_path / "no" / "folder")),
            task("vault_operator_init", output_file=str(tmp_path / "init.json"), key_shares=3, key_threshold=4),
            task("vault_operator_init", check=True, no_log=True),
        ],
        **_at(fresh),
    )
    types = [result.get("error_type") for result in results]
    assert types == ["VaultConfigError", "StoreError", "StoreError", "VaultConfigError", None]
    assert "no_log" in results[0]["msg"]
    assert "not overwritten" in results[1]["msg"]
    assert results[4]["changed"] is True
    assert taken.read_text() == '{"root_token": "of-another-cluster"}'
    assert fresh.nodes[0].health() == 501


@pytest.mark.both
def test_init_into_a_file(ansible: Ansible, fresh: VaultCluster, tmp_path: Path) -> None:
    file = tmp_path / "init.json"
    options = {**_at(fresh), "output_file": str(file), "key_shares": 3, "key_threshold": 2}
    assert _changed(ansible.run([task("vault_operator_init", check=True, **options)])) == [True]
    assert not file.exists()
    assert fresh.nodes[0].health() == 501
    assert _changed(ansible.run([task("vault_operator_init", **options)])) == [True]
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    init = json.loads(before)
    assert (len(init["unseal_keys_b64"]), init["unseal_threshold"]) == (3, 2)
    ansible.secrets += [init["root_token"], *init["unseal_keys_b64"]]
    again = ansible.run(
        [
            task("vault_operator_init", check=True, **options),
            task("vault_operator_init", **options),
            task("vault_unseal", **_at(fresh), key_shares=init["unseal_keys_b64"]),
        ]
    )
    assert _changed(again) == [False, False, True]
    assert file.read_bytes() == before
    fresh.wait_active()
    assert fresh.nodes[0].request("GET", "auth/token/lookup-self", token=init["root_token"]).status_code == 200


@pytest.mark.both
def test_init_into_a_hidden_result_then_unseal(ansible: Ansible, fresh: VaultCluster) -> None:
    at = _at(fresh)
    runs = four_runs("vault_operator_init", no_log=True, key_threshold=2, **at)
    created, again = ansible.run_by_playbook(runs)[1:4:2]
    assert (created["changed"], again["changed"]) == (True, False)
    assert "init" not in again
    keys = created["init"]["unseal_keys_b64"]
    wrong = base64.b64encode(os.urandom(33)).decode()
    results = ansible.run(
        [
            task("vault_unseal", check=True, key_shares=keys),
            task("vault_unseal", key_shares=keys[:1]),
            task("vault_unseal", key_shares=keys[:1]),
            task("vault_unseal", key_shares=[wrong]),
            task("vault_unseal", key_shares=keys[:1]),
            task("vault_unseal", key_shares=keys[1:2], reset=True),
            *four_runs("vault_unseal", key_shares=keys[:2]),
        ],
        **at,
    )
    assert (results[0]["changed"], results[0]["sealed"], results[0]["progress"]) == (True, True, 0)
    assert (results[1]["changed"], results[1]["sealed"], results[1]["progress"]) == (True, True, 1)
    assert (results[2]["changed"], results[2]["progress"]) == (False, 1)
    assert results[3]["error_type"] == "VaultConfigError"
    assert "key share 1 of 1" in results[3]["msg"]
    assert fresh.nodes[0].address in results[3]["msg"]
    assert (results[4]["progress"], results[5]["progress"]) == (1, 1)
    assert _changed(results[6:]) == [True, True, False, False]
    assert (results[7]["sealed"], results[7]["threshold"], results[7]["shares"]) == (False, 2, 5)
    fresh.wait_active()


@pytest.mark.both
def test_a_snapshot_into_a_file_and_a_folder(
    ansible: Ansible, cluster: VaultCluster, seeded: Seed, standby: VaultNode, tmp_path: Path
) -> None:
    role, file, folder = seeded.snapshot, tmp_path / "one.snap", tmp_path / "many"
    folder.mkdir()
    results = ansible.run(
        [
            *four_runs("vault_raft_snapshot", dest=str(file), max_age=3600),
            *four_runs("vault_raft_snapshot", dest=str(folder), max_age=3600),
            task("vault_raft_snapshot", dest=str(file)),
            *four_runs("vault_raft_snapshot_info", path=str(file)),
            *four_runs("vault_raft_snapshot_find", path=str(folder)),
        ],
        **_at(cluster, standby),
        auth_method="approle",
        role_id=role.role_id,
        secret_id=role.secret_id,
    )
    assert _changed(results) == [True, True, False, False] * 2 + [True] + [False] * 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ansible-home", "many", "one.snap", "one.snap.json"]
    names = sorted(path.name for path in folder.iterdir())
    assert [name[:9] for name in names] == ["shared-20"] * 2
    assert names[1] == f"{names[0]}.json"
    assert results[5]["path"] == results[7]["path"] == str(folder / names[0])
    taken, first, info, found = results[8], results[1], results[9], results[13]
    assert taken["sha256"] == info["sha256"] == verify_file(file).sha256 != first["sha256"]
    assert found["sha256"] == results[5]["sha256"]
    assert found["rejected"] == []
    assert taken["cluster_id"] == cluster.nodes[0].request("GET", "sys/health").json()["cluster_id"]
    assert info["manifest"]["node"] == cluster.leader().address
    assert taken["key_counts"]["logical"] > 5
    assert {path.stat().st_mode & 0o777 for path in (file, *folder.iterdir())} == {0o600}


@pytest.mark.vault
def test_a_root_token_is_generated_and_revoked(ansible: Ansible, cluster: VaultCluster) -> None:
    # A standby, which is what the first node of an inventory may be.
    standby = next(node for node in cluster.nodes if node is not cluster.leader())
    at, keys = _at(cluster, standby), cluster.keys[: cluster.threshold]
    ansible.secrets += cluster.keys
    refused, few, wrong, *made = ansible.run_by_playbook(
        [
            task("vault_generate_root", key_shares=keys),
            task("vault_generate_root", no_log=True, key_shares=keys[:1]),
            task("vault_generate_root", no_log=True, key_shares=["ab" * 33, "cd" * 33]),
            *four_runs("vault_generate_root", no_log=True, key_shares=keys),
        ],
        **at,
    )
    assert [result["error_type"] for result in (refused, few, wrong)] == ["VaultConfigError"] * 3
    assert "no_log" in refused["msg"]
    assert "2 are required" in few["msg"]
    assert "refused key share 2 of 2" in wrong["msg"]
    assert _changed(made) == [True] * 4
    assert [result.get("token") is None for result in made] == [True, False, True, False]
    tokens = [made[1]["token"], made[3]["token"]]
    assert tokens[0] != tokens[1]
    for token in tokens:
        looked_up = cluster.leader().request("GET", "auth/token/lookup-self", token=token).json()
        assert looked_up["data"]["policies"] == ["root"]
    revoked = ansible.run(
        [*four_runs("vault_token_revoke", token=tokens[0]), task("vault_token_revoke", token=tokens[1])], **at
    )
    assert _changed(revoked) == [True, True, False, False, True]
    for token in tokens:
        assert cluster.leader().request("GET", "auth/token/lookup-self", token=token).status_code == 403
    assert cluster.leader().request("GET", "sys/generate-root/attempt").json()["started"] is False


@pytest.mark.vault
def test_an_attempt_of_somebody_else_is_left_alone(ansible: Ansible, cluster: VaultCluster) -> None:
    leader, keys = cluster.leader(), cluster.keys[: cluster.threshold]
    attempt = leader.request("PUT", "sys/generate-root/attempt", json={}).json()
    left, taken = ansible.run(
        [
            task("vault_generate_root", no_log=True, key_shares=keys),
            task("vault_generate_root", no_log=True, key_shares=keys, cancel_existing=True),
        ],
        **_at(cluster, leader),
    )
    assert attempt["started"] is True
    assert left["error_type"] == "VaultApiError"
    assert "already being generated" in left["msg"]
    assert taken["changed"] is True
    assert leader.request("POST", "auth/token/revoke-self", token=taken["token"]).status_code == 204


def test_secrets_are_proven_and_their_leases_given_back(
    ansible: Ansible, lab: Lab, cluster: VaultCluster, seeded: Seed
) -> None:
    paths = [seeded.canary, seeded.canary_v1, "database/creds/readonly"]
    bad = ["secret/dr/missing", "secret/app/api", "nowhere/at/all"]
    # Not a login: revoking its token would revoke the leases, too.
    token = cluster.client().auth.token.create(policies=["recovery-verify"])["auth"]["client_token"]
    ansible.secrets += seeded.value.values()
    before = _roles(lab)
    proven, unproven, refused, shown, everywhere = ansible.run_by_playbook(
        [
            task("vault_secret_info", path=paths, check=True),
            task("vault_secret_info", path=[*paths, *bad]),
            task("vault_secret_info", path=paths[:1], values=True),
            task("vault_secret_info", path=paths[:2], values=True, no_log=True),
            task("vault_secret_info", path=paths[:2], nodes=cluster.addresses, wait_timeout=30),
        ],
        **{**_at(cluster), "token": token},
    )
    for result in (proven, unproven):
        kv2, kv1, dynamic = result["secrets"][:3]
        assert (kv2["kind"], kv2["fields"], kv2["version"], kv2["values"]) == ("kv2", ["value"], 1, None)
        assert (kv1["kind"], kv1["fields"], kv1["values"]) == ("kv1", ["value"], None)
        assert (dynamic["kind"], dynamic["fields"]) == ("dynamic", ["password", "username"])
        assert (dynamic["lease_duration"], dynamic["lease_revoked"]) == (3600, True)
        gone = {"lease_id": dynamic["lease_id"]}
        answer = cluster.leader().request("PUT", "sys/leases/lookup", token=cluster.root_token, json=gone)
        assert answer.status_code == 400, answer.text
    assert (proven["readable"], unproven["readable"]) == (True, False)
    missing, forbidden, nowhere = unproven["secrets"][3:]
    assert [one["readable"] for one in (missing, forbidden, nowhere)] == [False] * 3
    assert "There is nothing at secret/dr/missing" in missing["problem"]
    assert "permission denied" in forbidden["problem"]
    assert nowhere["problem"]
    assert refused["error_type"] == "VaultConfigError"
    assert [one["values"] for one in shown["secrets"]] == [seeded.value] * 2
    assert [one["node"] for one in everywhere["secrets"]] == [url for url in cluster.addresses for _unused in range(2)]
    wait_for("the roles of the leases are dropped", lambda: _roles(lab) <= before)


def _roles(lab: Lab) -> set[str]:
    """The roles that Vault has made; clusters that other tests have wiped leave theirs behind."""
    return {name for (name,) in lab.postgres.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'")}

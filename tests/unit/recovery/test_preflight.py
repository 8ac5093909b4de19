# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision, by table and by property: nothing is destroyed that was not confirmed by name."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.preflight import (
    CONTINUE,
    INITIALIZE,
    REPLACE,
    ROOM,
    VERIFY,
    Plan,
    Situation,
    plan,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.health import NodeHealth
from hypothesis import given
from hypothesis import strategies as st

SEAL = {"type": "awskms"}
URL, OTHER, THIRD = (f"https://vault-{number}:8200" for number in (1, 2, 3))


def node(url: str = URL, **facts: Any) -> dict[str, Any]:
    return NodeHealth(**{"url": url, "reachable": True, "version": "1.21.0", "seal": SEAL, **facts}).to_dict()


def fresh(url: str = URL, **facts: Any) -> dict[str, Any]:
    return node(url, **{"http_status": 501, "initialized": False, "sealed": True, **facts})


def sealed(url: str = URL) -> dict[str, Any]:
    return node(url, http_status=503, initialized=True, sealed=True)


def serving(url: str = URL, name: str | None = "prod", cluster_id: str | None = "id-1") -> dict[str, Any]:
    return node(url, http_status=200, initialized=True, sealed=False, cluster_name=name, cluster_id=cluster_id)


def dead(url: str = URL) -> dict[str, Any]:
    return node(url, reachable=False, problem=f"{url}: connection refused.", version=None, seal=None)


SNAPSHOT: dict[str, Any] = {
    "path": "/backups/prod.snap",
    "taken_at": "2026-11-24T02:00:00+00:00",
    "state_size": 100 * 2**20,
    "manifest": {"vault_version": "1.21.0", "seal_type": "awskms"},
}
GOOD = Situation([fresh(URL), fresh(OTHER), fresh(THIRD)], SNAPSHOT)
BEGUN: dict[str, Any] = {"restore": "begun"}
KEYS: dict[str, Any] = {"has_init_file": True}
OF_ID_2 = {"snapshot": {**SNAPSHOT, "manifest": {**SNAPSHOT["manifest"], "cluster_id": "id-2"}}}


def decide(nodes: list[dict[str, Any]], **facts: Any) -> Plan:
    return plan(replace(GOOD, nodes=nodes, **facts))


@pytest.mark.parametrize(
    ("nodes", "facts", "action"),
    [
        ([fresh(), fresh(OTHER)], {}, INITIALIZE),
        # Keys and marks of an earlier attempt whose nodes were emptied again.
        ([fresh(), fresh(OTHER)], {**KEYS, "restore": "done"}, INITIALIZE),
        # Killed between initialise and restore: ours, by its token, or sealed with nobody to ask.
        ([serving(), serving(OTHER)], {**KEYS, "own_token": True}, CONTINUE),
        ([serving(), fresh(OTHER)], {**KEYS, "own_token": True}, CONTINUE),
        ([sealed(), fresh(OTHER)], KEYS, CONTINUE),
        # Killed during the restore: while the temporary token is valid, nothing was restored yet.
        ([serving()], {**KEYS, **BEGUN, "own_token": True}, CONTINUE),
        ([serving()], {**KEYS, **BEGUN, "own_token": False}, VERIFY),
        ([sealed()], {**KEYS, **BEGUN}, VERIFY),
        ([sealed()], BEGUN, VERIFY),
        # Initialised once more after a restore on nodes that were emptied: the token says whose cluster it is.
        ([serving()], {**KEYS, "own_token": True, "restore": "done"}, CONTINUE),
        # Killed after the restore.
        ([serving()], {"restore": "done"}, VERIFY),
        ([sealed()], {**KEYS, "restore": "done"}, VERIFY),
        ([serving()], {"restore": "done", "confirm": "prod"}, VERIFY),
        ([serving()], {**OF_ID_2, "restore": "done", "temporary_cluster_id": "id-1"}, VERIFY),
        ([serving(cluster_id="id-2")], {**OF_ID_2, "restore": "done", "temporary_cluster_id": "id-1"}, VERIFY),
        # A cluster that holds data, named by the operator.
        ([serving()], {**OF_ID_2, "restore": "done", "confirm": "prod"}, REPLACE),
        ([serving(), serving(OTHER)], {"confirm": "prod"}, REPLACE),
        ([serving()], {**KEYS, "own_token": False, "confirm": "prod"}, REPLACE),
        ([serving()], {**BEGUN, "confirm": "prod"}, REPLACE),
        ([serving(name=None)], {"confirm": "vault"}, REPLACE),
        ([sealed(), serving(OTHER)], {"confirm": "prod"}, REPLACE),
    ],
)
def test_action(nodes: list[dict[str, Any]], facts: dict[str, Any], action: str) -> None:
    decision = decide(nodes, **facts)
    assert (decision.action, decision.problems) == (action, [])
    assert any("wait until every node serves" in step for step in decision.steps)
    assert any("/backups/prod.snap" in step for step in decision.steps) is (action != VERIFY)


@pytest.mark.parametrize(
    ("nodes", "facts", "said"),
    [
        ([serving()], {}, f"{URL} is initialised and holds the data of the cluster 'prod'. To replace it"),
        ([serving()], {"confirm": "production"}, "vault_recovery_confirm is 'production'"),
        ([serving()], {"confirm": "PROD"}, "with that name in vault_recovery_confirm"),
        ([serving()], {"confirm": " prod"}, "a safety snapshot of it is taken first"),
        ([serving()], {"confirm": "*"}, "run this again with"),
        ([serving(name=None)], {"confirm": ""}, "the cluster 'vault'. To replace it"),
        ([serving(), fresh(OTHER)], {}, "holds the data of the cluster"),
        # Keys of a temporary cluster that this one is not.
        ([serving()], {**KEYS, "own_token": False}, "holds the data of the cluster"),
        ([serving()], BEGUN, "holds the data of the cluster"),
        # A restore was noted, and the nodes are in neither the origin's cluster nor the temporary one.
        ([serving()], {**OF_ID_2, "restore": "done"}, "holds the data of the cluster"),
        ([serving()], {**OF_ID_2, **KEYS, **BEGUN, "own_token": False}, "holds the data of the cluster"),
        # A name is no identity.
        ([serving(), serving(OTHER, cluster_id="id-2")], {"confirm": "prod"}, "of the name 'prod' (IDs id-1, id-2)"),
        ([serving(cluster_id=None)], {"confirm": "prod"}, "no node reports its cluster ID"),
        ([serving(), serving(OTHER, "test")], {"confirm": "prod"}, "belong to different clusters (prod, test)"),
        ([sealed()], {"lost_init": True}, "If it may hold data, do not: remove that init.json"),
        ([serving()], {"lost_init": True, "confirm": "prod"}, "has room for its keys but no key"),
        ([sealed()], {}, "initialised but sealed: it may hold data"),
        ([sealed()], {"confirm": "prod"}, "initialised but sealed"),
        ([sealed(), fresh(OTHER)], {"confirm": "prod"}, "initialised but sealed"),
        ([fresh(), dead(OTHER)], {}, f"{OTHER}: connection refused."),
        ([dead()], {"restore": "done"}, "connection refused"),
        ([fresh(), fresh(OTHER, removed_from_cluster=True)], {}, f"{OTHER} was removed from its cluster"),
        ([fresh(version="1.20.9")], {}, f"{URL} runs Vault 1.20.9, the snapshot is of 1.21.0"),
        ([fresh(seal={"type": "shamir"})], {}, "sealed with 'awskms', the nodes have 'shamir'"),
        ([fresh(), fresh(OTHER, seal={"type": "shamir"})], {}, "not have the same seal (awskms, shamir)"),
        ([fresh()], {"free": {"vault-1": 300 * 2**20 - 1}}, "vault-1 has 299 MiB free for Vault's data, 300 MiB are"),
    ],
)
def test_refusal(nodes: list[dict[str, Any]], facts: dict[str, Any], said: str) -> None:
    decision = decide(nodes, **facts)
    assert decision.action is None
    assert any(said in problem for problem in decision.problems), decision.problems
    assert "failed" in {check["result"] for check in decision.checks}


def test_every_reason_is_told_at_once() -> None:
    decision = decide([serving(), node(OTHER, version="1.2.0", seal={"type": "shamir"})], free={"a": 0, "b": 0})
    assert len(decision.problems) == 5


@pytest.mark.parametrize(
    ("version", "wanted", "passes"),
    [
        ("1.21.0", "1.21.0", True),
        ("1.21.1", "1.21.0", True),
        ("1.100.0", "1.21.9", True),
        ("1.21.0+ent.hsm", "1.21.0", True),
        ("1.9.10", "1.21.0", False),
        (None, "1.21.0", True),
    ],
)
def test_versions_are_numbers(version: str | None, wanted: str, passes: bool) -> None:
    snapshot = {**SNAPSHOT, "manifest": {"vault_version": wanted, "seal_type": "awskms"}}
    assert (decide([fresh(version=version)], snapshot=snapshot).action is not None) is passes


def test_a_living_origin_is_a_reason_to_refuse() -> None:
    alive = decide([fresh()], origin=("failed", "It is alive."))
    assert (alive.action, alive.problems) == (None, ["It is alive."])
    unknown = decide([fresh()], origin=("not checked", "It is sealed."))
    assert (unknown.action, unknown.steps[-1]) == (INITIALIZE, "note: It is sealed.")


OPENBAO = {"version": "2.6.2", "product": "OpenBao"}


@pytest.mark.parametrize(
    ("target", "facts", "refused"),
    [
        (fresh(**OPENBAO), {"proof_by_shares": True}, True),
        (fresh(**OPENBAO), {"proof_by_shares": True, "generate_root_enabled": True}, False),
        (fresh(**OPENBAO), {"replace_by_shares": True}, False),
        (fresh(), {"proof_by_shares": True}, False),
        (serving(), {"replace_by_shares": True, "confirm": "prod"}, False),
        (serving(), {"replace_by_shares": True, "confirm": "prod", "generate_root": True}, False),
        (serving(), {"replace_by_shares": True, "confirm": "prod", "generate_root": False}, True),
        (serving(), {"confirm": "prod", "generate_root": False}, False),
        (serving(), {"restore": "done", "replace_by_shares": True, "generate_root": False}, False),
    ],
)
def test_key_shares_have_to_make_a_root_token_where_one_is_needed(
    target: dict[str, Any], facts: dict[str, Any], refused: bool
) -> None:
    decision = decide([target], **facts)
    assert (decision.action is None) is refused
    assert any("a root token from key shares" in problem for problem in decision.problems) is refused


@pytest.mark.parametrize(
    ("nodes", "restarted"),
    [
        ([fresh(**OPENBAO), fresh(OTHER, **OPENBAO)], True),
        ([fresh(**OPENBAO)], False),
        ([fresh(version="2.4.4", product="OpenBao"), fresh(OTHER, version="2.4.4", product="OpenBao")], False),
        ([fresh(version="2.6.0", product="Vault"), fresh(OTHER, version="2.6.0", product="Vault")], False),
        ([fresh(**OPENBAO, seal={"type": "shamir"}), fresh(OTHER, **OPENBAO, seal={"type": "shamir"})], False),
    ],
)
def test_standbys_that_answer_reads_are_restarted(nodes: list[dict[str, Any]], restarted: bool) -> None:
    seal = nodes[0]["seal"]["type"]
    decision = decide(nodes, snapshot={**SNAPSHOT, "manifest": {"vault_version": "1.21.0", "seal_type": seal}})
    assert (decision.problems, decision.standby_reads) == ([], restarted)
    assert any("restart OpenBao on every node" in step for step in decision.steps) is restarted


OLD = {"type": None, "recovery_seal": True}


@pytest.mark.parametrize(
    ("seals", "wanted", "result"),
    [
        # Vault up to 1.14 says of an auto-unseal only that it is one.
        ([OLD], "awskms", "not checked"),
        ([OLD, SEAL], "awskms", "passed"),
        ([OLD], "shamir", "failed"),
        ([OLD, {"type": "shamir"}], "awskms", "failed"),
        ([SEAL, {"type": "gcpckms"}], "awskms", "failed"),
        ([{"type": "gcpckms"}], "awskms", "failed"),
        ([SEAL], None, "not checked"),
    ],
)
def test_a_seal_whose_type_is_not_told(seals: list[dict[str, Any]], wanted: str | None, result: str) -> None:
    manifest = {"vault_version": "1.21.0", "seal_type": wanted}
    nodes = [fresh(f"https://vault-{number}:8200", seal=seal) for number, seal in enumerate(seals)]
    decision = decide(nodes, snapshot={**SNAPSHOT, "manifest": manifest})
    (check,) = [check for check in decision.checks if check["name"] == "the seal is of the snapshot's type"]
    assert check["result"] == result


def test_an_old_manifest_of_an_auto_unsealed_cluster_says_shamir() -> None:
    manifest = {"vault_version": "1.14.8", "seal_type": "shamir"}
    assert decide([fresh()], snapshot={**SNAPSHOT, "manifest": manifest}).action == INITIALIZE


def test_only_the_cluster_that_was_confirmed_may_be_replaced() -> None:
    assert decide([serving(), fresh(OTHER)], confirm="prod").cluster_id == "id-1"
    assert decide([fresh()]).cluster_id is None


def results(decision: Plan) -> list[str]:
    return [check["result"] for check in decision.checks]


def test_what_could_not_be_compared_is_not_said_to_have_passed() -> None:
    assert results(plan(GOOD)) == ["passed", "passed", "passed", "not checked", "passed", "not checked", "passed"]
    assert results(plan(replace(GOOD, free={"vault-1": 2**40}))) == [*["passed"] * 5, "not checked", "passed"]
    for snapshot in ({**SNAPSHOT, "manifest": None}, {"path": "x", "state_size": 1}):
        assert results(plan(replace(GOOD, snapshot=snapshot)))[1:3] == ["not checked"] * 2
    assert results(decide([dead()])) == ["failed", *["not checked"] * 4, "passed"]


def test_enough_room_is_enough() -> None:
    needed = ROOM * SNAPSHOT["state_size"]
    assert decide([fresh()], free={"vault-1": needed}).action == INITIALIZE


def test_the_seal_is_told() -> None:
    assert plan(GOOD).seal_type == "awskms"
    assert plan(GOOD).to_dict() == asdict(plan(GOOD))


NODES = st.lists(
    st.sampled_from([fresh(), sealed(), serving(), serving(name="other"), serving(name=None), dead()]),
    min_size=1,
    max_size=5,
)
SITUATIONS = st.builds(
    Situation,
    nodes=NODES,
    snapshot=st.just(SNAPSHOT),
    own_token=st.sampled_from([None, True, False]),
    has_init_file=st.booleans(),
    restore=st.sampled_from([None, "begun", "done"]),
    confirm=st.sampled_from(["", "prod", "other", "vault", "Prod"]),
    free=st.sampled_from([{}, {"vault-1": 0}, {"vault-1": 2**40}]),
)


@given(SITUATIONS)
def test_whatever_the_situation(situation: Situation) -> None:
    decision = plan(situation)
    names = [one["cluster_name"] or "vault" for one in situation.nodes if one["initialized"]]
    # One or the other, and never an action on a cluster that cannot be seen whole.
    assert (decision.action is None) is bool(decision.problems)
    if not all(one["reachable"] for one in situation.nodes):
        assert decision.action is None
    if decision.action == REPLACE:
        assert {situation.confirm} >= {name for name in names if name != "vault"}
        assert situation.confirm in names
        assert situation.restore != "done"
        assert decision.cluster_id
    if decision.action == INITIALIZE:
        assert not names
    if decision.action == CONTINUE:
        assert situation.has_init_file
        assert situation.own_token is not False
    if decision.action == VERIFY:
        assert situation.restore is not None
    assert decision.action is not None or decision.steps == []

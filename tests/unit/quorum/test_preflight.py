# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a lost quorum is made up for, and when that is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.quorum.preflight import (
    NOTHING,
    RECOVER,
    REJOIN,
    Node,
    own_id,
    plan,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.health import NodeHealth
from hypothesis import given
from hypothesis import strategies as st

PEERS = [{"id": f"vault-{number}", "address": f"10.0.0.{number}:8201", "non_voter": False} for number in (1, 2, 3)]
DATA = {"present": True, "in_use": True, "index": 42, "peers": PEERS, "data_bytes": 100, "free_bytes": 1000}
STATES: dict[str, dict[str, Any]] = {
    "dead": {"reachable": False},
    "standby": {"http_status": 429, "state": "standby", "sealed": False},
    "sealed": {"http_status": 503, "state": "sealed", "sealed": True},
    "active": {"http_status": 200, "state": "active", "leader_address": "https://10.0.0.1:8200"},
    "serving": {"http_status": 429, "state": "standby", "leader_address": "https://10.0.0.1:8200"},
}


def node(number: int, state: str, *, connected: bool = True, url: str = "", node_id: str = "", **data: Any) -> Node:
    facts = {"reachable": True, "seal": {"type": "shamir"}, **STATES[state]}
    address = url or f"https://10.0.0.{number}:8200"
    found = {**DATA, "in_use": state != "dead", **data} if connected else {}
    return Node(f"vault-{number}", address, connected, found, NodeHealth(url=address, **facts).to_dict(), node_id)


def cluster(*states: str) -> list[Node]:
    return [node(number, state) for number, state in enumerate(states, 1)]


BEGUN = {"survivors": ["vault-1"], "lost": ["vault-2", "vault-3"], "peers": PEERS[:1], "seal_type": "shamir"}
LOST = ["vault-3", "vault-2"]


@pytest.mark.parametrize("state", ["standby", "sealed"])
def test_one_of_three_survives(state: str) -> None:
    decided = plan(cluster(state, "dead", "dead"), LOST, None)
    assert (decided.action, decided.problems) == (RECOVER, [])
    assert (decided.survivors, decided.lost) == (["vault-1"], ["vault-2", "vault-3"])
    assert decided.peers == PEERS[:1]
    assert (decided.aside, decided.rejoin, decided.remarks) == (["vault-2", "vault-3"], ["vault-2", "vault-3"], [])
    assert decided.seal_type == "shamir"


def test_an_auto_unseal_of_unknown_type_is_no_shamir() -> None:
    nodes = cluster("standby", "dead", "dead")
    nodes[0] = replace(nodes[0], health={**nodes[0].health, "seal": {"type": None, "recovery_seal": True}})
    assert plan(nodes, LOST, None).seal_type is None


def test_a_lost_host_that_cannot_be_reached_is_warned_of() -> None:
    decided = plan([*cluster("standby", "dead"), node(3, "dead", connected=False)], LOST, None)
    assert (decided.action, decided.aside, decided.rejoin) == (RECOVER, ["vault-2"], ["vault-2"])
    [remark] = decided.remarks
    assert remark.startswith("vault-3 cannot be reached: see to it that Vault never starts there again")


@pytest.mark.parametrize(
    ("nodes", "lost", "why"),
    [
        (cluster("dead", "dead", "dead"), LOST, "there is no survivor"),
        (cluster("standby", "dead", "dead"), [], "named as lost for good: nothing"),
        (cluster("standby", "dead", "dead"), ["vault-2"], "named as lost for good: vault-2"),
        (cluster("standby", "dead", "dead"), [*LOST, "vault-1"], "Not answering: vault-2, vault-3"),
        (cluster("standby", "sealed", "dead"), ["vault-3"], "A majority of the 3 voters lives (vault-1 is standby, "),
        (cluster("active", "serving", "dead"), ["vault-3"], "vault-1 leads"),
        (cluster("standby", "dead"), ["vault-2"], "Vault's data also has vault-3 at 10.0.0.3:8201, and the inventory "),
        ([*cluster("standby", "dead"), node(3, "dead", in_use=True)], LOST, "Vault runs there"),
        ([node(1, "standby", peers=[]), node(2, "dead"), node(3, "dead")], LOST, "Raft data was not found: none"),
        ([node(1, "standby", connected=False), node(2, "dead"), node(3, "dead")], LOST, "the host cannot be reached"),
        ([node(1, "standby", free_bytes=100), node(2, "dead"), node(3, "dead")], LOST, "make room there"),
        ([node(1, "standby", node_id="other"), node(2, "dead"), node(3, "dead")], LOST, "Set vault_quorum_node_id"),
    ],
)
def test_it_is_refused(nodes: list[Node], lost: list[str], why: str) -> None:
    decided = plan(nodes, lost, None)
    assert why in " ".join(decided.problems)
    assert (decided.aside, decided.rejoin) == ([], [])


MIXED = [
    *PEERS,
    *({"id": f"vault-{number}", "address": f"10.0.0.{number}:8201", "non_voter": True} for number in (4, 5)),
]


def mixed(*states: str) -> list[Node]:
    return [node(number, state, peers=MIXED) for number, state in enumerate(states, 1)]


def test_non_voters_make_no_majority_and_stay_what_they_are() -> None:
    decided = plan(mixed("standby", "dead", "dead", "standby", "standby"), LOST, None)
    assert (decided.action, decided.problems) == (RECOVER, [])
    assert decided.peers == [MIXED[0], *MIXED[3:]]
    assert decided.survivors == ["vault-1", "vault-4", "vault-5"]


def test_non_voters_get_votes_where_no_voter_survives() -> None:
    decided = plan(mixed("dead", "dead", "dead", "standby", "sealed"), ["vault-1", *LOST], None)
    assert decided.problems == []
    assert [(peer["id"], peer["non_voter"]) for peer in decided.peers] == [("vault-4", False), ("vault-5", False)]


def test_dead_non_voters_lose_no_quorum() -> None:
    decided = plan(mixed("standby", "standby", "dead", "dead", "dead"), ["vault-3", "vault-4", "vault-5"], None)
    assert "A majority of the 3 voters lives (vault-1 is standby, vault-2 is standby)" in decided.problems[0]


def test_a_node_without_a_host_is_lost_by_its_node_id() -> None:
    nodes = cluster("standby", "dead")
    [problem] = plan(nodes, [], None).problems
    assert """-e '{"vault_quorum_lost": ["vault-2", "vault-3"]}'""" in problem
    decided = plan(nodes, LOST, None)
    assert (decided.action, decided.problems, decided.lost) == (RECOVER, [], ["vault-2", "vault-3"])
    assert (decided.aside, decided.rejoin, decided.peers) == (["vault-2"], ["vault-2"], PEERS[:1])
    assert decided.remarks[0].startswith("vault-3 is on no host of the inventory: make sure that Vault never starts")
    begun = {"survivors": decided.survivors, "lost": decided.lost, "peers": decided.peers}
    again = plan(cluster("active", "dead"), LOST, begun)
    assert (again.action, again.rejoin, again.remarks) == (REJOIN, ["vault-2"], decided.remarks)


@pytest.mark.parametrize(
    ("nodes", "lost", "why"),
    [
        # db may be any of the two that have no host of their name.
        (
            [node(1, "standby"), Node("db", "https://10.0.0.9:8200", False, {}, {"reachable": False})],
            ["db"],
            "vault-3 at 10.0.0.3:8201 is db? Set vault_quorum_node_id",
        ),
        (
            [*cluster("standby", "dead", "dead"), Node("db", "https://db:8200", False, {}, {"reachable": False})],
            [*LOST, "db"],
            "is db? Set vault_quorum_node_id of that host to the node_id of its configuration, or remove",
        ),
        (
            [node(1, "standby"), node(2, "dead"), node(3, "dead", node_id="vault-2")],
            LOST,
            "vault-2 and vault-3 count as the same node vault-2",
        ),
        (
            [node(1, "standby"), node(2, "dead", node_id="vault-3")],
            ["vault-2", "vault-2"],
            "vault-2 is the name of a host and the node_id of another node",
        ),
    ],
)
def test_hosts_that_cannot_be_told_from_nodes(nodes: list[Node], lost: list[str], why: str) -> None:
    assert why in " ".join(plan(nodes, lost, None).problems)


def test_nothing_is_done_to_a_cluster_that_serves() -> None:
    assert plan(cluster("active", "serving", "serving"), LOST, None).action == NOTHING


# ---- an earlier run was killed


def test_stopped_survivors_are_no_dead_ones() -> None:
    decided = plan(cluster("dead", "dead", "dead"), LOST, BEGUN)
    assert (decided.action, decided.survivors, decided.peers) == (RECOVER, ["vault-1"], PEERS[:1])
    assert decided.seal_type == "shamir"


def test_once_the_survivors_lead_the_others_only_join() -> None:
    decided = plan(cluster("active", "sealed", "dead"), LOST, BEGUN)
    assert (decided.action, decided.aside, decided.rejoin) == (REJOIN, ["vault-3"], ["vault-2", "vault-3"])
    # One that has joined may lead later on.
    assert plan(cluster("serving", "active", "dead"), LOST, BEGUN, serves=True).action == REJOIN


@pytest.mark.parametrize(
    ("nodes", "lost", "why"),
    [
        (cluster("dead", "dead", "dead"), ["vault-2"], "An earlier run has begun with vault_quorum_lost"),
        (cluster("standby", "active", "serving"), LOST, "leads with data that was given up"),
        ([node(1, "dead", connected=False), *cluster("dead", "dead", "dead")[1:]], LOST, "vault-1, which survived"),
    ],
)
def test_going_on_is_refused(nodes: list[Node], lost: list[str], why: str) -> None:
    decided = plan(nodes, lost, BEGUN)
    assert why in " ".join(decided.problems)
    assert decided.aside == []


def test_no_second_peers_json_where_others_may_have_votes_or_are_back() -> None:
    decided = plan(cluster("sealed", "sealed", "sealed"), LOST, BEGUN, serves=True)
    assert "could make a second cluster" in " ".join(decided.problems)
    decided = plan(cluster("sealed", "standby", "dead"), LOST, BEGUN)
    assert "vault-2, given up by an earlier run, answers again" in " ".join(decided.problems)


def test_a_lost_host_without_data_is_remarked() -> None:
    decided = plan([*cluster("standby", "dead"), node(3, "dead", present=False)], LOST, None)
    assert decided.action == RECOVER
    assert "vault-3 is reached, and no data of Vault was found there" in " ".join(decided.remarks)


# ---- whatever happens


@given(st.lists(st.sampled_from(sorted(STATES)), min_size=3, max_size=3), st.sets(st.sampled_from([1, 2, 3])))
def test_nobody_loses_data_who_was_not_named_or_answers(states: list[str], named: set[int]) -> None:
    lost = [f"vault-{number}" for number in named]
    nodes = cluster(*states)
    for begun in (None, BEGUN):
        decided = plan(nodes, lost, begun)
        assert set(decided.aside) <= set(lost)
        assert not any(one.answers for one in nodes if one.name in decided.aside)
    if sum(state != "dead" for state in states) > 1:
        assert plan(nodes, lost, None).action != RECOVER or plan(nodes, lost, None).problems


# ---- whose id is whose


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        (Node("vault-2", "https://elsewhere:8200", True, {}, {}), "vault-2"),
        (Node("db", "https://10.0.0.3:8200", True, {}, {}), "vault-3"),
        (Node("db", "https://10.0.0.9:8200", True, {}, {}), None),
        (Node("vault-1", "https://10.0.0.3:8200", True, {}, {}, "vault-2"), "vault-2"),
        (Node("vault-1", "https://10.0.0.3:8200", True, {}, {}, "typo"), None),
    ],
)
def test_the_id_of_a_host(one: Node, wanted: str | None) -> None:
    assert own_id(one, PEERS) == wanted


def test_the_id_of_an_ipv6_host() -> None:
    peers = [{**PEERS[0], "address": "[2001:db8:0::1]:8201"}, {**PEERS[1], "address": "[2001:db8::2]:8201"}]
    assert own_id(Node("db", "https://[2001:db8::1]:8200", True, {}, {}), peers) == "vault-1"


def test_an_address_that_two_share_tells_nothing() -> None:
    same = [{**peer, "address": f"127.0.0.1:{number}"} for number, peer in enumerate(PEERS, 1)]
    assert own_id(Node("db", "https://127.0.0.1:8200", True, {}, {}), same) is None

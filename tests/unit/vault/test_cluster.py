# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a cluster from a goal, and how long that is waited for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.cluster import (
    GOALS,
    KEYS_SETTLE,
    ClusterState,
    missing_for,
    read_cluster,
    wait_for,
    wait_for_peers,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import (
    VaultConfigError,
    VaultMissedRestoreError,
    VaultPermissionError,
    VaultUnreachableError,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.health import NodeHealth
from unit.vault.fake import OTHER, THIRD, URL, Answer, Clock, FakeVault, Seen, down, errors, node, redact

NODES = (URL, OTHER, THIRD)
ACTIVE = NodeHealth(URL, True, None, 200, "active", True, False, leader_address=URL, is_leader=True)
STANDBY = NodeHealth(OTHER, True, None, 429, "standby", True, False, leader_address=URL, is_leader=False)
SEALED = NodeHealth(THIRD, True, None, 503, "sealed", True, True)
FRESH = NodeHealth(THIRD, True, None, 501, "not initialised", False, True)
DEAD = NodeHealth(THIRD, False, "https://vault-3:8200: connection refused.")
PEER = {"node_id": "n", "address": "a", "voter": True, "leader": False}


def autopilot(
    healthy: bool = True, voters: int = 3, tolerance: int | None = 1, others: tuple[str, ...] = ()
) -> dict[str, Any]:
    types = {**{f"n{n}": "voter" for n in range(voters)}, **{f"o{n}": kind for n, kind in enumerate(others)}}
    return {
        "healthy": healthy,
        "failure_tolerance": tolerance,
        "voters": [f"n{n}" for n in range(voters)],
        "servers": [{"id": name, "node_type": kind} for name, kind in types.items()],
    }


GOOD = ClusterState([ACTIVE, STANDBY, replace(STANDBY, url=THIRD)], [PEER] * 3, autopilot())


@pytest.mark.parametrize("goal", GOALS)
def test_a_good_cluster_lacks_nothing(goal: str) -> None:
    assert missing_for(GOOD, goal) == []


def test_a_standby_alone_serves_when_it_knows_its_leader() -> None:
    assert missing_for(ClusterState([STANDBY]), "serving") == []


@pytest.mark.parametrize("goal", GOALS)
def test_a_dead_node_is_what_every_goal_lacks(goal: str) -> None:
    assert missing_for(replace(GOOD, nodes=[ACTIVE, STANDBY, DEAD]), goal) == [DEAD.problem]


@pytest.mark.parametrize(
    ("goal", "change", "said"),
    [
        ("unsealed", {"nodes": [ACTIVE, STANDBY, SEALED]}, f"{THIRD} is sealed"),
        ("unsealed", {"nodes": [ACTIVE, STANDBY, FRESH]}, f"{THIRD} is not initialised"),
        ("serving", {"nodes": [ACTIVE, STANDBY, SEALED]}, f"{THIRD} is sealed"),
        ("serving", {"nodes": [ACTIVE, replace(STANDBY, leader_address=None)]}, f"{OTHER} is standby, leader None"),
        (
            "serving",
            {"nodes": [ACTIVE, replace(ACTIVE, url=OTHER, leader_address=OTHER)]},
            "do not agree on one leader",
        ),
        (
            "serving",
            {"nodes": [replace(STANDBY, url=URL), replace(STANDBY, url=THIRD)]},
            "no node says that it is active",
        ),
        (
            "serving",
            {"nodes": [replace(ACTIVE, cluster_id="new"), STANDBY]},
            f"{OTHER} has missed the restore's change of keys and cannot decrypt its data: restart Vault on all nodes",
        ),
        (
            "serving",
            {"nodes": [replace(ACTIVE, cluster_id="new"), replace(STANDBY, cluster_id="old", leader_address=None)]},
            f"{OTHER} has missed the restore's change of keys and cannot decrypt its data: restart Vault on all nodes",
        ),
        ("redundant", {"nodes": [ACTIVE, STANDBY, SEALED]}, f"{THIRD} is sealed"),
        ("redundant", {"autopilot": None}, "autopilot's state cannot be read"),
        ("redundant", {"autopilot": autopilot(healthy=False)}, "healthy False, 3 of 3 voters"),
        ("redundant", {"autopilot": autopilot(voters=2)}, "2 of 3 voters"),
        # It gets its vote in a moment.
        ("redundant", {"autopilot": autopilot(voters=2, others=("voter",))}, "2 of 3 voters"),
        (
            "redundant",
            {"autopilot": autopilot(voters=1, tolerance=0, others=("voter", "non-voter"))},
            "1 of 2 voters (and o1, which never vote)",
        ),
        ("redundant", {"autopilot": autopilot(tolerance=0)}, "failure tolerance 0"),
        ("redundant", {"autopilot": autopilot(tolerance=None)}, "failure tolerance 0"),
    ],
)
def test_what_is_missing(goal: str, change: dict[str, Any], said: str) -> None:
    (reason,) = missing_for(replace(GOOD, **change), goal)
    assert said in reason


@pytest.mark.parametrize(
    ("goal", "change"),
    [
        ("reachable", {"nodes": [SEALED, FRESH], "peers": None, "autopilot": None}),
        ("unsealed", {"nodes": [replace(STANDBY, leader_address=None)], "peers": None}),
        ("serving", {"peers": None, "autopilot": None}),
        # One node, or two, cannot bear a loss by their number.
        ("redundant", {"nodes": [ACTIVE], "autopilot": autopilot(voters=1, tolerance=0)}),
        ("redundant", {"autopilot": autopilot(voters=2, tolerance=0, others=("non-voter",))}),
        ("redundant", {"autopilot": autopilot(voters=2, tolerance=0, others=("read-replica",))}),
    ],
)
def test_what_is_enough(goal: str, change: dict[str, Any]) -> None:
    assert missing_for(replace(GOOD, **change), goal) == []


class TestReading:
    def test_all_nodes_in_the_order_asked(self, vault: FakeVault) -> None:
        node(vault, URL, 429, leader=OTHER)
        node(vault, OTHER, 200)
        down(vault, THIRD)
        state = read_cluster([vault.client(url) for url in NODES])
        assert [one.http_status for one in state.nodes] == [429, 200, None]
        assert state.leader_address == OTHER
        assert (state.peers, state.autopilot, state.waiting_for) == (None, None, [])

    @pytest.mark.parametrize("nodes", [(URL,), (URL, OTHER), (OTHER,)])
    def test_a_cluster_that_redacts_serves(self, vault: FakeVault, nodes: tuple[str, ...]) -> None:
        node(vault, URL, 200)
        redact(vault, URL, None)
        node(vault, OTHER, 429)
        redact(vault, OTHER, URL)
        state = read_cluster([vault.client(url) for url in nodes], "serving")
        assert (state.waiting_for, state.leader_address) == ([], URL)

    def test_the_leader_is_asked_for_its_peers_by_a_token(self, vault: FakeVault) -> None:
        node(vault, URL, 429, leader=OTHER)
        node(vault, OTHER, 200)
        vault.on("GET", "sys/storage/raft/configuration", {"data": {"config": {"servers": [PEER]}}}, at=OTHER)
        servers = {one["id"]: one for one in autopilot()["servers"]}
        vault.on("GET", "sys/storage/raft/autopilot/state", {"data": {**autopilot(), "servers": servers}}, at=OTHER)
        vault.on("GET", "sys/storage/raft/autopilot/state", errors(), 404, at=URL)
        state = read_cluster([vault.client(url, "hvs.t") for url in (URL, OTHER)])
        assert state.peers == [PEER]
        assert state.to_dict()["autopilot"]["failure_tolerance"] == 1

    def test_a_token_that_may_not_is_no_failure(self, vault: FakeVault) -> None:
        node(vault, URL, 200)
        for path in ("configuration", "autopilot/state"):
            vault.on("GET", f"sys/storage/raft/{path}", errors("permission denied"), 403)
        state = read_cluster([vault.client(token="hvs.t")])
        assert (state.peers, state.autopilot) == (None, None)

    def test_no_node_named(self) -> None:
        with pytest.raises(VaultConfigError, match="nodes"):
            read_cluster([])


class TestWaiting:
    def wait(self, vault: FakeVault, clock: Clock, goal: str, timeout: float, *urls: str) -> ClusterState:
        clients = [vault.client(url) for url in urls or (URL,)]
        return wait_for(clients, goal, timeout, 0.5, clock.sleep, clock.monotonic)

    def test_until_it_is_there(self, vault: FakeVault, clock: Clock) -> None:
        node(vault, URL, 503)

        def wake(seen: Seen) -> Answer:
            node(vault, URL, 200)
            return Answer(503, {"initialized": True, "sealed": True})

        vault.clear("GET", "sys/health", URL)
        vault.on("GET", "sys/health", {"sealed": True}, 503, at=URL).on("GET", "sys/health", call=wake, at=URL)
        assert self.wait(vault, clock, "serving", 10).waiting_for == []
        assert clock.slept == [0.5, 0.5]

    def test_not_at_all_when_it_is_there(self, vault: FakeVault, clock: Clock) -> None:
        node(vault, URL, 200)
        self.wait(vault, clock, "serving", 0)
        assert clock.slept == []

    def test_not_for_ever(self, vault: FakeVault, clock: Clock) -> None:
        node(vault, URL, 200)
        node(vault, OTHER, 503)
        with pytest.raises(VaultUnreachableError) as caught:
            self.wait(vault, clock, "serving", 2, URL, OTHER)
        assert f"not serving after 2 s: {OTHER} is sealed. " in str(caught.value)
        assert sum(clock.slept) == 2

    def test_a_node_that_missed_a_restore_is_not_waited_for(self, vault: FakeVault, clock: Clock) -> None:
        node(vault, URL, 200)
        node(vault, OTHER, 429, cluster_id="old")
        with pytest.raises(VaultMissedRestoreError, match=f"{OTHER} has missed"):
            self.wait(vault, clock, "serving", 60, URL, OTHER)
        assert sum(clock.slept) == KEYS_SETTLE

    def test_nor_is_one_of_openbao_that_missed_it(self, vault: FakeVault, clock: Clock) -> None:
        node(vault, URL, 200)
        vault.on("GET", "sys/health", errors(), 500, at=OTHER)
        with pytest.raises(VaultMissedRestoreError, match=f"sys/health at {OTHER} answered HTTP 500.*cannot decrypt"):
            self.wait(vault, clock, "serving", 60, URL, OTHER)
        assert sum(clock.slept) == KEYS_SETTLE

    def test_a_node_that_fails_beside_no_active_one_is_waited_for(self, vault: FakeVault, clock: Clock) -> None:
        node(vault, URL, 429, leader=OTHER)
        vault.on("GET", "sys/health", errors(), 500, at=OTHER)
        with pytest.raises(VaultUnreachableError) as caught:
            self.wait(vault, clock, "serving", 60, URL, OTHER)
        assert caught.type is VaultUnreachableError

    def test_one_that_is_cut_off_is_and_then_has_to_be_restarted(self, vault: FakeVault, clock: Clock) -> None:
        node(vault, URL, 200)
        node(vault, OTHER, 474)
        with pytest.raises(VaultMissedRestoreError, match=f"{OTHER} is standby without a path to the active node"):
            self.wait(vault, clock, "serving", 60, URL, OTHER)
        assert sum(clock.slept) == 60

    @pytest.mark.parametrize("status", [501, 503, None])
    def test_one_that_is_not_up_is(self, vault: FakeVault, clock: Clock, status: int | None) -> None:
        node(vault, URL, 200)
        down(vault, OTHER) if status is None else node(vault, OTHER, status, cluster_id=None)
        with pytest.raises(VaultUnreachableError) as caught:
            self.wait(vault, clock, "serving", 60, URL, OTHER)
        assert not isinstance(caught.value, VaultMissedRestoreError)
        assert sum(clock.slept) == 60

    def test_zero_looks_once(self, vault: FakeVault, clock: Clock) -> None:
        node(vault, URL, 503)
        with pytest.raises(VaultUnreachableError):
            self.wait(vault, clock, "unsealed", 0)
        assert clock.slept == []
        assert len(vault.sent("GET", "sys/health")) == 1

    def test_a_sealed_node_is_waited_for_and_was_not_left_behind(self, vault: FakeVault, clock: Clock) -> None:
        node(vault, URL, 200)
        node(vault, OTHER, 503)
        with pytest.raises(VaultUnreachableError, match=r"after 60 s: .* is sealed") as caught:
            self.wait(vault, clock, "serving", 60, URL, OTHER)
        assert caught.type is VaultUnreachableError

    def test_not_for_what_waiting_does_not_mend(self, vault: FakeVault, clock: Clock) -> None:
        vault.on("GET", "sys/health", b"Client sent an HTTP request to an HTTPS server.\n", 400)
        with pytest.raises(VaultConfigError):
            self.wait(vault, clock, "reachable", 60, "http://vault-1:8200")
        assert clock.slept == []


class TestPeers:
    PATH = "sys/storage/raft/configuration"

    def configuration(self, count: int) -> dict[str, Any]:
        return {"data": {"config": {"servers": [PEER] * count}}}

    def test_none_asked_for(self, vault: FakeVault) -> None:
        wait_for_peers(vault.client(token="hvs.t"), 0, 0)
        assert vault.seen == []

    def test_waits_through_the_election(self, vault: FakeVault) -> None:
        vault.on("GET", self.PATH, errors("Vault is sealed"), 503)
        vault.on("GET", self.PATH, errors("local node not active but active cluster node not found"), 500)
        vault.on("GET", self.PATH, self.configuration(1)).on("GET", self.PATH, self.configuration(3))
        clock = Clock()
        wait_for_peers(vault.client(token="hvs.t"), 3, 60, sleep=clock.sleep, monotonic=clock.monotonic)
        assert len(vault.seen) == 4

    def test_says_how_many_there_were(self, vault: FakeVault) -> None:
        vault.on("GET", self.PATH, self.configuration(2))
        clock = Clock()
        with pytest.raises(VaultUnreachableError, match="does not have 3 raft peers after 5 s: it has 2"):
            wait_for_peers(vault.client(token="hvs.t"), 3, 5, sleep=clock.sleep, monotonic=clock.monotonic)

    def test_a_token_that_may_not_is_told_at_once(self, vault: FakeVault) -> None:
        vault.on("GET", self.PATH, errors("permission denied"), 403)
        with pytest.raises(VaultPermissionError):
            wait_for_peers(vault.client(token="hvs.t"), 3, 60)

# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several nodes of one cluster at once, and waiting until they have reached a state."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Optional

from .client import VaultClient
from .errors import (
    VaultApiError,
    VaultConfigError,
    VaultError,
    VaultMissedRestoreError,
    VaultSealedError,
    VaultUnreachableError,
)
from .health import CANNOT_DECRYPT, PERMANENT_NON_VOTERS, NodeHealth, read_autopilot, read_health, read_peers

GOALS = ("reachable", "unsealed", "serving", "redundant")
"""What can be waited for, weakest first: every node answers; none is sealed; every node
serves secrets under one leader; every node but permanent non-voters is a healthy voter and the loss of one is
tolerated."""

KEYS_SETTLE = 15.0
"""Seconds after which a node with the keys of before a restore counts as left behind: waiting does not mend that."""


@dataclass(frozen=True)
class ClusterState:
    """What the nodes said in one round.

    Attributes:
        nodes: in the order they were asked for.
        peers: the raft configuration, None where no leader or no permitted token could tell.
        autopilot: as `read_autopilot` tells.
        waiting_for: why the goal is not reached, a sentence a node; empty when it is.
    """

    nodes: list[NodeHealth]
    peers: Optional[list[dict[str, Any]]] = None
    autopilot: Optional[dict[str, Any]] = None
    waiting_for: list[str] = field(default_factory=list)

    @property
    def leader_address(self) -> Optional[str]:
        """The address on which all serving nodes agree, None while they do not.

        An active node whose listener redacts its address is known by the address at which it answered.
        """
        leaders = {node.leader_address for node in self.nodes if node.leader_address}
        leaders = leaders or {node.url for node in self.nodes if node.http_status == 200}
        return leaders.pop() if len(leaders) == 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a module's result."""
        return {
            "nodes": [node.to_dict() for node in self.nodes],
            "leader_address": self.leader_address,
            "peers": self.peers,
            "autopilot": self.autopilot,
            "waiting_for": self.waiting_for,
        }


def read_cluster(clients: Sequence[VaultClient], goal: Optional[str] = None) -> ClusterState:
    """Asks all nodes side by side; the raft peers and autopilot only where the goal or a token asks for them.

    Raises VaultConfigError when there is no node, or an address or the CA is wrong.
    """
    if not clients:
        raise VaultConfigError("No node is named: give nodes the addresses of all nodes of the cluster.")
    with ThreadPoolExecutor(max_workers=min(16, len(clients))) as pool:
        nodes = list(pool.map(read_health, clients))
    state = ClusterState(nodes)
    active = next((client for client, node in zip(clients, nodes) if node.http_status == 200 and client.token), None)
    if active is not None:
        try:
            peers = read_peers(active)
        except VaultConfigError:
            raise
        except VaultError:
            peers = None
        state = ClusterState(nodes, peers, read_autopilot(active))
    if goal is None:
        return state
    return ClusterState(state.nodes, state.peers, state.autopilot, missing_for(state, goal))


def missing_for(state: ClusterState, goal: str) -> list[str]:
    """What keeps the cluster from a goal of GOALS, in sentences; empty when it is reached."""
    missing = [node.problem or f"{node.url} does not answer" for node in state.nodes if not node.reachable]
    if goal == "reachable" or missing:
        return missing
    missing = [f"{node.url} is {node.state}" for node in state.nodes if node.sealed or not node.initialized]
    if goal == "unsealed" or missing:
        return missing
    missing = _stale_keys(state) or [
        f"{node.url} is {node.state}, leader {node.leader_address}" for node in state.nodes if not node.serving
    ]
    if not missing and state.leader_address is None:
        missing = ["the nodes do not agree on one leader"]
    # Of a cluster of which not every node was named, the leader may be another.
    named = {node.url.rstrip("/") for node in state.nodes}
    led_by_one = (state.leader_address or "").rstrip("/") in named
    if not missing and led_by_one and not any(node.http_status == 200 for node in state.nodes):
        missing = ["no node says that it is active"]
    if goal == "serving" or missing:
        return missing
    if state.autopilot is None:
        return ["autopilot's state cannot be read (it needs a token that may read sys/storage/raft/autopilot/state)"]
    healthy, tolerance = state.autopilot["healthy"], state.autopilot["failure_tolerance"] or 0
    voters = len(state.autopilot["voters"])
    permanent = [one["id"] for one in state.autopilot["servers"] if one["node_type"] in PERMANENT_NON_VOTERS]
    wanted = len(state.nodes) - len(permanent)
    if not healthy or voters < wanted or (wanted > 2 and tolerance < 1):
        beside = f" (and {', '.join(permanent)}, which never vote)" if permanent else ""
        return [f"autopilot: healthy {healthy}, {voters} of {wanted} voters{beside}, failure tolerance {tolerance}"]
    return []


def _stale_keys(state: ClusterState) -> list[str]:
    """Those of unsealed nodes that missed a restore's change of keys.

    Vault tells its followers of it by an entry in the raft log (physical/raft/raft.go, RestoreSnapshot). One that gets
    the restored data as a snapshot taken behind that entry never acts on it: it cannot decrypt what it stores, so it
    does not know the cluster's id either. It may pass requests on to the leader, but never lead.
    """
    wanted = next((node.cluster_id for node in state.nodes if node.http_status == 200), None)
    return [
        f"{node.url} has missed the restore's change of keys and cannot decrypt its data: restart Vault on all nodes "
        "at once (if that does not help, stop it there, empty its data folder and start it: it joins again)"
        for node in state.nodes
        if wanted and node.reachable and node.initialized and not node.sealed and node.cluster_id != wanted
    ]


def _left_behind(state: ClusterState) -> bool:
    """Return whether a node missed a restore's change of keys, which waiting does not repair."""
    return bool(_stale_keys(state)) or {200, CANNOT_DECRYPT} <= {node.http_status for node in state.nodes}


def _cut_off(state: ClusterState) -> bool:
    """Whether a node finds no way to a leader that is there, which after a restore waiting may never mend."""
    statuses = {node.http_status for node in state.nodes}
    return {200, 474} <= statuses


def wait_for(
    clients: Sequence[VaultClient],
    goal: str,
    timeout: float,
    interval: float = 0.2,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> ClusterState:
    """Reads the cluster until the goal is reached.

    Args:
        goal: one of GOALS.
        timeout: seconds; 0 looks once.
        interval: seconds between two looks.

    Raises:
        VaultMissedRestoreError: a node has missed a restore's change of keys, after KEYS_SETTLE or all of the wait; or
            it is cut off from the leader, after all of the wait.
        VaultUnreachableError: not reached in time; the message says what was missing at the last look.
        VaultConfigError: an address or the CA is wrong, which waiting does not mend.
    """
    began = monotonic()
    while True:
        state = read_cluster(clients, goal)
        if not state.waiting_for:
            return state
        passed, stale = monotonic() - began, _left_behind(state)
        if passed >= timeout or (passed >= KEYS_SETTLE and stale):
            advice = (
                "Look at the logs of these nodes, then run this again: it goes on from where it is. If one says 'tls: "
                "unrecognized name', it is cut off from Raft: restart Vault on all nodes at once first."
            )
            if goal == "redundant":
                advice = "The nodes serve already. Read 'vault operator raft autopilot state' until it is healthy."
            raise (VaultMissedRestoreError if stale or _cut_off(state) else VaultUnreachableError)(
                f"The cluster is not {goal} after {passed:.0f} s: {'; '.join(state.waiting_for).rstrip('.')}. {advice}"
            )
        sleep(interval)


def wait_for_peers(
    client: VaultClient,
    count: int,
    timeout: float,
    interval: float = 0.1,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Waits until the raft configuration has this many peers, voters or not yet.

    One node is asked, not all: a node that is being let in holds its answers back for seconds.

    Args:
        timeout: seconds; 0 looks once.
        interval: seconds between two looks.

    Raises:
        VaultUnreachableError: not reached in time; the message says how many there were.
        VaultError: the token may not read the configuration, or the CA is wrong.
    """
    deadline = monotonic() + timeout
    while count > 0:
        try:
            peers = read_peers(client)
            problem = f"it has {len(peers)}: {', '.join(str(peer['address']) for peer in peers)}"
            if len(peers) >= count:
                return
        except (VaultUnreachableError, VaultSealedError, VaultApiError) as error:
            # A node that was initialised a moment ago is still becoming the leader.
            problem = str(error).rstrip(".")
        if monotonic() >= deadline:
            raise VaultUnreachableError(
                f"The cluster of {client.connection.url} does not have {count} raft peers after {timeout:g} s: "
                f"{problem}. Look at the log of the node that is missing, and at retry_join in its configuration."
            )
        sleep(interval)

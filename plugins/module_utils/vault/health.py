# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of itself: health, leader, seal, raft.

Sources: Vault's API documentation for sys/health, sys/leader, sys/seal-status, sys/storage/raft/autopilot/state and
sys/storage/raft/configuration. Vault 1.14, 1.21 and OpenBao differ in what they answer; what is missing is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Optional

from .client import VaultClient
from .errors import VaultError, VaultUnreachableError

HEALTH_CODES = {
    200: "active",
    429: "standby",
    472: "disaster recovery secondary",
    473: "performance standby",
    474: "standby without a path to the active node",
    501: "not initialised",
    503: "sealed",
    530: "removed from the cluster",
}
"""Meaning of each status code of sys/health."""

REMOVED = 530
"""Status code of sys/health on a node that was removed from its cluster."""

CANNOT_DECRYPT = 500
"""Status code of sys/health on a node of OpenBao that cannot decrypt its data (tried with 2.6.2)."""

PERMANENT_NON_VOTERS = frozenset({"non-voter", "read-replica", "zone-standby"})
"""Autopilot's node types that never get a vote. The type of a node that is about to get one is ``voter``."""

SERVING = frozenset({200, 429, 473})
"""Codes of a node that answers requests for secrets, itself or through the active node."""


@dataclass(frozen=True)
class NodeHealth:
    """One node's answers, taken within one call. None: not said, not allowed, redacted, or not reachable."""

    url: str
    reachable: bool
    problem: Optional[str] = None
    http_status: Optional[int] = None
    state: Optional[str] = None
    initialized: Optional[bool] = None
    sealed: Optional[bool] = None
    standby: Optional[bool] = None
    removed_from_cluster: Optional[bool] = None
    version: Optional[str] = None
    product: Optional[str] = None
    cluster_name: Optional[str] = None
    cluster_id: Optional[str] = None
    leader_address: Optional[str] = None
    is_leader: Optional[bool] = None
    raft_committed_index: Optional[int] = None
    raft_applied_index: Optional[int] = None
    seal: Optional[dict[str, Any]] = None
    autopilot: Optional[dict[str, Any]] = None

    @property
    def serving(self) -> bool:
        """Whether the node answers requests for secrets."""
        # The active node does not need to know its own address, which its listener may redact.
        return self.http_status == 200 or (self.http_status in SERVING and bool(self.leader_address))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a module's result."""
        return {**asdict(self), "serving": self.serving}


def read_health(client: VaultClient) -> NodeHealth:
    """Asks one node everything it answers without a token, and autopilot where the client has one.

    A node that is down, sealed or not initialised is an answer.

    Raises:
        VaultConfigError: the address or the CA is wrong, so nothing can be said of the node.
    """
    url = client.connection.url
    try:
        status, health = client.status("sys/health")
        if status == CANNOT_DECRYPT:
            return NodeHealth(
                url=url,
                reachable=False,
                http_status=status,
                problem=f"sys/health at {url} answered HTTP {status}. OpenBao does so if it cannot decrypt its data, "
                "for example after a restore whose change of keys the node missed. Read the log of the node.",
            )
        if status not in HEALTH_CODES:
            return NodeHealth(
                url=url,
                reachable=False,
                http_status=status,
                problem=f"sys/health at {url} answered HTTP {status}, which is no Vault health code. "
                "Check that this is a Vault server and no proxy or load balancer.",
            )
        seal = client.optional("sys/seal-status") or {}
        leader = client.optional("sys/leader") or {}
        address = leader.get("leader_address") or None
        if leader.get("ha_enabled") and not leader.get("is_self") and status in SERVING:
            address = address or client.redirected_leader() or None
    except VaultUnreachableError as error:
        return NodeHealth(url=url, reachable=False, problem=str(error))

    def known(name: str) -> Any:
        # A listener that redacts a value answers an empty one, or leaves it out.
        found = (value for value in (health.get(name), seal.get(name)) if value not in (None, ""))
        return next(found, None)

    return NodeHealth(
        url=url,
        reachable=True,
        http_status=status,
        state=HEALTH_CODES[status],
        initialized=known("initialized"),
        sealed=known("sealed"),
        standby=health.get("standby"),
        removed_from_cluster=status == REMOVED or known("removed_from_cluster"),
        version=known("version"),
        product=_product(known("version"), health),
        cluster_name=known("cluster_name"),
        cluster_id=known("cluster_id"),
        leader_address=address,
        is_leader=leader.get("is_self"),
        raft_committed_index=leader.get("raft_committed_index"),
        raft_applied_index=leader.get("raft_applied_index"),
        seal=_seal(seal),
        autopilot=read_autopilot(client) if client.token and status in SERVING else None,
    )


def _product(version: Optional[str], health: dict[str, Any]) -> Optional[str]:
    """Return Vault or OpenBao, None where neither the version nor the field `enterprise` is reported.

    OpenBao began with 2.0, as a fork of Vault 1.14. Vault has the field `enterprise` in sys/health since 1.16, and so
    in every version that has a number of OpenBao's (tried with Vault 1.21.0, OpenBao 2.6.2 and 2.7.2).
    """
    if "enterprise" in health:
        # A listener may redact the version.
        return "Vault"
    if not version:
        return None
    return "Vault" if version.startswith(("0.", "1.")) else "OpenBao"


def _seal(answer: dict[str, Any]) -> Optional[dict[str, Any]]:
    if not answer:
        return None
    return {
        "type": seal_type(answer),
        "recovery_seal": answer.get("recovery_seal"),
        "recovery_seal_type": answer.get("recovery_seal_type"),
        "threshold": answer.get("t"),
        "shares": answer.get("n"),
        "progress": answer.get("progress"),
        "migration": answer.get("migration"),
        "storage_type": answer.get("storage_type"),
    }


def seal_type(answer: Mapping[str, Any]) -> Optional[str]:
    """Return the type of the seal out of ``sys/seal-status``, None if the node does not tell it.

    Vault up to 1.14 and OpenBao up to 2.3 answer the type of the recovery keys, ``shamir``, once they are initialized.
    ``recovery_seal`` then is true: some auto-unseal.
    """
    kind = answer.get("type")
    return None if kind == "shamir" and answer.get("recovery_seal") else kind


def read_autopilot(client: VaultClient) -> Optional[dict[str, Any]]:
    """Raft autopilot's view of the cluster, None where the token may not read it or the version has none."""
    try:
        answer = client.optional("sys/storage/raft/autopilot/state")
    except VaultError:
        return None
    data = (answer or {}).get("data") or answer
    if not data or "healthy" not in data:
        return None
    return {
        "healthy": data.get("healthy"),
        "failure_tolerance": data.get("failure_tolerance"),
        "leader": data.get("leader"),
        "voters": sorted(data.get("voters") or []),
        "servers": [
            {
                "id": server.get("id", name),
                "address": server.get("address"),
                "healthy": server.get("healthy"),
                "status": server.get("status"),
                "node_type": server.get("node_type"),
                "last_index": server.get("last_index"),
                "version": server.get("version"),
            }
            for name, server in sorted((data.get("servers") or {}).items())
        ],
    }


def read_peers(client: VaultClient) -> list[dict[str, Any]]:
    """The raft configuration: one dict per peer with node_id, address, voter and leader. Raises VaultError."""
    answer = client.request("GET", "sys/storage/raft/configuration")
    servers = ((answer.get("data") or answer).get("config") or {}).get("servers") or []
    return [{name: server.get(name) for name in ("node_id", "address", "voter", "leader")} for server in servers]

# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Vault or OpenBao clusters on loopback: raft storage, TLS, sealed by Shamir shares, a KMS or a static key."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hvac
import requests

from .binaries import server
from .cloud import Moto
from .pki import Authority, write_private
from .processes import LabError, Server, free_port, wait_for

# sys/health of a node that serves: active, standby, performance standby.
_SERVING = (200, 429, 473)


class VaultNode(Server):
    """One Vault server. It is ready when its API answers, sealed or not."""

    def __init__(self, name: str, folder: Path, binary: Path, ca_file: Path, env: dict[str, str]) -> None:
        self.port, self.cluster_port = free_port(), free_port()
        self.address = f"https://127.0.0.1:{self.port}"
        self.data = folder / "data"
        self.config_file = folder / "vault.json"
        self.ca_file = ca_file
        command = [str(binary), "server", "-config", str(self.config_file)]
        super().__init__(name, command, folder, ready=lambda: self.health() is not None, env=env)

    def request(self, method: str, path: str, *, token: str = "", timeout: float = 30.0, **kwargs: Any) -> Any:
        """Ask this node and no other: no redirect is followed. Returns a requests.Response of any status."""
        with requests.Session() as session:
            session.trust_env = False
            headers = {"X-Vault-Request": "true", **({"X-Vault-Token": token} if token else {})}
            return session.request(
                method,
                f"{self.address}/v1/{path}",
                headers=headers,
                verify=str(self.ca_file),
                allow_redirects=False,
                timeout=timeout,
                **kwargs,
            )

    def health(self) -> int | None:
        """The status of sys/health, or None when nothing answers."""
        try:
            return int(self.request("GET", "sys/health").status_code)
        except requests.RequestException:
            return None

    def client(self, token: str | None = None) -> hvac.Client:
        """An hvac client of this node."""
        return hvac.Client(url=self.address, token=token or "", verify=str(self.ca_file))


class VaultCluster:
    """Servers that find each other. With `kms` they unseal themselves, without it by `unseal_all`.

    Clusters that are given the same Moto share its key unless `key_id` names another, as the two ends of a
    recovery do. A server without the seal `awskms` is given the seal `static`, with a key of the same ID.
    """

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        *,
        nodes: int = 3,
        kms: Moto | None = None,
        key_id: str | None = None,
        name: str = "vault",
    ) -> None:
        self.name = name
        self.folder = folder
        self.ca_file = authority.ca_file
        self.root_token = ""
        self.root_token_file = folder / "root-token"
        self.keys: list[str] = []
        self.threshold = 0
        self.auto_unseal = kms is not None
        self._orders: threading.Thread | None = None
        self.server = server()
        env = kms.environment if kms else {}
        self.nodes = [
            VaultNode(f"{name}-{number}", folder / f"{name}-{number}", self.server.path, self.ca_file, env)
            for number in range(1, nodes + 1)
        ]
        seal = self._seal(kms, key_id or kms.key_id) if kms else None
        for node in self.nodes:
            cert_file, key_file = authority.issue(node.name)
            node.folder.mkdir(mode=0o700, parents=True)
            config = self._config(node, cert_file, key_file, seal)
            write_private(node.config_file, json.dumps(config, indent=2).encode())

    @property
    def addresses(self) -> list[str]:
        """The API address of every node."""
        return [node.address for node in self.nodes]

    def start(self) -> None:
        """Start the nodes that do not run, all at once, and wait until each one's API answers."""
        if self._orders is None:
            self._orders = threading.Thread(target=self._take_orders, daemon=True)
            self._orders.start()
        for node in self.nodes:
            node.data.mkdir(mode=0o700, exist_ok=True)
            node.launch()
        _each(self.nodes, VaultNode.wait_ready)

    @staticmethod
    def command(node: VaultNode, verb: str) -> str:
        """What a shell runs in place of ``systemctl stop vault`` (or ``start``) on the node's host."""
        order = node.folder / f"{verb}-order"
        return f"touch {order}; while [ -e {order} ]; do sleep 0.1; done"

    def _take_orders(self) -> None:
        """Does what `command` asks for: the nodes are this process's children, nobody else can start them."""
        while True:
            for node in self.nodes:
                for verb, obey in (("stop", node.stop), ("start", node.launch)):
                    order = node.folder / f"{verb}-order"
                    if order.exists():
                        obey()
                        order.unlink()
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop every node in order; the data stays."""
        _each(self.nodes, VaultNode.stop)

    def initialize(self, *, shares: int = 3, threshold: int = 2, wait_voters: bool = True) -> None:
        """Initialise the first node, unseal all, and keep the root token and the (unseal or recovery) keys here.

        With `wait_voters` it returns when every node has a vote in raft, which a fresh one is given after 10 s or so:
        before that, the cluster does not survive the loss of a node.
        """
        kind = "recovery" if self.auto_unseal else "secret"
        answer = self.nodes[0].client().sys.initialize(**{f"{kind}_shares": shares, f"{kind}_threshold": threshold})
        self.root_token = answer["root_token"]
        self.keys = answer["recovery_keys" if self.auto_unseal else "keys"]
        self.threshold = threshold
        write_private(self.root_token_file, self.root_token.encode())
        if not self.auto_unseal:
            self.unseal_all()
        self.wait_ready_all()
        if wait_voters:
            self.wait_voters()

    def unseal_all(self, keys: Sequence[str] = ()) -> None:
        """Give each sealed node these keys, or the cluster's own up to its threshold."""
        for node in self.nodes:
            # A fresh node takes no key before the leader answered its request to join.
            wait_for(f"{node.name} is initialised", lambda node=node: _seal_status(node)["initialized"])  # type: ignore[misc]
            for key in keys or self.keys[: self.threshold]:
                if not _seal_status(node)["sealed"]:
                    break
                node.client().sys.submit_unseal_key(key)

    def leader(self) -> VaultNode:
        """The active node. Raises LabError when there is none at the moment."""
        for node in self.nodes:
            if node.health() == 200:
                return node
        raise LabError(f"{self.name} has no active node; sys/health answers {[node.health() for node in self.nodes]}")

    def wait_active(self, timeout: float = 60.0) -> VaultNode:
        """Wait until a node is active, and return it."""
        found: list[VaultNode] = []

        def look() -> bool:
            found.extend(node for node in self.nodes if node.health() == 200)
            return bool(found)

        wait_for(f"{self.name} has an active node", look, timeout)
        return found[0]

    def wait_ready_all(self, timeout: float = 60.0) -> None:
        """Wait until every node is unsealed, one of them is active and all agree on which."""
        wait_for(f"every node of {self.name} serves under one leader", self._all_ready, timeout)

    def wait_voters(self, timeout: float = 90.0) -> None:
        """Wait until raft counts every node as a voter."""
        wait_for(f"every node of {self.name} is a raft voter", lambda: self.voters() == len(self.nodes), timeout)

    def voters(self) -> int:
        """How many raft voters the active node knows; 0 when there is no active node."""
        try:
            answer = self.leader().request("GET", "sys/storage/raft/configuration", token=self.root_token)
        except (LabError, requests.RequestException):
            return 0
        servers = answer.json()["data"]["config"]["servers"] if answer.ok else []
        return sum(1 for server in servers if server["voter"])

    def client(self, node: VaultNode | None = None, token: str | None = None) -> hvac.Client:
        """An hvac client of `node` (the active one by default) with `token` (the root token by default)."""
        return (node or self.leader()).client(token or self.root_token)

    def destroy(self) -> None:
        """The disaster: every node is killed and its data deleted. Configuration and certificates stay."""
        _each(self.nodes, VaultNode.kill)
        for node in self.nodes:
            shutil.rmtree(node.data, ignore_errors=True)
        self.root_token, self.keys, self.threshold = "", [], 0
        self.root_token_file.unlink(missing_ok=True)

    def wipe_and_start(self) -> None:
        """The hosts come back empty after the disaster: same addresses and certificates, no data, not initialised."""
        self.destroy()
        self.start()

    def _all_ready(self) -> bool:
        if any(node.health() not in _SERVING for node in self.nodes):
            return False
        leaders = {node.request("GET", "sys/leader").json().get("leader_address") for node in self.nodes}
        return len(leaders) == 1 and leaders <= set(self.addresses)

    def _config(self, node: VaultNode, cert_file: Path, key_file: Path, seal: dict[str, Any] | None) -> dict[str, Any]:
        join = [
            {
                "leader_api_addr": peer.address,
                "leader_ca_cert_file": str(self.ca_file),
                "leader_tls_servername": "localhost",
            }
            for peer in self.nodes
            if peer is not node
        ]
        return {
            "cluster_name": self.name,
            "api_addr": node.address,
            "cluster_addr": f"https://127.0.0.1:{node.cluster_port}",
            # OpenBao has no mlock, and 2.7 warns of the field. Its standbys answer reads, and after a restore they know
            # the mounts of before it (README.md, known limitations).
            **({"disable_mlock": True} if self.server.product == "Vault" else {"disable_standby_reads": True}),
            "log_level": "info",
            "storage": {
                "raft": {
                    "path": str(node.data),
                    "node_id": node.name,
                    "performance_multiplier": "1",
                    # Vault does not start with an empty list.
                    **({"retry_join": join} if join else {}),
                }
            },
            "listener": {
                "tcp": {
                    "address": f"127.0.0.1:{node.port}",
                    "cluster_address": f"127.0.0.1:{node.cluster_port}",
                    "tls_cert_file": str(cert_file),
                    "tls_key_file": str(key_file),
                    "telemetry": {"unauthenticated_metrics_access": True},
                }
            },
            "telemetry": {"prometheus_retention_time": "30s", "disable_hostname": True},
            **({"seal": seal} if seal else {}),
        }

    def _seal(self, kms: Moto, key_id: str) -> dict[str, Any]:
        if self.server.has_awskms:
            return {"awskms": {"region": kms.region, "endpoint": kms.endpoint, "kms_key_id": key_id}}
        # Both ends of a recovery derive the same key of 32 bytes from the ID, which is random.
        key = base64.b64encode(hashlib.sha256(key_id.encode()).digest()).decode()
        return {"static": {"current_key_id": key_id, "current_key": key}}


def _seal_status(node: VaultNode) -> dict[str, Any]:
    status: dict[str, Any] = node.request("GET", "sys/seal-status").json()
    return status


def _each(nodes: Sequence[VaultNode], action: Callable[[VaultNode], None]) -> None:
    with ThreadPoolExecutor(max_workers=max(1, len(nodes))) as pool:
        for _unused in pool.map(action, nodes):
            pass

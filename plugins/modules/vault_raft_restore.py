#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores a Raft snapshot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_raft_restore
short_description: Replace all data of a Vault cluster by a Raft snapshot
version_added: 0.1.0
description:
  - Verifies the file, sends it to the leader once, and waits until the leader has reloaded from it.
  - Everything in the cluster is replaced, its tokens included - the token that restores is not valid afterwards unless
    the snapshot holds it. The Raft peers stay those of the target.
  - It is never repeated by itself. When it fails, the message says whether the snapshot was sent.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.auth
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - Verifies the file and the target's state, and changes nothing.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run restores.
options:
  path:
    description:
      - The snapshot.
    type: path
    required: true
  force:
    description:
      - Accepts a snapshot that was sealed by another seal, as that of another cluster is.
    type: bool
    default: false
  cluster_id:
    description:
      - ID of the only cluster whose data may be replaced, as C(sys/health) reports it.
      - The module compares it with the leader's immediately before it sends the snapshot, and sends nothing if it
        differs or is not reported. Without this option, every cluster that accepts the token is replaced.
    type: str
    version_added: 0.2.0
  lock:
    description:
      - Lock of a recovery, as M(custodes.security_dr.vault_recovery_record) returns it.
      - The module sends the snapshot only while the run of ansible-playbook that took the lock is alive. Without it, a
        module that waits outlives a terminal that is closed.
    type: dict
    version_added: 0.2.0
  nodes:
    description:
      - All nodes of the cluster. The snapshot is sent to the one of them that leads, and to no address that a node
        names as its leader's. Waits until the leader has as many Raft peers, before anything is sent, and until
        each of them serves from what was restored.
    type: list
    elements: str
    default: []
  nodes_timeout:
    description:
      - How long each of the two waits may take, in seconds.
    type: float
    default: 120.0
  upload_timeout:
    description:
      - How long the leader may take to answer once it has the whole snapshot, in seconds.
    type: float
    default: 600.0
  reload_timeout:
    description:
      - How long the leader may take to reload, in seconds.
    type: float
    default: 300.0
"""

EXAMPLES = r"""
- name: Restore on a freshly initialised cluster
  custodes.security_dr.vault_raft_restore:
    url: https://vault-1:8200
    ca_cert: /etc/vault.d/ca.pem
    token: "{{ vault_init.root_token }}"
    path: /var/backups/vault/prod-20261124T020000Z.snap
    force: true
"""

RETURN = r"""
leader:
  description: The node that the snapshot was sent to.
  returned: success
  type: str
  sample: https://vault-2:8200
sealed:
  description:
    - Whether the leader sealed itself, as it does when the snapshot is of other Shamir keys. Every node then has to be
      unsealed with the key shares of the snapshot's origin.
  returned: changed, not in check mode
  type: bool
  sample: false
nodes_problem:
  description: Why not every node of O(nodes) serves from what was restored, V(null) when each does.
  returned: changed, not in check mode
  type: str
  sample: null
missed_restore:
  description:
    - Whether a node has missed the restore's change of keys, as happens by a race in Vault. Vault has to be restarted
      there, or on all nodes at once where the restored cluster is younger than a day.
  returned: changed, not in check mode
  type: bool
  sample: false
seconds:
  description: Time of each step.
  returned: changed, not in check mode
  type: dict
  sample: {peers: 1.2, verify: 0.01, upload: 0.2, reload: 1.4, nodes: 0.8}
cluster_id:
  description: ID of the restored cluster, V(null) if the leader sealed itself.
  returned: changed, not in check mode
  type: str
  sample: 45c5a04b-1d4e-4bd6-a2f8-d9d0a1c1ddbc
index:
  description: Raft index of the snapshot.
  returned: success
  type: int
  sample: 4211
sha256:
  description: SHA-256 of the snapshot.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

import time
from functools import partial
from pathlib import Path
from typing import Any, Optional

from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.playbook_lock import is_alive
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.manifest import verify
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.restore import inspect_target, restore
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.cluster import wait_for, wait_for_peers
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import (
    VaultMissedRestoreError,
    VaultUnreachableError,
)


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "path": {"type": "path", "required": True},
            "force": {"type": "bool", "default": False},
            "cluster_id": {"type": "str"},
            "lock": {"type": "dict"},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "nodes_timeout": {"type": "float", "default": 120.0},
            "upload_timeout": {"type": "float", "default": 600.0},
            "reload_timeout": {"type": "float", "default": 300.0},
        }
    )

    def action() -> dict[str, object]:
        path = Path(module.params["path"])
        if not path.is_file():
            raise StoreError(f"There is no snapshot at {path} on this host. Nothing was sent.")
        # No session: the login's token is replaced with everything else, there is nothing left to revoke.
        client = module.login()
        nodes = [VaultClient(module.connection(url)) for url in module.params["nodes"]]
        if module.check_mode:
            info, target = verify(path), inspect_target(client, module.params["cluster_id"], nodes)
            return {"changed": True, "leader": target.url, "index": info.index, "sha256": info.sha256}
        return _restore(module, client, nodes, path)

    module.run(action)


def _check_lock(lock: Optional[dict[str, Any]]) -> None:
    """Raise StoreError if the run of ansible-playbook whose lock it is has ended: its modules run on without it."""
    if lock and not is_alive(Path(lock["path"]), lock["holder"]):
        raise StoreError(
            "Cannot restore: the run of ansible-playbook that began this restore has ended. No snapshot was sent."
        )


def _restore(module: SecurityDrModule, client: VaultClient, nodes: list[VaultClient], path: Path) -> dict[str, object]:
    options = module.params
    timeout = options["nodes_timeout"]
    moments = [time.monotonic()]
    wait_for_peers(client, len(nodes), timeout)
    moments.append(time.monotonic())
    done = restore(
        client,
        path,
        options["force"],
        options["upload_timeout"],
        options["reload_timeout"],
        cluster_id=options["cluster_id"],
        nodes=nodes,
        check=partial(_check_lock, options["lock"]),
    )
    moments.append(time.monotonic())
    # The restore is done: what a node lacks is an answer, not a failure.
    problem: Optional[VaultUnreachableError] = None
    try:
        if nodes and not done.sealed:
            wait_for(nodes, "serving", timeout)
    except VaultUnreachableError as error:
        problem = error
    waited = round(time.monotonic() - moments[2], 3)
    return {
        "changed": True,
        "leader": done.leader,
        "sealed": done.sealed,
        "nodes_problem": None if problem is None else str(problem),
        "missed_restore": isinstance(problem, VaultMissedRestoreError),
        "seconds": {"peers": round(moments[1] - moments[0], 3), **done.seconds, "nodes": waited},
        "index": done.info.index,
        "sha256": done.info.sha256,
        "cluster_id": done.cluster_id,
    }


if __name__ == "__main__":
    main()

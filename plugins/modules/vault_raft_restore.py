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
  nodes:
    description:
      - Waits until each of these nodes has joined the cluster and caught up, before anything is sent.
    type: list
    elements: str
    default: []
  join_timeout:
    description:
      - How long to wait for them, in seconds.
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
seconds:
  description: Time of each step.
  returned: changed, not in check mode
  type: dict
  sample: {join: 1.2, verify: 0.01, upload: 0.2, reload: 1.4}
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
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.manifest import verify
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.restore import inspect_target, restore
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.cluster import wait_until_joined


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "path": {"type": "path", "required": True},
            "force": {"type": "bool", "default": False},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "join_timeout": {"type": "float", "default": 120.0},
            "upload_timeout": {"type": "float", "default": 600.0},
            "reload_timeout": {"type": "float", "default": 300.0},
        }
    )

    def action() -> dict[str, object]:
        options, path = module.params, Path(module.params["path"])
        if not path.is_file():
            raise StoreError(f"There is no snapshot at {path} on this host. Nothing was sent.")
        # No session: the login's token is replaced with everything else, there is nothing left to revoke.
        client = module.login()
        if module.check_mode:
            info, target = verify(path), inspect_target(client)
            return {"changed": True, "leader": target.url, "index": info.index, "sha256": info.sha256}
        began = time.monotonic()
        wait_until_joined([VaultClient(module.connection(url)) for url in options["nodes"]], options["join_timeout"])
        waited = round(time.monotonic() - began, 3)
        done = restore(client, path, options["force"], options["upload_timeout"], options["reload_timeout"])
        return {
            "changed": True,
            "leader": done.leader,
            "sealed": done.sealed,
            "seconds": {"join": waited, **done.seconds},
            "index": done.info.index,
            "sha256": done.info.sha256,
        }

    module.run(action)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes peers.json, by which Vault makes a cluster of what has survived."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_raft_peers_json
short_description: Tell a stopped Vault node who its Raft peers are from now on
version_added: 0.2.0
description:
  - Writes C(raft/peers.json), which Vault takes for its Raft configuration at its next start (with Shamir, when it is
    unsealed), and then removes.
  - Stop Vault on all survivors first, and write the same on each of them.
  - Refuses while Vault runs, and where there is no Raft data.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - Until Vault is started, which removes the file.
options:
  path:
    description:
      - Vault's data folder.
    type: path
    required: true
  peers:
    description:
      - All peers of the cluster that is to be.
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description:
          - The peer's C(node_id).
        type: str
        required: true
      address:
        description:
          - Its host and cluster port.
        type: str
        required: true
      non_voter:
        description:
          - Whether it has no vote.
        type: bool
        default: false
"""

EXAMPLES = r"""
- name: Make one survivor a cluster
  custodes.security_dr.vault_raft_peers_json:
    path: /opt/vault/data
    peers:
      - id: vault-1
        address: 10.0.0.1:8201
  become: true
"""

RETURN = r"""
file:
  description: The file.
  returned: success
  type: str
  sample: /opt/vault/data/raft/peers.json
"""

from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.quorum.errors import QuorumError
from ansible_collections.custodes.security_dr.plugins.module_utils.quorum.folder import write_peers


def main() -> None:
    """Entry point."""
    peer = {
        "id": {"type": "str", "required": True},
        "address": {"type": "str", "required": True},
        "non_voter": {"type": "bool", "default": False},
    }
    module = SecurityDrModule(
        {
            "path": {"type": "path", "required": True},
            "peers": {"type": "list", "elements": "dict", "required": True, "options": peer},
        },
        vault=False,
    )

    def action() -> dict[str, object]:
        options = module.params
        if all(one["non_voter"] for one in options["peers"]):
            raise QuorumError("None of the peers has a vote: such a cluster never has a leader. Nothing was written.")
        changed, file = write_peers(Path(options["path"]), options["peers"], writes=not module.check_mode)
        return {"changed": changed, "file": str(file)}

    module.run(action)


if __name__ == "__main__":
    main()

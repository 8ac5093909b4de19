#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault's Raft data on a host: who the peers are, and whether Vault has it open."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_raft_peers_info
short_description: Raft peers as a node's own data knows them, without a leader
version_added: 0.2.0
description:
  - Reads the last Raft configuration out of Vault's data folder. Vault's API tells it only while there is a leader, and
    to a token. Vault may run meanwhile.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes.info
options:
  path:
    description:
      - Vault's data folder, C(path) of the C(storage) stanza.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Who are the peers?
  custodes.security_dr.vault_raft_peers_info:
    path: /opt/vault/data
  become: true
  register: raft
"""

RETURN = r"""
present:
  description: Whether there is Raft data.
  returned: success
  type: bool
  sample: true
in_use:
  description: Whether Vault has it open.
  returned: success
  type: bool
  sample: true
index:
  description: Raft index of the configuration, 0 if there is none.
  returned: success
  type: int
  sample: 42
peers:
  description: The configuration. C(address) is host and cluster port.
  returned: success
  type: list
  elements: dict
  sample: [{id: vault-1, address: "10.0.0.1:8201", non_voter: false}]
data_bytes:
  description: Size of the data.
  returned: success
  type: int
  sample: 104857600
free_bytes:
  description: What may still be written there.
  returned: success
  type: int
  sample: 52428800000
"""

from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.quorum.folder import survey


def main() -> None:
    """Entry point."""
    module = SecurityDrModule({"path": {"type": "path", "required": True}}, vault=False)
    module.run(lambda: {"changed": False, **survey(Path(module.params["path"]))})


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides whether a lost quorum may be made up for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_quorum_preflight
short_description: Decide whether a Vault cluster has lost its quorum, and what is left of it
version_added: 0.2.0
description:
  - Asks the API of every node, weighs it with what each host's own data tells, and fails with all that speaks against
    it.
  - It is refused while a majority lives or one leads, while a node that was given up may be alive, and unless the
    operator has named exactly the nodes that are found dead.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.attributes.info
options:
  nodes:
    description:
      - All nodes of the cluster.
      - O(url) is not used.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - The host in the inventory.
        type: str
        required: true
      url:
        description:
          - Address of its API.
        type: str
        required: true
      node_id:
        description:
          - Vault's C(node_id), where it is neither the name nor can be told by the address.
        type: str
        default: ""
      data:
        description:
          - What M(custodes.security_dr.vault_raft_peers_info) has registered there.
        type: dict
        default: {}
  lost:
    description:
      - Names of the nodes that are lost permanently, and the C(node_id) of each one that is on no host.
    type: list
    elements: str
    default: []
  begun:
    description:
      - The plan of an earlier run that has begun to change things.
    type: dict
  serves:
    description:
      - Whether that run has seen the survivors serve.
    type: bool
    default: false
  proof_by_shares:
    description:
      - Whether the proof at the end needs a root token that is generated from key shares. If the servers' version
        refuses that by default, the module refuses the recovery.
    type: bool
    default: false
    version_added: 0.2.0
  generate_root_enabled:
    description:
      - Accepts such versions, as their configuration allows it.
    type: bool
    default: false
    version_added: 0.2.0
"""

EXAMPLES = r"""
- name: May it be done?
  custodes.security_dr.vault_quorum_preflight:
    ca_cert: /etc/vault.d/ca.pem
    nodes:
      - name: vault-1
        url: https://vault-1:8200
        data: "{{ hostvars['vault-1'].raft }}"
      - name: vault-2
        url: https://vault-2:8200
      - name: vault-3
        url: https://vault-3:8200
    lost: [vault-2, vault-3]
"""

RETURN = r"""
action:
  description:
    - V(recover) makes the survivors a cluster and lets the others join it, V(rejoin) only the latter, V(nothing) is for
      a cluster in which every node serves.
  returned: success
  type: str
  sample: recover
survivors:
  description: Names.
  returned: success
  type: list
  elements: str
  sample: [vault-1]
lost:
  description: Names, and the C(node_id) of each node that is on no host.
  returned: success
  type: list
  elements: str
  sample: [vault-2, vault-3]
aside:
  description: Those of them whose data is to be moved aside, the host being reached.
  returned: success
  type: list
  elements: str
  sample: [vault-2]
rejoin:
  description: Those of them whose host is reached.
  returned: success
  type: list
  elements: str
  sample: [vault-2]
peers:
  description: For M(custodes.security_dr.vault_raft_peers_json).
  returned: success
  type: list
  elements: dict
  sample: [{id: vault-1, address: "10.0.0.1:8201", non_voter: false}]
remarks:
  description: What the operator has to see to.
  returned: success
  type: list
  elements: str
  sample: ["vault-3 cannot be reached: ..."]
problems:
  description: Empty.
  returned: success
  type: list
  elements: str
  sample: []
seal_type:
  description: Of the survivors. V(null) for an auto-unseal whose type Vault does not tell.
  returned: success
  type: str
  sample: shamir
"""

from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.quorum.errors import QuorumError
from ansible_collections.custodes.security_dr.plugins.module_utils.quorum.preflight import NOTHING, Node, plan
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.cluster import read_cluster
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.generate_root import problem


def _node(given: dict[str, Any], health: dict[str, Any]) -> Node:
    data = given["data"]
    # A task that failed was at least carried out there.
    connected = bool(data) and not data.get("unreachable")
    found = {**data, "problem": data["msg"]} if data.get("msg") else data
    return Node(given["name"], given["url"], connected, found, health, given["node_id"])


def main() -> None:
    """Entry point."""
    node = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "required": True},
        "node_id": {"type": "str", "default": ""},
        "data": {"type": "dict", "default": {}},
    }
    module = SecurityDrModule(
        {
            "nodes": {"type": "list", "elements": "dict", "required": True, "options": node},
            "lost": {"type": "list", "elements": "str", "default": []},
            "begun": {"type": "dict"},
            "serves": {"type": "bool", "default": False},
            "proof_by_shares": {"type": "bool", "default": False},
            "generate_root_enabled": {"type": "bool", "default": False},
        },
        login=False,
    )

    def action() -> dict[str, object]:
        options = module.params
        answers = read_cluster([VaultClient(module.connection(one["url"])) for one in options["nodes"]]).nodes
        nodes = [_node(given, health.to_dict()) for given, health in zip(options["nodes"], answers)]
        decided = plan(nodes, options["lost"], options["begun"] or None, options["serves"])
        refused = problem([node.health for node in nodes], None, options["generate_root_enabled"])
        if decided.action not in (None, NOTHING) and options["proof_by_shares"] and refused:
            decided.problems.append(f"{refused} Nothing was changed.")
        if decided.problems:
            raise QuorumError(" ".join(decided.problems))
        return {"changed": False, **decided.to_dict()}

    module.run(action)


if __name__ == "__main__":
    main()

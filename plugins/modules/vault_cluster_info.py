#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All nodes of a Vault cluster at once, and waiting for them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_cluster_info
short_description: All nodes of a Vault cluster at once, and waiting until they have reached a state
version_added: 0.1.0
description:
  - Asks every node side by side, so that the answers are of one moment.
  - With O(wait_for) it asks until the cluster is there, and fails with what was missing when O(wait_timeout) is over.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.auth
  - custodes.security_dr.attributes.info
options:
  nodes:
    description:
      - Addresses of all nodes.
      - O(url) is not used.
    type: list
    elements: str
    required: true
  wait_for:
    description:
      - V(reachable) is every node answering.
      - V(unsealed) is every node initialised and unsealed.
      - V(serving) is every node answering requests for secrets, under one leader.
      - V(redundant) is every node a healthy voter, so that the cluster tolerates the loss of one. It needs a login.
        A node that autopilot has as a permanent non-voter does not need a vote.
    type: str
    choices: [reachable, unsealed, serving, redundant]
  wait_timeout:
    description:
      - How long to wait, in seconds.
    type: float
    default: 120.0
"""

EXAMPLES = r"""
- name: Wait until the cluster survives the loss of a node
  custodes.security_dr.vault_cluster_info:
    nodes: [https://vault-1:8200, https://vault-2:8200, https://vault-3:8200]
    ca_cert: /etc/vault.d/ca.pem
    wait_for: redundant
"""

RETURN = r"""
nodes:
  description: One entry a node, as M(custodes.security_dr.vault_health_info) returns it, with its C(url).
  returned: success
  type: list
  elements: dict
  sample: [{url: "https://vault-1:8200", reachable: true, state: active}]
leader_address:
  description: The address on which all nodes agree, V(null) while they do not.
  returned: success
  type: str
  sample: https://vault-1:8200
peers:
  description: The Raft configuration, V(null) without a login that may read it.
  returned: success
  type: list
  elements: dict
  sample: [{node_id: vault-1, address: "10.0.0.1:8201", voter: true, leader: true}]
autopilot:
  description: Raft autopilot, V(null) without a login that may read it.
  returned: success
  type: dict
  sample: {healthy: true, failure_tolerance: 1}
waiting_for:
  description: Empty, the goal being reached.
  returned: success
  type: list
  elements: str
  sample: []
"""

import os

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.vault import auth
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.cluster import GOALS, read_cluster, wait_for


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "nodes": {"type": "list", "elements": "str", "required": True},
            "wait_for": {"type": "str", "choices": list(GOALS)},
            "wait_timeout": {"type": "float", "default": 120.0},
        }
    )

    def action() -> dict[str, object]:
        options = module.params
        goal, timeout = options["wait_for"], options["wait_timeout"]
        needs_login = goal == "redundant"
        auth.validate(options, os.environ, required=needs_login)
        clients = [VaultClient(module.connection(url)) for url in options["nodes"]]
        if options["auth_method"] == "token":
            for client in clients:
                client.token = auth.find_token(options, os.environ)
        elif needs_login:
            wait_for(clients, "serving", timeout)
            with module.session(options["nodes"][0]) as session:
                for client in clients:
                    client.token = session.token
                return {**wait_for(clients, goal, timeout).to_dict(), "changed": False}
        state = wait_for(clients, goal, timeout) if goal else read_cluster(clients)
        return {**state.to_dict(), "changed": False}

    module.run(action)


if __name__ == "__main__":
    main()

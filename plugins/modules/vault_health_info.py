#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health, leader, seal and raft of one Vault node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_health_info
short_description: Health, leader, seal and Raft state of one Vault node
version_added: 0.1.0
description:
  - Asks a node for everything it says of itself without a token, and for Raft autopilot's state where a token is given
    that may read it.
  - A node that is down, sealed or not initialised is an answer. A wrong address or CA is a failure.
  - What a version of Vault or OpenBao does not tell is V(null).
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.auth
  - custodes.security_dr.attributes.info
seealso:
  - module: custodes.security_dr.vault_cluster_info
"""

EXAMPLES = r"""
- name: How is this node?
  custodes.security_dr.vault_health_info:
    url: https://vault-1.example.com:8200
    ca_cert: /etc/vault.d/ca.pem
  register: node

- name: Stop when it serves no secrets
  ansible.builtin.assert:
    that: node.serving
    fail_msg: "{{ node.problem or node.state }}"
"""

RETURN = r"""
reachable:
  description: Whether the node answered as a Vault server does.
  returned: always
  type: bool
  sample: true
problem:
  description: Why it is not reachable, or why autopilot could not be asked; else V(null).
  returned: always
  type: str
  sample: null
http_status:
  description: Status code of C(sys/health).
  returned: always
  type: int
  sample: 200
state:
  description: Meaning of the status code.
  returned: always
  type: str
  sample: active
serving:
  description: Whether the node answers requests for secrets, itself or through its leader.
  returned: always
  type: bool
  sample: true
initialized:
  description: Whether the cluster is initialised.
  returned: always
  type: bool
  sample: true
sealed:
  description: Whether the node is sealed.
  returned: always
  type: bool
  sample: false
standby:
  description: Whether the node is a standby.
  returned: always
  type: bool
  sample: false
removed_from_cluster:
  description: Whether the node was removed from its Raft cluster. V(null) before Vault 1.19.
  returned: always
  type: bool
  sample: false
version:
  description: Version of Vault; V(null) if the listener redacts it.
  returned: always
  type: str
  sample: 1.21.0
cluster_name:
  description: Name of the cluster; V(null) while sealed, or if the listener redacts it.
  returned: always
  type: str
  sample: prod
cluster_id:
  description: ID of the cluster; V(null) while sealed.
  returned: always
  type: str
  sample: 45c5a04b-1d4e-4bd6-a2f8-d9d0a1c1ddbc
leader_address:
  description:
    - API address of the leader, as the cluster advertises it. V(null) if the node knows no leader.
    - If the listener redacts it, the address to which the node redirects; V(null) at the leader itself.
  returned: always
  type: str
  sample: https://vault-2.example.com:8200
is_leader:
  description: Whether this node is the leader.
  returned: always
  type: bool
  sample: true
raft_committed_index:
  description: Raft's committed index.
  returned: always
  type: int
  sample: 4211
raft_applied_index:
  description: Raft's applied index.
  returned: always
  type: int
  sample: 4211
seal:
  description:
    - Type of the seal and of its recovery keys, threshold, shares, progress of unsealing, seal migration.
    - Vault up to 1.14 and OpenBao up to 2.3 do not tell the C(type) of an auto-unseal. It is V(null) then, and
      C(recovery_seal) is V(true).
  returned: always
  type: dict
  sample: {type: awskms, recovery_seal: true, recovery_seal_type: shamir, threshold: 3, shares: 5, progress: 0,
    migration: false, storage_type: raft}
autopilot:
  description: Raft autopilot, V(null) where no token may read it.
  returned: always
  type: dict
  sample: {healthy: true, failure_tolerance: 1, leader: vault-1, voters: [vault-1, vault-2, vault-3], servers: []}
"""

import os

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.vault import auth
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultConfigError, VaultError
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.health import read_health


def main() -> None:
    """Entry point."""
    module = SecurityDrModule({})

    def action() -> dict[str, object]:
        auth.validate(module.params, os.environ, required=False)
        client = VaultClient(module.connection())
        health = read_health(client)
        problem = health.problem
        if health.serving and (module.params["auth_method"] != "token" or auth.find_token(module.params, os.environ)):
            try:
                with module.session() as session:
                    health = read_health(session)
                    problem = health.problem
            except VaultConfigError:
                raise
            except VaultError as error:
                problem = str(error)
        return {**health.to_dict(), "problem": problem, "changed": False}

    module.run(action)


if __name__ == "__main__":
    main()

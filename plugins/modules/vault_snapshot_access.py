#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the nightly snapshot its access to Vault: a policy, an AppRole, a secret ID."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_snapshot_access
short_description: Give backups the least access to Vault that takes a snapshot
version_added: 0.2.0
description:
  - Writes an ACL policy that allows C(read) on C(sys/storage/raft/snapshot) and the revocation of one's own token, and
    nothing else.
  - With O(role) it also enables AppRole, if need be, and writes an AppRole whose tokens have that policy alone. For
    other auth methods give O(policy) to the role that you have there.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.auth
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - O(new_secret_id) makes a new one each time.
options:
  policy:
    description:
      - Name of the policy.
    type: str
    default: vault-snapshot
  role:
    description:
      - Name of the AppRole. If not set, only the policy is written.
    type: str
  approle_mount:
    description:
      - Where AppRole is, or is to be, enabled.
    type: str
    default: approle
  bound_cidrs:
    description:
      - Networks that logins and their tokens may come from, such as V(192.0.2.10/32). Anywhere if empty.
    type: list
    elements: str
    default: []
  secret_id_ttl:
    description:
      - How long a secret ID lives, in seconds; V(0) for ever. An expired one ends the backups, loudly.
    type: int
    default: 0
  new_secret_id:
    description:
      - Makes a secret ID, for a host that has none. The task has to say C(no_log).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Let the hosts of this group take snapshots
  custodes.security_dr.vault_snapshot_access:
    url: https://vault-1:8200
    ca_cert: /etc/vault.d/ca.pem
    token: "{{ vault_admin_token }}"
    role: vault-snapshot
    bound_cidrs: [192.0.2.11/32, 192.0.2.12/32, 192.0.2.13/32]
    new_secret_id: true
  no_log: true
  register: vault_snapshot_access
"""

RETURN = r"""
role_id:
  description: Of the AppRole; V(null) without O(role), and in check mode before the role is there.
  returned: success
  type: str
  sample: 5f1c2b8e-3c8f-4f3e-9a55-6c1f1c9c3a51
secret_id:
  description: The new secret ID; V(null) unless it was asked for, and in check mode.
  returned: success
  type: str
  sample: null
"""

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.vault import approle
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultConfigError


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "policy": {"type": "str", "default": "vault-snapshot"},
            "role": {"type": "str"},
            "approle_mount": {"type": "str", "default": "approle"},
            "bound_cidrs": {"type": "list", "elements": "str", "default": []},
            "secret_id_ttl": {"type": "int", "default": 0, "no_log": False},
            "new_secret_id": {"type": "bool", "default": False, "no_log": False},
        },
        required_if=[("new_secret_id", True, ["role"])],
    )

    def action() -> dict[str, object]:
        if module.params["new_secret_id"] and not module.hides_output:
            raise VaultConfigError("Refused: the secret ID would be shown and logged. Set no_log: true on the task.")
        with module.session() as client:
            return _give(module, client.at_leader())

    module.run(action)


def _give(module: SecurityDrModule, client: VaultClient) -> dict[str, object]:
    options, write = module.params, not module.check_mode
    changed = approle.set_policy(client, options["policy"], approle.SNAPSHOT_POLICY, write)
    role, mount = options["role"], options["approle_mount"]
    if not role:
        return {"changed": changed, "role_id": None, "secret_id": None}
    wanted = approle.snapshot_role(options["policy"], options["bound_cidrs"], options["secret_id_ttl"])
    changed |= approle.enable(client, mount, write)
    changed |= approle.set_role(client, mount, role, wanted, write)
    secret_id = approle.new_secret_id(client, mount, role) if options["new_secret_id"] and write else None
    return {
        "changed": changed or options["new_secret_id"],
        "role_id": approle.role_id(client, mount, role),
        "secret_id": secret_id,
    }


if __name__ == "__main__":
    main()

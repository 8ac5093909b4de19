#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets a leader hand over to another node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_step_down
short_description: Let the leader of a Vault cluster hand over before it is restarted
version_added: 0.1.0
description:
  - Tells the node to step down if it is the leader, and waits until another node leads. A standby is left alone.
  - The token needs C(update) and C(sudo) on C(sys/step-down).
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
    support: full
options:
  wait_timeout:
    description:
      - How long to wait for another leader, in seconds.
    type: float
    default: 30.0
"""

EXAMPLES = r"""
- name: Let another node lead
  custodes.security_dr.vault_step_down:
    url: https://vault-1:8200
    ca_cert: /etc/vault.d/ca.pem
"""

RETURN = r"""
was_leader:
  description: Whether the node was the leader.
  returned: success
  type: bool
  sample: true
leader_address:
  description: Address of the new leader, V(null) where none was needed or in check mode.
  returned: success
  type: str
  sample: https://vault-2:8200
"""

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.operator import is_leader, step_down


def main() -> None:
    """Entry point."""
    module = SecurityDrModule({"wait_timeout": {"type": "float", "default": 30.0}})

    def action() -> dict[str, object]:
        leads = is_leader(VaultClient(module.connection()))
        address = None
        if leads and not module.check_mode:
            with module.session() as client:
                address = step_down(client, module.params["wait_timeout"])
        return {"changed": leads, "was_leader": leads, "leader_address": address}

    module.run(action)


if __name__ == "__main__":
    main()

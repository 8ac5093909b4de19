#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unseals a Vault node with key shares."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_unseal
short_description: Unseal a Vault node with key shares
version_added: 0.1.0
description:
  - Gives a sealed node key shares until it is unsealed or they run out, and tells how far it got. Several people can
    each give theirs in runs of their own.
  - Shares are never part of the result, an error or the log.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  key_shares:
    description:
      - Unseal key shares of Shamir's seal; with O(migrate), the shares that the migration asks for.
    type: list
    elements: str
    required: true
  migrate:
    description:
      - Answers a seal migration that the node's configuration has begun.
    type: bool
    default: false
  reset:
    description:
      - Forgets shares that were given before, by an earlier run that was not finished for instance.
    type: bool
    default: false
  wait_timeout:
    description:
      - How long to wait for a node that is not initialised to join its cluster, in seconds.
    type: float
    default: 0.0
"""

EXAMPLES = r"""
- name: Unseal every node
  custodes.security_dr.vault_unseal:
    url: "{{ item }}"
    ca_cert: /etc/vault.d/ca.pem
    key_shares: "{{ vault_unseal_key_shares }}"
  loop: [https://vault-1:8200, https://vault-2:8200]
"""

RETURN = r"""
sealed:
  description: Whether the node is still sealed.
  returned: success
  type: bool
  sample: false
progress:
  description: Shares taken so far; 0 when unsealed.
  returned: success
  type: int
  sample: 0
threshold:
  description: Shares needed.
  returned: success
  type: int
  sample: 3
shares:
  description: Shares that exist.
  returned: success
  type: int
  sample: 5
migration:
  description: Whether a seal migration is under way.
  returned: success
  type: bool
  sample: false
"""

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.operator import (
    seal_status,
    unseal,
    wait_initialized,
)


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "key_shares": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "migrate": {"type": "bool", "default": False},
            "reset": {"type": "bool", "default": False},
            "wait_timeout": {"type": "float", "default": 0.0},
        },
        login=False,
    )

    def action() -> dict[str, object]:
        options = module.params
        client = VaultClient(module.connection())
        before = after = seal_status(client)
        if before.get("sealed") and not module.check_mode:
            wait_initialized(client, options["wait_timeout"])
            after = unseal(client, options["key_shares"], options["migrate"], options["reset"])
        return {
            "changed": bool(before.get("sealed") if module.check_mode else before != after),
            "sealed": after.get("sealed"),
            "progress": after.get("progress"),
            "threshold": after.get("t"),
            "shares": after.get("n"),
            "migration": after.get("migration"),
        }

    module.run(action)


if __name__ == "__main__":
    main()

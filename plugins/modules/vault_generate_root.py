#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates a root token from key shares."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_generate_root
short_description: Generate a Vault root token from key shares
version_added: 0.1.0
description:
  - Generates a root token from a quorum of unseal or recovery key shares, for the moment after a restore in which
    nobody holds a token of the restored cluster.
  - The task must have C(no_log) set to true, and the token be revoked with
    M(custodes.security_dr.vault_token_revoke) as soon as it has done its work.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - In check mode no token is generated and RV(token) is missing.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run generates one more token.
options:
  key_shares:
    description:
      - Recovery key shares with an auto-unseal, unseal key shares with Shamir's seal.
    type: list
    elements: str
    required: true
  cancel_existing:
    description:
      - Gives up an attempt that is under way, which may be another operator's.
    type: bool
    default: false
  wait_timeout:
    description:
      - How long to wait for a leader, in seconds.
    type: float
    default: 30.0
"""

EXAMPLES = r"""
- name: Generate a root token
  custodes.security_dr.vault_generate_root:
    url: https://vault-1:8200
    ca_cert: /etc/vault.d/ca.pem
    key_shares: "{{ vault_recovery_key_shares }}"
  no_log: true
  register: vault_root

- name: Revoke it
  custodes.security_dr.vault_token_revoke:
    url: https://vault-1:8200
    ca_cert: /etc/vault.d/ca.pem
    token: "{{ vault_root.token }}"
"""

RETURN = r"""
token:
  description: The root token.
  returned: changed, not in check mode
  type: str
  sample: ""
"""

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.cluster import wait_for
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultConfigError
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.generate_root import (
    generate_root,
    is_allowed,
    problem,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.health import read_health


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "key_shares": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "cancel_existing": {"type": "bool", "default": False},
            "wait_timeout": {"type": "float", "default": 30.0},
        },
        login=False,
    )

    def action() -> dict[str, object]:
        options = module.params
        if not module.hides_output:
            raise VaultConfigError(
                "Refused before anything was changed: the root token would be shown and logged. Set no_log: true on "
                "the task that calls vault_generate_root."
            )
        client = VaultClient(module.connection())
        wait_for([client], "unsealed" if module.check_mode else "serving", options["wait_timeout"])
        if module.check_mode:
            node = read_health(client).to_dict()
            if refused := problem([node], is_allowed(client), enabled=True):
                raise VaultConfigError(f"Cannot generate a root token: {refused}")
            return {"changed": True}
        return {
            "changed": True,
            "token": generate_root(client.at_leader(), options["key_shares"], options["cancel_existing"]),
        }

    module.run(action)


if __name__ == "__main__":
    main()

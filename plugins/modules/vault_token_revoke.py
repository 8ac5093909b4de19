#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Revokes the token that the module is given."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_token_revoke
short_description: Revoke the Vault token that the module is given
version_added: 0.1.0
description:
  - Revokes O(token) itself, as C(vault token revoke -self) does. One that is not valid any more is no failure.
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
  token:
    description:
      - The token to revoke. It is not looked for in the environment or in files.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Revoke a root token that has done its work
  custodes.security_dr.vault_token_revoke:
    url: https://vault-1:8200
    ca_cert: /etc/vault.d/ca.pem
    token: "{{ vault_root.token }}"
"""

RETURN = r"""
revoked:
  description: Whether the token was valid until now.
  returned: success
  type: bool
  sample: true
"""

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.operator import is_valid, revoke


def main() -> None:
    """Entry point."""
    module = SecurityDrModule({"token": {"type": "str", "required": True, "no_log": True}}, login=False)

    def action() -> dict[str, object]:
        client = VaultClient(module.connection(), module.params["token"])
        valid = is_valid(client) if module.check_mode else revoke(client)
        return {"changed": valid, "revoked": valid}

    module.run(action)


if __name__ == "__main__":
    main()

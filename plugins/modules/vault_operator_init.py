#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Initialises a Vault cluster, once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_operator_init
short_description: Initialise a Vault cluster, once
version_added: 0.1.0
description:
  - Initialises a cluster that is not, as C(vault operator init) does, and changes nothing on one that is.
  - The key shares and the root token exist only in Vault's one answer. Where they go has to be said first - into
    O(output_file), encrypted to O(pgp_keys), or into the result of a task that has C(no_log) set to true. Otherwise the
    module refuses before it initialises anything.
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
      - Into how many shares the unseal key (with an auto-unseal, the recovery key) is split.
    type: int
    default: 5
  key_threshold:
    description:
      - How many shares are needed.
    type: int
    default: 3
  pgp_keys:
    description:
      - PGP public keys in base64, one for each share, to which Vault encrypts the shares.
    type: list
    elements: str
  root_token_pgp_key:
    description:
      - PGP public key in base64 to which Vault encrypts the root token.
    type: str
  output_file:
    description:
      - New file of mode 0600 for what Vault answers, in the JSON of C(vault operator init -format=json).
      - The result then holds no key. The room for it is taken on disk before Vault is asked.
    type: path
"""

EXAMPLES = r"""
- name: Initialise, keys into a file
  custodes.security_dr.vault_operator_init:
    url: https://vault-1:8200
    ca_cert: /etc/vault.d/ca.pem
    output_file: /root/vault-init.json

- name: Initialise, keys into a variable that is never shown
  custodes.security_dr.vault_operator_init:
    url: https://vault-1:8200
    ca_cert: /etc/vault.d/ca.pem
  no_log: true
  register: vault_init
"""

RETURN = r"""
initialized:
  description: True, at the end.
  returned: success
  type: bool
  sample: true
output_file:
  description: Where the answer lies, V(null) when it is in the result.
  returned: changed
  type: str
  sample: /root/vault-init.json
init:
  description: Vault's answer, in a task with C(no_log) and without O(output_file), or encrypted to PGP keys.
  returned: changed
  type: dict
  sample: {unseal_keys_b64: [], unseal_shares: 1, unseal_threshold: 1, recovery_keys_b64: [], root_token: ""}
"""

from contextlib import nullcontext
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.files import check_unused, reserved_json
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultConfigError
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.operator import initialize, is_initialized


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "key_shares": {"type": "int", "default": 5, "no_log": False},
            "key_threshold": {"type": "int", "default": 3, "no_log": False},
            "pgp_keys": {"type": "list", "elements": "str", "no_log": False},
            "root_token_pgp_key": {"type": "str", "no_log": False},
            "output_file": {"type": "path"},
        },
        login=False,
    )

    def action() -> dict[str, object]:
        options = module.params
        client = VaultClient(module.connection())
        if is_initialized(client):
            return {"changed": False, "initialized": True}
        encrypted = options["pgp_keys"] and options["root_token_pgp_key"]
        if not (options["output_file"] or encrypted or module.hides_output):
            raise VaultConfigError(
                "Refused before anything was changed: the key shares and the root token would be shown and logged. "
                "Give output_file, or both pgp_keys and root_token_pgp_key, or set no_log: true on the task."
            )
        target = Path(options["output_file"]) if options["output_file"] else None
        if target:
            check_unused(target)
        if module.check_mode:
            return {"changed": True, "initialized": False, "output_file": options["output_file"]}
        with reserved_json(target) if target else nullcontext() as keep:
            numbers = (options["key_shares"], options["key_threshold"])
            init = initialize(client, *numbers, options["pgp_keys"], options["root_token_pgp_key"])
            if keep is None:
                return {"changed": True, "initialized": True, "output_file": None, "init": init}
            keep(init)
            return {"changed": True, "initialized": True, "output_file": str(target)}

    module.run(action)


if __name__ == "__main__":
    main()

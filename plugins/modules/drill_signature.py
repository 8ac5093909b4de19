#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs the record of a drill, or looks whether the signatures are good."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_signature
short_description: Sign the record of a drill, or verify the signatures of all of them
version_added: 0.2.0
description:
  - Signs the record's SHA-256 with an SSH key or a key of Vault's transit engine. Who can write the folder of the
    records, and has no key, cannot write the chain anew.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
  - custodes.security_dr.connection
  - custodes.security_dr.auth
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
requirements:
  - ssh-keygen of OpenSSH 8.1 or newer, for O(method=ssh)
options:
  path:
    description:
      - The record, or for V(verified) the folder of the records. What is signed is left as it is.
    type: path
    required: true
  state:
    description:
      - V(signed) signs one record. There is no signing of all that are not signed, as somebody may have written those.
      - V(verified) takes the folder, and fails when a signature is not good.
    type: str
    choices: [signed, verified]
    default: signed
  method:
    description:
      - What signs.
    type: str
    choices: [ssh, vault_transit]
    required: true
  key:
    description:
      - Of V(ssh), the file of the private key, or of the public one when ssh-agent holds the other; to verify, the
        identity in O(allowed_signers).
      - Of V(vault_transit), the key's name.
    type: str
    required: true
  allowed_signers:
    description:
      - To verify with V(ssh), a file as B(ssh-keygen(1)) describes it, a line C(IDENTITY PUBLIC-KEY) each.
    type: path
  transit_mount:
    description:
      - Where the transit engine is mounted.
    type: str
    default: transit
  required:
    description:
      - Whether V(verified) fails also for a record without a signature of this kind.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Sign a record with a key of Vault
  custodes.security_dr.drill_signature:
    path: /var/lib/dr-drills/drill-20261127T221500Z.json
    method: vault_transit
    key: dr-drill
    url: https://vault.example.com:8200

- name: Are all of them signed by the drill's key?
  custodes.security_dr.drill_signature:
    path: /var/lib/dr-drills
    state: verified
    method: ssh
    key: dr-drill@example.com
    allowed_signers: /etc/dr-drill/allowed_signers
"""

RETURN = r"""
unsigned:
  description: Names of the records without a signature of this kind.
  returned: when O(state=verified)
  type: list
  elements: str
  sample: []
"""

from pathlib import Path
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.drill import chain, signature
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.errors import DrillError
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["signed", "verified"], "default": "signed"},
            "method": {"type": "str", "choices": ["ssh", "vault_transit"], "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "allowed_signers": {"type": "path"},
            "transit_mount": {"type": "str", "default": "transit"},
            "required": {"type": "bool", "default": True},
        },
    )
    module.run(lambda: _run(module))


def _run(module: SecurityDrModule) -> dict[str, Any]:
    options = module.params
    if options["method"] == "ssh":
        return _with(module, signature.Ssh(options["key"], options["allowed_signers"] or ""))
    with module.session() as client:
        return _with(module, signature.Transit(client.request, options["key"], options["transit_mount"]))


def _with(module: SecurityDrModule, signer: Any) -> dict[str, Any]:
    options, path = module.params, Path(module.params["path"])
    if options["state"] == "signed":
        if path.is_dir():
            raise DrillError(f"{path} is a folder: give the one record to be signed, once you know whose it is.")
        return {"changed": signature.sign(path, signer, writes=not module.check_mode)}
    records = chain.read(path)
    bad, unsigned = signature.check(records, signer)
    if bad or (unsigned and options["required"]):
        told = [f"{name}: its signature is not good." for name in bad] + [f"{name} is not signed." for name in unsigned]
        raise DrillError(
            f"{' '.join(told)} Whoever changed the record, or wrote it anew, has no key; or it is another key than "
            f"{options['key']}."
        )
    return {"changed": False, "unsigned": unsigned}


if __name__ == "__main__":
    main()

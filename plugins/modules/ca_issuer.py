#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepares, activates or retires the root that an authority signs with."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_issuer
short_description: Prepare, activate or retire the root that a certificate authority signs with
version_added: 0.2.0
description:
  - V(prepared) makes a new root that does not sign yet, V(active) has it sign, V(retired) takes the old one back for
    good. Each again changes nothing.
  - Whether everybody trusts the new root, and whether nobody needs the old one, is not looked at here. The playbook
    C(rotate-root-ca.yml) does.
  - step-ca has no API for its roots. They are files that its C(ca.json) names.
  - SPIRE is spoken to by the documented output of its program, and has not been tried on a running one.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.ca
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
  provider:
    description:
      - V(vault_pki) is asked at O(url), V(spire) by its program.
    type: str
    choices: [vault_pki, spire]
    required: true
  state:
    description:
      - With Vault, V(active) makes the issuer the default of the mount, and V(retired) revokes it, unless a role
        that this login may read has it as its C(issuer_ref).
      - With SPIRE, V(active) activates the prepared authority, and V(retired) taints the old one, so that every agent
        gets new certificates at once, then revokes it.
    type: str
    choices: [prepared, active, retired]
    required: true
  name:
    description:
      - Vault's name for the issuer, or its id. SPIRE's id of the authority.
      - Not for V(prepared) with SPIRE, which chooses the id itself.
    type: str
  common_name:
    description:
      - The subject of a root that Vault makes. O(name) if not set.
    type: str
  ttl:
    description:
      - How long a root that Vault makes is good, such as V(87600h) or V(3650d).
      - Vault cuts it to the mount's C(max_lease_ttl) without a word. A root of this name that is good for less is
        refused.
    type: str
    default: 87600h
  key_type:
    description:
      - The key of a root that Vault makes, RSA with 4096 bits or P-384.
    type: str
    choices: [rsa, ec]
    default: rsa
  confirm:
    description:
      - Has to be true for V(retired), which cannot be taken back.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Make a new root beside the old one
  custodes.security_dr.ca_issuer:
    provider: vault_pki
    url: https://vault.example.com:8200
    name: root-2027
    common_name: Example root 2027
    state: prepared
  register: new_root

- name: Sign with it, now that every host trusts it
  custodes.security_dr.ca_issuer:
    provider: vault_pki
    url: https://vault.example.com:8200
    name: root-2027
    state: active
"""

RETURN = r"""
issuer:
  description: As M(custodes.security_dr.ca_issuer_info) tells it. Null if it is not there (yet).
  returned: success
  type: dict
  sample:
    id: 8b1e9a5e-6f0c-4c3f-9d55-0a0a2f7b8c11
    name: root-2027
    state: standby
    subject: CN=Example root 2027
    fingerprint_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    certificate: "-----BEGIN CERTIFICATE-----..."
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.custodes.security_dr.plugins.module_utils.ca import authority
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.certificates import CRYPTOGRAPHY_IMPORT_ERROR
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.errors import CaError
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.spire import Spire
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.vault_pki import VaultPki
from ansible_collections.custodes.security_dr.plugins.module_utils.module import (
    AUTH_SPEC,
    CA_SPEC,
    CONNECTION_SPEC,
    SecurityDrModule,
)


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            **CONNECTION_SPEC,
            **AUTH_SPEC,
            **CA_SPEC,
            "provider": {"type": "str", "choices": ["vault_pki", "spire"], "required": True},
            "state": {"type": "str", "choices": ["prepared", "active", "retired"], "required": True},
            "name": {"type": "str"},
            "common_name": {"type": "str"},
            "ttl": {"type": "str", "default": "87600h"},
            "key_type": {"type": "str", "choices": ["rsa", "ec"], "default": "rsa"},
            "confirm": {"type": "bool", "default": False},
        },
        vault=False,
    )
    if CRYPTOGRAPHY_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=str(CRYPTOGRAPHY_IMPORT_ERROR))
    if module.params["provider"] == "vault_pki":
        module.need_hvac()
    module.run(lambda: _act(module))


def _act(module: SecurityDrModule) -> dict[str, Any]:
    options, dry = module.params, module.check_mode
    name, state = options["name"], options["state"]
    if not name and (options["provider"] == "vault_pki" or state != "prepared"):
        raise CaError("Which issuer? Give its name (SPIRE: the authority's id).")
    if state == "retired" and not options["confirm"]:
        raise CaError(f"To retire {name} cannot be taken back, so it was not done. Say confirm: true if you are sure.")
    with _opened(module) as ca:
        key = name
        if state == "prepared":
            about = (options["common_name"] or name, options["ttl"], options["key_type"])
            key, changed = authority.prepare(ca, name, *about, dry)
        else:
            changed = ca.activate(name, dry) if state == "active" else ca.retire(name, dry)
        told = [one for one in authority.issuers(ca) if key and key in (one["id"], one["name"])]
    return {"changed": changed, "issuer": told[0] if told else None}


@contextmanager
def _opened(module: SecurityDrModule) -> Iterator[Any]:
    options = module.params
    if options["provider"] == "spire":
        yield Spire(module.run_command, options["spire_server"], options["spire_socket"])
    else:
        with module.session() as client:
            yield VaultPki(client.request, options["pki_mount"])


if __name__ == "__main__":
    main()

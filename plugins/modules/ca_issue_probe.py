#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does this authority issue, and from which root?"""

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_issue_probe
short_description: Does this certificate authority issue, and from which root?
version_added: 0.2.0
description:
  - Asks Vault's PKI engine (C(issue/ROLE)) or step-ca (with a one-time token of a JWK provisioner) for a certificate,
    and tells what came. Its key is forgotten.
  - ACME, cert-manager and SPIRE clients renew by themselves. Have them do it, and look with
    M(custodes.security_dr.tls_endpoint_info).
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.auth
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - A certificate is asked for in check mode, too. It can do no harm, as nobody has its key.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run is another certificate.
requirements:
  - cryptography >= 42
options:
  pki_mount:
    description:
      - Where Vault's PKI engine is mounted.
    type: str
    default: pki
  provider:
    description:
      - Both are asked at O(url). step-ca needs no login.
    type: str
    choices: [vault_pki, step_ca]
    required: true
  name:
    description:
      - The DNS name that the certificate is for. The role or the provisioner has to allow it.
    type: str
    required: true
  role:
    description:
      - Vault's role.
    type: str
  provisioner:
    description:
      - step-ca's provisioner, of type JWK.
    type: str
  provisioner_password:
    description:
      - Opens the provisioner's encrypted key, which step-ca serves.
    type: str
  ttl:
    description:
      - How long the certificate is good, such as V(5m). The role's or the provisioner's own if not set.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Does Vault issue?
  custodes.security_dr.ca_issue_probe:
    provider: vault_pki
    url: https://vault.example.com:8200
    role: servers
    name: drill.example.com
    ttl: 5m
  register: probed
"""

RETURN = r"""
serial:
  description: Hexadecimal.
  returned: success
  type: str
  sample: 4f1c
subject:
  description: As RFC 4514 has it.
  returned: success
  type: str
  sample: CN=drill.example.com
issuer:
  description: As RFC 4514 has it.
  returned: success
  type: str
  sample: CN=Example root 2027
not_after:
  description: ISO 8601.
  returned: success
  type: str
  sample: "2026-11-26T04:05:00+00:00"
fingerprint_sha256:
  description: Hexadecimal.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
certificate:
  description: PEM.
  returned: success
  type: str
  sample: "-----BEGIN CERTIFICATE-----..."
issuer_fingerprints:
  description: Of the certificates that came above it, SHA-256, hexadecimal. step-ca does not send its root.
  returned: success
  type: list
  elements: str
  sample: [5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9]
"""

from typing import Any

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.certificates import (
    CRYPTOGRAPHY_IMPORT_ERROR,
    request_for,
    told,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.errors import CaError
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.step_ca import StepCa
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
            "pki_mount": CA_SPEC["pki_mount"],
            "provider": {"type": "str", "choices": ["vault_pki", "step_ca"], "required": True},
            "name": {"type": "str", "required": True},
            "role": {"type": "str"},
            "provisioner": {"type": "str"},
            "provisioner_password": {"type": "str", "no_log": True},
            "ttl": {"type": "str", "default": ""},
        },
        vault=False,
        required_if=[
            ("provider", "vault_pki", ["role"]),
            ("provider", "step_ca", ["provisioner", "provisioner_password"]),
        ],
    )
    if CRYPTOGRAPHY_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=str(CRYPTOGRAPHY_IMPORT_ERROR))
    if module.params["provider"] == "vault_pki":
        module.need_hvac()
    module.run(lambda: _probe(module))


def _probe(module: SecurityDrModule) -> dict[str, Any]:
    chain = _chain(module)
    above = [told(one, "the authority")["fingerprint_sha256"] for one in chain[1:]]
    return {"changed": True, **told(chain[0], "the authority"), "issuer_fingerprints": above}


def _chain(module: SecurityDrModule) -> list[str]:
    options = module.params
    name = options["name"]
    if options["provider"] == "vault_pki":
        with module.session() as client:
            return VaultPki(client.request, options["pki_mount"]).issue(name, options["role"], options["ttl"])
    if not options["validate_certs"]:
        raise CaError("A step-ca whose certificate is not verified is not asked. Give its root as ca_cert.")
    ca = StepCa(options["url"] or "", options["ca_cert"], options["timeout"])
    return ca.sign(name, request_for(name), options["provisioner"], options["provisioner_password"], options["ttl"])


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which roots and issuers has this authority, and which of them signs?"""

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_issuer_info
short_description: Which roots and issuers has this certificate authority, and which of them signs?
version_added: 0.2.0
description:
  - Reads the issuers of Vault's PKI engine, the roots and intermediates of step-ca, or the X.509 authorities of SPIRE.
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
      - V(vault_pki) and V(step_ca) are asked at O(url), V(spire) by its program. step-ca needs no login.
    type: str
    choices: [vault_pki, step_ca, spire]
    required: true
"""

EXAMPLES = r"""
- name: Which root signs, and which ones are there besides?
  custodes.security_dr.ca_issuer_info:
    provider: vault_pki
    url: https://vault.example.com:8200
    ca_cert: /etc/ssl/certs/internal-ca.pem
    pki_mount: pki

- name: Is step-ca well, and which roots does it serve?
  custodes.security_dr.ca_issuer_info:
    provider: step_ca
    url: https://ca.example.com
    ca_cert: /etc/ssl/certs/internal-ca.pem
"""

RETURN = r"""
issuers:
  description:
    - One for each root or issuer.
    - C(state) is V(active) for what signs, V(standby) for what could, V(retired) for what was revoked, V(trusted) for
      what does not sign here, V(old) for what signed before in SPIRE.
    - A certificate that SPIRE does not have in its bundle is null, and so is what it would say.
  returned: success
  type: list
  elements: dict
  sample:
    - id: 8b1e9a5e-6f0c-4c3f-9d55-0a0a2f7b8c11
      name: root-2026
      state: active
      subject: CN=Example root 2026
      issuer: CN=Example root 2026
      serial: 4f1c
      not_after: "2036-11-26T04:00:00+00:00"
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
            **CA_SPEC,
            "provider": {"type": "str", "choices": ["vault_pki", "step_ca", "spire"], "required": True},
        },
        vault=False,
    )
    if CRYPTOGRAPHY_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=str(CRYPTOGRAPHY_IMPORT_ERROR))
    if module.params["provider"] == "vault_pki":
        module.need_hvac()

    def action() -> dict[str, Any]:
        with _issuers(module) as issuers:
            return {"changed": False, "issuers": issuers}

    module.run(action)


@contextmanager
def _issuers(module: SecurityDrModule) -> Iterator[list[dict[str, Any]]]:
    options = module.params
    if options["provider"] == "vault_pki":
        with module.session() as client:
            yield authority.of_vault(VaultPki(client.request, options["pki_mount"]))
    elif options["provider"] == "spire":
        yield authority.of_spire(Spire(module.run_command, options["spire_server"], options["spire_socket"]))
    elif not options["validate_certs"]:
        raise CaError("A step-ca whose certificate is not verified is not asked. Give its root as ca_cert.")
    else:
        yield authority.of_step_ca(StepCa(options["url"] or "", options["ca_cert"], options["timeout"]))


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves that secrets can be read."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_secret_info
short_description: Prove that secrets can be read from Vault
version_added: 0.1.0
description:
  - Reads secrets as an application would - KV version 1 and 2, and paths that issue credentials, such as
    C(database/creds/readonly) - and tells which are readable.
  - Field names are returned, values only when asked for. A lease that comes from the proof is revoked again.
  - A secret that is missing or refused is an answer; a server that cannot be asked is a failure.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.auth
  - custodes.security_dr.attributes.info
attributes:
  check_mode:
    details:
      - Reading a path that issues credentials makes new ones, in check mode too; they are revoked at once.
options:
  path:
    description:
      - Paths as C(vault kv get) and C(vault read) take them, mount included.
    type: list
    elements: str
    required: true
  nodes:
    description:
      - Reads through each of these nodes in turn, instead of through O(url).
    type: list
    elements: str
    default: []
  values:
    description:
      - Returns the values too. The task must then have C(no_log) set to true.
    type: bool
    default: false
  wait_timeout:
    description:
      - How long to wait for a server that cannot be asked, in seconds; V(0) looks once.
      - A secret that is not readable is believed after ten seconds, a login that is refused at the second time.
    type: float
    default: 0.0
"""

EXAMPLES = r"""
- name: Can the applications read their secrets again?
  custodes.security_dr.vault_secret_info:
    url: https://vault-1:8200
    ca_cert: /etc/vault.d/ca.pem
    auth_method: approle
    role_id: "{{ vault_role_id }}"
    secret_id: "{{ vault_secret_id }}"
    path:
      - secret/dr/canary
      - database/creds/readonly
  register: canaries
  failed_when: not canaries.readable
"""

RETURN = r"""
readable:
  description: Whether every path is.
  returned: success
  type: bool
  sample: true
secrets:
  description:
    - One entry a path and node, with C(node), C(readable), C(problem), C(kind) (V(kv1), V(kv2) or V(dynamic)),
      C(fields), C(version) of a KV version 2 secret, C(lease_duration) (seconds) and C(lease_revoked) of a dynamic one.
    - C(values) is V(null) unless asked for.
  returned: success
  type: list
  elements: dict
  sample:
    - {path: secret/dr/canary, node: "https://vault-1:8200", readable: true, problem: null, kind: kv2,
       fields: [marker], version: 1, values: null, lease_id: null, lease_duration: null, lease_revoked: null}
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import (
    VaultAuthError,
    VaultConfigError,
    VaultError,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.secrets import prove

SETTLES = 10.0
"""Seconds after which a secret counts as not readable: a node that reloads from a snapshot may lack it for a moment."""
REFUSALS = 1
"""Refused logins that are tried again. Vault locks a user out for 15 minutes after five."""


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "path": {"type": "list", "elements": "str", "required": True},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "values": {"type": "bool", "default": False},
            "wait_timeout": {"type": "float", "default": 0.0},
        }
    )

    def action() -> dict[str, object]:
        if module.params["values"] and not module.hides_output:
            raise VaultConfigError("Refused: values would be shown and logged. Set no_log: true on the task.")
        began, refused = time.monotonic(), 0
        while True:
            late = time.monotonic() >= began + module.params["wait_timeout"]
            try:
                proofs = _look(module)
            except VaultConfigError:
                raise
            except VaultError as error:
                refused += isinstance(error, VaultAuthError)
                if late or refused > REFUSALS:
                    raise
            else:
                readable = all(proof["readable"] for proof in proofs)
                if readable or late or time.monotonic() >= began + SETTLES:
                    return {"changed": False, "readable": readable, "secrets": proofs}
            time.sleep(3 if refused else 0.25)

    module.run(action)


def _look(module: SecurityDrModule) -> list[dict[str, object]]:
    paths, values = module.params["path"], module.params["values"]
    with module.session(next(iter(module.params["nodes"]), None)) as client:
        nodes = [client.at(url) for url in module.params["nodes"]] or [client]
        with ThreadPoolExecutor(max_workers=min(16, len(nodes))) as pool:
            found = list(pool.map(lambda node: [prove(node, path, values) for path in paths], nodes))
    return [{"node": node.connection.url, **asdict(proof)} for node, proofs in zip(nodes, found) for proof in proofs]


if __name__ == "__main__":
    main()

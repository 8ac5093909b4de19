#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the nodes of a snapshot's origin for their cluster ID."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_origin_info
short_description: Ask Vault nodes for their cluster ID, from a host without hvac
version_added: 0.2.0
description:
  - Used by C(playbooks/recover-vault.yml) on the fresh nodes, to find out whether the origin of a snapshot is alive.
  - Asks C(sys/health) without a token and without a proxy.
  - A node that cannot be reached is an answer and no failure.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes.info
options:
  urls:
    description: Addresses of the nodes, such as V(https://vault-1:8200).
    type: list
    elements: str
    required: true
  ca_certificates:
    description:
      - PEM certificates that vouch for the nodes, as text.
      - Without them, the host's own certificates vouch.
    type: str
  timeout:
    description: Timeout of each step of a request, in seconds. A request as a whole may take five times as long.
    type: float
    default: 3.0
"""

EXAMPLES = r"""
- name: Ask whether production is alive
  custodes.security_dr.vault_origin_info:
    urls: [https://vault-1:8200]
    ca_certificates: "{{ lookup('ansible.builtin.file', '/etc/vault.d/ca.pem') }}"
  register: origin
"""

RETURN = r"""
answers:
  description:
    - For each address C(url), C(reachable), C(cluster_id), C(cluster_name), C(sealed) and C(problem).
    - A sealed node reports no cluster ID. What is not reported is V(null).
  returned: success
  type: list
  elements: dict
  sample:
    - url: https://vault-1:8200
      reachable: true
      cluster_id: 45c5a04b-1d4e-4bd6-a2f8-d9d0a1c1ddbc
      cluster_name: prod
      sealed: false
      problem: null
"""

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.origin import ask_all


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "urls": {"type": "list", "elements": "str", "required": True},
            "ca_certificates": {"type": "str"},
            "timeout": {"type": "float", "default": 3.0},
        },
        vault=False,
    )

    def action() -> dict[str, object]:
        options = module.params
        answers = ask_all(options["urls"], options["ca_certificates"], options["timeout"])
        return {"changed": False, "answers": answers}

    module.run(action)


if __name__ == "__main__":
    main()

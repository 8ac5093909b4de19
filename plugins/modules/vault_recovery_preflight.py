#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides whether and how a cluster is recovered."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_recovery_preflight
short_description: Decide whether and how a Vault cluster is recovered from a snapshot
version_added: 0.1.0
description:
  - Used by C(playbooks/recover-vault.yml). Asks every node, compares it with the snapshot and with what an earlier run
    has left, and says what is to be done, or why it is refused. Changes nothing in Vault.
  - A target that holds data is refused unless O(confirm) is its cluster's name.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.attributes.info
options:
  nodes:
    description:
      - Addresses of all nodes of the target.
      - O(url) is not used.
    type: list
    elements: str
    required: true
  snapshot:
    description:
      - The snapshot, as M(custodes.security_dr.vault_raft_snapshot_find) returns it.
    type: dict
    required: true
  directory:
    description:
      - Folder of the recovery, as M(custodes.security_dr.vault_recovery_record) keeps it.
    type: path
    required: true
  confirm:
    description:
      - Name of the cluster whose data may be replaced.
    type: str
    default: ""
  origin_urls:
    description:
      - Addresses of the cluster that the snapshot was taken of which are not in O(nodes).
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  origin_answers:
    description:
      - Answers of these addresses, as M(custodes.security_dr.vault_origin_info) returns them, each with C(from), the
        host that asked.
    type: list
    elements: dict
    default: []
    version_added: 0.2.0
  origin_isolated:
    description:
      - Accepts that the cluster that the snapshot was taken of is alive.
    type: bool
    default: false
    version_added: 0.2.0
  proof_by_shares:
    description:
      - Whether the proof after the restore needs a root token that is generated from key shares. If the servers refuse
        to generate one, the module refuses the recovery.
    type: bool
    default: false
    version_added: 0.2.0
  replace_by_shares:
    description:
      - Whether the same holds for the safety snapshot and the restore on a cluster that holds data.
    type: bool
    default: false
    version_added: 0.2.0
  generate_root_enabled:
    description:
      - Accepts servers whose version by default refuses to generate a root token from key shares, as their
        configuration allows it.
    type: bool
    default: false
    version_added: 0.2.0
  hosts:
    description:
      - Names of the nodes as hosts of the inventory, where they are.
    type: list
    elements: str
    default: []
  free_bytes:
    description:
      - Bytes free for Vault's data on each of O(hosts), in the same order, as M(custodes.security_dr.disk_space_info)
        returns them; V(-1) where it is not known.
    type: list
    elements: int
    default: []
  settle_timeout:
    description:
      - How long to wait for a cluster that an earlier run has initialised to have a leader, in seconds.
    type: float
    default: 30.0
"""

EXAMPLES = r"""
- name: May this cluster be recovered?
  custodes.security_dr.vault_recovery_preflight:
    nodes: [https://vault-1:8200, https://vault-2:8200, https://vault-3:8200]
    ca_cert: /etc/vault.d/ca.pem
    snapshot: "{{ chosen }}"
    directory: /var/lib/vault-recovery
  register: preflight
"""

RETURN = r"""
action:
  description: V(initialize), V(continue), V(replace) or V(verify).
  returned: success
  type: str
  sample: initialize
steps:
  description: What will be done, as sentences.
  returned: success
  type: list
  elements: str
  sample: [initialise a temporary cluster on the fresh nodes]
checks:
  description: What was compared, each with C(name), C(result) (V(passed), V(failed), V(not checked)) and C(detail).
  returned: success
  type: list
  elements: dict
  sample: [{name: every node answers, result: passed, detail: 3 nodes}]
seal_type:
  description: Type of the target's seal.
  returned: success
  type: str
  sample: awskms
versions:
  description: Versions of Vault on the nodes, each once.
  returned: success
  type: list
  elements: str
  sample: [1.21.0]
cluster_id:
  description: ID of the cluster whose data O(confirm) allows to replace, V(null) if nothing is replaced.
  returned: success
  type: str
  sample: null
leader:
  description: Address of the node of O(nodes) that leads its cluster, V(null) without one.
  returned: success
  type: str
  sample: null
standby_reads:
  description:
    - Whether standbys answer reads themselves, as those of OpenBao 2.5 and newer, and so have to be restarted after the
      restore.
  returned: success
  type: bool
  sample: false
init_file:
  description: Where the temporary cluster's keys lie, or will lie, until the recovery is finished.
  returned: success
  type: str
  sample: /var/lib/vault-recovery/init.json
"""

from pathlib import Path
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.origin import judge
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.survey import survey
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import VaultClient

SHARES = ("proof_by_shares", "replace_by_shares", "generate_root_enabled")


def _origin(options: dict[str, Any]) -> tuple[str, str]:
    cluster_id = (options["snapshot"].get("manifest") or {}).get("cluster_id")
    return judge(options["origin_answers"], options["origin_urls"], cluster_id, options["origin_isolated"])


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "nodes": {"type": "list", "elements": "str", "required": True},
            "snapshot": {"type": "dict", "required": True},
            "directory": {"type": "path", "required": True},
            "confirm": {"type": "str", "default": ""},
            "origin_urls": {"type": "list", "elements": "str", "default": []},
            "origin_answers": {"type": "list", "elements": "dict", "default": []},
            "origin_isolated": {"type": "bool", "default": False},
            **{name: {"type": "bool", "default": False} for name in SHARES},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "free_bytes": {"type": "list", "elements": "int", "default": []},
            "settle_timeout": {"type": "float", "default": 30.0},
        },
        login=False,
    )

    def action() -> dict[str, object]:
        options = module.params
        clients = [VaultClient(module.connection(url)) for url in options["nodes"]]
        return survey(
            clients,
            Path(options["directory"]),
            options["snapshot"],
            options["confirm"],
            {host: free for host, free in zip(options["hosts"], options["free_bytes"]) if free >= 0},
            options["settle_timeout"],
            writes=not module.check_mode,
            origin=_origin(options),
            **{name: options[name] for name in SHARES},
        )

    module.run(action)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes an escrow snapshot, which key shares unseal without the KMS."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_escrow_snapshot
short_description: Make a snapshot that recovery key shares unseal, with no KMS
version_added: 0.2.0
description:
  - Recovery keys do not unseal a Vault whose seal is a KMS. This makes, while the KMS still lives, a snapshot of the
    same data that they do unseal. It restores O(snapshot) on a throwaway Vault node, migrates the seal of that one to
    Shamir's and takes the escrow snapshot of it.
  - It is kept only after it was restored on a second throwaway node without a seal stanza and without the KMS's
    credentials, unsealed there with O(key_shares), and O(canaries) were read.
  - Give O(stores) a prefix or folder that no other snapshots are in. It is named after the cluster and the time of
    O(snapshot), whose data it holds.
  - Both nodes are processes of this module, listen on 127.0.0.1, and are destroyed with their data, whatever happens.
  - B(Run it on a host that is cut off.) A restored copy of Vault starts to revoke the leases that it finds expired,
    such as database users. It may reach the KMS and nothing else that Vault manages; see O(must_not_reach).
  - The audit devices of the snapshot's origin come up in the copy, too; if all of them fail to, so does this. A file is
    written on this host.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.store
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - Verifies the snapshot, tries O(must_not_reach), and starts nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - An escrow snapshot of the same snapshot that is in O(stores) and reads back whole is kept.
requirements:
  - vault on this host, of the origin's version or newer
  - cryptography
  - hvac
options:
  snapshot:
    description:
      - A snapshot on this host, of a Vault whose seal is O(seal_type).
    type: path
    required: true
  key_shares:
    description:
      - Recovery key shares of the snapshot's origin, as many as its threshold. They unseal the escrow snapshot.
    type: list
    elements: str
    required: true
  seal_type:
    description:
      - The seal of the snapshot's origin.
    type: str
    choices: [awskms, azurekeyvault, gcpckms, transit]
    default: awskms
  seal_options:
    description:
      - The parameters of its seal stanza, such as C(region), C(kms_key_id) and C(endpoint).
    type: dict
    default: {}
  seal_credentials:
    description:
      - Further parameters of it, which are secret, such as C(access_key) and C(secret_key). Those of the environment
        and of the host's own identity are used without.
    type: dict
    default: {}
  canaries:
    description:
      - KV paths that must be readable in the escrow snapshot.
    type: list
    elements: str
    default: []
  must_not_reach:
    description:
      - C(host:port) of each system whose leases Vault manages, databases above all. That one of them can be reached
        from this host is a failure, and nothing is started.
    type: list
    elements: str
    default: []
  vault_binary:
    description:
      - The program, or its name on C(PATH).
    type: str
    default: vault
  work_directory:
    description:
      - Where the throwaway nodes have their data meanwhile, in a folder of mode 0700. It takes six times the snapshot's
        C(state_size). The system's folder for temporary files if not set.
    type: path
  timeout:
    description:
      - Longest wait for any single thing, such as a restore, in seconds.
    type: float
    default: 600.0
"""

EXAMPLES = r"""
- name: Make the escrow snapshot
  custodes.security_dr.vault_escrow_snapshot:
    snapshot: /var/backups/vault/prod-20261124T020000Z.snap
    key_shares: "{{ vault_recovery_key_shares }}"
    seal_options:
      region: eu-central-1
      kms_key_id: 1f8a2f0e-5d53-4c1a-9a0e-6a0d3f1b7c11
    stores:
      - type: s3
        bucket: example-vault-snapshots
        prefix: escrow/prod
    canaries: [secret/dr/canary]
    must_not_reach: ["db.example.com:5432"]
"""

RETURN = r"""
name:
  description: The escrow snapshot.
  returned: when there is one
  type: str
  sample: prod-20261124T020000Z.snap
stores:
  description: Where it is.
  returned: success
  type: list
  elements: str
  sample: ["s3://example-vault-snapshots/escrow/prod"]
manifest:
  description: Its manifest. C(escrow_of) is the snapshot that it was made of.
  returned: when there is one
  type: dict
  sample: {cluster_name: prod, seal_type: shamir, escrow_of: {index: 4211, sha256: 9f86d081}}
canaries:
  description: What was read in it, without the KMS.
  returned: changed, not in check mode
  type: list
  elements: dict
  sample: [{path: secret/dr/canary, readable: true, fields: [value]}]
steps:
  description: What was done, and the seconds of each.
  returned: changed, not in check mode
  type: list
  elements: dict
  sample: [{name: "Migrate its seal to Shamir's", seconds: 3.1}]
not_checked:
  description: What nobody has made sure of.
  returned: success
  type: str
  sample: "Nothing was named in must_not_reach: ..."
"""

import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.custodes.security_dr.plugins.module_utils.escrow.certificate import CRYPTOGRAPHY_IMPORT_ERROR
from ansible_collections.custodes.security_dr.plugins.module_utils.escrow.job import Request, run
from ansible_collections.custodes.security_dr.plugins.module_utils.module import STORES_SPEC, SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores import open_store
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import HVAC_IMPORT_ERROR


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "snapshot": {"type": "path", "required": True},
            "key_shares": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "seal_type": {
                "type": "str",
                "choices": ["awskms", "azurekeyvault", "gcpckms", "transit"],
                "default": "awskms",
            },
            "seal_options": {"type": "dict", "default": {}},
            "seal_credentials": {"type": "dict", "default": {}, "no_log": True},
            **STORES_SPEC,
            "canaries": {"type": "list", "elements": "str", "default": []},
            "must_not_reach": {"type": "list", "elements": "str", "default": []},
            "vault_binary": {"type": "str", "default": "vault"},
            "work_directory": {"type": "path"},
            "timeout": {"type": "float", "default": 600.0},
        },
        vault=False,
    )
    for name, missing in (("hvac", HVAC_IMPORT_ERROR), ("cryptography", CRYPTOGRAPHY_IMPORT_ERROR)):
        if missing is not None:
            module.fail_json(msg=missing_required_lib(name), exception=str(missing))
    options = module.params
    request = Request(
        source=Path(options["snapshot"]),
        shares=options["key_shares"],
        seal={options["seal_type"]: {**options["seal_options"], **options["seal_credentials"]}},
        stores=[open_store(store) for store in options["stores"]],
        **{name: options[name] for name in ("canaries", "must_not_reach", "timeout")},
        binary=options["vault_binary"],
        work_directory=Path(options["work_directory"] or tempfile.gettempdir()),
    )
    module.run(lambda: run(request, os.environ, only_looks=module.check_mode))


if __name__ == "__main__":
    main()

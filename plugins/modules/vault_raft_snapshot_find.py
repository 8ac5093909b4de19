#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses the snapshot to restore."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_raft_snapshot_find
short_description: Find the newest snapshot that verifies
version_added: 0.1.0
description:
  - Of a folder of C(*.snap) files, tries the newest O(candidates) in turn and returns the first that verifies, and what
    is wrong with those before it. A single file is verified as it is.
  - That none verifies is a failure.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes.info
options:
  path:
    description:
      - A snapshot, or a folder of snapshots.
    type: path
    required: true
  candidates:
    description:
      - How many snapshots of a folder may be tried, newest first.
    type: int
    default: 3
  seal_type:
    description:
      - Of a folder, only snapshots whose manifest has this seal count, such as V(shamir) for escrow snapshots.
    type: str
    version_added: 0.2.0
"""

EXAMPLES = r"""
- name: Choose the snapshot
  custodes.security_dr.vault_raft_snapshot_find:
    path: /var/backups/vault/
  register: chosen
"""

RETURN = r"""
path:
  description: The snapshot that was chosen.
  returned: success
  type: str
  sample: /var/backups/vault/prod-20261123T020000Z.snap
verified:
  description: True.
  returned: success
  type: bool
  sample: true
problem:
  description: V(null).
  returned: success
  type: str
  sample: null
taken_at:
  description: When it was taken, UTC.
  returned: success
  type: str
  sample: "2026-11-23T02:00:00+00:00"
manifest:
  description: The manifest beside it, V(null) without one.
  returned: success
  type: dict
  sample: {cluster_name: prod, vault_version: 1.21.0, seal_type: awskms}
rejected:
  description: Newer snapshots that do not verify, each with its C(path) and C(problem).
  returned: success
  type: list
  elements: dict
  sample: [{path: /var/backups/vault/prod-20261124T020000Z.snap, problem: it was cut short}]
index:
  description: Raft index of the snapshot.
  returned: success
  type: int
  sample: 4211
term:
  description: Raft term of the snapshot.
  returned: success
  type: int
  sample: 3
size:
  description: Size of the file in bytes.
  returned: success
  type: int
  sample: 48211
state_size:
  description: Size of the database in it, in bytes.
  returned: success
  type: int
  sample: 201337
sha256:
  description: SHA-256 of the file.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
key_counts:
  description: Number of storage keys by prefix, which tells what is in the snapshot although its values are encrypted.
  returned: success
  type: dict
  sample: {core: 24, logical: 120, sys/expire: 31, sys/policy: 8}
"""

from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.description import describe_choice


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "path": {"type": "path", "required": True},
            "candidates": {"type": "int", "default": 3},
            "seal_type": {"type": "str"},
        },
        vault=False,
    )
    options = module.params
    module.run(
        lambda: {
            "changed": False,
            **describe_choice(Path(options["path"]), options["candidates"], options["seal_type"]),
        }
    )


if __name__ == "__main__":
    main()

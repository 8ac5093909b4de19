#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifies a Raft snapshot file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_raft_snapshot_info
short_description: Verify a Raft snapshot file and tell what is in it
version_added: 0.1.0
description:
  - Reads a snapshot of Vault's integrated storage from its first to its last byte, checks every checksum and rule of
    the format, and compares it with the manifest beside it where there is one. Needs no Vault.
  - A damaged file is an answer, RV(verified=false) with RV(problem). A file that is not there is a failure.
  - Who made the snapshot cannot be told from it - only the holder of the seal can check the sealed checksums.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes.info
options:
  path:
    description:
      - The snapshot.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Is this snapshot whole?
  custodes.security_dr.vault_raft_snapshot_info:
    path: /var/backups/vault/prod-20261124T020000Z.snap
  register: snapshot
  failed_when: not snapshot.verified
"""

RETURN = r"""
path:
  description: The snapshot.
  returned: success
  type: str
  sample: /var/backups/vault/prod-20261124T020000Z.snap
verified:
  description: Whether it is complete and intact.
  returned: success
  type: bool
  sample: true
problem:
  description: What is wrong with it, else V(null).
  returned: success
  type: str
  sample: null
taken_at:
  description: When it was taken, UTC, as its manifest, its name or its file time says.
  returned: success
  type: str
  sample: "2026-11-24T02:00:00+00:00"
manifest:
  description: The manifest beside it, V(null) without one.
  returned: success
  type: dict
  sample: {cluster_name: prod, vault_version: 1.21.0, seal_type: awskms}
index:
  description: Raft index of the snapshot.
  returned: when verified
  type: int
  sample: 4211
term:
  description: Raft term of the snapshot.
  returned: when verified
  type: int
  sample: 3
size:
  description: Size of the file in bytes.
  returned: when verified
  type: int
  sample: 48211
state_size:
  description: Size of the database in it, in bytes.
  returned: when verified
  type: int
  sample: 201337
sha256:
  description: SHA-256 of the file.
  returned: when verified
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
key_counts:
  description: Number of storage keys by prefix, which tells what is in the snapshot although its values are encrypted.
  returned: when verified
  type: dict
  sample: {core: 24, logical: 120, sys/expire: 31, sys/policy: 8}
"""

from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.description import describe


def main() -> None:
    """Entry point."""
    module = SecurityDrModule({"path": {"type": "path", "required": True}}, vault=False)
    module.run(lambda: {"changed": False, **describe(Path(module.params["path"]))})


if __name__ == "__main__":
    main()

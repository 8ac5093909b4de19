#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a verified Raft snapshot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_raft_snapshot
short_description: Take a verified Raft snapshot of a Vault cluster
version_added: 0.1.0
description:
  - Streams a snapshot from the leader into a temporary file beside O(dest), verifies it while it arrives, syncs it and
    only then gives it its name. Mode 0600.
  - A manifest, C(<name>.json), is written beside it, with what the archive does not tell - cluster, version, seal.
  - With O(max_age) a verified snapshot that is young enough is kept, which makes the module idempotent.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.auth
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - Looks for the leader and at what is at O(dest), and takes nothing.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - With O(max_age) only.
options:
  dest:
    description:
      - File to write, or an existing folder, in which the snapshot is named after cluster and time.
    type: path
    required: true
  max_age:
    description:
      - A verified snapshot at O(dest) that is younger than this is kept, in seconds. V(0) always takes a new one.
    type: int
    default: 0
  first_byte_timeout:
    description:
      - How long the leader may be silent, in seconds. It reads its whole database before it sends the first byte.
    type: float
    default: 600.0
"""

EXAMPLES = r"""
- name: Take a snapshot, unless there is one of the last hour
  custodes.security_dr.vault_raft_snapshot:
    url: https://vault-1:8200
    ca_cert: /etc/vault.d/ca.pem
    auth_method: approle
    role_id: "{{ vault_snapshot_role_id }}"
    secret_id: "{{ vault_snapshot_secret_id }}"
    dest: /var/backups/vault/
    max_age: 3600
"""

RETURN = r"""
path:
  description: The snapshot.
  returned: success
  type: str
  sample: /var/backups/vault/prod-20261124T020000Z.snap
taken_at:
  description: When it was taken, UTC.
  returned: success
  type: str
  sample: "2026-11-24T02:00:00+00:00"
verified:
  description: True; one that does not verify is a failure and is not kept.
  returned: success
  type: bool
  sample: true
index:
  description: Raft index of the snapshot.
  returned: when there is one, also in check mode
  type: int
  sample: 4211
term:
  description: Raft term of the snapshot.
  returned: when there is one, also in check mode
  type: int
  sample: 3
size:
  description: Size of the file in bytes.
  returned: when there is one, also in check mode
  type: int
  sample: 48211
sha256:
  description: SHA-256 of the file.
  returned: when there is one, also in check mode
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
key_counts:
  description: Number of storage keys by prefix, which tells what is in the snapshot although its values are encrypted.
  returned: when there is one, also in check mode
  type: dict
  sample: {core: 24, logical: 120, sys/expire: 31, sys/policy: 8}
vault_version:
  description: Version of Vault that took it.
  returned: when there is one
  type: str
  sample: 1.21.0
cluster_id:
  description: ID of the cluster.
  returned: when there is one
  type: str
  sample: 45c5a04b-1d4e-4bd6-a2f8-d9d0a1c1ddbc
duration:
  description: Seconds from the request to the synced file.
  returned: when there is one
  type: float
  sample: 1.7
"""

from datetime import datetime, timedelta, timezone
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.download import Taken, find_young, take


def describe(taken: Taken) -> dict[str, object]:
    """A snapshot as the module returns it."""
    return {
        "changed": not taken.kept,
        "path": str(taken.path),
        "taken_at": taken.taken_at.isoformat(timespec="seconds"),
        "verified": True,
        **{name: taken.info.to_dict()[name] for name in ("index", "term", "size", "sha256", "key_counts")},
        "vault_version": taken.manifest.get("vault_version"),
        "cluster_id": taken.manifest.get("cluster_id"),
        "duration": round(taken.duration, 3),
    }


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "dest": {"type": "path", "required": True},
            "max_age": {"type": "int", "default": 0},
            "first_byte_timeout": {"type": "float", "default": 600.0},
        }
    )

    def action() -> dict[str, object]:
        dest, max_age = Path(module.params["dest"]), timedelta(seconds=module.params["max_age"])
        young = find_young(dest, max_age, datetime.now(timezone.utc)) if max_age else None
        if young is not None:
            return describe(young)
        with module.session() as client:
            if module.check_mode:
                client.at_leader()
                return {"changed": True, "path": str(dest)}
            return describe(take(client, dest, module.params["first_byte_timeout"]))

    module.run(action)


if __name__ == "__main__":
    main()

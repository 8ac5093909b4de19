#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches a snapshot from a store."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_snapshot_fetch
short_description: Fetch the newest good snapshot from one or more stores, verified
version_added: 0.2.0
description:
  - Downloads a snapshot into a temporary file beside O(dest), verifies it while it arrives, holds it to its manifest,
    and only then gives it its name, mode 0600, with the manifest as C(<name>.json) beside it.
  - When a copy does not verify or cannot be read, the next store's copy of it is tried, then the snapshot before, and
    RV(rejected) says so.
  - A snapshot that is flagged, or that was never verified in its store, is only ever fetched by its name, with a
    warning.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.store
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - Chooses by the manifests and downloads nothing, so a copy that would not verify is not found out.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - A file at O(dest) that verifies and is the chosen one is kept.
options:
  name:
    description:
      - V(latest); or the name of a snapshot, of which there is no falling back to another; or a time in ISO 8601, UTC
        unless it says otherwise, for the newest snapshot that is not younger.
    type: str
    default: latest
  dest:
    description:
      - File to write, or an existing folder, in which the snapshot keeps its name.
    type: path
    required: true
  candidates:
    description:
      - How many snapshots may be tried, newest first. Flagged ones that are passed over do not count.
    type: int
    default: 3
"""

EXAMPLES = r"""
- name: Fetch the newest good snapshot
  custodes.security_dr.vault_snapshot_fetch:
    stores:
      - type: s3
        bucket: example-vault-snapshots
        prefix: prod
        region: eu-central-1
    dest: /var/lib/custodes/recovery/
  register: fetched

- name: Fetch what there was before the accident
  custodes.security_dr.vault_snapshot_fetch:
    name: "2026-11-23T18:00:00Z"
    stores:
      - type: filesystem
        path: /var/backups/vault
    dest: /var/lib/custodes/recovery/before.snap
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /var/lib/custodes/recovery/prod-20261123T020000Z.snap
name:
  description: The snapshot's name in its store.
  returned: success
  type: str
  sample: prod-20261123T020000Z.snap
store:
  description: The store that it came from.
  returned: success
  type: str
  sample: s3://example-vault-snapshots/prod
taken_at:
  description: When it was taken, UTC.
  returned: success
  type: str
  sample: "2026-11-23T02:00:00+00:00"
verified:
  description: Whether the file was verified; V(false) in check mode, unless it was there already.
  returned: success
  type: bool
  sample: true
manifest:
  description: The manifest, V(null) without one.
  returned: success
  type: dict
  sample: {cluster_name: prod, vault_version: 1.21.0, seal_type: awskms, index: 4102, flagged: null}
rejected:
  description: Newer copies that cannot be used, each with C(name), C(store) and C(problem).
  returned: success
  type: list
  elements: dict
  sample: [{name: prod-20261124T020000Z.snap, store: "s3://example-vault-snapshots/prod", problem: it was cut short}]
unreachable:
  description: Stores that could not be read, each with C(store) and C(problem).
  returned: success
  type: list
  elements: dict
  sample: []
size:
  description: Size of the file in bytes.
  returned: when verified
  type: int
  sample: 48211
sha256:
  description: SHA-256 of the file.
  returned: when verified
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
index:
  description: Raft index of the snapshot.
  returned: when verified
  type: int
  sample: 4102
key_counts:
  description: Number of storage keys by prefix.
  returned: when verified
  type: dict
  sample: {core: 24, logical: 120, sys/expire: 31, sys/policy: 8}
"""

from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.module import STORES_SPEC, SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.fetch import LATEST, fetch
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores import open_store


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            **STORES_SPEC,
            "name": {"type": "str", "default": LATEST},
            "dest": {"type": "path", "required": True},
            "candidates": {"type": "int", "default": 3},
        },
        vault=False,
    )

    def action() -> dict[str, object]:
        options = module.params
        stores = [open_store(store) for store in options["stores"]]
        now = datetime.now(timezone.utc)
        fetched = fetch(
            stores, options["name"], Path(options["dest"]), options["candidates"], now, check=module.check_mode
        )
        for warning in fetched.warnings:
            module.warn(warning)
        return fetched.to_dict()

    module.run(action)


if __name__ == "__main__":
    main()

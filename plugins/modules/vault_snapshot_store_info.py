#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what the stores hold."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_snapshot_store_info
short_description: List the snapshots in one or more stores, the newest verified one first
version_added: 0.2.0
description:
  - Reads listings and manifests, no snapshot. That a copy was verified means that the backup has proven it when it was
    stored; M(custodes.security_dr.vault_snapshot_fetch) verifies it again.
  - A store that cannot be read is told in RV(stores). That none can is a failure.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.store
  - custodes.security_dr.attributes.info
options:
  limit:
    description:
      - How many copies are described. Each costs a request for its manifest.
    type: int
    default: 20
"""

EXAMPLES = r"""
- name: See what there is to restore
  custodes.security_dr.vault_snapshot_store_info:
    stores:
      - type: filesystem
        path: /var/backups/vault
      - type: s3
        bucket: example-vault-snapshots
        prefix: prod
        region: eu-central-1
  register: there
"""

RETURN = r"""
latest:
  description: The newest good copy, which M(custodes.security_dr.vault_snapshot_fetch) would try first. V(null) without
    one.
  returned: success
  type: dict
  sample: {name: prod-20261124T020000Z.snap, store: /var/backups/vault, verified: true, flagged: null}
snapshots:
  description: The newest copies. Good ones first, then the flagged, then those that were never verified in their store.
  returned: success
  type: list
  elements: dict
  sample:
    - name: prod-20261124T020000Z.snap
      store: /var/backups/vault
      taken_at: "2026-11-24T02:00:00+00:00"
      size: 48211
      verified: true
      flagged: null
      problem: null
      manifest: {index: 4211, cluster_name: prod}
stores:
  description: Each store, with the number of its snapshots, of those that were never verified there, their bytes, and
    what it lacks.
  returned: success
  type: list
  elements: dict
  sample:
    - store: s3://example-vault-snapshots/prod
      problem: null
      count: 31
      unverified: 0
      size: 1494541
      lacks: [The bucket keeps no versions.]
"""

from datetime import datetime, timezone

from ansible_collections.custodes.security_dr.plugins.module_utils.module import STORES_SPEC, SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.catalogue import overview
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores import open_store


def main() -> None:
    """Entry point."""
    module = SecurityDrModule({**STORES_SPEC, "limit": {"type": "int", "default": 20}}, vault=False)

    def action() -> dict[str, object]:
        stores = [open_store(options) for options in module.params["stores"]]
        return {"changed": False, **overview(stores, module.params["limit"], datetime.now(timezone.utc))}

    module.run(action)


if __name__ == "__main__":
    main()

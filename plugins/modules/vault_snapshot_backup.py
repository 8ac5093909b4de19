#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a snapshot into several stores."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_snapshot_backup
short_description: Take a Raft snapshot of Vault into one or more stores and prove each copy
version_added: 0.2.0
description:
  - Streams one snapshot from the leader into every store at once, verifies it while it arrives, proves each copy where
    it lies, writes its manifest beside it, and only then deletes what the retention lets go.
  - It succeeds when every required store holds a verified copy, and fails otherwise, with what was wrong with each.
  - A snapshot whose Raft index went back, or that has lost too many keys since the last good one, is stored but
    flagged, and fails. That is what a Vault that was initialised anew looks like. A flagged one is never the latest to
    be restored.
  - The same run as the nightly one of the agent. Only one runs at a time on a host.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.auth
  - custodes.security_dr.store
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - Logs in, looks for the leader and lists every store, and changes nothing.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - With O(min_interval) only.
options:
  state_directory:
    description:
      - Folder for the lock and for what one run tells the next.
    type: path
    default: /var/lib/custodes/vault-snapshot
  metrics_file:
    description:
      - File for the textfile collector of node_exporter, mode 0644. If not set, none is written.
    type: path
  only_on_leader:
    description:
      - Do nothing unless the node at O(url) is the leader.
    type: bool
    default: false
  min_interval:
    description:
      - Do nothing when every required store has a good snapshot that is younger than this, in seconds.
    type: float
    default: 0.0
  first_byte_timeout:
    description:
      - How long the leader may be silent, in seconds. It reads its whole database before it sends the first byte.
    type: float
    default: 600.0
  max_key_loss_percent:
    description:
      - A snapshot that has lost more of its keys than this since the last good one is flagged.
    type: float
    default: 50.0
  read_back_every:
    description:
      - At every so many runs each copy is read back in full, even where the store vouches for its checksum. V(0) never
        does, V(1) always.
    type: int
    default: 7
  accept_flagged:
    description:
      - Take the snapshot for a good one although it would be flagged, because you know why. For one run, not for good.
    type: bool
    default: false
  seal_key_id:
    description:
      - Key of Vault's seal, for the manifest. Vault does not tell it.
    type: str
"""

EXAMPLES = r"""
- name: Take a snapshot into a folder and a bucket
  custodes.security_dr.vault_snapshot_backup:
    url: https://vault-1:8200
    ca_cert: /etc/vault.d/ca.pem
    auth_method: approle
    role_id: "{{ vault_snapshot_role_id }}"
    secret_id: "{{ vault_snapshot_secret_id }}"
    stores:
      - type: filesystem
        path: /var/backups/vault
        retention: {max_age_days: 7, min_count: 3}
      - type: s3
        bucket: example-vault-snapshots
        prefix: prod
        region: eu-central-1
        kms_key_id: alias/vault-snapshots
        retention: {max_age_days: 30, min_count: 7, weekly: 8, monthly: 12}
"""

RETURN = r"""
result:
  description: V(success), V(skipped), V(flagged) or V(failed). The last two are failures of the task.
  returned: always
  type: str
  sample: success
problem:
  description: Why it failed and what to do; V(null) where it has not.
  returned: always
  type: str
  sample: null
skipped_because:
  description: Why there was nothing to do; V(null) where there was.
  returned: always
  type: str
  sample: null
snapshot:
  description: The manifest of the snapshot; V(null) where nothing arrived whole.
  returned: always
  type: dict
  sample: {name: prod-20261124T020000Z.snap, index: 4211, size: 48211, cluster_name: prod, flagged: null}
destinations:
  description: What became of it in each store.
  returned: always
  type: list
  elements: dict
  sample:
    - label: s3://example-vault-snapshots/prod
      required: true
      verified: true
      proof: checksum
      problem: null
      kept: 31
      pruned: [prod-20261024T020000Z.snap]
      prune_problem: null
duration:
  description: Seconds.
  returned: always
  type: float
  sample: 12.7
"""

import os

from ansible_collections.custodes.security_dr.plugins.module_utils.module import (
    AUTH_SPEC,
    CONNECTION_SPEC,
    STORES_SPEC,
    SecurityDrModule,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.job import run_job

OPTIONS = {
    "state_directory": {"type": "path", "default": "/var/lib/custodes/vault-snapshot"},
    "metrics_file": {"type": "path"},
    "only_on_leader": {"type": "bool", "default": False},
    "min_interval": {"type": "float", "default": 0.0},
    "first_byte_timeout": {"type": "float", "default": 600.0},
    "max_key_loss_percent": {"type": "float", "default": 50.0},
    "read_back_every": {"type": "int", "default": 7, "no_log": False},
    "accept_flagged": {"type": "bool", "default": False},
    "seal_key_id": {"type": "str", "no_log": False},
}


def main() -> None:
    """Entry point."""
    module = SecurityDrModule({**STORES_SPEC, **OPTIONS})
    config = {name: module.params[name] for name in OPTIONS}
    config["vault"] = {name: module.params[name] for name in (*CONNECTION_SPEC, *AUTH_SPEC)}
    config["destinations"] = module.params["stores"]
    report = run_job(config, os.environ, check=module.check_mode)
    for warning in report.warnings:
        module.warn(warning)
    result = {
        "changed": report.result == "success" or any(one["verified"] for one in report.destinations),
        "skipped_because": report.skipped,
        **{name: getattr(report, name) for name in ("result", "problem", "snapshot", "destinations", "duration")},
    }
    if not report.ok:
        module.fail_json(msg=report.problem, error_type=report.error_type, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

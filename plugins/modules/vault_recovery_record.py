#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin that keeps the journal of a recovery and writes its record."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_recovery_record
short_description: Keep the journal of a Vault recovery and write its record
version_added: 0.1.0
description:
  - Used by C(playbooks/recover-vault.yml). Holds the lock that keeps a second recovery out, notes each step with its
    time so that a run after a killed one goes on where that stood, and writes the record as JSON, Markdown and one HTML
    page that needs no other file.
  - Each of these files has mode 0600. If the page cannot be written, a warning says so, and the task does not fail.
  - It runs in ansible-playbook's own process, on the controller, whatever host the task is for.
  - The lock belongs to the running ansible-playbook and ends with it, however that ends.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  action:
    support: full
    description: Has an action plugin of the same name, which does all of the work on the controller.
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run notes a step.
options:
  directory:
    description:
      - Folder of the recovery, one per cluster. It is created with mode 0700.
    type: path
    required: true
  state:
    description:
      - V(started) takes the lock and begins, or goes on with what an earlier run has left.
      - V(step) notes that a step has ended.
      - V(finished) writes the record and forgets the journal and the temporary cluster's keys.
      - V(failed) writes the record and keeps them, for the next run.
    type: str
    choices: [started, step, finished, failed]
    required: true
  nodes:
    description:
      - Addresses of the nodes, for O(state=started).
    type: list
    elements: str
  step:
    description:
      - Name of the step, for O(state=step).
    type: str
  detail:
    description:
      - What is worth noting of the step.
    type: dict
    default: {}
  facts:
    description:
      - What a later run and the record need - C(snapshot), C(safety_snapshot), C(restore), C(checks), C(secrets),
        C(dynamic_canaries), C(server_versions), C(redundant). With C(secrets) that are all readable, the moment counts
        as the one from which they were.
    type: dict
    default: {}
  objective:
    description:
      - Recovery time objective in seconds.
    type: float
    default: 900.0
  rpo_objective:
    description:
      - Recovery point objective in seconds, the highest age of the snapshot. Without it the record has no
        verdict on the age.
    type: float
    version_added: 0.2.0
  problem:
    description:
      - Why the recovery failed.
    type: str
    default: ""
  failed_task:
    description:
      - Name of the task that failed.
    type: str
    default: ""
    version_added: 0.2.0
  versions:
    description:
      - Versions to note in the record.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Begin, or go on
  custodes.security_dr.vault_recovery_record:
    directory: /var/lib/vault-recovery
    state: started
    nodes: [https://vault-1:8200]
  register: recovery
"""

RETURN = r"""
journal:
  description: The journal as it stands.
  returned: always
  type: dict
  sample: {runs: 1, steps: [], started_at: "2026-11-24T03:00:00.000+00:00"}
lock:
  description:
    - The lock that this run of ansible-playbook holds, as C(path) and C(holder).
    - It is for O(custodes.security_dr.vault_raft_restore#module:lock).
  returned: when O(state=started), not in check mode
  type: dict
  sample: {path: /var/lib/vault-recovery/recovery.lock, holder: {pid: 4211, host: ops-1, user: ops}}
resumed:
  description: Whether an earlier run's work is gone on with.
  returned: when O(state=started)
  type: bool
  sample: false
record:
  description: The record.
  returned: when O(state=finished) or O(state=failed)
  type: dict
  sample: {status: recovered, rto_seconds: 14.2}
record_files:
  description:
    - Paths of the record as JSON, as Markdown and as an HTML page, in this order.
    - The page is missing if it cannot be written.
  returned: when O(state=finished) or O(state=failed), not in check mode
  type: list
  elements: str
  sample:
    - /var/lib/vault-recovery/recovery-20261124T030014Z.json
    - /var/lib/vault-recovery/recovery-20261124T030014Z.md
    - /var/lib/vault-recovery/recovery-20261124T030014Z.html
summary:
  description: The record as lines for the terminal.
  returned: when O(state=finished) or O(state=failed)
  type: list
  elements: str
  sample: ["Status: recovered"]
"""

#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin that keeps the records of drills."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_record
short_description: Keep the records of disaster recovery drills, so that nobody changes one unnoticed
version_added: 0.2.0
description:
  - Used by C(playbooks/dr-drill.yml). Holds the lock that keeps a second drill out, notes each phase on disk as it
    begins and ends, and writes one record for each drill, C(drill-ID.json) of mode 0600.
  - Each record carries the hash of the one before. V(verified) finds one that was changed, removed, added or put into
    another order.
  - A drill that was killed gets its record when the next begins, with the outcome C(aborted).
  - It runs on the controller, whatever host the task is for. The lock ends with the running ansible-playbook.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  action:
    support: full
    description: Has an action plugin of the same name.
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Each run notes something.
options:
  folder:
    description: Folder of the records. It is created with mode 0700.
    type: path
    required: true
  state:
    description:
      - V(begun) takes the lock and opens the journal. Findings of the last drill that are open come with it.
      - V(phase_begun) and V(phase_ended) note a phase. One that fails, or whose objective is missed, is a finding.
      - V(finished) writes the record of a drill that ran to its end, V(aborted) that of one that was stopped.
      - V(verified) looks whether the records are what they were.
    type: str
    choices: [begun, phase_begun, phase_ended, finished, aborted, verified]
    required: true
  about:
    description: What the drill is, for O(state=begun).
    type: dict
    suboptions:
      mode:
        description: A V(rehearsal) injects nothing and measures nothing.
        type: str
        choices: [drill, rehearsal]
        required: true
      scope:
        description: The parts.
        type: list
        elements: str
        required: true
      operator:
        description: Who runs it.
        type: str
        required: true
      reason:
        description: Why.
        type: str
        default: ""
      versions:
        description: Versions to note beside this collection's, by name.
        type: dict
        default: {}
      environment:
        description: What is drilled, such as C(production).
        type: str
        default: ""
      window:
        description: The maintenance window that it is allowed in.
        type: str
        default: ""
  closed:
    description:
      - Findings of earlier drills that are closed now, for O(state=begun).
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description:
          - The finding, such as C(F-20261127T221500Z-1).
        type: str
        required: true
      by:
        description:
          - Who has closed it.
        type: str
        required: true
      text:
        description:
          - What was done.
        type: str
        required: true
  phase:
    description:
      - The part, for O(state=phase_begun) and O(state=phase_ended).
    type: str
  title:
    description:
      - What the phase shows, for O(state=phase_begun).
    type: str
  objective:
    description:
      - What has to be reached, for O(state=phase_begun).
    type: dict
    suboptions:
      what:
        description:
          - What is measured.
        type: str
        required: true
      at_most:
        description:
          - The most that is allowed.
        type: float
        required: true
      unit:
        description:
          - Of both.
        type: str
        default: s
  told:
    description:
      - What the phase has shown, for O(state=phase_ended).
    type: dict
    suboptions:
      measured:
        description:
          - In the objective's unit.
        type: float
      measurements:
        description:
          - Others, by name, such as C(rto_seconds) and C(rpo_seconds).
        type: dict
        default: {}
      fault:
        description:
          - What was injected, as M(custodes.security_dr.drill_fault) returns it.
        type: dict
      evidence:
        description:
          - What an auditor may look up.
        type: list
        elements: str
        default: []
      deviations:
        description:
          - What was not as planned.
        type: list
        elements: str
        default: []
      findings:
        description:
          - What has to be mended though the phase passed.
        type: list
        elements: str
        default: []
      problem:
        description:
          - Why it failed.
        type: str
      skipped:
        description:
          - Why it did not run.
        type: str
      owner:
        description:
          - Whose finding a failure is; the operator's without it.
        type: str
      due_days:
        description:
          - Days until it is due; 30 without it.
        type: int
  problem:
    description: Why the drill was stopped, for O(state=aborted).
    type: str
  head:
    description:
      - For O(state=verified), a record's hash that was noted elsewhere. Else the newest may have been removed unseen.
    type: str
  metrics_file:
    description:
      - For O(state=finished) and O(state=aborted), a file for node_exporter's textfile collector. It tells when a drill
        last passed.
    type: path
"""

EXAMPLES = r"""
- name: Are the records what they were?
  custodes.security_dr.drill_record:
    folder: /var/lib/dr-drills
    state: verified
    head: "{{ hash_in_the_ticket_of_the_last_drill | default(omit) }}"
"""

RETURN = r"""
drill:
  description: The drill as it stands.
  returned: when O(state) is V(begun), V(phase_begun) or V(phase_ended)
  type: dict
  sample: {id: 20261127T221500Z, mode: drill, phases: [], findings: []}
killed:
  description: Name of the record of an earlier drill that was killed, if there was one.
  returned: when O(state=begun)
  type: str
  sample: drill-20260827T090000Z.json
phase:
  description: The phase as noted.
  returned: when O(state=phase_ended)
  type: dict
  sample: {name: logs, verdict: passed, measured: 1.2}
record:
  description: The record.
  returned: when O(state) is V(finished) or V(aborted)
  type: dict
  sample: {id: 20261127T221500Z, outcome: completed, verdict: passed}
metrics_problem:
  description: Why O(metrics_file) could not be written.
  returned: when it could not
  type: str
  sample: Cannot write /var/lib/node-exporter/drill.prom
record_file:
  description: Where it lies.
  returned: when O(state) is V(finished) or V(aborted)
  type: str
  sample: /var/lib/dr-drills/drill-20261127T221500Z.json
records:
  description: How many there are.
  returned: when O(state=verified)
  type: int
  sample: 4
head:
  description: The hash of the newest, to be noted elsewhere.
  returned: when O(state=verified)
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

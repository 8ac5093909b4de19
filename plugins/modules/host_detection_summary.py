#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_detection_summary
short_description: Sum up a batch of a roll-out of host detection
version_added: 0.2.0
description:
  - Reads what each host of the batch has registered from M(custodes.security_dr.agent_service), adds it to a summary
    on the controller, and gives a table of the roll-out so far.
  - For C(playbooks/deploy-host-detection.yml), with C(run_once=true). It runs in ansible-playbook's own process and
    asks no host.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - Gives the table of the batch and writes nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - It never reports a change, as no host has changed.
options:
  directory:
    description:
      - Folder on the controller that C(summary.json) is written to, and C(unfinished), the hosts that failed or were
        not tried yet, a line each, for C(--limit @FILE). If it cannot be written, the table says so.
    type: path
    required: true
  register:
    description:
      - The variable that the hosts have registered.
    type: str
    default: __host_detection_result
"""

EXAMPLES = r"""
- name: Add the batch to the summary
  custodes.security_dr.host_detection_summary:
    directory: host-detection-rollout
  run_once: true
  register: summary
"""

RETURN = r"""
table:
  description: The roll-out so far, a line each; hosts with trouble first.
  returned: always
  type: list
  elements: str
  sample: ["HOST   STATE    VERSION  BASELINE  CRITICAL  HIGH  MEDIUM  LOW  INFO  BLIND"]
reasons:
  description: Of this batch the hosts that failed or could not be reached, and the first line of the reason.
  returned: always
  type: dict
  sample: {app-7: "Failed to connect to the host via ssh: Connection timed out"}
"""

#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin that writes the report on all drills."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_report
short_description: Write the report on all disaster recovery drills
version_added: 0.2.0
description:
  - One page of HTML that needs nothing else, for a manager and an auditor - scorecard, timeline to scale, recovery time
    over all drills, open findings, evidence. As Markdown, too.
  - Records that are not what they were are told at the top, and the report is written all the same.
  - It runs in ansible-playbook's own process, on the controller, whatever host the task is for.
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
    support: full
options:
  folder:
    description:
      - Folder of the records, as M(custodes.security_dr.drill_record) keeps it.
    type: path
    required: true
  html:
    description:
      - The page, a file of mode 0600.
    type: path
  markdown:
    description:
      - The report as Markdown, a file of mode 0600.
    type: path
  today:
    description:
      - The day by which a finding is overdue, such as V(2026-11-27). Today's without it.
    type: str
"""

EXAMPLES = r"""
- name: Write the report for the auditor
  custodes.security_dr.drill_report:
    folder: /var/lib/dr-drills
    html: /var/lib/dr-drills/report.html
"""

RETURN = r"""
written:
  description: The files that were written, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: [/var/lib/dr-drills/report.html]
problems:
  description: What was done to the records, a sentence each.
  returned: always
  type: list
  elements: str
  sample: []
records:
  description: How many there are.
  returned: always
  type: int
  sample: 5
"""

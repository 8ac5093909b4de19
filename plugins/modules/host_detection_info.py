#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scans a host for the obvious signs of an intruder, and leaves nothing on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_detection_info
short_description: Scan a host for the obvious signs of an intruder
version_added: 0.2.0
description:
  - Runs the scan of C(custodes detect) once, out of what Ansible carries to the host; nothing is installed, recorded or
    sent, and nothing of it stays on the host.
  - Where the role P(custodes.security_dr.host_detection#role) keeps a baseline, the scan compares with it. Elsewhere
    only what is suspicious by itself is found, such as miners, deleted programs and unexpected listeners.
  - Needs root, and Python 3.9 or newer on the host. It uses the standard library alone.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  config:
    description:
      - The scan's configuration, as in C(/etc/custodes/detect.json); docs/host-detection.md names the options.
      - By default that file, where there is one.
    type: dict
  path:
    description:
      - The configuration of the host that is used when O(config) is not given.
    type: path
    default: /etc/custodes/detect.json
"""

EXAMPLES = r"""
- name: Look at the hosts of the incident
  custodes.security_dr.host_detection_info:
    config:
      listeners:
        allowed:
          - port: 5432
            program: /usr/lib/postgresql/*
            reason: The database
  become: true
  register: scan

- name: Stop where something serious was found
  ansible.builtin.fail:
    msg: "{{ scan.findings | map(attribute='summary') }}"
  when: scan.counts.critical + scan.counts.high > 0
"""

RETURN = r"""
findings:
  description: What was found, most severe first.
  returned: success
  type: list
  elements: dict
  sample:
    - rule: process.miner_name
      severity: critical
      technique: T1496
      state: new
      subject: /usr/bin/xmrig
      summary: A process has the name of a miner
      evidence: {pids: [4711], user: www-data}
      first_seen: "2026-11-24T03:00:00Z"
      last_seen: "2026-11-24T03:00:00Z"
      fingerprint: c31eaab30f4f0e01
      advice: Find out who started it and how before you kill it.
counts:
  description: Number of findings by severity.
  returned: success
  type: dict
  sample: {critical: 1, high: 0, medium: 0, low: 0, info: 0}
blind:
  description: A sentence for each place where it could not look. Not to have looked is not to have found nothing.
  returned: success
  type: list
  elements: str
  sample: []
baseline:
  description: The baseline that was compared with. Its O(ignore:state) is C(none) where there never was one.
  returned: success
  type: dict
  sample: {state: compared, written: "2026-11-01T00:00:00Z", items: 384}
log_store:
  description: What this host sees of the log store. One of ready, unready, unreachable, unconfigured, blind.
  returned: success
  type: str
  sample: ready
host:
  description: The host's own name.
  returned: success
  type: str
  sample: web-1
started:
  description: When the scan began.
  returned: success
  type: str
  sample: "2026-11-24T03:00:00Z"
duration:
  description: Seconds that the scan took.
  returned: success
  type: float
  sample: 0.05
version:
  description: Of the collection.
  returned: success
  type: str
  sample: 0.1.0
"""

import os
import time
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.agent.config import ConfigError, read_config
from ansible_collections.custodes.security_dr.plugins.module_utils.agent.version import VERSION
from ansible_collections.custodes.security_dr.plugins.module_utils.agent.wanted import inline_secrets
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import job
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.settings import Settings
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            # A secret may stand in it, and options are logged on the host; see below for what a result hides.
            "config": {"type": "dict", "no_log": True},
            "path": {"type": "path", "default": "/etc/custodes/detect.json"},
        },
        vault=False,
    )
    # Else every value of the configuration would be hidden in what was found.
    module.no_log_values = set(inline_secrets(module.params["config"] or {}))

    def action() -> dict[str, object]:
        if os.geteuid() != 0:
            raise DetectionError("Only root sees all of a host. Run this with become: true.")
        config = module.params["config"]
        if config is None and Path(module.params["path"]).exists():
            try:
                config = read_config(module.params["path"], os.environ)
            except ConfigError as error:
                raise DetectionError(str(error)) from error
        report = job.preview(Settings.from_config(config or {}, time.time(), VERSION), VERSION)
        del report["delivery"], report["problem"]
        return {"changed": False, **report}

    module.run(action)


if __name__ == "__main__":
    main()

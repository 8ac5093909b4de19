#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs one command of the agent as a service with a timer, in one task."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_service
short_description: Run a command of the agent, C(custodes), by a systemd timer
version_added: 0.2.0
description:
  - In one task on the host, writes the agent, its folders, credentials, configuration and units, enables and starts the
    timer, and proves all that by a run of the service.
  - Before anything is replaced, the new agent has judged the new configuration, and systemd the new units.
  - A run that was killed at any point is completed by the next.
  - What the runs have written (baseline, memory, logs) is kept by an upgrade.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - The configuration and the units are judged in check mode as well; the service is not started.
  diff_mode:
    support: full
    details:
      - Tells the agent's files by hash, the units as they are, and the configuration without its secrets.
  idempotent:
    support: full
notes:
  - Needs systemd, root, and Python 3.9 or newer on the host.
options:
  command:
    description:
      - The agent's command. Its configuration is C(/etc/custodes/COMMAND.json), mode 0600.
    type: str
    required: true
  config:
    description:
      - The command's configuration. C(X_credential=NAME) stands for an option C(X) that is one of O(credentials).
      - Folders that its C(state_directory), C(log_directory) and C(metrics_file) name are made where there are none.
    type: dict
    default: {}
  credentials:
    description:
      - Secrets by name, kept in C(/etc/custodes/credentials), mode 0600. One that the configuration has no use for any
        longer is removed.
    type: dict
    default: {}
  units:
    description:
      - One service and one timer, their content by name, for C(/etc/systemd/system).
    type: dict
    required: true
  path:
    description:
      - Where the agent is installed.
    type: path
    default: /usr/local/bin/custodes
  interpreter:
    description:
      - Path of the Python that runs the agent. If not given, that of the agent which is installed, as another command
        may need what is in its virtual environment; else C(/usr/bin/python3).
    type: path
  verify:
    description:
      - Whether to prove a change by a run, and to repeat a last run that has failed. The task fails when the run does.
    type: bool
    default: true
  state:
    description:
      - V(absent) stops the timer and removes the units, the configuration, its credentials and its metrics. The
        agent is removed with the last configuration in C(/etc/custodes).
    type: str
    choices: [present, absent]
    default: present
  purge:
    description:
      - With O(state=absent), whether to remove the baseline, the memory and the logs as well.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Run host detection every five minutes
  custodes.security_dr.agent_service:
    command: detect
    config:
      state_directory: /var/lib/custodes/detection
      log_directory: /var/log/security
      delivery:
        destinations:
          - name: on-call
            type: slack
            url_credential: on-call-url
    credentials:
      on-call-url: "{{ vaulted_on_call_url }}"
    units:
      degraded-detection.service: "{{ lookup('ansible.builtin.template', 'degraded-detection.service') }}"
      degraded-detection.timer: "{{ lookup('ansible.builtin.template', 'degraded-detection.timer') }}"

- name: Remove it, and leave what it has found
  custodes.security_dr.agent_service:
    command: detect
    state: absent
    units:
      degraded-detection.service: ""
      degraded-detection.timer: ""
"""

RETURN = r"""
changes:
  description: What was changed, or would be.
  returned: success
  type: list
  elements: str
  sample: [agent, configuration, unit degraded-detection.timer, timer enabled, timer started]
ran:
  description: Whether the service was run, to prove a change or to repeat what had failed.
  returned: success
  type: bool
  sample: true
version:
  description: Version of the agent that did the last run. Like all that follows, null or empty where there was none.
  returned: success
  type: str
  sample: 0.2.0
baseline:
  description: What the last run compared the host with.
  returned: success
  type: dict
  sample: {state: compared, written: "2026-03-01T10:00:00Z", items: 412}
counts:
  description: Number of findings by severity.
  returned: success
  type: dict
  sample: {critical: 0, high: 1, medium: 0, low: 2, info: 0}
findings:
  description: The ten most severe ones.
  returned: success
  type: list
  elements: dict
  sample:
    - rule: schedule.cron
      severity: high
      subject: /etc/cron.d/backup
      summary: A scheduled task was added.
      state: new
      first_seen: "2026-03-01T10:05:00Z"
blind:
  description: Where the last run could not look; ten sentences at most.
  returned: success
  type: list
  elements: str
  sample: []
log_store:
  description: The log store as the last run saw it.
  returned: success
  type: str
  sample: ready
"""

from collections.abc import Mapping, Sequence

from ansible_collections.custodes.security_dr.plugins.module_utils.agent import service
from ansible_collections.custodes.security_dr.plugins.module_utils.agent.wanted import Wanted, inline_secrets
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule

# Stands for "/".
ROOT = "/"


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "command": {"type": "str", "required": True},
            # A secret may stand in it, and options are logged on the host; see below for what a result hides.
            "config": {"type": "dict", "default": {}, "no_log": True},
            "credentials": {"type": "dict", "default": {}, "no_log": True},
            "units": {"type": "dict", "required": True},
            "path": {"type": "path", "default": "/usr/local/bin/custodes"},
            "interpreter": {"type": "path"},
            "verify": {"type": "bool", "default": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "purge": {"type": "bool", "default": False},
        },
        vault=False,
    )
    options = module.params
    # Else every value of the configuration would be hidden in what was found.
    module.no_log_values = {*map(str, options["credentials"].values()), *inline_secrets(options["config"])}

    def run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
        try:
            code, out, err = module.run_command(list(command), environ_update=environment, handle_exceptions=False)
        except OSError as error:
            return 127, "", f"{command[0]}: {error.strerror}"
        return code, out, err

    def action() -> dict[str, object]:
        names = ("command", "path", "interpreter", "config", "credentials", "units")
        one = service.Service(Wanted(*(options[name] for name in names)), run, ROOT, check=module.check_mode)
        absent = options["state"] == "absent"
        done = one.absent(purge=options["purge"]) if absent else one.present(verify=options["verify"])
        for warning in done.warnings:
            module.warn(warning)
        changed = {"changed": bool(done.changes), "changes": done.changes, "diff": done.diff, "ran": done.ran}
        return {**changed, **service.told(done.report)}

    module.run(action)


if __name__ == "__main__":
    main()

# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums up a batch of a roll-out in ansible-playbook's own process, which knows what its hosts have registered."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.custodes.security_dr.plugins.module_utils.rollout import summary


class ActionModule(ActionBase):  # type: ignore[misc]
    """Documented as the module of the same name."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs the task."""
        super().run(tmp, task_vars)
        options = self.validate_argument_spec(
            argument_spec={
                "directory": {"type": "path", "required": True},
                "register": {"type": "str", "default": "__host_detection_result"},
            }
        )[1]
        known = task_vars or {}
        hosts = [str(host) for host in known["ansible_play_batch"]]
        results = {host: known["hostvars"][host].get(options["register"]) for host in hosts}
        batch = summary.Batch(hosts, [str(host) for host in known["ansible_play_hosts_all"]], results)
        folder = Path(options["directory"]).absolute()
        told = summary.add(folder, batch, datetime.now(timezone.utc), write=not self._task.check_mode)
        return {"changed": False, **told}

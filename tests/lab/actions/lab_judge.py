# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task that scans a host once, as the timer would, and judges what was logged and sent since the last time.

    lab_judge:
      expected: [{rule: schedule.cron, technique: T1053.003, names: /etc/cron.d/x}]    # none if not given
      state: new                    # or resolved
      also: [infrastructure.*]      # by default what the state of log store and webhooks brings with it
      delivered: once               # later, ends_later or never: see lab.judge
      scan: true                    # false: it was scanned already

It is an action of the controller's own process, and needs no Python on the host: there are many such tasks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from lab.judge import judge_since
from lab.receiver import control

_SCAN = "systemctl start degraded-detection.service"
_READ = "cat /var/log/security/alerts.log"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Judge a host of the scenario host_detection."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return an unchanged result; fail with a sentence for each thing that is wrong."""
        super().run(tmp, task_vars)
        args, known = self._task.args, task_vars or {}
        scans = args.get("scan", True)
        done = self._low_level_execute_command(f"{_SCAN} && {_READ}" if scans else _READ)
        if done["rc"] != 0:
            return {"failed": True, "msg": f"The host could not be scanned: {done['stderr'] or done['stdout']}"}
        case = {
            "host": known["inventory_hostname"],
            "log": done["stdout"],
            "webhooks": {name: control(known["lab_control"], "GET", name) for name in known["lab_webhook_names"]},
            "expected": args.get("expected", []),
            "state": args.get("state", "new"),
            "also": args.get("also", ["infrastructure.*", "delivery.rejected"]),
            "delivered": args.get("delivered", "once"),
        }
        wrong = judge_since(Path(known["lab_folder"]), case)
        return {"failed": bool(wrong), "msg": "\n".join(wrong), "changed": False}

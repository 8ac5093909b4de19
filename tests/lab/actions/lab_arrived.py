# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task that waits until a webhook of the lab has accepted everything that is named.

lab_arrived:
  webhook: second
  holds: [{status: firing, labels: {alertname: PrometheusDown}}]    # as Receiver.wait takes it
  since: 1767225600.0           # seconds since 1970; 0 if not given
  within: 60                    # seconds since then, or from now on without `since`
"""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase

from lab.receiver import control


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ask the receiver at lab_control."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return how many seconds it took; fail with what is missing, or came too late."""
        super().run(tmp, task_vars)
        args = self._task.args
        webhook, within = args["webhook"], float(args["within"])
        since = float(args.get("since", 0))
        until = (since or time.time()) + within
        wanted = {"holds": args["holds"], "since": since, "seconds": max(until - time.time(), 0)}
        told = control((task_vars or {})["lab_control"], "POST", webhook, wanted)
        if told["missing"] or told["time"] > until:
            late = f"the last came {told['time'] - until:.1f} s too late" if not told["missing"] else ""
            return {"failed": True, "msg": f"{webhook}, within {within:g} s: {told['missing'] or late}"}
        seconds = round(told["time"] - since, 1) if since else None
        return {"changed": False, "seconds": seconds, "msg": f"{webhook} had everything after {seconds} s"}

# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task that sets how the lab's webhooks answer, and switches the lab's servers.

    lab_control:
      first: {status: 500}          # as Receiver.answer takes it
      switch/loki: {state: down}

It is an action of the controller's own process: the module uri would start a Python for each request.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from lab.receiver import control


class ActionModule(ActionBase):  # type: ignore[misc]
    """Send each argument to the receiver at lab_control."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return a changed result; a request that the receiver refuses fails the task."""
        super().run(tmp, task_vars)
        for name, body in self._task.args.items():
            control((task_vars or {})["lab_control"], "PUT", name, body)
        return {"changed": True}

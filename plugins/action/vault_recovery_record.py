# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the journal of a recovery on the controller, in ansible-playbook's own process.

As a module, each of the eight notes of a recovery would cost half a second of the time that it measures.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.options import empty_options
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery import process, report
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.errors import RecoveryError

STATES = ["started", "step", "finished", "failed"]
SPEC: dict[str, dict[str, Any]] = {
    "directory": {"type": "path", "required": True},
    "state": {"type": "str", "choices": STATES, "required": True},
    "nodes": {"type": "list", "elements": "str"},
    "step": {"type": "str"},
    "detail": {"type": "dict", "default": {}},
    "facts": {"type": "dict", "default": {}},
    "objective": {"type": "float", "default": 900.0},
    "rpo_objective": {"type": "float"},
    "problem": {"type": "str", "default": ""},
    "failed_task": {"type": "str", "default": ""},
    "versions": {"type": "dict", "default": {}},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Documented as the module of the same name."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs the task."""
        super().run(tmp, task_vars)
        if empty := empty_options(SPEC, self._task.args):
            return {"failed": True, "msg": empty, "error_type": "OptionError"}
        options = self.validate_argument_spec(
            argument_spec=SPEC,
            required_if=[("state", "step", ["step"]), ("state", "started", ["nodes"])],
        )[1]
        now = datetime.now(timezone.utc)
        recovery = process.Recovery(Path(options["directory"]).absolute(), writes=not self._task.check_mode)
        try:
            if options["state"] == "started":
                return recovery.start(options["nodes"], now)
            if options["state"] == "step":
                return recovery.step(options["step"], options["detail"], options["facts"], now)
            status = report.RECOVERED if options["state"] == "finished" else report.FAILED
            names = ("objective", "rpo_objective", "problem", "failed_task", "versions")
            given: dict[str, Any] = {name: options[name] if options[name] != "" else None for name in names}
            return recovery.end(report.Ending(status, **given), now)
        except (RecoveryError, StoreError) as error:
            return {"failed": True, "msg": str(error), "error_type": type(error).__name__}

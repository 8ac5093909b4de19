# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the records of drills on the controller, in ansible-playbook's own process, whose lock it is."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.custodes.security_dr.plugins.module_utils import textfile
from ansible_collections.custodes.security_dr.plugins.module_utils.agent.version import VERSION
from ansible_collections.custodes.security_dr.plugins.module_utils.drill import chain
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.errors import DrillError
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.record import Drill, metrics
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError

STATES = ["begun", "phase_begun", "phase_ended", "finished", "aborted", "verified"]
SPEC: dict[str, dict[str, Any]] = {
    "folder": {"type": "path", "required": True},
    "state": {"type": "str", "choices": STATES, "required": True},
    "about": {
        "type": "dict",
        "options": {
            "mode": {"type": "str", "choices": ["drill", "rehearsal"], "required": True},
            "scope": {"type": "list", "elements": "str", "required": True},
            "operator": {"type": "str", "required": True},
            "reason": {"type": "str", "default": ""},
            "versions": {"type": "dict", "default": {}},
            "environment": {"type": "str", "default": ""},
            "window": {"type": "str", "default": ""},
        },
    },
    "closed": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {name: {"type": "str", "required": True} for name in ("id", "by", "text")},
    },
    "phase": {"type": "str"},
    "title": {"type": "str"},
    "objective": {
        "type": "dict",
        "options": {
            "what": {"type": "str", "required": True},
            "at_most": {"type": "float", "required": True},
            "unit": {"type": "str", "default": "s"},
        },
    },
    "told": {
        "type": "dict",
        "options": {
            "measured": {"type": "float"},
            "measurements": {"type": "dict", "default": {}},
            "fault": {"type": "dict"},
            "evidence": {"type": "list", "elements": "str", "default": []},
            "deviations": {"type": "list", "elements": "str", "default": []},
            "findings": {"type": "list", "elements": "str", "default": []},
            "problem": {"type": "str"},
            "skipped": {"type": "str"},
            "owner": {"type": "str"},
            "due_days": {"type": "int"},
        },
    },
    "problem": {"type": "str"},
    "head": {"type": "str"},
    "metrics_file": {"type": "path"},
}
REQUIRED_IF = [
    ("state", "begun", ["about"]),
    ("state", "phase_begun", ["phase", "title", "objective"]),
    ("state", "phase_ended", ["phase", "told"]),
    ("state", "aborted", ["problem"]),
]


class ActionModule(ActionBase):  # type: ignore[misc]
    """Documented as the module of the same name."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs the task."""
        super().run(tmp, task_vars)
        options = self.validate_argument_spec(argument_spec=SPEC, required_if=REQUIRED_IF)[1]
        try:
            return self._run(options, datetime.now(timezone.utc))
        except (DrillError, StoreError) as error:
            return {"failed": True, "msg": str(error), "error_type": type(error).__name__}

    def _run(self, options: dict[str, Any], now: datetime) -> dict[str, Any]:
        folder, state = Path(options["folder"]).absolute(), options["state"]
        drill = Drill(folder, writes=not self._task.check_mode)
        if state == "verified":
            return _verified(folder, options["head"])
        if state == "begun":
            about = {**options["about"], "versions": {"collection": VERSION, **options["about"]["versions"]}}
            return drill.begin(about, options["closed"], now)
        if state == "phase_begun":
            return drill.begin_phase(options["phase"], options["title"], options["objective"], now)
        if state == "phase_ended":
            return drill.end_phase(options["phase"], options["told"], now)
        result = drill.end(options["problem"] if state == "aborted" else None, now)
        if options["metrics_file"] and not self._task.check_mode:
            try:
                textfile.write(options["metrics_file"], metrics(chain.read(folder)))
            except StoreError as error:
                # The record is written, and what follows it has to be done all the same.
                result["metrics_problem"] = str(error)
        return result


def _verified(folder: Path, head: str | None) -> dict[str, Any]:
    records = chain.read(folder)
    told = chain.problems(records, head)
    newest = records[-1][1].get("sha256") if records else None
    if told:
        return {"failed": True, "msg": f"The records in {folder} are not what they were: {' '.join(told)}"}
    return {"changed": False, "records": len(records), "head": newest}

# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the report on all drills, on the controller, where the records are and Jinja2 is."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.custodes.security_dr.plugins.module_utils.drill import chain
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.errors import DrillError
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.report import html, markdown
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError, explain, new_file


class ActionModule(ActionBase):  # type: ignore[misc]
    """Documented as the module of the same name."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs the task."""
        super().run(tmp, task_vars)
        options = self.validate_argument_spec(
            argument_spec={
                "folder": {"type": "path", "required": True},
                "html": {"type": "path"},
                "markdown": {"type": "path"},
                "today": {"type": "str"},
            },
            required_one_of=[("html", "markdown")],
        )[1]
        today = options["today"] or f"{datetime.now(timezone.utc):%Y-%m-%d}"
        try:
            records = chain.read(Path(options["folder"]).absolute())
            problems = chain.problems(records)
            written = []
            for name, make in (("html", html), ("markdown", markdown)):
                if options[name] and self._write(Path(options[name]).absolute(), make(records, problems, today)):
                    written.append(options[name])
        except (DrillError, StoreError) as error:
            return {"failed": True, "msg": str(error), "error_type": type(error).__name__}
        return {"changed": bool(written), "written": written, "problems": problems, "records": len(records)}

    def _write(self, dest: Path, content: str) -> bool:
        """Whether it was, or in check mode would be, another than it is."""
        try:
            if dest.read_text(encoding="utf-8") == content:
                return False
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            raise StoreError(f"Cannot read {dest}, which would be replaced: {_explain(error)}.") from error
        if not self._task.check_mode:
            with new_file(dest) as file:
                file.write(content.encode())
        return True


def _explain(error: Exception) -> str:
    """Why a file cannot be read, or is no text."""
    return explain(error) if isinstance(error, OSError) else str(error)

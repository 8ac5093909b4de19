# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports the progress of ansible-playbook as lines of JSON, which lab.progress shows."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.playbook.role_include import IncludeRole
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: progress
type: notification
short_description: Report the progress of a playbook to the lab
description:
  - Writes one line of JSON for each task that begins, each result that is not skipped, and each failure.
requirements:
  - Enable it in C(ANSIBLE_CALLBACKS_ENABLED), and name an open file descriptor in C(LAB_PROGRESS_FD).
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._descriptor = int(os.environ["LAB_PROGRESS_FD"])
        self._play = ""

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Keep the name of the play, for the tasks that no import or include contains."""
        self._play = play.get_name()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Report the task, and the step of the playbook that it belongs to."""
        name = task.get_name().rpartition(" : ")[2]
        self._report(event="begin", task=name, step=_step(task) or self._play)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Report a handler as the task that it is."""
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Report that the task was not skipped."""
        self._report(event="done")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Report a failure that the task does not ignore."""
        if not ignore_errors:
            self._report(event="failed", host=result.host.get_name(), message=str(result.result.get("msg", "")))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Report a host that does not answer."""
        self._report(event="failed", host=result.host.get_name(), message=str(result.result.get("msg", "")))

    def _report(self, **event: str) -> None:
        os.write(self._descriptor, f"{json.dumps(event)}\n".encode())


def _step(task: Any) -> str | None:
    """Return the name of the outermost import or include of a role that the task is or is in, None without one."""
    found, parent = None, task
    while parent is not None:
        if isinstance(parent, IncludeRole):
            found = parent.get_name()
        parent = parent._parent
    return found

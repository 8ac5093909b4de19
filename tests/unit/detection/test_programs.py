# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes and listeners are looked at in a child, which may not come back."""

from __future__ import annotations

import os
import signal
import time

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import programs
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.findings import Scan


def test_what_holds_the_child_does_not_hold_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "LONGEST", 0.2)
    here = os.getpid()

    def work() -> dict[str, Scan]:
        if os.getpid() == here:
            pytest.fail("would hang")
        time.sleep(60)
        return {}

    with programs.Running(work) as running:
        scans = running.finish()
    assert {name: scan.findings for name, scan in scans.items()} == {"processes": [], "listeners": []}
    assert scans["processes"].blind == [
        "The scan of processes did not end within 0 seconds: a process may hold whoever looks at it."
    ]


def test_what_a_child_that_died_would_have_seen_is_looked_for_here() -> None:
    here = os.getpid()

    def work() -> dict[str, Scan]:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"processes": Scan([], ["here"])}

    with programs.Running(work) as running:
        assert running.finish()["processes"].blind == ["here"]

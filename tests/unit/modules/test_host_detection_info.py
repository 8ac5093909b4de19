# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module host_detection_info: what it keeps to itself of a configuration, which may hold secrets."""

from __future__ import annotations

import os
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import job
from unit.modules.runner import Runner

CONFIG = {
    "log_directory": "/var/log/security",
    "delivery": {
        "destinations": [
            {"name": "chat", "type": "slack", "url": "https://hooks.example.com/SECRET"},
            {"name": "pager", "type": "pagerduty", "token": "SECRET"},
        ]
    },
}


def test_secrets_are_hidden_and_what_was_found_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def preview(*_given: Any) -> dict[str, Any]:
        return {"findings": [{"subject": "/var/log/security"}], "delivery": {}, "problem": None}

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(job, "preview", preview)
    run = Runner(capsys, "host_detection_info", config=CONFIG)
    assert run()["findings"] == [{"subject": "/var/log/security"}]
    assert "SECRET" not in run.output

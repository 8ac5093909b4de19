# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a detection run tells Prometheus."""

from __future__ import annotations

from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.detection.metrics import render

REPORT: dict[str, Any] = {
    "version": "1.2.3",
    "duration": 0.25,
    "baseline": {"state": "compared", "written": "2026-01-01T00:00:00Z", "items": 3},
    "findings": [
        {"severity": "critical", "rule": "process.miner_name"},
        {"severity": "critical", "rule": "process.miner_name"},
        {"severity": "low", "rule": "allowlist.expired"},
    ],
    "blind": ["x"],
    "log_store": "unready",
    "delivery": {"sent": 1, "waiting": 2, "rejected": 0, "dropped": 3},
    "problem": None,
}


def samples(report: dict[str, Any]) -> dict[str, float]:
    lines = [line for line in render(report, 1_767_225_900.0).splitlines() if not line.startswith("#")]
    return {
        name.removeprefix("host_detection_"): float(value) for name, value in (line.rsplit(" ", 1) for line in lines)
    }


def test_whole_run() -> None:
    assert samples(REPORT) == {
        "last_run_timestamp_seconds": 1_767_225_900,
        "last_run_duration_seconds": 0.25,
        "last_run_success": 1,
        'findings{severity="critical",rule=""}': 0,
        'findings{severity="critical",rule="process.miner_name"}': 2,
        'findings{severity="high",rule=""}': 0,
        'findings{severity="info",rule=""}': 0,
        'findings{severity="low",rule=""}': 0,
        'findings{severity="low",rule="allowlist.expired"}': 1,
        'findings{severity="medium",rule=""}': 0,
        "blind": 1,
        "baseline_timestamp_seconds": 1_767_225_600,
        "log_store_ready": 0,
        "delivery_waiting": 2,
        "delivery_rejected": 0,
        "delivery_dropped": 3,
        'agent_info{version="1.2.3"}': 1,
    }


def test_run_that_failed_before_it_knew_anything() -> None:
    assert samples({"version": "1.2.3", "problem": "no configuration"}) == {
        "last_run_timestamp_seconds": 1_767_225_900,
        "last_run_success": 0,
        'agent_info{version="1.2.3"}': 1,
    }


def test_log_store_that_nobody_asked_is_neither_ready_nor_not() -> None:
    for state, value in (("ready", 1), ("unreachable", 0), ("unconfigured", None), ("blind", None), (None, None)):
        assert samples({**REPORT, "log_store": state}).get("log_store_ready") == value

# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells Prometheus: that it ran, and how much it found. What it found stands in the log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..textfile import Family, gauges
from .rules import SEVERITIES

PREFIX = "host_detection_"

_DELIVERY = {
    "waiting": "Number of events that wait for a webhook to take them.",
    "rejected": "Number of events that a webhook refused in the last run.",
    "dropped": "Number of events that the last run dropped, as too many waited.",
}


def render(report: Mapping[str, Any], ended: float) -> str:
    """The text of the file; textfile.write takes it.

    Args:
        report: of the run. What it lacks, as the run failed before it was known, is left out.
        ended: when the run ended, seconds since 1970.
    """
    baseline, delivery = report.get("baseline") or {}, report.get("delivery") or {}
    store = report.get("log_store")
    families: list[Family] = [
        ("last_run_timestamp_seconds", "When the last run ended, however it did.", [({}, ended)]),
        ("last_run_duration_seconds", "How long the last run took.", [({}, report.get("duration"))]),
        ("last_run_success", "1 when the last run could do and record all it had to.", [({}, _success(report))]),
        ("findings", "Number of findings that are there now.", _findings(report)),
        ("blind", "Number of places where the last run could not look.", [({}, _length(report.get("blind")))]),
        (
            "baseline_timestamp_seconds",
            "When the baseline was written.",
            [({}, _seconds(baseline.get("written")))],
        ),
        (
            "log_store_ready",
            "1 when the log store takes this host's logs; absent when none is configured or nobody could look.",
            [({}, int(store == "ready") if store in ("ready", "unready", "unreachable") else None)],
        ),
        *((f"delivery_{name}", text, [({}, delivery.get(name))]) for name, text in _DELIVERY.items()),
        ("agent_info", "The version of the agent.", [({"version": str(report.get("version"))}, 1)]),
    ]
    return gauges(PREFIX, families)


def _findings(report: Mapping[str, Any]) -> list[tuple[Mapping[str, str], Any]]:
    """Counts by severity and rule; each severity has a zero without a rule, so that a sum over it is never absent."""
    findings = report.get("findings")
    if findings is None:
        return []
    counts = {(severity, ""): 0 for severity in SEVERITIES}
    for one in findings:
        which = one["severity"], one["rule"]
        counts[which] = counts.get(which, 0) + 1
    return [({"severity": severity, "rule": rule}, count) for (severity, rule), count in sorted(counts.items())]


def _success(report: Mapping[str, Any]) -> int:
    return 0 if report.get("problem") else 1


def _length(value: Any) -> Any:
    return None if value is None else len(value)


def _seconds(time: Any) -> Any:
    # Python 3.9 does not know the Z.
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp() if time else None

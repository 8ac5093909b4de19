# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of drills as years of them look, made up: for the report's tests, its benchmark and its picture."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.drill import chain
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.times import stamp

PARTS = (
    ("vault", "Vault comes back from the newest snapshot", "until the canaries are readable", 300, 19, 2),
    ("logs", "Logs survive the loss of the primary", "until each line is in the secondary", 30, 1.4, 12),
    ("certificates", "Certificates survive the loss of the CA", "from its return to a renewed one", 120, 3, 9),
    ("alerting", "A page arrives", "until DR_DRILL_TEST is at the receiver", 120, 11, 3),
    ("host_detection", "An intruder is told of", "until a miner's name is at the emergency receiver", 120, 2, 8),
    ("watchers", "Somebody watches the watcher", "until its alert is at the receiver", 120, 39, 6),
)
"""Name, title, what is measured, how much is allowed, about how much it is, and seconds of the part beside that."""


def made_up(count: int, seed: int = 7) -> list[tuple[str, dict[str, Any]]]:
    """So many drills, one a quarter, the last of them passed; by chance, always the same."""
    chance, made = random.Random(seed), list[tuple[str, dict[str, Any]]]()  # noqa: S311
    for number in range(count):
        began = datetime(2026, 11, 27, 20, tzinfo=timezone.utc) - timedelta(days=91 * (count - 1 - number))
        made.append(_sealed(_drill(began, chance, number, last=number == count - 1), made))
    return made


def _sealed(drill: dict[str, Any], before: list[tuple[str, dict[str, Any]]]) -> tuple[str, dict[str, Any]]:
    record = chain.sealed(drill, before[-1] if before else None)
    return f"drill-{drill['id']}.json", {**record, "signature": None}


def _drill(began: datetime, chance: random.Random, number: int, *, last: bool) -> dict[str, Any]:
    name, at, phases = f"{began:%Y%m%dT%H%M%SZ}", began + timedelta(seconds=2), []
    late = None if last or chance.random() > 0.25 else chance.randrange(len(PARTS))
    for place, (part, title, what, at_most, about, beside) in enumerate(PARTS):
        measured = at_most * 1.2 if place == late else about * chance.uniform(0.8, 1.3)
        end = at + timedelta(seconds=measured + beside)
        fault = None
        if part not in ("vault", "alerting"):
            injected, undone = at + timedelta(seconds=0.6), at + timedelta(seconds=measured + 1)
            times = {"injected": stamp(injected), "confirmed": stamp(injected), "undone": stamp(undone)}
            fault = {"what": f"systemctl stop {part}.service on {part}-1", **times, "undone_by": "drill"}
        rto = {"rto_seconds": measured, "rpo_seconds": 3600 * chance.uniform(2, 22)} if part == "vault" else {}
        phases.append(
            {
                "name": part,
                "title": title,
                "objective": {"what": what, "at_most": at_most, "unit": "s"},
                "started": stamp(at),
                "ended": stamp(end),
                "measured": measured,
                "measurements": rto,
                "verdict": "failed" if place == late else "passed",
                "fault": fault,
                "evidence": [f"{part}: as the lab's own records have it"],
                "deviations": [],
            }
        )
        at = end + timedelta(seconds=1)
    finding = {
        "id": f"F-{name}-1",
        "phase": "logs",
        "text": "The runbook names a host that is gone.",
        "owner": "bob",
        "due": f"{began + timedelta(days=30):%Y-%m-%d}",
        "status": "open",
        "closed": None,
        "first_seen_in": name,
    }
    return {
        "schema_version": 1,
        "id": name,
        "mode": "drill",
        "scope": [part for part, *_rest in PARTS],
        "operator": ("alice", "bob", "carol")[number % 3],
        "reason": f"Q{(began.month - 1) // 3 + 1} {began.year}",
        "versions": {"ansible": "2.19.0", "vault": "1.21.0"},
        "started": stamp(began),
        "ended": stamp(at),
        "outcome": "completed",
        "abort_reason": None,
        "phases": phases,
        "verdict": "passed" if late is None else "failed",
        "findings": [finding] if last else [],
    }

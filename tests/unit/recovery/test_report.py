# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record's numbers, and how people read them."""

from __future__ import annotations

import getpass
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.journal import Journal
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.report import (
    FAILED,
    RECOVERED,
    SNAPSHOT,
    Ending,
    build_record,
    duration,
    markdown,
    summary_lines,
)

NOW = datetime(2026, 11, 24, 3, 1, tzinfo=timezone.utc)
STEP = {"name": "Restore", "run": 1, "started_at": "2026-11-24T03:00:00.000+00:00", "seconds": 1.25, "detail": {}}
DATA: dict[str, Any] = {
    "started_at": "2026-11-24T03:00:00.000+00:00",
    "nodes": ["https://vault-1:8200"],
    "runs": 1,
    "steps": [{**STEP, "detail": {"leader": "https://vault-1:8200"}}],
    "readable_at": "2026-11-24T03:00:14.200+00:00",
    "snapshot": {
        "path": "/backups/prod.snap",
        "store": "s3://backups/prod",
        "taken_at": "2026-11-24T02:00:00+00:00",
        "index": 4711,
        "sha256": "9f86",
        "size": 48211,
        "manifest": {"cluster_name": "prod"},
        "rejected": [{"path": "/backups/newer.snap", "problem": "it is cut | short"}],
    },
    "checks": [{"name": "every node answers", "result": "passed", "detail": "1 nodes"}],
    "secrets": [
        {"path": "secret/a", "node": "https://vault-1:8200", "readable": True, "problem": None, "fields": ["a", "b"]}
    ],
    "redundant": True,
}


def record(
    status: str = RECOVERED,
    objective: float = 900,
    problem: str | None = None,
    rpo_objective: float | None = None,
    **data: Any,
) -> dict[str, Any]:
    journal = Journal(Path("/nowhere"), {**DATA, **data})
    ending = Ending(status, objective, rpo_objective, problem, versions={"ansible": "2.19.0"})
    return build_record(journal, ending, NOW)


def test_holds_what_an_auditor_asks_for() -> None:
    made = record()
    assert made["snapshot"] == {name: DATA["snapshot"][name] for name in SNAPSHOT}
    assert made["rejected_snapshots"] == DATA["snapshot"]["rejected"]
    assert made["operator"] == f"{getpass.getuser()}@{platform.node()}"
    assert made["finished_at"] == "2026-11-24T03:01:00.000+00:00"
    assert made["versions"] == {"ansible": "2.19.0"}
    assert record(server_versions=["1.21.0", "1.21.1"])["versions"] == {"ansible": "2.19.0", "server": "1.21.0, 1.21.1"}
    for name in ("started_at", "nodes", "runs", "steps", "checks", "secrets", "redundant"):
        assert made[name] == DATA[name]


@pytest.mark.parametrize(
    ("change", "rto", "rpo", "met"),
    [
        ({}, 14.2, 3600.0, True),
        ({"readable_at": None}, None, 3600.0, None),
        ({"readable_at": "2026-11-24T03:15:00.000+00:00"}, 900.0, 3600.0, True),
        ({"readable_at": "2026-11-24T03:15:00.001+00:00"}, 900.001, 3600.0, False),
        ({"snapshot": {"taken_at": "2026-11-24T03:59:00+01:00"}}, 14.2, 60.0, True),
        ({"snapshot": None}, 14.2, None, True),
        ({"snapshot": {"path": "x"}}, 14.2, None, True),
    ],
)
def test_objectives(change: dict[str, Any], rto: float | None, rpo: float | None, met: bool | None) -> None:
    made = record(**change)
    assert (made["rto_seconds"], made["rpo_seconds"], made["rto_met"]) == (rto, rpo, met)


@pytest.mark.parametrize(
    ("change", "met"),
    [
        ({"rpo_objective": 3600}, True),
        ({"rpo_objective": 3599.9}, False),
        ({"rpo_objective": None}, None),
        ({"rpo_objective": 3600, "snapshot": None}, None),
    ],
)
def test_objective_for_the_age_of_the_snapshot(change: dict[str, Any], met: bool | None) -> None:
    made = record(**change)
    assert (made["rpo_objective_seconds"], made["rpo_met"]) == (change["rpo_objective"], met)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "not known"),
        (0, "0.0 s"),
        (14.24, "14.2 s"),
        (119.9, "119.9 s"),
        (120, "2 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (7380, "2 h 3 min"),
        (86399, "23 h 59 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


class TestSummary:
    def test_recovered(self) -> None:
        lines = summary_lines(record())
        assert "Status: recovered" in lines
        assert "secret/a at https://vault-1:8200: readable" in lines
        assert "Time to readable (RTO): 14.2 s (objective 15 min 0 s, met)" in lines
        assert "Data lost at most (RPO): 1 h 0 min" in lines
        assert "Survives the loss of a node: yes" in lines
        assert "Not used: /backups/newer.snap: it is cut | short" in lines
        assert any(line.split() == ["Restore", "1.2"] for line in lines)

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            ({"objective": 10}, "Time to readable (RTO): 14.2 s (objective 10.0 s, MISSED)"),
            ({"rpo_objective": 93600}, "Data lost at most (RPO): 1 h 0 min (objective 1 d 2 h, met)"),
            ({"rpo_objective": 60}, "Data lost at most (RPO): 1 h 0 min (objective 60.0 s, MISSED)"),
            ({"readable_at": None}, "Time to readable (RTO): not measured (objective 15 min 0 s)"),
            ({"status": FAILED, "problem": "It broke."}, "Status: failed: It broke."),
            ({"redundant": False}, "Survives the loss of a node: NOT YET"),
            (
                {"redundant": False, "steps": [{**STEP, "detail": {"problem": "2 voters"}}]},
                "Survives the loss of a node: NOT YET: 2 voters",
            ),
            ({"redundant": None}, "Survives the loss of a node: not known"),
            ({"snapshot": None}, "Snapshot: none was chosen"),
            (
                {"snapshot": None, "chosen": {"path": "/c", "taken_at": "2026-11-24T02:00:00+00:00"}},
                "Snapshot: /c, taken 2026-11-24T02:00:00+00:00",
            ),
            ({"secrets": []}, "Secrets read back: NONE: name some in vault_recovery_canaries"),
            ({"safety_snapshot": "/x/safety.snap"}, "Safety snapshot of what was there: /x/safety.snap"),
        ],
    )
    def test_verdicts(self, change: dict[str, Any], line: str) -> None:
        assert line in summary_lines(record(**change))

    def test_a_secret_that_was_not_read_stands_out(self) -> None:
        secrets = [{**DATA["secrets"][0], "readable": False, "problem": "There is nothing."}]
        assert "secret/a at https://vault-1:8200: NOT READABLE: There is nothing." in summary_lines(
            record(secrets=secrets)
        )

    def test_more_runs_than_one_are_told_apart(self) -> None:
        lines = summary_lines(record(runs=2, steps=[STEP, {**STEP, "run": 2}]))
        assert [line.split("  ")[0] for line in lines if line.startswith("Restore")] == [
            "Restore (run 1)",
            "Restore (run 2)",
        ]


class TestMarkdown:
    def test_every_row_of_a_table_has_its_columns(self) -> None:
        hostile = "a|b\nc\r\n| d |"
        page = markdown(
            record(
                problem=hostile,
                steps=[{**STEP, "name": hostile, "detail": {"x": hostile}}],
                checks=[{"name": hostile, "result": "failed", "detail": hostile}],
                secrets=[{**DATA["secrets"][0], "path": hostile, "problem": hostile, "fields": [hostile]}],
            )
        )
        columns = 0
        for line in page.splitlines():
            assert line == "" or line[0] in "#|", line
            cells = line.replace("\\|", "").count("|")
            if line.startswith("| ---"):
                columns = cells
            elif line.startswith("|") and columns and not line.startswith(("| step", "| path", "| check", "| | |")):
                assert cells == columns, line
        assert page.count("a\\|b c \\| d \\|") == 8

    def test_tells_the_same_as_the_summary(self) -> None:
        page = markdown(record(secrets=[{**DATA["secrets"][0], "readable": False, "problem": "There is nothing."}]))
        assert page.startswith("# Vault recovery of 2026-11-24T03:00:00")
        assert "| Time to readable (RTO) | 14.2 s (objective 15 min 0 s, met) |" in page
        assert "| Restore | 2026-11-24T03:00:00.000+00:00 | 1.2 | leader https://vault-1:8200 |" in page
        assert "| secret/a | https://vault-1:8200 | NO | a, b | There is nothing. |" in page
        assert "| every node answers | passed | 1 nodes |" in page
        assert page.endswith("|\n")

    def test_of_a_recovery_that_did_nothing(self) -> None:
        assert "| Snapshot | none was chosen |" in markdown(record(snapshot=None, steps=[], secrets=[], checks=[]))
